"""Speed of the whole training, reading included: our transducer step against NeMo's, batches by duration against fixed.

    python tests/benchmarks/training_speed.py [--steps 30] [--json FILE]
    python tests/benchmarks/training_speed.py --architecture fastconformer_tiny [--only fused nemo transformers]

Trains on spoken_commands (made with espeak-ng, --utterances of it) or on --manifest with --tokenizer, from the first
step on, each combination in this process with the same weights. Fixed batches have as many utterances as make up the
budget in the mean. `transformers` is the same model in the class that Transformers has for it (ParakeetForTDT for
fastconformer_tdt_tiny; RNN-T's has no loss without torchaudio), its loss and its Trainer, on the same batches. NeMo's
loss of TDT is for CUDA alone. Columns: optimizer steps per second, seconds of speech per second (padding does not
count), both without the first step, and the share of padding.
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
from rnnt.data import families, manifests, tokenizers
from rnnt.evaluation import transformers_form
from rnnt.training import batching, legs, models

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
    ("transformers", "duration", {}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, help="training manifest")
    parser.add_argument("--tokenizer", type=Path, help="folder with its tokenizer.model")
    parser.add_argument("--utterances", type=int, default=400, help="of spoken_commands (default: 400)")
    parser.add_argument("--architecture", default="contextnet_tiny", help="default: contextnet_tiny")
    parser.add_argument("--budget", type=float, default=40, help="seconds of audio in a batch (default: 40)")
    parser.add_argument("--steps", type=int, default=30, help="steps with `fused`; NeMo's take a third (default: 30)")
    parser.add_argument("--only", nargs="+", help="these transducer steps, with the defaults alone")
    parser.add_argument("--json", type=Path, help="write the rows of the table there too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        manifest, tokenizer = options.manifest, options.tokenizer
        if not manifest:
            manifest, tokenizer = prepare(Path(folder), options.utterances)
        print(f"{options.architecture}, {device}, {torch.get_num_threads()} threads, {options.budget:g} s a batch")
        print(f"{'transducer':14}{'batches':12}{'':32}{'steps/s':>9}{'speech s/s':>12}{'padding':>9}")
        rows = []
        for transducer, batches, extra in combinations(options, device):
            steps = options.steps if transducer == "fused" else max(3, options.steps // 3)
            given = {"transducer": transducer, "batching": batches, **extra}
            run = Path(folder) / str(len(rows))
            row = {**given, **measure(manifest, tokenizer, options, given, steps, run, device)}
            rows.append(row)
            words = ", ".join(f"{key}: {value}" for key, value in extra.items())
            print(
                f"{transducer:14}{batches:12}{words:32}"
                f"{row['steps_per_second']:>9.2f}{row['speech_per_second']:>12.1f}{row['padding']:>9.1%}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def combinations(options, device):
    """Those that there are for the architecture."""
    family = families.of_architecture(models.architecture_file(options.architecture))
    for transducer, batches, extra in COMBINATIONS:
        if options.only and (transducer not in options.only or batches != "duration" or extra):
            continue
        if family.loss == "rnnt" and transducer == "transformers":
            continue
        if family.loss == "tdt" and transducer == "nemo" and device == "cpu":
            continue
        yield transducer, batches, extra


def prepare(folder, utterances):
    """A manifest and a tokenizer of synthetic speech."""
    source = {"corpus": "spoken_commands", "seed": 1, "utterances": {"train": utterances, "validation": 4, "test": 4}}
    synthetic.prepare(source, folder / "speech", 2, lambda iterable, *_, **__: iterable)
    utterances = local.utterances({"path": str(folder / "speech")}, "train", Path())
    found = list(manifests.clean((entry for entry, _ in manifests.listing(utterances, 1, "train")), "lower")[0])
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
        workers = 0 if device == "cpu" else 4
        if given["transducer"] == "transformers":
            report = train_with_transformers(leg, run, device, workers, Watch)
        else:
            report = legs.train(leg, legs.starting_model(leg), run, {}, device, workers)
    finally:
        legs.Guard = guard
    seconds = times[-1] - times[0]
    return {
        "steps_per_second": (steps - 1) / seconds,
        "speech_per_second": sum(speech[1:]) / seconds,
        "padding": report["padding"],
    }


def train_with_transformers(leg, run, device, workers, watch):
    """The same weights and batches in Transformers' class, with its loss, its Trainer and the same optimizer."""
    options = {**leg.training, "transducer": "fused"}
    model = legs.starting_model(leg)
    form, processor = transformers_form.convert(model)
    blank = form.config.blank_token_id
    dataset = batching.load_dataset(leg.manifest, leg.vocabulary, model.cfg.sample_rate, run / "cache")
    durations, tokens = batching.sizes(dataset, leg.vocabulary)
    frames = 100 / model.encoder.subsampling_factor
    sampler = batching.BatchSampler(
        batching.plan(durations, tokens, options, options["batch_budget"], frames), options["seed"]
    )

    def collate(items):
        batch = batching.collate(items)
        lengths, labels = batch["token_lengths"], batch["tokens"]
        labels = labels.masked_fill(torch.arange(labels.shape[1]) >= lengths[:, None], blank)
        features = processor.feature_extractor([item["audio"] for item in items], sampling_rate=16000)
        inputs = {key: features[key] for key in ("input_features", "attention_mask")}
        begun = torch.nn.functional.pad(labels, (1, 0), value=blank)
        return {**inputs, "labels": labels, "decoder_input_ids": begun, "ids": batch["ids"]}

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self):
            loader = torch.utils.data.DataLoader(
                dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers
            )
            return self.accelerator.prepare(loader)

        def training_step(self, model, inputs, *rest):
            watch_of.before(inputs.pop("ids"))
            return super().training_step(model, inputs, *rest)

    watch_of = watch(form, options["max_skipped_steps"])
    callback = transformers.TrainerCallback()
    callback.on_step_end = watch_of.on_step_end
    arguments = legs._arguments(options, run, device, workers)
    arguments.max_steps = leg.length["max_steps"]
    form.train()
    trainer = Trainer(model=form, args=arguments, train_dataset=dataset, callbacks=[callback])
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    return {"padding": batching.padding(sampler, durations)}


if __name__ == "__main__":
    main()
