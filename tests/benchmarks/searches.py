r"""WER and speed of NeMo's searches on one model and one test split, each compared with malsd_batch.

    D=results/digits; python tests/benchmarks/searches.py --checkpoint $D/checkpoints/leg_3 --tokenizer $D/tokenizer \
        --manifest $D/manifests/test.jsonl

Columns: WER in percent; RTFx (seconds of audio per second of encoder and search); WER minus that of malsd_batch with
its p-value and 95 % interval (rnnt/evaluation/significance.py).
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

from rnnt.data import manifests
from rnnt.evaluation import decoding, error_rate
from rnnt.training import models

STRATEGIES = ["malsd_batch", "maes_batch", "greedy_batch", "greedy", "maes", "beam", "alsd", "tsd"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with model.nemo")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model")
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, help="the first is compared with")
    parser.add_argument("--beam-size", type=int, default=4, help="default: 4")
    parser.add_argument("--batch-size", type=int, default=16, help="default: 16")
    options = parser.parse_args()
    rows = manifests.read(options.manifest)
    seconds = sum(row["duration"] for row in rows)
    model = models.restore(options.checkpoint / "model.nemo")
    device = models.pick_device("auto")
    print(f"{len(rows)} utterances, {seconds:.0f} s, {device}")
    print(f"{'search':14}{'WER %':>8}{'RTFx':>8}{'difference':>12}{'p':>8}  95 %")
    first = None
    for strategy in options.strategies:
        beam = {} if strategy in decoding.GREEDY else {"beam_size": options.beam_size}
        decoding.set_search(model, {"strategy": strategy, **beam})
        with tempfile.TemporaryDirectory() as cache:
            texts, taken = decoding.transcribe(
                model, options.manifest, options.tokenizer / "tokenizer.model", Path(cache), options.batch_size,
                device, workers=0, label=strategy,
            )  # fmt: skip
        found = error_rate.of([{**row, "pred_text": text} for row, text in zip(rows, texts, strict=True)])
        first = found if first is None else first
        difference = found.minus(first)
        print(
            f"{strategy:14}{found.percent:>8.2f}{seconds / taken:>8.1f}{difference.difference:>12.2f}"
            f"{difference.p_value:>8.3f}  {difference.interval}",
            flush=True,
        )


if __name__ == "__main__":
    main()
