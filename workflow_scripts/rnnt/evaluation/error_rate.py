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
        return Seeds((self,)).interval()

    def minus(self, other: ErrorRate) -> Difference:
        """The rate of this system minus that of another on the same utterances. Raises UserError on other ones."""
        return Seeds((self,)).minus(Seeds((other,)), paired=True)

    def by_block(self, values: np.ndarray) -> np.ndarray:
        """Sums of [utterances] over each speaker, where known, else each utterance: int64 [blocks]."""
        if not self.speakers:
            return values
        _, block = np.unique(self.speakers, return_inverse=True)
        return np.bincount(block, weights=values).astype(np.int64)

    def __getitem__(self, which: np.ndarray) -> ErrorRate:
        """Some of the utterances, by their indices."""
        arrays = (values[which] for values in (self.substitutions, self.deletions, self.insertions, self.words))
        return ErrorRate(*arrays, tuple(self.speakers[i] for i in which) if self.speakers else ())


@dataclass(frozen=True, eq=False)
class Seeds:
    """The errors of one recipe trained with several seeds, of each on the same utterances; or of one model alone.

    Raises UserError where the utterances are not the same.
    """

    rates: tuple[ErrorRate, ...]

    def __post_init__(self):
        _refuse_others(self.rates)

    @property
    def percent(self) -> float:
        """The mean over seeds, as ErrorRate.percent."""
        return round(float(np.mean([rate.percent for rate in self.rates])), 6)

    @property
    def sd(self) -> float | None:
        """The standard deviation over seeds in points of percent; None of one seed."""
        if len(self.rates) == 1:
            return None
        return round(float(np.std([rate.percent for rate in self.rates], ddof=1)), 6)

    def interval(self) -> Interval:
        """Where the rate of one more seed, on other speakers like these, is to be expected (significance.py)."""
        seeds = f" and {len(self.rates)} seeds" if len(self.rates) > 1 else ""
        return self._interval(significance.interval(self._by_block(), self._words()), seeds)

    def minus(self, other: Seeds, *, paired: bool) -> Difference:
        """The mean rate minus that of another; interval and p-value are for the means over all seeds and speakers.

        `paired`: the same models in the same order, decoded in two ways; or one of the two is a model that has no seed,
        such as a pretrained one. Else two recipes; of a recipe with one seed seeds are taken to differ as those of the
        other. Raises UserError where they can't be compared so.
        """
        _refuse_others((*self.rates, *other.rates))
        counts = len(self.rates), len(other.rates)
        if paired and counts[0] != counts[1] and min(counts) > 1:
            raise UserError(f"{counts[0]} and {counts[1]} seeds: these are not the same models")
        ours, theirs, words = self._by_block(), other._by_block(), self._words()
        seeds = f" and the mean of {max(counts)} seeds" if max(counts) > 1 else ""
        assumed = ""
        if not paired and max(counts) > 1:
            seeds = ", " + " against ".join(f"mean of {each} seeds" if each > 1 else "one seed" for each in counts)
            assumed = "its spread is taken as theirs" if min(counts) == 1 else ""
        return Difference(
            difference=round(100 * float((ours.mean(0) - theirs.mean(0)).sum() / words.sum()), 6),
            interval=self._interval(significance.interval_of_difference(theirs, ours, words, paired), seeds, assumed),
            p_value=significance.p_value(theirs, ours, words, paired),
        )

    def _by_block(self) -> np.ndarray:
        """Errors, int64 [seeds, blocks]."""
        return np.array([rate.by_block(rate.errors) for rate in self.rates])

    def _words(self) -> np.ndarray:
        return self.rates[0].by_block(self.rates[0].words)

    def _interval(self, ends: tuple[np.ndarray, np.ndarray], seeds: str, assumed: str = "") -> Interval:
        words, speakers = self._words(), self.rates[0].speakers
        one, many = ("speaker", "speakers") if speakers else ("utterance", "utterances")
        if np.isfinite(ends[0]):
            notes = ", ".join(each for each in (assumed, "" if speakers else "other speakers not covered") if each)
            low, high = (round(100 * float(end), 6) for end in ends)
            return Interval(low, high, f"{len(words)} {many}{seeds}{f': {notes}' if notes else ''}")
        few = {1: f"one {one}", 2: f"two {many}"}
        most = f"one {one} has {100 * words.max() / words.sum():.0f} % of the words"
        return Interval(None, None, f"none: {few.get(len(words), most)}")


def _refuse_others(rates: tuple[ErrorRate, ...]) -> None:
    """Raises UserError where not all are of the same utterances."""
    for rate in rates[1:]:
        if rate.speakers != rates[0].speakers or not np.array_equal(rate.words, rates[0].words):
            raise UserError("two systems can be compared on the same references alone")


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
