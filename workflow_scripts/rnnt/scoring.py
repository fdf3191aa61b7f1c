"""Score hypotheses: corpus-level WER and CER from files alone, the same scorer for every number in the table."""

from __future__ import annotations

import functools
from importlib.metadata import version

import jiwer

from rnnt.errors import UserError


def score(rows: list[dict], decoding: dict) -> dict:
    """The metrics of hypotheses (`text`, `pred_text`, `duration` in seconds) and how they were made.

    WER and CER in percent, orthographic and after Whisper's English normaliser (Radford et al. 2022, appendix C);
    counts over the corpus; RTFx = seconds of audio per second of decoding.
    Raises UserError when an utterance has no hypothesis, or there is not one reference word.
    """
    for row in rows:
        if not isinstance(row.get("pred_text"), str):
            raise UserError(f"utterance {row.get('id')}: no `pred_text`: not a file of hypotheses")
    references, hypotheses = [row["text"] for row in rows], [row["pred_text"] for row in rows]
    words = error_counts(references, hypotheses)
    characters = error_counts(references, hypotheses, characters=True)
    normalize = normalizer()
    normalized = error_counts([normalize(text) for text in references], [normalize(text) for text in hypotheses])
    audio_seconds = sum(row["duration"] for row in rows)
    return {
        "wer": percent(words),
        "cer": percent(characters),
        "wer_normalized": percent(normalized),
        "substitutions": words["substitutions"],
        "deletions": words["deletions"],
        "insertions": words["insertions"],
        "reference_words": words["reference"],
        "reference_characters": characters["reference"],
        "utterances": len(rows),
        "hours": round(audio_seconds / 3600, 4),
        "rtfx": round(audio_seconds / decoding["decoding_seconds"], 1),
        "scorer": f"jiwer {version('jiwer')}, whisper-normalizer {version('whisper-normalizer')}",
        **decoding,
    }


def error_counts(references: list[str], hypotheses: list[str], characters: bool = False) -> dict[str, int]:
    """Substitutions, deletions, insertions and reference words of a corpus, at minimal edit distance (jiwer).

    With `characters` the same for characters, spaces included. An empty reference counts its hypothesis as
    insertions.
    """
    measure = jiwer.process_characters if characters else jiwer.process_words
    if not any(references):
        raise UserError("there is not one reference word to score against")
    found = measure(references, hypotheses)
    return {
        "substitutions": found.substitutions,
        "deletions": found.deletions,
        "insertions": found.insertions,
        "reference": found.hits + found.substitutions + found.deletions,
    }


def percent(counts: dict[str, int]) -> float:
    """Errors per reference token, in percent."""
    errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
    return round(100 * errors / counts["reference"], 4)


@functools.cache
def normalizer():
    """Whisper's English text normaliser."""
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()
