"""How often 95 % intervals hold the truth, and p-values raise a false alarm: `python tests/benchmarks/coverage.py`.

Simulated test sets: speakers whose WERs are log-normal with this mean and sigma; errors are Poisson. Of two systems, b
has c times the errors of a, more or less by speaker (sigma 0.2); of a's errors 70 % are those of the better one too.
The standard error of a share of 0.95 is 0.006 at 1,500 test sets, 0.002 with `--sets 8000`: by chance alone some of a
thousand shares miss an aim that they meet narrowly.

Columns: WER and sigma; then for 3 to 40 speakers in percent: how many intervals hold the true WER,
the true difference for c = 1, 0.8 and 0.4; and how many p-values at c = 1 are 0.05 or less. `-`: most have no interval.
`!` marks what misses the aim: intervals 93 % or more, 91 % at sigma 1, p-values 6 % or less; `+` intervals that hold
the truth more often than 98.5 %. The last line has how many shares of intervals there are in each case, below, above.

Models of several seeds differ by a factor for all speakers, log-normal with the sigma of the third column, and by one
of each speaker (sigma 0.1); of the errors of the best model 70 % are those of all. Columns: how many intervals hold the
WER of one more seed over all speakers; the difference of means over all seeds from 0.8 times the errors by another
search of the same models (a third of these sigmas), from a model without a seed to 0.4 times its errors, and between
recipes, 0.8 times; and how many p-values are 0.05 or less, of half the sets and where seeds differ by 20 %, for a model
without a seed and for two recipes that are alike.
"""

import argparse
import itertools
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

from rnnt.evaluation import significance

SPEAKERS = (3, 4, 5, 6, 10, 20, 40)
WERS = (0.2, 0.05, 0.005)
SIGMAS = (0, 0.3, 0.6, 1.0)
FACTORS = (1, 0.8, 0.4)
WORDS = {3: 320, 4: 320, 5: 240, 6: 200, 10: 104, 20: 80, 40: 80}  # a speaker, 8 an utterance


def alike(draw, sets, speakers, words):
    return np.full((sets, speakers), words)


def unequal(draw, sets, speakers, words):
    """A speaker has twice as many words as another, or half (sigma 0.7)."""
    return np.ceil(words * draw.lognormal(-0.245, 0.7, (sets, speakers))).astype(int)


def dominated(share):
    def words_of(draw, sets, speakers, words):
        rest = words * speakers * (1 - share) / (speakers - 1)
        return np.array([[words * speakers * share] + [rest] * (speakers - 1)] * sets).astype(int)

    return words_of


def utterances(draw, sets, speakers, words):
    """No speaker known: as many independent utterances of 8 words."""
    return np.full((sets, speakers * words // 8), 8)


# Name: sizes of speakers, and how many times WORDS. At a WER of 0.5 % the small sets have 4 to 16 errors in all.
CASES = {
    "speakers alike": (alike, 8),
    "speakers alike, small sets": (alike, 1),
    "speakers of unequal size": (unequal, 8),
    "one speaker has 30 % of the words": (dominated(0.3), 8),
    "one speaker has 45 % of the words": (dominated(0.45), 8),
    "one speaker has 60 % of the words": (dominated(0.6), 8),
    "speakers not known, utterances independent": (utterances, 1),
}


# Name: seeds of one recipe and of the other, how many times WORDS, sigmas of speakers, and of seeds.
SEEDS = {
    "3 seeds": (3, 3, 8, SIGMAS, (0, 0.03, 0.1)),
    "3 seeds, small sets": (3, 3, 1, SIGMAS, (0, 0.1, 0.2)),
    "2 seeds, small sets": (2, 2, 1, (0, 0.6), (0, 0.1, 0.2)),
    "5 seeds, small sets": (5, 5, 1, (0, 0.6), (0, 0.1, 0.2)),
    "3 seeds, the other recipe one, small sets": (3, 1, 1, (0, 0.6), (0, 0.1, 0.2)),
}


def simulate(draw, sets, words, wer, sigma):
    """Shares of the intervals that hold the truth, by what they are of, and of p-values that are 0.05 or less."""
    rates = wer * draw.lognormal(-(sigma**2) / 2, sigma, words.shape)
    found = [held(significance.interval(draw.poisson(rates * words)[:, None], words), wer)]
    for factor in FACTORS:
        others = factor * rates * draw.lognormal(-0.02, 0.2, words.shape)
        shared = 0.7 * np.minimum(rates, others)
        both = draw.poisson(shared * words)
        a, b = ((both + draw.poisson((each - shared) * words))[:, None] for each in (rates, others))
        found.append(held(significance.interval_of_difference(a, b, words, paired=True), wer * (factor - 1)))
        if factor == 1:
            alarms = false_alarms(a, b, words, paired=True)
    return *found, alarms


def simulate_seeds(draw, sets, words, wer, sigma, spread, counts):
    """Shares as the columns of SEEDS'."""

    def varied(sigma, *shape):
        return draw.lognormal(-(sigma**2) / 2, sigma, shape)

    def trained(seeds, size=1):
        """Factors of each seed and speaker."""
        return varied(size * spread, sets, seeds, 1) * varied(size * 0.1, sets, seeds, words.shape[1])

    def decoded(*rates):
        """Errors of models, [sets, seeds, speakers]."""
        shared = 0.7 * np.min([each.min(1, keepdims=True) for each in rates], axis=0)
        both, count = draw.poisson(shared * words[:, None]), words[:, None]
        return [both + draw.poisson((each - shared) * count) for each in rates]

    rates = wer * varied(sigma, sets, 1, words.shape[1])
    better = rates * varied(0.2, *rates.shape)
    one, beam, two = trained(counts[0]), trained(counts[0], 1 / 3), trained(counts[1])
    found = [held(significance.interval(*decoded(rates * one), words), wer * varied(spread, sets))]
    for a, b, truth, paired in (
        (rates * one, 0.8 * better * one * beam, -0.2, True),
        (rates, 0.4 * better * one, -0.6, True),
        (rates * one, 0.8 * better * two, -0.2, False),
    ):
        found.append(held(significance.interval_of_difference(*decoded(a, b), words, paired), wer * truth))
    for a, b, paired in ((rates, better * one, True), (rates * one, better * two, False)):
        errors = (each[: sets // 2] for each in decoded(a, b))
        found.append(false_alarms(*errors, words, paired) if spread >= 0.2 else None)
    return found


def false_alarms(a, b, words, paired):
    """The share of p-values that are 0.05 or less: never of five speakers, nor where that of the signs alone is not."""
    if words.shape[1] <= 5:
        return 0.0
    found = [
        significance.signs((each_b - each_a).sum(0)) <= 0.05
        and significance.p_value(each_a, each_b, each_words, paired) <= 0.05
        for each_a, each_b, each_words in zip(a, b, words, strict=False)
    ]
    return np.mean(found)


def held(ends, truth):
    """Of the intervals there are; None where most test sets have none."""
    low, high = (end[np.isfinite(end)] for end in ends)
    return np.mean((low <= truth) & (truth <= high)) if len(low) > len(ends[0]) / 2 else None


def shown(held, alarms, sigma, tally):
    """A cell; `tally` counts the shares of intervals and their marks."""
    least = 0.93 if sigma <= 0.6 else 0.91
    rounded = [0.95 if share is None else round(share, 3) for share in held]
    marks = ["!" if share < least else "+" if share > 0.985 else "" for share in rounded]
    tally.update([*marks, *("cells" for share in held if share is not None)])
    marks += ["!" if round(share or 0, 3) > 0.06 else "" for share in alarms]
    texts = ["-" if share is None else f"{100 * share:.1f}" for share in (*held, *alarms)]
    return " ".join(f"{text + mark:>5}" for text, mark in zip(texts, marks, strict=True))


def run(case, sets, tally):
    """Lines of the table of a case of independent models."""
    sizes, times = CASES[case]
    yield header(case, times, f"{'WER':>5} {'sigma':>5}", 29, SPEAKERS)
    for wer in WERS:
        for sigma in SIGMAS if sizes is not utterances else (0, 0.6):
            cells = []
            for speakers in SPEAKERS:
                draw = np.random.default_rng([list(CASES).index(case), speakers, round(1000 * wer), round(10 * sigma)])
                made = sizes(draw, sets, speakers, WORDS[speakers] * times)
                *held, alarms = simulate(draw, sets, made, wer, sigma)
                cells.append(shown(held, [alarms], sigma, tally))
            yield f"{wer:>5} {sigma:>5} | " + " | ".join(cells)


def run_seeds(case, sets, tally):
    """Lines of the table of a case of seeds."""
    *counts, times, sigmas, spreads = SEEDS[case]
    yield header(case, times, f"{'WER':>5} {'sigma':>5} {'seeds':>5}", 35, SPEAKERS)
    for wer, sigma, spread in itertools.product(WERS, sigmas, spreads):
        cells = []
        for speakers in SPEAKERS:
            draw = np.random.default_rng([*counts, speakers, round(1000 * wer), round(10 * sigma), round(100 * spread)])
            words = alike(draw, sets, speakers, WORDS[speakers] * times)
            found = simulate_seeds(draw, sets, words, wer, sigma, spread, counts)
            cells.append(shown(found[:4], found[4:], sigma, tally))
        yield f"{wer:>5} {sigma:>5} {spread:>5} | " + " | ".join(cells)


def header(case, times, columns, width, speakers):
    words = ", ".join(f"{count} x {WORDS[count] * times}" for count in speakers)
    return f"\n{case}: speakers x words {words}\n{columns} | " + " | ".join(f"{count:<{width}}" for count in speakers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1500, help="test sets of each cell (default: 1500)")
    every = [*CASES, *SEEDS]
    parser.add_argument("--cases", nargs="+", choices=every, default=every, metavar="CASE", help="default: all")
    options = parser.parse_args()
    started, totals = time.perf_counter(), []
    for case in options.cases:
        tally = Counter()
        for line in (run if case in CASES else run_seeds)(case, options.sets, tally):
            print(line, flush=True)
        totals.append(f"{case}: {tally['cells']}, {tally['!']}, {tally['+']}")
    seconds = time.perf_counter() - started
    print(f"\nCells, those that miss the lower aim, those above 98.5 % ({seconds:.0f} s): {'; '.join(totals)}")


if __name__ == "__main__":
    main()
