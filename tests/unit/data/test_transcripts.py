"""Transcript cleaning: the examples that stand beside the rules, and what holds for every text."""

import time
import unicodedata

import pytest

from rnnt.data import languages, transcripts
from rnnt.errors import UserError

EVERY_RULE = [
    *transcripts.BEFORE,
    *transcripts.AFTER,
    *{id(r): r for t in transcripts.RULES.values() for r in t}.values(),
]


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [(rule, *example) for rule in EVERY_RULE for example in rule.examples.items()],
    ids=lambda value: value.name if isinstance(value, transcripts.Rule) else None,
)
def test_a_rule_does_what_its_examples_say(rule, before, after):
    assert rule.apply(before) == after


def test_every_rule_has_examples_and_a_name_of_its_own_in_its_table():
    for table in transcripts.RULES.values():
        assert len({rule.name for rule in table}) == len(table)
    assert all(rule.examples for rule in EVERY_RULE)


def test_case_is_lowered_or_kept():
    assert transcripts.clean("  The Café\n", "lower")[0] == "the café"
    assert transcripts.clean("The Café", "keep")[0] == "The Café"


@pytest.mark.parametrize(
    ("language", "before", "after"),
    [
        ("en", "THE ISLAND", "the island"),
        ("tr", "İSTANBUL IŞIK", "istanbul ışık"),
        ("tr-TR", "I\u0307ZMİR ILICA", "izmir ılıca"),
        ("az-Latn", "ISTI QIZIL İL", "ıstı qızıl il"),
        ("lt", "RÌMAS Į́ J\u0301 ILGAS", "ri\u0307\u0300mas į\u0307\u0301 j\u0307\u0301 ilgas"),
        ("el", "ΟΔΟΣ ΣΟΦΟΣ", "οδος σοφος"),
        ("de", "STRASSE GROẞ Straße", "strasse groß straße"),
        ("ru", "ЙОГА", "йога"),
    ],
)
def test_lower_case_is_that_of_the_language(language, before, after):
    assert transcripts.clean(before, "lower", "none", language)[0] == after
    assert transcripts.clean(after, "lower", "none", language)[0] == after
    kept = transcripts.clean(before, "keep", "none", language)[0]
    assert kept == transcripts.clean(before, "keep")[0]


@pytest.mark.parametrize("language", ["en", "en-GB", "tr", "az", "lt-LT", "crh", "de", "el", "hi", "zh-Hans"])
def test_the_languages_that_are_said_to_have_a_case_of_their_own_have_one(language):
    text = "ISTİ RÌMAS ΟΔΟΣ STRASSE"
    differs = languages.lower(text, language) != languages.lower(text, "en")
    assert languages.has_own_case(language) == differs


def test_a_text_is_composed_whatever_was_between_a_letter_and_its_accent_and_in_lower_case_too():
    for text in ("cafe\u200b\u0301", "cafe\u034f\u0301", "cafe\u200d\u0301"):
        assert transcripts.clean(text, "keep")[0] == "café"
    assert transcripts.clean("J\u030c", "lower") == transcripts.clean("ǰ", "lower")
    assert transcripts.clean("tie\u0302\u0301ng Vie\u0323\u0302t", "lower")[0] == "tiếng việt"
    assert transcripts.clean("한국", "keep")[0] == "한국"


@pytest.mark.parametrize(
    "text",
    [
        "मैं किताब पढ़ता हूँ",
        "שָׁלוֹם",
        "مُحَمَّدٌ",
        "می\u200cخواهم",
        "कॢप्\u200dत",
        "ක්\u200dෂ",
        "ประเทศไทย",
        "東京の、空",
        "ọ̀rọ̀",
    ],
)
def test_what_a_script_needs_is_kept(text):
    composed = unicodedata.normalize("NFC", text)
    assert transcripts.clean(text, "lower") == (composed, [])


def test_what_was_dropped_is_told():
    assert transcripts.clean("co\u00adop", "lower", "tedlium")[1] == ["drop invisible characters"]
    assert transcripts.clean("a\u200db", "lower")[1] == ["drop joiners where no script needs them"]


def test_composed_and_decomposed_letters_become_the_same_text():
    assert transcripts.clean("cafe\u0301", "keep") == transcripts.clean("caf\u00e9", "keep")


@pytest.mark.parametrize("rules", transcripts.RULES)
def test_cleaning_twice_changes_nothing_more(rules):
    text, _ = transcripts.clean(
        "\ufeff It 's\u200b  [laughter-a] Test — westmin[ster]- (I-) of “things” ", "lower", rules
    )
    assert transcripts.clean(text, "lower", rules)[0] == text


def test_unknown_rules_are_named():
    with pytest.raises(UserError, match="text.rules: no rules called libri .*librispeech"):
        transcripts.clean("x", "lower", "libri")


def test_the_rules_that_changed_a_text_are_told():
    assert transcripts.clean("yes  it 's", "lower", "tedlium")[1] == ["join split contractions"]
    assert transcripts.clean("yes  no", "lower", "tedlium")[1] == []


@pytest.mark.parametrize(
    ("rules", "before", "after"),
    [
        # LibriSpeech needs nothing but lower case.
        ("librispeech", "THERE'S IRON THEY SAY", "there's iron they say"),
        # Common Voice: a sentence in quotes is unescaped only where the quotes are a pair.
        (
            "common_voice",
            '"""Getting to play someone as unrestricted as a vampire is a thrill,"" she says."',
            '"getting to play someone as unrestricted as a vampire is a thrill," she says.',
        ),
        ("common_voice", '"Two" and "three"', '"two" and "three"'),
        # TED-LIUM, its own lines.
        ("tedlium", "<unk> because of", "because of"),
        ("tedlium", "there 's iron they say {NOISE} don 't you", "there's iron they say don't you"),
        ("tedlium", "<unk> 's car", "car"),
        (
            "tedlium",
            "the 'therapist said 'stop rock 'n roll ' cause of the ' 60s",
            "the 'therapist said 'stop rock 'n roll 'cause of the '60s",
        ),
        # Switchboard: back-channels survive, whole tokens go.
        ("switchboard", "um-hum uh-huh huh-uh mm-hmm um", "um-hum uh-huh huh-uh mm-hmm"),
        ("switchboard", "[laughter-um-hum] um-[hum]-", "um-hum um-"),
        ("switchboard", "[p[eople]-/people]- -- said", "people said"),
        ("switchboard", "track_12 sw_10 them_1", "track sw them"),
        ("switchboard", "and/or not [it'n/isn't] it", "and/or not isn't it"),
        ("switchboard", "[lem[guini]-/linguini] westmin[ster]- -[go]ing", "linguini westmin- -ing"),
        ("switchboard", "<b_aside> a m y <e_aside> [vocalized-noise] {yuppiedom}", "a m y yuppiedom"),
        ("switchboard", "[laughter] [noise]", ""),
        # Hub5'00: what the STM marks as optionally deletable is not part of the reference.
        ("hub5", "(%HESITATION) REPLIED HE (WH-) UH-HUH", "replied he uh-huh"),
        ("hub5", "((YES) <B_ASIDE> NO <E_ASIDE>", "no"),
        # The other corpora of ESB.
        ("gigaspeech", "YES <COMMA> I DO <PERIOD>", "yes, i do."),
        ("earnings22", "<crosstalk> it was <inaudible> fine", "it was fine"),
    ],
)
def test_what_a_person_would_write(rules, before, after):
    assert transcripts.clean(before, "lower", rules)[0] == after


def test_long_runs_of_anything_take_no_time_to_speak_of():
    for sign in (" ", "[", "a_", " '", ". ", "\u200c", "((", "<"):
        for rules in transcripts.RULES:
            began = time.process_time()
            transcripts.clean(sign * 20_000, "lower", rules)
            assert time.process_time() - began < 1
