"""How far a word error rate can be trusted: bootstrap intervals, and paired differences of two systems.

Bisani and Ney 2004 (Bootstrap estimates for confidence intervals in ASR performance evaluation): utterances are drawn
with replacement. Utterances of one speaker are not independent, so whole speakers are drawn where they are known (the
blockwise bootstrap of arXiv 1912.09508); of fewer than LEAST_SPEAKERS there is nothing to draw.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnnt.errors import UserError
from rnnt.evaluation.error_rate import ErrorRate

SAMPLES = 1000
SEED = 1
LEAST_SPEAKERS = 5


class Difference(NamedTuple):
    """WER of b minus that of a in points of percent, its 95 % interval, and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p_value: float


def blocks(found: ErrorRate) -> tuple[np.ndarray, str]:
    """What is drawn together: an index for each utterance, and `speakers` or `utterances`."""
    if len(set(found.speakers)) >= LEAST_SPEAKERS:
        return np.unique(found.speakers, return_inverse=True)[1], "speakers"
    return np.arange(len(found.words)), "utterances"


def interval(found: ErrorRate, block: np.ndarray, samples: int = SAMPLES, seed: int = SEED) -> tuple[float, float]:
    """The 95 % interval of the WER, in percent."""
    errors, words = (_drawn(values, block, samples, seed) for values in (found.errors, found.words))
    rates = 100 * errors / np.maximum(words, 1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def compare(a: ErrorRate, b: ErrorRate, block: np.ndarray, samples: int = SAMPLES, seed: int = SEED) -> Difference:
    """Compare two systems on the same utterances.

    The p-value counts the draws on the far side of no difference, twice, with one added (Davison and Hinkley 1997,
    section 4.2). Raises UserError when the references differ.
    """
    if not np.array_equal(a.words, b.words):
        raise UserError("two systems can be compared on the same references alone")
    words = _drawn(a.words, block, samples, seed)
    drawn = 100 * _drawn(b.errors - a.errors, block, samples, seed) / np.maximum(words, 1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(
        difference=round(100 * float((b.errors - a.errors).sum() / a.words.sum()), 6),
        low=round(float(low), 6),
        high=round(float(high), 6),
        p_value=round(min(1.0, 2 * (tail + 1) / (samples + 1)), 4),
    )


def _drawn(values: np.ndarray, block: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Sums of `values` over blocks drawn with replacement, [samples]; the same seed draws the same blocks."""
    random = np.random.default_rng(seed)
    sums = np.bincount(block, weights=values)
    return np.array([sums[random.integers(len(sums), size=len(sums))].sum() for _ in range(samples)])
