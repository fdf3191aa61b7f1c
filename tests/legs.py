"""Train a leg in the tests' own process: importing NeMo takes longer than such a training."""

import json

import torch

from conftest import ROOT
from rnnt import config, models, training

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
    **options,
):
    """Train as train_leg.py does; returns the model and the finished leg's folder."""
    import transformers

    transformers.set_seed(1)
    tokenizer = prepared / "tokenizer"
    model = models.restore(previous / "model.nemo") if previous else models.build(architecture, tokenizer)
    for module in () if dropout else model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    run.mkdir(parents=True, exist_ok=True)
    report = training.train_leg(
        model=model,
        manifest=prepared / "train.jsonl",
        tokenizer=tokenizer / "tokenizer.model",
        options={**OPTIONS, **options},
        leg=leg,
        legs=legs,
        length={"max_steps": steps},
        run=run,
        previous=previous,
        device="cpu",
        workers=workers,
    )
    output = run.with_name(f"{run.name}_done")
    training.export(model, run, output, {**report, "fingerprint": "f", "model": architecture})
    return model, output


def losses(output):
    history = json.loads((output / "trainer/trainer_state.json").read_text())["log_history"]
    return {row["step"]: row["loss"] for row in history if "loss" in row}


def weights(model):
    return torch.cat([value.detach().flatten().double() for value in model.state_dict().values()])
