"""Transcribe one split with a trained leg: greedy or beam search."""

import hashlib
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests

CHECKPOINT = ("model", "leg", "legs", "step", "fingerprint", "code_version", "selected")


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
    import torch

    from rnnt.evaluation import decoding
    from rnnt.training import batching, models

    device = models.pick_device(args.device)
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    entries = manifests.read(args.manifest)
    model = models.restore(args.checkpoint / "model.nemo")
    tokenizer = args.tokenizer / "tokenizer.model"
    search = args.search | ({"lm_weight": files.read_json(args.lm_weight)["lm_weight"]} if args.lm_weight else {})
    settings = decoding.set_search(model, search, args.lm, args.training_texts, tokenizer)
    alone = decoding.depends_on_batch(model)
    batch_size = 1 if alone else args.batch_size
    if alone:
        console.log.warning("%s: each utterance is decoded alone", alone)
    leg = files.read_json(args.checkpoint / "leg.json")
    # What was transcribed before a kill is taken up again if nothing that it depends on has changed.
    heard = {**settings, **decoding.long_form([entry["duration"] for entry in entries])}
    kept = leg.get("averaging", {}).get("kept", "last")  # of one training it may be another when validation changes
    trained = leg["fingerprint"] + ("" if kept == "last" else kept)
    key = progress_key(trained, heard, args.manifest, batch_size, args.hypotheses)
    progress = args.progress / f"{key}.jsonl" if args.progress else None
    if progress:
        progress.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        texts, seconds = decoding.transcribe(
            model,
            args.manifest,
            tokenizer,
            Path(cache),
            batch_size,
            device,
            workers=workers,
            label=f"{settings['strategy']} {args.manifest.stem}",
            progress=progress,
        )
    files.write_jsonl(args.hypotheses, [{**e, "pred_text": text} for e, text in zip(entries, texts, strict=True)])
    files.write_json(
        args.decoding,
        {
            **settings,
            "hypotheses_sha256": files.sha256(args.hypotheses),
            "batch_size": batch_size,
            "decoded_alone": alone,
            **decoding.long_form([entry["duration"] for entry in entries]),
            "cuda_graphs": decoding.cuda_graphs(model, device),
            "decoding_seconds": round(seconds, 3),
            "device": device,
            "checkpoint": {key: leg[key] for key in CHECKPOINT if key in leg},
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "nemo_toolkit", "transformers")},
                "code": files.code_version(),
            },
        },
    )
    if progress:
        progress.unlink(missing_ok=True)


def progress_key(fingerprint, settings, manifest, batch_size, hypotheses):
    """A name for what the hypotheses depend on, and for where they go: the same may be decoded for two at a time."""
    content = json.dumps([fingerprint, settings, files.sha256(manifest), batch_size, str(hypotheses)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


if __name__ == "__main__":
    console.run(main, parser())
