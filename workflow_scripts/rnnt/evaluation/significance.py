"""How far a word error rate can be trusted: intervals, and the test of a difference, from the errors of each speaker.

Utterances of one speaker are not independent, and speakers are few. So the variance is that between speakers, by the
jackknife of a ratio (Cochran 1977, section 6), and the quantile Student's t with few degrees of freedom (Cameron and
Miller 2015). tests/benchmarks/coverage.py measures what these intervals cover; it chose the constants.

A model trained with another seed has another WER, for all speakers alike. A WER is that of one more seed, a difference
that of two recipes' means over all seeds. What seeds add is a variance of its own, with degrees of freedom of its own
(`_together`).

Errors are arrays [..., seeds, blocks], one seed alone adding nothing; reference words [..., blocks]: a block is a
speaker, or an utterance where speakers are not known. Rates are errors per word.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

TAIL = 0.025  # on either side of a 95 % interval
MOST = 0.5  # of the words: a block with as many leaves too little to tell the variance from; so do two blocks
SKEWNESS = 1.5  # variances of log WER, those of speakers alone, by which the upper end lies further off
PRECISION = 1e-12  # of a p-value, a sum of rounded numbers
# That seeds by noise alone differ by less. Means, which seeds matter less to, of three or more; a p-value and two seeds
# are on the safe side.
NOISE, NOISE_OF_MEANS, NOISE_OF_FEW = 0.44, 0.75, 0.5
VARIATION = 0.43  # of speakers' WERs, their variance by the square of their mean, where no error shows it: sigma 0.6


def interval(errors: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the 95 % interval of the WER of a new seed, [...]; NaN where a block has half of the words or more.

    Student's t on log WER. The mean of a few skewed WERs is mostly too low, so that the upper end lies further off; but
    not beyond 100 %, or twice the WER where that is more.
    """
    mean = errors.mean(-2)
    total, count = mean.sum(-1), words.sum(-1)
    half, skewness = _of_log(mean, words)
    center, limit = (total + 0.5) / count, limit_without_errors(words)
    seeds, freedom = _of_seeds([errors], words, [1 + 1 / errors.shape[-2]], NOISE)
    low, high = (_with_seeds(each, words, seeds / center**2, freedom) for each in (half, half + skewness))
    high = np.maximum(center * np.exp(high), limit)
    return (
        np.where(total > 0, center * np.exp(-low), 0 * limit),
        np.minimum(np.where(total > 0, high, limit), np.maximum(1, 2 * total / count)),
    )


def interval_of_difference(
    a: np.ndarray, b: np.ndarray, words: np.ndarray, paired: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the 95 % interval of the WER of b minus that of a, of errors on the same words; NaN as `interval`.

    That of the means of two recipes over all their seeds. `paired`: each seed is a model that both share, or one of the
    two has no seed; else both vary on their own, one seed alone as those of the other.
    Student's t on the difference. Speakers with a high WER have great differences, so that the end far from zero lies
    further off, by what the interval of the WER of both together asks for; bounded as that is.
    """
    seeds = _of_means(a, b, words, paired, NOISE_OF_MEANS)
    a, b = a.mean(-2), b.mean(-2)
    count, unequal = words.sum(-1), np.abs(b - a).sum(-1)
    difference = (b - a).sum(-1) / count
    half = _quantile(words) * _error_of_rate(b - a, words)
    half = np.maximum(half, np.sqrt(unequal) / count)  # as in _of_log
    half = np.where(unequal > 0, half, limit_without_errors(words))
    log, skewness = _of_log(a + b, words)
    further = half * np.expm1(log + skewness) / log
    most = np.maximum(1, 2 * np.maximum(a.sum(-1), b.sum(-1)) / count)
    low, high = (
        _with_seeds(np.where(beyond, further, half), words, *seeds) for beyond in (difference < 0, difference > 0)
    )
    return np.maximum(difference - low, -most), np.minimum(difference + high, most)


def limit_without_errors(words: np.ndarray) -> np.ndarray:
    """The WER of which no error at all has a probability of TAIL, [...]; NaN as in `interval`.

    That of Clopper and Pearson (1934) for small rates, 3.7 errors, times the design effect of speakers (Kish 1965),
    whose WERs follow a gamma distribution of VARIATION.
    """
    speakers = _freedom(words) + 1
    errors = speakers * (TAIL ** (-VARIATION / speakers) - 1) / VARIATION
    return errors / words.sum(-1)


def p_value(a: np.ndarray, b: np.ndarray, words: np.ndarray, paired: bool) -> float:
    """Two-sided p-value of no difference between two systems, or recipes, over speakers and seeds: int [seeds, blocks].

    That of `signs`; with seeds no less than Student's t asks for, by the variances of speakers and of seeds as in
    `interval_of_difference`.
    """
    counts = [len(a), len(b)]
    common = math.lcm(*counts)
    chance = signs(common // len(b) * b.sum(0) - common // len(a) * a.sum(0))
    if common == 1 or chance == 1:
        return chance
    change = b.mean(0) - a.mean(0)
    freedom = max(1, 1 / (_share(words) ** 2).sum() - 1)  # of speakers; here for any of them
    seeds, freedom_of_seeds = _of_means(a, b, words, paired, NOISE_OF_FEW)
    speakers = np.nan_to_num(_error_of_rate(change, words) ** 2)  # NaN: one block has all words

    def left(log_p):
        """Of the difference, beyond that half width of which this is the p-value."""
        half = _together(speakers, freedom, seeds, freedom_of_seeds, np.exp(log_p) / 2)
        return abs(change.sum()) / words.sum() - half

    least = np.log(chance)
    return chance if left(least) >= 0 else float(np.exp(optimize.brentq(left, least, 0)))


def signs(difference: np.ndarray) -> float:
    """Two-sided p-value of no difference between two systems, whose errors of each block differ by this, int [blocks].

    Of all ways to give each block's difference one sign or the other (Fisher 1935, Pitman 1937), the share whose sum is
    as far from zero: never less than 2 ** (1 - blocks). All are counted, by the characteristic function of the sum.
    """
    sizes, blocks = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    most, found = int((sizes * blocks).sum()), abs(int(difference.sum()))
    if not found:
        return 1.0
    angles = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    wave = np.ones_like(angles)
    for size, number in zip(sizes, blocks, strict=True):
        wave *= np.cos(size * angles) ** number
    chances = np.fft.fft(wave).real / (2 * most + 1)
    nearer = chances[:found].sum() + chances[1:found].sum()
    return float(np.clip(1 - nearer, max(2.0 ** (1 - len(difference)), PRECISION), 1))


def _together(
    variance: np.ndarray, freedom: np.ndarray, other: np.ndarray, other_freedom: np.ndarray, tail: float = TAIL
) -> np.ndarray:
    """Half the width of an interval that two independent variances ask for, each known by so many degrees of freedom.

    A normal quantile's square times their sum, and what Student's asks for beyond that, as each variance is known
    roughly: these excesses add up by their squares. Plainly added (the recovery of Zou and Donner 2008) they cover too
    much where both are rough; one t by Satterthwaite's degrees of freedom too little where seeds are alike by chance.
    """
    normal = special.ndtri(1 - tail) ** 2
    excess, other_excess = (
        each * (special.stdtrit(degrees, 1 - tail) ** 2 - normal)
        for each, degrees in ((variance, freedom), (other, other_freedom))
    )
    return np.sqrt(normal * (variance + other) + np.hypot(excess, other_excess))


def _with_seeds(half: np.ndarray, words: np.ndarray, seeds: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Half the width for speakers, of Student's t, widened by what seeds add (`_of_seeds`)."""
    return _together((half / _quantile(words)) ** 2, _freedom(words), seeds, freedom)


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


def _of_means(
    a: np.ndarray, b: np.ndarray, words: np.ndarray, paired: bool, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `_of_seeds`, of the difference of the means of two recipes over all their seeds."""
    if paired:
        return _of_seeds([b - a], words, [1 / max(a.shape[-2], b.shape[-2])], noise)
    counts = [a.shape[-2], b.shape[-2]]
    alone = min(counts) == 1
    return _of_seeds([a, b], words, [1 / count + alone for count in counts], NOISE if alone else noise)


def _of_seeds(
    samples: list[np.ndarray], words: np.ndarray, shares: list[float], noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the variances between seeds of the samples' rates, times these shares, and its degrees of freedom, [...].

    Errors of each sample [..., seeds, blocks]; degrees of freedom by Welch (1947). Seeds differ by their own noise too,
    which the variance of speakers holds (Cameron, Gelbach and Miller 2011): what noise alone would not exceed in
    that share `noise` of all cases is left out, by the power of 1.5: more of it where there is little else.
    """
    variance = squares = expected = np.zeros(words.shape[:-1])
    for sample, share in zip(samples, shares, strict=True):
        others = sample.shape[-2] - 1
        if others:
            found = share * (sample.sum(-1) / words.sum(-1)[..., None]).var(-1, ddof=1)
            errors = _error_of_rate(sample - sample.mean(-2, keepdims=True), words[..., None, :])
            expected = expected + share * (errors**2).sum(-1) / others
            variance, squares = variance + found, squares + found**2 / others
    freedom = np.divide(variance**2, squares, out=np.ones_like(variance), where=squares > 0)
    noise = np.where(freedom < 2, min(noise, NOISE_OF_FEW), noise)
    left_out = expected * special.gammaincinv(freedom / 2, noise) / (freedom / 2)  # a quantile of chi2
    return np.maximum(variance**1.5 - left_out**1.5, 0) ** (2 / 3), freedom


def _error_of_rate(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The standard error of errors, or of differences of errors, per word."""
    total = errors.sum(-1, keepdims=True)
    return _standard_error((total - errors) / _others(words) - total / words.sum(-1, keepdims=True), words)


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
