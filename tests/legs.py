"""Train a leg in the tests' own process: importing NeMo takes longer than such a training."""

import json

import numpy as np
import torch
import train_leg

from conftest import ROOT
from rnnt import config, console
from rnnt.training import legs as training
from rnnt.training import models, preflight

SCHEMA = config.load_schema(ROOT / "config/schema.yaml")
DEFAULTS = {key: child["default"] for key, child in SCHEMA["$defs"]["training"]["properties"].items()}
OPTIONS = {**DEFAULTS, "batch_budget": 8, "batch_size": 4, "warmup_steps": 2}


def train(
    prepared,
    run,
    leg=1,
    legs=1,
    steps=6,
    previous=None,
    architecture="contextnet_dummy",
    dropout=True,
    workers=0,
    base=None,
    tokenizer=None,
    reinitialize=False,
    **options,
):
    """Train as train_leg.py does; returns the model and the finished leg's folder."""
    import transformers

    transformers.set_seed(1)
    section = {"architecture": architecture, "init_from": base and str(base), "reinitialize_decoder": reinitialize}
    made = training.Leg(
        number=leg,
        legs=legs,
        manifest=prepared / "train.jsonl",
        tokenizer=tokenizer or prepared / "tokenizer",
        model=section,
        training={**OPTIONS, **options},
        length={"max_steps": steps},
        base_model=base,
        previous=previous,
    )
    model = training.starting_model(made)
    for module in () if dropout else model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    run.mkdir(parents=True, exist_ok=True)
    report = training.train(made, model, run, {}, "cpu", workers)
    output = run.with_name(f"{run.name}_done")
    training.export(model, run, output, {**report, "fingerprint": made.fingerprint()})
    return model, output


def everything(noises):
    """Every part of `training.augmentation`, on, with the audio in the folder `noises`."""
    return {
        "speed": [0.9, 1.0, 1.1],
        "gain": [-6, 6],
        "noise": {"path": str(noises), "snr": [10, 20], "probability": 0.5, "files": "a hash"},
        "babble": {"snr": [10, 20], "probability": 0.5, "speakers": [1, 3]},
        "reverberation": {"path": None, "probability": 0.5},
        "telephone": {"probability": 0.5},
        "spec_augment": {"frequency_masks": 2, "frequency_width": 10, "time_masks": 2, "time_width": 0.1},
    }


def losses(output):
    history = json.loads((output / "trainer/trainer_state.json").read_text())["log_history"]
    return {row["step"]: row["loss"] for row in history if "loss" in row}


def weights(model):
    return torch.cat([value.detach().flatten().double() for value in model.state_dict().values()])


def difference(model, other):
    """The distance of a model's weights to another's, relative to those."""
    return ((weights(model) - weights(other)).norm() / weights(other).norm()).item()


RUNNING = {"checkpoint_every_steps": 10, "gradient_checkpointing": False, "max_skipped_steps": 10}


def arguments(prepared, folder, **changes):
    """A train_leg.py command for a training long enough to be killed."""
    options = {
        "manifest": prepared / "train.jsonl",
        "tokenizer": prepared / "tokenizer",
        "model": json.dumps({"architecture": "contextnet_dummy", "init_from": None, "reinitialize_decoder": False}),
        "training": json.dumps({**OPTIONS, "seed": 3}),
        "length": json.dumps({"max_steps": 60}),
        "leg": 1,
        "legs": 1,
        "device": "cpu",
        "threads": 1,
        "running": json.dumps(RUNNING),
        "run": folder / "runs/leg_1",
        "output": folder / "leg_1",
        **changes,
    }
    return [part for key, value in options.items() for part in (f"--{key}", str(value))]


def run_leg(arguments):
    """train_leg.py in this process: NeMo's import takes longer than the training."""
    args = train_leg.parser().parse_args(arguments)
    console.start_logging(args.log, args.label)
    train_leg.main(args)


def flight(prepared, durations=(5.0, 4.9, 4.8, 2.0, 2.0, 2.0), tokens=30, architecture="contextnet_tiny", **options):
    """What preflight.measure finds for a new model and a training split of the given durations."""
    options = {**OPTIONS, "batch_budget": 20, **options}
    torch.manual_seed(0)
    model = models.build(architecture, prepared / "tokenizer")
    if options["gradient_checkpointing"]:
        models.checkpoint_encoder(model)
    model.encoder.requires_grad_(not options["frozen_encoder_legs"])
    step = training.Transducer(model, options["transducer"], options["fused_batch_size"])
    return preflight.measure(step, options, np.array(durations), np.full(len(durations), tokens))
