"""Time of scoring many hypotheses, with intervals: `python tests/benchmarks/scoring_speed.py [--pairs 100000]`."""

import argparse
import itertools
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

from rnnt.evaluation import scoring

# The commonest words of English speech first, numbers and contractions among them.
COMMON = (
    "the and i to a of you that in it is was he for on with his they be at so this have had not are but from as or we "
    "an there one what were when your can said do if will she how all it's her about their out up my them then some "
    "him into don't like time just has look two more go see no way could i'm people than first been who its now long "
    "did get come over new know take years where me back only our that's things good after work well oh year day "
    "three down should because each any these give mister most very us second twenty she's hundred let's colour "
    "percent thousand they're half dollars won't eighteen fifty".split()
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100000, help="utterances of 20 words (default: 100000)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = COMMON + ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(30000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))  # Zipf's law
    rows = []
    for n in range(options.pairs):
        reference = draw.choices(words, cum_weights=weights, k=20)
        hypothesis = [draw.choice(words) if draw.random() < 0.1 else word for word in reference]
        row = {"id": str(n), "text": " ".join(reference), "pred_text": " ".join(hypothesis), "duration": 5.0}
        rows.append({**row, "speaker": str(n)})  # as many blocks as can be
    started = time.perf_counter()
    found = scoring.score(rows, {"decoding_seconds": 1.0}, options.workers)
    print(
        f"{options.pairs} pairs, {options.workers} processes: {time.perf_counter() - started:.1f} s; "
        f"WER {found['wer']:.2f} % [{found['wer_low']:.2f}, {found['wer_high']:.2f}]"
    )


if __name__ == "__main__":
    main()
