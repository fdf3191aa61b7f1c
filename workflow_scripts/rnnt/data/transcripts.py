"""Clean transcripts: references and training targets are what these rules leave.

A table of small rules for each corpus, each with its examples, which the tests run. A rule for tokens (`token`) sees
one token between white space at a time and never reaches across.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from rnnt.errors import UserError


@dataclass(frozen=True)
class Rule:
    """Replace `pattern` by `replacement`. The tests run the examples, input to output."""

    name: str
    pattern: str
    replacement: str | Callable[[re.Match], str]
    examples: dict[str, str] = field(hash=False)

    def apply(self, text: str) -> str:
        """Apply the rule everywhere in `text`."""
        return re.sub(self.pattern, self.replacement, text)


def token(name: str, pattern: str, replacement: str | Callable[[re.Match], str], examples: dict[str, str]) -> Rule:
    """A rule for whole tokens."""
    return Rule(name, rf"(?<!\S)(?:{pattern})(?!\S)", replacement, examples)


BEFORE = [
    Rule(
        "drop control and zero-width characters",
        "[\u0000-\u0008\u000e-\u001f\u007f\u200b\u200c\u200d\u2060\ufeff]",
        "",
        examples={"seven\u200b two": "seven two", "\ufeffone": "one"},
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
        lambda match: re.sub(r"\.(?='s$|$)", "", match[0]).replace(".", " "),
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
    Rule("no space before a sign", r" +([,.?!])(?!\S)", r"\1", examples={"YES , I DO .": "YES, I DO."}),
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


def clean(text: str, case: str, rules: str = "none") -> tuple[str, list[str]]:
    """The clean text, and the names of the corpus' rules that changed something.

    Composes Unicode (NFC), applies the rules of the corpus `rules`, and converts to lower case where `case` is `lower`.
    Raises UserError when there are no such rules.
    """
    if rules not in RULES:
        raise UserError(f"text.rules: no rules called {rules} (there are: {', '.join(RULES)})")
    text = unicodedata.normalize("NFC", text)
    fired = []
    for rule in [*BEFORE, *RULES[rules], *AFTER]:
        changed = rule.apply(text)
        if changed != text and rule not in AFTER:
            fired.append(rule.name)
        text = changed
    text = text.strip()
    return (text.lower() if case == "lower" else text), fired
