"""How far a word error rate can be trusted: intervals, and the test of a difference, from the errors of each speaker.

Utterances of one speaker are not independent, and speakers are few. So the variance is that between speakers, by the
jackknife of a ratio (Cochran 1977, section 6), and the quantile Student's t with few degrees of freedom (Cameron and
Miller 2015). tests/benchmarks/coverage.py measures what these intervals cover; it chose the constants.

Errors and reference words are arrays [..., blocks]: a block is a speaker, or an utterance where speakers are not known.
Rates are errors per word.
"""

from __future__ import annotations

import numpy as np
from scipy import special

TAIL = 0.025  # on either side of a 95 % interval
MOST = 0.5  # of the words: a block with as many leaves too little to tell the variance from; so do two blocks
SKEWNESS = 1.5  # variances of log WER, those of speakers alone, by which the upper end lies further off
PRECISION = 1e-12  # of a p-value, a sum of rounded numbers
VARIATION = 0.43  # of speakers' WERs, their variance by the square of their mean, where no error shows it: sigma 0.6


def interval(errors: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the 95 % interval of the WER, [...]; NaN where a block has half of the words or more.

    Student's t on log WER. The mean of a few skewed WERs is mostly too low, so that the upper end lies further off; but
    not beyond 100 %, or twice the WER where that is more.
    """
    total, count = errors.sum(-1), words.sum(-1)
    half, skewness = _of_log(errors, words)
    center, limit = (total + 0.5) / count, limit_without_errors(words)
    return (
        np.where(total > 0, center * np.exp(-half), 0 * limit),
        np.minimum(np.where(total > 0, center * np.exp(half + skewness), limit), np.maximum(1, 2 * total / count)),
    )


def interval_of_difference(a: np.ndarray, b: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the 95 % interval of the WER of b minus that of a, of errors on the same words; NaN as `interval`.

    Student's t on the difference. Speakers with a high WER have great differences, so that the end far from zero lies
    further off, by what the interval of the WER of both together asks for; bounded as that is.
    """
    count, unequal = words.sum(-1), np.abs(b - a).sum(-1)
    difference = (b - a).sum(-1) / count
    left_out = ((b - a).sum(-1, keepdims=True) - (b - a)) / _others(words)
    half = _quantile(words) * _standard_error(left_out - difference[..., None], words)
    half = np.maximum(half, np.sqrt(unequal) / count)  # as in _of_log
    half = np.where(unequal > 0, half, limit_without_errors(words))
    log, skewness = _of_log(a + b, words)
    further = half * np.expm1(log + skewness) / log
    most = np.maximum(1, 2 * np.maximum(a.sum(-1), b.sum(-1)) / count)
    return (
        np.maximum(difference - np.where(difference < 0, further, half), -most),
        np.minimum(difference + np.where(difference > 0, further, half), most),
    )


def limit_without_errors(words: np.ndarray) -> np.ndarray:
    """The WER of which no error at all has a probability of TAIL, [...]; NaN as in `interval`.

    That of Clopper and Pearson (1934) for small rates, 3.7 errors, times the design effect of speakers (Kish 1965),
    whose WERs follow a gamma distribution of VARIATION.
    """
    speakers = _freedom(words) + 1
    errors = speakers * (TAIL ** (-VARIATION / speakers) - 1) / VARIATION
    return errors / words.sum(-1)


def p_value(difference: np.ndarray) -> float:
    """Two-sided p-value of no difference between two systems, whose errors of each block differ by this, int [blocks].

    Of all ways to give each block's difference one sign or the other (Fisher 1935, Pitman 1937), the share whose sum is
    as far from zero: never less than 2 ** (1 - blocks). All are counted, by the characteristic function of the sum.
    """
    sizes, blocks = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    most, found = int((sizes * blocks).sum()), abs(int(difference.sum()))
    if not found:
        return 1.0
    angles = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    wave = np.prod([np.cos(size * angles) ** number for size, number in zip(sizes, blocks, strict=True)], axis=0)
    chances = np.fft.fft(wave).real / (2 * most + 1)
    nearer = chances[:found].sum() + chances[1:found].sum()
    return float(np.clip(1 - nearer, max(2.0 ** (1 - len(difference)), PRECISION), 1))


def _of_log(errors: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the width of the interval of log WER, and what its skewness adds to the upper end."""
    total, count = errors.sum(-1, keepdims=True), words.sum(-1, keepdims=True)
    # One error more, each block its share: the logarithm of zero is none, and that of few errors runs away.
    left_out = np.log((total - errors + 1 - _share(words)) / _others(words))
    error = _standard_error(left_out - np.log((total + 1) / count), words)
    # A few speakers may be alike by chance: never less than the standard error of as many independent errors.
    independent = 1 / (total[..., 0] + 0.5)
    half = np.maximum(_quantile(words) * error, np.sqrt(independent))
    return half, SKEWNESS * np.maximum(error**2 - independent, 0)


def _standard_error(changes: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The jackknife's, of what a statistic changes by when a block is left out; unbiased for blocks of any size."""
    share, weight = _share(words), (words / _others(words)) ** 2
    square = (share**2).sum(-1)
    expected = weight.sum(-1) * (1 + square) - 2 * (share * weight).sum(-1)
    return np.sqrt((changes**2).sum(-1) * square / expected)


def _quantile(words: np.ndarray) -> np.ndarray:
    return special.stdtrit(_freedom(words), 1 - TAIL)


def _freedom(words: np.ndarray) -> np.ndarray:
    """Degrees of freedom: one less than the effective number of blocks (Kish 1965), more than one by MOST."""
    share = _share(words)
    return np.where(share.max(-1) < MOST, 1 / (share**2).sum(-1) - 1, np.nan)


def _share(words: np.ndarray) -> np.ndarray:
    return words / words.sum(-1, keepdims=True)


def _others(words: np.ndarray) -> np.ndarray:
    """The words of all other blocks; NaN where there are none."""
    others = words.sum(-1, keepdims=True) - words
    return np.where(others > 0, others, np.nan)
