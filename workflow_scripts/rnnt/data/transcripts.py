"""Clean transcripts: references and training targets are what these rules leave.

A table of small rules for each corpus, each with its examples, which the tests run. A rule for tokens (`token`) sees
one token between white space at a time and never reaches across.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import regex

from rnnt.data import languages
from rnnt.errors import UserError


@dataclass(frozen=True)
class Rule:
    """Replace `pattern` by `replacement`. The tests run the examples, input to output."""

    name: str
    pattern: str
    replacement: str | Callable[[regex.Match], str]
    examples: dict[str, str] = field(hash=False)

    def apply(self, text: str) -> str:
        """Apply the rule everywhere in `text`."""
        return _compiled(self.pattern).sub(self.replacement, text)


_compiled = functools.cache(regex.compile)


def token(name: str, pattern: str, replacement: str | Callable[[regex.Match], str], examples: dict[str, str]) -> Rule:
    """A rule for whole tokens."""
    return Rule(name, rf"(?<!\S)(?:{pattern})(?!\S)", replacement, examples)


# Letters and signs that change their shape with what stands beside them: of the Indic scripts, and of those whose
# letters join. They need the joiners U+200C and U+200D; Mongolian also its variation selectors and vowel separator.
_SHAPED = (
    r"[[\p{L}\p{M}--[\p{Script=Thai}\p{Script=Lao}]]&&[\P{Indic_Syllabic_Category=Other}\p{Joining_Type=Dual_Joining}\p{Joining_Type=Right_Joining}"
    r"\p{scx=Arabic}\p{Script=Syriac}]]"
)
_JOINERS = "[\u200c\u200d]"
_WRITTEN = r"[\p{L}\p{M}\p{N}]"

# White space is not invisible here.
BEFORE = [
    Rule(
        "drop invisible characters",
        r"(?V1)[[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]"
        r"--[\p{Prepended_Concatenation_Mark}\t\n\v\f\r\x85\u200c\u200d\u180b-\u180f]]",
        "",
        examples={
            "seven\u200b two": "seven two",
            "\ufeffone": "one",
            "co\u00adoperate": "cooperate",
            "\u200fשלום\u200e a\u2068b\u2069": "שלום ab",
            "❤\ufe0f 葛\U000e0100 \u3164": "❤ 葛 ",
            "one\x07\ttwo": "one\ttwo",
            "\u06dd١٢": "\u06dd١٢",  # a sign of category Cf that is seen
        },
    ),
    Rule(
        "drop Mongolian selectors after other letters",
        r"(?<!\p{Script=Mongolian})[\u180b-\u180f]+",
        "",
        examples={"ᠠ\u180bb\u180b": "ᠠ\u180bb"},
    ),
    Rule(
        "drop joiners where no script needs them",
        # Kept: the first of a run, between what is written, beside what changes its shape; U+200D also at an end.
        rf"(?V1){_JOINERS}(?:(?<={_JOINERS}{{2}})|(?<!{_SHAPED}{_JOINERS})(?!{_JOINERS}*{_SHAPED})"
        rf"|(?<=\u200c)(?:(?<!{_WRITTEN}\u200c)|(?!{_JOINERS}*{_WRITTEN})))",
        "",
        examples={
            "می\u200cخواهم": "می\u200cخواهم",
            "می\u200c\u200cخواهم": "می\u200cخواهم",
            "SMS\u200cها ۲۰\u200cساله": "SMS\u200cها ۲۰\u200cساله",
            "خوب\u200c است": "خوب است",
            "क्\u200dष क्\u200cष": "क्\u200dष क्\u200cष",
            "അവന്\u200d": "അവന്\u200d",
            "র\u200d্যাব": "র\u200d্যাব",
            "Auf\u200clage x\u200dy": "Auflage xy",
            "👩\u200d🚒": "👩🚒",
        },
    ),
]

AFTER = [
    Rule(
        "collapse white space",
        r"\s+",
        " ",
        examples={"one\ttwo\n three": "one two three", "one\u00a0two": "one two"},
    ),
]

COMMON_VOICE = [
    # The publisher writes fields as they are. What looks like CSV quoting is residue in the sentence itself.
    Rule(
        "undo CSV quoting",
        r'^\s*"((?:[^"]|"")*)"\s*$',
        lambda match: match[1].replace('""', '"'),
        examples={
            '"in being comparatively modern."': "in being comparatively modern.",
            '"""Good-bye,"" said the boy."': '"Good-bye," said the boy.',
            '""': "",
            '"Two" and "three"': '"Two" and "three"',
            '"produced the block books,': '"produced the block books,',
        },
    ),
    Rule("straight double quotes", "[“”„‟]", '"', examples={"“the invention”": '"the invention"'}),
    Rule("straight apostrophes", "[‘’‛]", "'", examples={"don’t": "don't"}),
]

TEDLIUM = [
    token("drop markers", r"\{[^{}\s]*\}|\([^()\s]*\)", "", examples={"so {NOISE} far (key)": "so  far "}),
    Rule(
        "join split contractions",
        r"(?<=[\w>]) '(s|t|re|ve|m|ll|d|clock|all)(?!\S)",
        r"'\1",
        examples={
            "it 's fine and you don 't": "it's fine and you don't",
            "the 'therapist said": "the 'therapist said",
            "said 'stop": "said 'stop",
            "rock 'n roll": "rock 'n roll",
            "two o 'clock": "two o'clock",
        },
    ),
    Rule(
        "join dangling apostrophes",
        r"(?<!\S)' (?=(?:cause|em|til|round|bout|\d0s)(?!\S))",
        "'",
        examples={"just ' cause": "just 'cause", "the ' 60s": "the '60s", "my parents ' house": "my parents ' house"},
    ),
    # A spoken word nobody wrote down. The count of this rule in summary.json tells how many utterances lack one.
    token("drop unknown words", r"<unk>\S*", "", examples={"<unk> because of": " because of", "<unk>'s car": " car"}),
]

_HESITATIONS = "uh|uhm|um|hmm|mm|mhm|mmm"

SWITCHBOARD = [
    token(
        "drop noises and asides",
        r"\[(?:silence|noise|laughter|vocalized-noise)\]|</?[be]_aside>",
        "",
        examples={"[laughter] yeah <b_aside> no <e_aside>": " yeah  no "},
    ),
    token(
        "keep the word that was laughed",
        r"\[laughter-(\S+)\]",
        r"\1",
        examples={"[laughter-um-hum]": "um-hum", "[laughter-[it'n/isn't]]": "[it'n/isn't]"},
    ),
    # The intended word, as a person would write it. Kaldi keeps the first, which is what was said.
    token(
        "keep the intended word of a slip",
        r"\[[^\s/]+/([^\s/]+)\]-?",
        r"\1",
        examples={
            "[it'n/isn't]": "isn't",
            "[lem[guini]-/linguini]": "linguini",
            "[p[eople]-/people]-": "people",
            "and/or not": "and/or not",
            "[/baby crying]": "[/baby crying]",
        },
    ),
    token(
        "cut words where the speaker did",
        r"([\w'-]+)\[[^\s\[\]]*\]-",
        lambda match: match[1].rstrip("-") + "-",
        examples={"westmin[ster]-": "westmin-", "an[y]-": "an-", "um-[hum]-": "um-"},
    ),
    token("cut words that begin late", r"-\[[^\s\[\]]*\]([\w'-]+)", r"-\1", examples={"-[go]ing": "-ing"}),
    token("unwrap coinages", r"\{(\S+)\}", r"\1", examples={"{yuppiedom}": "yuppiedom", "{breath": "{breath"}),
    token(
        "drop the number of a variant",
        r"([a-z']+)_\d+",
        r"\1",
        examples={"them_1": "them", "sw_10": "sw", "track_12 b": "track b"},
    ),
    token("drop the mark of a loud word", r"~(\S+)", r"\1", examples={"~bull": "bull"}),
    token(
        "write acronyms as letters",
        r"[a-z](?:\.[a-z])+\.?(?:'s)?|[a-z]\.(?:'s)?",
        lambda match: regex.sub(r"\.(?='s$|$)", "", match[0]).replace(".", " "),
        examples={"a.b.c's": "a b c's", "the t.v.": "the t v", "i. b. m.'s": "i b m's"},
    ),
    token(
        "drop hesitations",
        _HESITATIONS,
        "",
        examples={
            "um yeah uh": " yeah ",
            "um-hum uh-huh huh-uh mm-hmm": "um-hum uh-huh huh-uh mm-hmm",
            "umbrella": "umbrella",
        },
    ),
    token("drop what has no letter or digit", r"[^\w\s]+", "", examples={"so -- -": "so  ", "'60s": "'60s"}),
]

# The STM of Hub5'00. Optionally deletable words, in parentheses, are word fragments and hesitations.
HUB5 = [
    Rule("single parentheses", r"\(\(|\)\)", lambda match: match[0][0], examples={"((YEAH)": "(YEAH)"}),
    token(
        "drop optionally deletable words",
        r"\([^()\s]*\)|%HESITATION|%hesitation",
        "",
        examples={"(%HESITATION) YES (I-) I (WH-)": " YES  I "},
    ),
    token("drop asides", r"</?[BE]_ASIDE>", "", examples={"<B_ASIDE> NO <E_ASIDE>": " NO "}),
    token("drop hesitations", f"(?i:{_HESITATIONS})", "", examples={"UM YEAH UH": " YEAH ", "UH-HUH": "UH-HUH"}),
    token("drop what has no letter or digit", r"[^\w\s]+", "", examples={"SO -- ": "SO  "}),
]

GIGASPEECH = [
    token(
        "write spoken punctuation as signs",
        r"<(COMMA|PERIOD|QUESTIONMARK|EXCLAMATIONPOINT)>",
        lambda match: {"COMMA": ",", "PERIOD": ".", "QUESTIONMARK": "?", "EXCLAMATIONPOINT": "!"}[match[1]],
        examples={"YES <COMMA> I DO <PERIOD>": "YES , I DO ."},
    ),
    Rule("no space before a sign", r"(?<! ) +([,.?!])(?!\S)", r"\1", examples={"YES , I DO .": "YES, I DO."}),
    token("drop noises", r"<(?:SIL|MUSIC|NOISE|OTHER)>", "", examples={"<MUSIC>": "", "<SIL> SO": " SO"}),
]

EARNINGS22 = [
    token(
        "drop noises",
        r"<(?:crosstalk|affirmative|inaudible|laugh|unk|silence)>|inaudible",
        "",
        examples={"<crosstalk> yes": " yes", "was inaudible to": "was  to", "inaudibly": "inaudibly"},
    ),
]

RULES = {
    "none": [],
    "librispeech": [],
    "common_voice": COMMON_VOICE,
    "tedlium": TEDLIUM,
    "switchboard": SWITCHBOARD,
    "hub5": HUB5,
    "gigaspeech": GIGASPEECH,
    "earnings22": EARNINGS22,
    "ami": [],
    "voxpopuli": [],
    "spgispeech": [],
}


def clean(text: str, case: str, rules: str = "none", language: str = "en") -> tuple[str, list[str]]:
    """The clean text, and the names of the rules that changed something.

    Drops what is invisible, composes Unicode (NFC), applies the rules of the corpus `rules`, and converts to lower case
    as the language (BCP 47) does where `case` is `lower`. Raises UserError when there are no such rules.
    """
    if rules not in RULES:
        raise UserError(f"text.rules: no rules called {rules} (there are: {', '.join(RULES)})")
    text, dropped = _apply(BEFORE, unicodedata.normalize("NFC", text))
    text, fired = _apply(RULES[rules], text)
    text, _ = _apply(AFTER, text)
    text = text.strip()
    return (languages.lower(text, language) if case == "lower" else text), dropped + fired


def _apply(rules: list[Rule], text: str) -> tuple[str, list[str]]:
    """The composed text after the rules, and the names of those that changed it."""
    fired = []
    for rule in rules:
        changed = rule.apply(text)
        if changed != text:
            fired.append(rule.name)
        # What is dropped may have stood between a letter and its accent.
        text = unicodedata.normalize("NFC", changed)
    return text, fired


def case_of(texts: Iterable[str]) -> str:
    """Which letters transcripts have: `capitals alone`, `small letters alone`, `both cases`, or `no case`."""
    upper = lower = False
    for text in texts:
        upper, lower = upper or text.lower() != text, lower or text.upper() != text
        if upper and lower:
            return "both cases"
    return "capitals alone" if upper else "small letters alone" if lower else "no case"
