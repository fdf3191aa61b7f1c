"""Speed of the whole training, reading included: our transducer step against NeMo's, batches by duration against fixed.

    python tests/benchmarks/training_speed.py [--steps 30] [--json FILE]

Trains on spoken_commands (made with espeak-ng, --utterances of it) or on --manifest with --tokenizer, from the first
step on, each combination in this process with the same weights. Fixed batches have as many utterances as make up the
budget in the mean. Columns: optimizer steps per second, seconds of speech per second (padding does not count), both
without the first step, and the share of padding.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

import numpy as np
import torch
import transformers

from rnnt import config
from rnnt.corpora import local, synthetic
from rnnt.data import manifests, tokenizers
from rnnt.training import legs

SCHEMA = Path(__file__).resolve().parents[2] / "config/schema.yaml"
COMBINATIONS = [
    ("fused", "duration", {}),
    ("fused", "fixed", {}),
    ("nemo", "duration", {}),
    ("nemo", "fixed", {}),
    ("fused", "duration", {"gradient_checkpointing": True}),
    ("fused", "duration", {"frozen_encoder_legs": 1}),
    ("fused", "duration", {"precision": "bf16"}),
    ("fused", "duration", {"optimizer": "adamw_8bit"}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, help="training manifest")
    parser.add_argument("--tokenizer", type=Path, help="folder with its tokenizer.model")
    parser.add_argument("--utterances", type=int, default=400, help="of spoken_commands (default: 400)")
    parser.add_argument("--architecture", default="contextnet_tiny", help="default: contextnet_tiny")
    parser.add_argument("--budget", type=float, default=40, help="seconds of audio in a batch (default: 40)")
    parser.add_argument("--steps", type=int, default=30, help="steps with `fused`; NeMo's take a third (default: 30)")
    parser.add_argument("--json", type=Path, help="write the rows of the table there too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        manifest, tokenizer = options.manifest, options.tokenizer
        if not manifest:
            manifest, tokenizer = prepare(Path(folder), options.utterances)
        print(f"{options.architecture}, {device}, {torch.get_num_threads()} threads, {options.budget:g} s a batch")
        print(f"{'transducer':12}{'batches':12}{'':32}{'steps/s':>9}{'speech s/s':>12}{'padding':>9}")
        rows = []
        for transducer, batching, extra in COMBINATIONS:
            steps = options.steps if transducer == "fused" else max(3, options.steps // 3)
            given = {"transducer": transducer, "batching": batching, **extra}
            run = Path(folder) / str(len(rows))
            row = {**given, **measure(manifest, tokenizer, options, given, steps, run, device)}
            rows.append(row)
            words = ", ".join(f"{key}: {value}" for key, value in extra.items())
            print(
                f"{transducer:12}{batching:12}{words:32}"
                f"{row['steps_per_second']:>9.2f}{row['speech_per_second']:>12.1f}{row['padding']:>9.1%}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def prepare(folder, utterances):
    """A manifest and a tokenizer of synthetic speech."""
    source = {"corpus": "spoken_commands", "seed": 1, "utterances": {"train": utterances, "validation": 4, "test": 4}}
    synthetic.prepare(source, folder / "speech", 2, lambda iterable, *_, **__: iterable)
    utterances = local.utterances({"path": str(folder / "speech")}, "train", Path())
    found, _ = manifests.clean(manifests.listing(utterances, 1, "train")[0], "lower")
    manifests.write(folder / "train.jsonl", found)
    tokenizers.write(folder / "tokenizer", tokenizers.train([row["text"] for row in found], 32))
    return folder / "train.jsonl", folder / "tokenizer"


def measure(manifest, tokenizer, options, given, steps, run, device):
    """Train and time it between the ends of the first and the last step."""
    properties = config.load_schema(SCHEMA)["$defs"]["training"]["properties"]
    durations = {row["id"]: row["duration"] for row in manifests.read(manifest)}
    size = max(1, round(options.budget / np.mean(list(durations.values()))))
    section = {key: child["default"] for key, child in properties.items()}
    section |= {"batch_budget": options.budget, "batch_size": size, "checkpoint_every_steps": 10**9, **given}
    times, speech = [], []

    class Watch(legs.Guard):
        def before(self, ids):
            speech.append(sum(durations[id] for id in ids))
            super().before(ids)

        def on_step_end(self, *_, **__):
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    legs.Guard, guard = Watch, legs.Guard
    try:
        transformers.set_seed(1)
        model = {"architecture": options.architecture, "init_from": None, "reinitialize_decoder": False}
        leg = legs.Leg(1, 1, manifest, tokenizer, model, section, {"max_steps": steps})
        run.mkdir()
        report = legs.train(leg, legs.starting_model(leg), run, {}, device, 0 if device == "cpu" else 4)
    finally:
        legs.Guard = guard
    seconds = times[-1] - times[0]
    return {
        "steps_per_second": (steps - 1) / seconds,
        "speech_per_second": sum(speech[1:]) / seconds,
        "padding": report["padding"],
    }


if __name__ == "__main__":
    main()
