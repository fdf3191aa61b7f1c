"""Padding of batches by duration against batches of a fixed number of utterances drawn at random.

    python tests/benchmarks/padding.py DURATIONS.tsv [--budget 40 160 640]

DURATIONS.tsv has a header and a column `seconds`; a manifest (`.jsonl`, `duration`) or the folder of a split with
`metadata.csv` serves as well. Both have the same mean number of seconds a batch. Utterances over --max-duration are
left out, as the pipeline's filter does.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

from rnnt.training import batching


def read_durations(path):
    if path.is_dir():
        import soundfile

        with open(path / "metadata.csv", newline="") as file:
            return [soundfile.info(path / row["file_name"]).duration for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line)["duration"] for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file, delimiter="\t")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("durations", type=Path)
    parser.add_argument("--budget", type=float, nargs="+", default=[40, 160, 640], help="seconds (default: 40 160 640)")
    parser.add_argument("--max-duration", type=float, default=20, help="seconds (default: 20)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs to take the mean of (default: 5)")
    options = parser.parse_args()
    durations = np.array(read_durations(options.durations))
    durations = durations[durations <= options.max_duration]
    print(f"{len(durations)} utterances of {durations.mean():.1f} s in the mean")
    print(f"{'budget s':>10}{'duration':>12}{'fixed':>10}{'batch size':>12}")
    for budget in options.budget:
        size = max(1, round(budget / durations.mean()))
        shares = []
        for batching_kind in ("duration", "fixed"):
            section = {"batching": batching_kind, "batch_size": size, "batch_cells": None}
            buckets = batching.plan(durations, np.zeros(len(durations), int), section, budget, 12.5)
            sampler, found = batching.BatchSampler(buckets, seed=1), []
            for sampler.epoch in range(options.epochs):
                found.append(batching.padding(sampler, durations))
            shares.append(np.mean(found))
        print(f"{budget:>10g}{shares[0]:>12.1%}{shares[1]:>10.1%}{size:>12}")


if __name__ == "__main__":
    main()
