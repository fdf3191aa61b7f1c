"""List the transcripts of training and validation that are likely wrong, by what the trained model makes of them."""

import json
import os
import tempfile
from pathlib import Path

from rnnt import console, files


def parser():
    p = console.parser(__doc__)
    p.add_argument("--checkpoint", type=Path, required=True, help="a finished leg: folder with model.nemo")
    p.add_argument("--manifests", type=Path, required=True, help="folder with the splits' manifests")
    p.add_argument("--splits", nargs="+", required=True, metavar="NAME", help="splits to look at")
    p.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model")
    p.add_argument("--transducer", required=True, help="`training.transducer` of the configuration")
    p.add_argument("--greedy", type=json.loads, required=True, help="`evaluation.greedy` of the configuration, JSON")
    p.add_argument("--hours", type=float, help="look at a random sample of at most so many hours of each split")
    p.add_argument("--batch-size", type=int, default=16, help="utterances decoded together")
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="TSV file to write, the most suspicious first")
    p.add_argument("--summary", type=Path, required=True, help="JSON file to write: what was looked at, by split")
    return p


def main(args):
    import torch

    from rnnt.evaluation import suspects
    from rnnt.training import batching, models

    device = models.pick_device(args.device)
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    with tempfile.TemporaryDirectory() as cache:
        rows, scored = suspects.find(
            models.restore(args.checkpoint / "model.nemo"),
            {split: args.manifests / f"{split}.jsonl" for split in args.splits},
            args.tokenizer / "tokenizer.model",
            Path(cache),
            args.transducer,
            args.greedy,
            args.batch_size,
            device,
            workers,
            args.hours,
        )
    files.write_text(args.output, suspects.as_tsv(rows))
    files.write_json(args.summary, scored)
    console.log.info(
        "%s: %d of %d transcripts may be wrong",
        args.output,
        len(rows),
        sum(found["scored"] for found in scored.values()),
    )


if __name__ == "__main__":
    console.run(main, parser())
