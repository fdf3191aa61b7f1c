"""The English scoring of the Open ASR board, so that a WER can be held against those that it publishes.

It follows github.com/huggingface/open_asr_leaderboard at COMMIT, of 21 August 2026: the English normaliser of
normalizer/normalizer.py, the choice of utterances of normalizer/data_utils.py (`is_target_text_in_range`), the count of
normalizer/eval_utils.py (`score_results`). The board's is Whisper's normaliser with the differences below, all that
there are but one: the board's table of 152 spellings of names (`jon` is `john`) is not here, so that another spelling
of a name is an error here and none there. Of LibriSpeech's train-clean-100 172 words in 990,101 are in that table.
"""

from __future__ import annotations

import functools
import itertools
import re

import kaldialign

COMMIT = "d1e99b25524814332d6868a5645e568670834cfb"

# Taken out, besides Whisper's own.
FILLERS = frozenset("ah aha ahh ahm eh ehehe em hm huh hum mhum uhm umm uhuh".split())

# Whisper writes these out (`kind of`), the board leaves them.
_LEFT = ("kinda", "sorta", "dunno", "cause")

# `'s` is ` is` after these alone; after other words, `john's`, the apostrophe becomes a space.
_WITH_IS = "it he she what that who here there how when where why this".split()

# Two words that become one, once hyphens are spaces.
_JOINED = "wi fi, hi fi, lo fi, sci fi, e mail, e book, e commerce, x ray, t shirt, a m, p m, how ever, al right"
PAIRS = {pair: pair.replace(" ", "") for pair in _JOINED.split(", ")}
PAIRS |= {"all right": "alright", "et cetera": "etc", "o k": "okay"}

# Where Whisper's table of British and American spellings has another word or none. Pairs that the board's has the other
# way round are left out: whether `travelog` becomes `travelogue` or the reverse, they are one word.
_SPELLINGS = {
    "archaeology": "archeology",
    "etcetera": "etc",
    "flyer": "flier",
    "kay": "okay",
    "mm": "hmm",
    "ok": "okay",
    "pummelled": "pummeled",
    "pummelling": "pummeling",
    "snowploughs": "snowplows",
}

# The board's mark of what no one transcribed, in STM files, as its normaliser leaves it.
_UNSCORED = "ignore time segment in scoring"

_PAIR = re.compile(rf"\b(?:{'|'.join(PAIRS)})\b".replace(" ", r"\s+"))
_OWN = {*FILLERS, *_LEFT, *_SPELLINGS, *(pair.split()[1] for pair in PAIRS)} - {"m"}
_OTHERWISE = re.compile(rf"'s\b|(?<![a-z])(?:{'|'.join(sorted(_OWN))})(?![a-z])|(?<![a-z'])m(?![a-z])")
_TWO_LETTERS = re.compile(r"(?<!\S)\w \w(?!\S)")


def word_error_rate(references: list[str], hypotheses: list[str]) -> float | None:
    """Corpus-level WER in percent of texts in normal form, as kaldialign counts it; None where no word is to be scored.

    Words next to each other, of either side, cost nothing where they are one word of the other side. The reference
    words are counted as they stand. As on the board an utterance is left out, with all that was inserted, where the
    normaliser leaves nothing of its reference, or the mark of STM files that it is not to be scored.
    """
    pairs = [
        (reference.split(), hypothesis.split())
        for reference, hypothesis in zip(references, hypotheses, strict=True)
        if reference not in ("", _UNSCORED)
    ]
    if not pairs:
        return None
    found = kaldialign.batch_error_rate(*zip(*pairs, strict=True), merge_compounds=True)
    return round(100 * found["err_rate"], 6)


@functools.cache
def normalizer():
    """The board's English text normaliser: Whisper's with what the board does otherwise."""
    from whisper_normalizer.english import EnglishTextNormalizer

    found = EnglishTextNormalizer()
    found.ignore_patterns = r"\b(?:{})\b".format("|".join(["hmm", "mm", "mhm", "mmm", "uh", "um", *FILLERS]))
    is_after = rf"\b({'|'.join(_WITH_IS)})'s\b", r"\1 is"
    left = {rf"\b{word}\b" for word in _LEFT}
    replacers = [is_after if pattern == r"'s\b" else (pattern, by) for pattern, by in found.replacers.items()]
    found.replacers = {pattern: by for pattern, by in replacers if pattern not in left}
    numbers, spellings = found.standardize_numbers, found.standardize_spellings
    spellings.mapping = spellings.mapping | _SPELLINGS
    found.standardize_numbers = lambda text: numbers(_join_pairs(text))
    found.standardize_spellings = lambda text: _join_letters(spellings(text))
    return found


def is_as_whisper(text: str, whisper: str) -> bool:
    """Whether the board's normal form of a text in lower case without brackets is sure to be Whisper's, `whisper`.

    Cheaper than to make it.
    """
    return text.isascii() and not _OTHERWISE.search(text) and not _TWO_LETTERS.search(whisper)


def may_join(left: str, right: str) -> bool:
    """Whether the board's normaliser may make one word of these two."""
    return len(left) == len(right) == 1 or f"{left} {right}" in PAIRS


def _join_pairs(text: str) -> str:
    return _PAIR.sub(lambda found: PAIRS[" ".join(found[0].split())], text)


def _join_letters(text: str) -> str:
    """Single letters and digits in a row as one word: `b b c`; from three on with an `a` or `i`, which are words."""
    words = []
    for single, run in itertools.groupby(text.split(), lambda word: len(word) == 1 and word.isalnum()):
        run = list(run)
        words += ["".join(run)] if single and len(run) >= (3 if {"a", "i"} & {*run} else 2) else run
    return " ".join(words)
