"""Errors of hypotheses against their references, counted here for the table, the page, comparisons and trackers."""

from __future__ import annotations

from dataclasses import dataclass

import jiwer
import numpy as np

from rnnt.errors import UserError

KINDS = {"substitute": 0, "delete": 1, "insert": 2}


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
