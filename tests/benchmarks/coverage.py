"""How often 95 % intervals hold the truth, and p-values raise a false alarm: `python tests/benchmarks/coverage.py`.

Simulated test sets: speakers whose WERs are log-normal with this mean and sigma; errors are Poisson. Of two systems, b
has c times the errors of a, more or less by speaker (sigma 0.2); of a's errors 70 % are those of the better one too.
The standard error of a share of 0.95 is 0.006 at 1,500 test sets.

Columns: WER and sigma; then for 3, 4, 5, 6, 10, 20 and 40 speakers in percent: how many intervals hold the true WER,
the true difference for c = 1, 0.8 and 0.4; and how many p-values at c = 1 are 0.05 or less. `-`: most have no interval.
`!` marks what misses the aim: intervals 93 % or more, 91 % at sigma 1, and 98.5 % or less; p-values 6 % or less.
"""

import argparse
import sys
import time
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


def simulate(draw, sets, words, wer, sigma):
    """Shares of the intervals that hold the truth, by what they are of, and of p-values that are 0.05 or less."""
    rates = wer * draw.lognormal(-(sigma**2) / 2, sigma, words.shape)
    found = [held(significance.interval(draw.poisson(rates * words), words), wer)]
    for factor in FACTORS:
        others = factor * rates * draw.lognormal(-0.02, 0.2, words.shape)
        shared = 0.7 * np.minimum(rates, others)
        both = draw.poisson(shared * words)
        a, b = (both + draw.poisson((each - shared) * words) for each in (rates, others))
        found.append(held(significance.interval_of_difference(a, b, words), wer * (factor - 1)))
        if factor == 1:
            alarms = np.mean([significance.p_value(each) <= 0.05 for each in b - a])
    return *found, alarms


def held(ends, truth):
    """Of the intervals there are; None where most test sets have none."""
    low, high = (end[np.isfinite(end)] for end in ends)
    return np.mean((low <= truth) & (truth <= high)) if len(low) > len(ends[0]) / 2 else None


def shown(shares, sigma):
    """A cell, and whether it misses the aim."""
    *held, alarms = shares
    least = 0.93 if sigma <= 0.6 else 0.91
    missed = [share is not None and not least <= round(share, 3) <= 0.985 for share in held] + [round(alarms, 3) > 0.06]
    texts = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
    return " ".join(f"{text + '!' * int(bad):>5}" for text, bad in zip(texts, missed, strict=True)), sum(missed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1500, help="test sets of each cell (default: 1500)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="default: all")
    options = parser.parse_args()
    for case in options.cases:
        started, missed = time.perf_counter(), 0
        sizes, times = CASES[case]
        words = ", ".join(f"{count} x {WORDS[count] * times}" for count in SPEAKERS)
        print(f"\n{case}: speakers x words {words}")
        print(f"{'WER':>5} {'sigma':>5} | " + " | ".join(f"{count:<29}" for count in SPEAKERS))
        for wer in WERS:
            for sigma in SIGMAS if sizes is not utterances else (0, 0.6):
                cells = []
                for speakers in SPEAKERS:
                    seed = [list(CASES).index(case), speakers, round(1000 * wer), round(10 * sigma)]
                    draw = np.random.default_rng(seed)
                    made = sizes(draw, options.sets, speakers, WORDS[speakers] * times)
                    cell, bad = shown(simulate(draw, options.sets, made, wer, sigma), sigma)
                    cells.append(cell)
                    missed += bad
                print(f"{wer:>5} {sigma:>5} | " + " | ".join(cells), flush=True)
        print(f"{missed} miss the aim; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
