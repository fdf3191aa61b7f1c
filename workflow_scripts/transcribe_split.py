"""Transcribe one split with a trained leg: greedy or beam search."""

import json
import os
from pathlib import Path

from rnnt import ahead, console, files
from rnnt.evaluation import hypotheses


def parser():
    p = console.parser(__doc__)
    p.add_argument("--checkpoint", type=Path, required=True, help="a finished leg: folder with model.nemo, leg.json")
    p.add_argument("--manifest", type=Path, required=True, help="the split to transcribe, whole")
    p.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model")
    p.add_argument("--search", type=json.loads, required=True, help="`greedy` or `beam` of the configuration, JSON")
    p.add_argument("--lm", type=Path, help="ARPA file for n-gram fusion")
    p.add_argument("--lm-weight", type=Path, help="what tune_language_model.py wrote: its weight in the fusion")
    p.add_argument("--training-texts", type=Path, help="training manifest: its texts check the language model")
    p.add_argument("--batch-size", type=int, default=16, help="utterances decoded together")
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to decode")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    p.add_argument("--progress", type=Path, help="folder for what is transcribed so far; survives a kill")
    p.add_argument("--hypotheses", type=Path, required=True, help="manifest with `pred_text` to write")
    p.add_argument(
        "--decoding", type=Path, required=True, help="JSON to write: settings, seconds, checkpoint, versions"
    )
    return p


def main(args):
    leg = files.read_json(args.checkpoint / "leg.json")
    tokenizer = args.tokenizer / "tokenizer.model"
    search = args.search | ({"lm_weight": files.read_json(args.lm_weight)["lm_weight"]} if args.lm_weight else {})
    if args.progress and not args.lm:
        made = hypotheses.place(
            args.progress, leg, args.manifest, tokenizer, search, args.batch_size, args.device, args.hypotheses
        )
        if ahead.take_up(made, args.hypotheses, args.decoding):
            console.log.info("%s %s: the training transcribed it at its end", search["strategy"], args.manifest.stem)
            return

    import torch

    from rnnt.training import batching, models

    device = models.pick_device(args.device)
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    hypotheses.write(
        models.restore(args.checkpoint / "model.nemo"),
        leg,
        args.manifest,
        tokenizer,
        search,
        args.batch_size,
        device,
        workers,
        args.hypotheses,
        args.decoding,
        args.progress,
        args.lm,
        args.training_texts,
    )


if __name__ == "__main__":
    console.run(main, parser())
