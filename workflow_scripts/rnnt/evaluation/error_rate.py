"""Errors of hypotheses against their references, counted here for the table, the page, comparisons and trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jiwer
import numpy as np

from rnnt.errors import UserError
from rnnt.evaluation import significance

KINDS = {"substitute": 0, "delete": 1, "insert": 2}


class Interval(NamedTuple):
    """Both ends of a 95 % interval in percent, None where there is none; and by what it is, or why there is none."""

    low: float | None
    high: float | None
    by: str

    def __str__(self):
        return self.by if self.low is None else f"{self.low:.2f} to {self.high:.2f} by {self.by}"


class Difference(NamedTuple):
    """One WER minus another in points of percent, its interval, and the two-sided p-value of no difference."""

    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True, eq=False)
class ErrorRate:
    """Errors and reference words, or characters, of each utterance, and who spoke it: as meeteval's, not yet summed up.

    int64 [utterances], in the order of the hypotheses; no speakers where that of an utterance is not known.
    """

    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray
    words: np.ndarray
    speakers: tuple[str, ...] = ()

    @property
    def errors(self) -> np.ndarray:
        """All three kinds, int64 [utterances]."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def percent(self) -> float:
        """Errors per reference word; finer than the table shows, which would else be rounded twice.

        Raises UserError when there is not one reference word.
        """
        if not self.words.sum():
            raise UserError("there is not one reference word to score against")
        return round(100 * float(self.errors.sum() / self.words.sum()), 6)

    def interval(self) -> Interval:
        """Where the rate of other speakers like these, or other utterances, is to be expected (significance.py)."""
        return self._interval(*significance.interval(*self._by_block(self.errors, self.words)))

    def minus(self, other: ErrorRate) -> Difference:
        """The rate of this system minus that of another on the same utterances. Raises UserError on other ones."""
        if self.speakers != other.speakers or not np.array_equal(self.words, other.words):
            raise UserError("two systems can be compared on the same references alone")
        ours, theirs, words = self._by_block(self.errors, other.errors, self.words)
        return Difference(
            difference=round(100 * float((ours - theirs).sum() / words.sum()), 6),
            interval=self._interval(*significance.interval_of_difference(theirs, ours, words)),
            p_value=significance.p_value(ours - theirs),
        )

    def _by_block(self, *values: np.ndarray) -> list[np.ndarray]:
        """Sums over each speaker, where known, else each utterance: int64 [blocks]."""
        if not self.speakers:
            return list(values)
        _, block = np.unique(self.speakers, return_inverse=True)
        return [np.bincount(block, weights=each).astype(np.int64) for each in values]

    def _interval(self, low: np.ndarray, high: np.ndarray) -> Interval:
        (words,) = self._by_block(self.words)
        one, many = ("speaker", "speakers") if self.speakers else ("utterance", "utterances")
        if np.isfinite(low):
            others = "" if self.speakers else ": other speakers not covered"
            ends = [round(100 * float(end), 6) for end in (low, high)]
            return Interval(*ends, f"{len(words)} {many}{others}")
        few = {1: f"one {one}", 2: f"two {many}"}
        most = f"one {one} has {100 * words.max() / words.sum():.0f} % of the words"
        return Interval(None, None, f"none: {few.get(len(words), most)}")

    def __getitem__(self, which: np.ndarray) -> ErrorRate:
        """Some of the utterances, by their indices."""
        arrays = (values[which] for values in (self.substitutions, self.deletions, self.insertions, self.words))
        return ErrorRate(*arrays, tuple(self.speakers[i] for i in which) if self.speakers else ())


def of(rows: list[dict]) -> ErrorRate:
    """The word errors of hypotheses: `text`, `pred_text`, and `speaker` where known."""
    return count([row["text"] for row in rows], [row["pred_text"] for row in rows], speakers(rows))


def speakers(rows: list[dict]) -> tuple[str, ...]:
    """Who spoke each utterance; none where one is not known."""
    found = tuple(row.get("speaker") or "" for row in rows)
    return found if all(found) else ()


def count(
    references: list[str], hypotheses: list[str], speakers: tuple[str, ...] = (), characters: bool = False
) -> ErrorRate:
    """Word errors at minimal edit distance (jiwer), or with `characters` those of characters, spaces included.

    An empty reference counts its hypothesis as insertions.
    """
    measure = jiwer.process_characters if characters else jiwer.process_words
    return of_alignments(measure(references, hypotheses), speakers)


def of_alignments(found: jiwer.WordOutput | jiwer.CharacterOutput, speakers: tuple[str, ...] = ()) -> ErrorRate:
    """The errors of utterances that jiwer has aligned."""
    errors = np.zeros((len(KINDS), len(found.references)), dtype=np.int64)
    for number, chunks in enumerate(found.alignments):
        for chunk in chunks:
            if chunk.type != "equal":
                length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                errors[KINDS[chunk.type], number] += length
    return ErrorRate(*errors, np.array([len(words) for words in found.references], dtype=np.int64), speakers)
