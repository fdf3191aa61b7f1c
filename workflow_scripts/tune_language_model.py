"""Find the weight of a language model in the beam search that makes the fewest errors in a validation split."""

import json
import os
import tempfile
from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests
from rnnt.evaluation import error_rate

WEIGHTS = [round(0.05 * step, 2) for step in range(9)] + [0.5, 0.6, 0.8, 1.0]


def parser():
    p = console.parser(__doc__)
    p.add_argument("--checkpoint", type=Path, required=True, help="a finished leg: folder with model.nemo")
    p.add_argument("--manifest", type=Path, required=True, help="the validation split")
    p.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model")
    p.add_argument("--search", type=json.loads, required=True, help="`beam` of the configuration, JSON")
    p.add_argument("--lm", type=Path, required=True, help="ARPA file for n-gram fusion")
    p.add_argument("--training-texts", type=Path, required=True, help="training manifest: checks the language model")
    p.add_argument("--batch-size", type=int, default=16, help="utterances decoded together")
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to decode")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="JSON to write: the weight, and the WER of each")
    return p


def main(args):
    import torch

    from rnnt.evaluation import decoding
    from rnnt.training import batching, models

    device = models.pick_device(args.device)
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    entries = manifests.read(args.manifest)
    model = models.restore(args.checkpoint / "model.nemo")
    tokenizer = args.tokenizer / "tokenizer.model"
    settings = decoding.set_search(
        model, args.search | {"lm_weight": WEIGHTS[-1]}, args.lm, args.training_texts, tokenizer
    )
    batch_size = 1 if decoding.depends_on_batch(model) else args.batch_size
    curve = []
    with tempfile.TemporaryDirectory() as cache:
        label = f"{settings['strategy']} {args.manifest.stem}"
        found = decoding.search_with_weights(
            model, WEIGHTS, args.manifest, tokenizer, Path(cache), batch_size, device, workers, label
        )
        for weight, texts in zip(WEIGHTS, found, strict=True):
            rows = [{**entry, "pred_text": text} for entry, text in zip(entries, texts, strict=True)]
            curve.append({"lm_weight": weight, "wer": error_rate.of(rows).percent})
    best = pick(curve)
    told = args.manifest.stem, curve[0]["wer"], best["wer"], best["lm_weight"]
    console.log.info("%s: %.2f %% WER without the language model, %.2f %% with %g times it", *told)
    files.write_json(
        args.output,
        {**best, "split": args.manifest.stem, "lm_sha256": settings["lm_sha256"], "curve": curve},
    )


def pick(curve):
    """What makes the fewest errors; of several the smallest weight."""
    return min(curve, key=lambda one: (one["wer"], one["lm_weight"]))


if __name__ == "__main__":
    console.run(main, parser())
