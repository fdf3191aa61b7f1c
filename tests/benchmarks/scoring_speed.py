"""Time of scoring many hypotheses, with intervals: `python tests/benchmarks/scoring_speed.py [--pairs 100000]`."""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

from rnnt import scoring, significance


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100000, help="utterances of 20 words (default: 100000)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    draw = random.Random(0)
    words = [f"word{n}" for n in range(300)] + "one twenty hundred don't mister colour the of and".split()
    rows = []
    for n in range(options.pairs):
        reference = draw.choices(words, k=20)
        hypothesis = [draw.choice(words) if draw.random() < 0.1 else word for word in reference]
        row = {"id": str(n), "text": " ".join(reference), "pred_text": " ".join(hypothesis), "duration": 5.0}
        rows.append({**row, "speaker": str(n)})  # as many blocks as can be
    started = time.perf_counter()
    found = scoring.score(rows, {"decoding_seconds": 1.0}, options.workers)
    print(
        f"{options.pairs} pairs, {options.workers} processes: {time.perf_counter() - started:.1f} s; "
        f"WER {found['wer']:.2f} % [{found['wer_low']:.2f}, {found['wer_high']:.2f}], {significance.SAMPLES} samples"
    )


if __name__ == "__main__":
    main()
