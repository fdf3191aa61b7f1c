"""A step whose loss or gradient is not finite leaves no trace in the model, and its utterances are named."""

import json

import numpy as np
import pytest
import soundfile
import torch
import transformers

from legs import train, weights
from rnnt import files
from rnnt.data import manifests
from rnnt.errors import UserError
from rnnt.training import guard, models


@pytest.fixture
def broken(prepared, tmp_path):
    """`prepared` with the audio of the last utterance turned into floats that are not numbers."""
    rows = manifests.read(prepared / "train.jsonl")
    samples, rate = soundfile.read(rows[-1]["audio_filepath"], dtype="float32")
    samples[100:110] = np.nan
    rows[-1]["audio_filepath"] = str(tmp_path / "broken.wav")
    soundfile.write(rows[-1]["audio_filepath"], samples, rate, subtype="FLOAT")
    (tmp_path / "tokenizer").symlink_to(prepared / "tokenizer")
    files.write_jsonl(tmp_path / "train.jsonl", rows)
    return tmp_path


def test_a_broken_recording_is_named_and_leaves_no_trace(broken, prepared, log):
    ids = [row["id"] for row in manifests.read(broken / "train.jsonl")]
    model, done = train(broken, broken / "run", steps=12, batching="fixed", batch_size=20, learning_rate=0.01)
    assert torch.isfinite(weights(model)).all(), "batch norm's statistics included"
    report = json.loads((done / "leg.json").read_text())
    assert report["skipped_steps"] == 6, "once an epoch of two batches"
    messages = [line for line in log.read_text().splitlines() if "skipped, " in line]
    assert len(messages) == report["skipped_steps"]
    assert all(line.endswith(f"loss not finite; utterances: {ids[-1]}") for line in messages)
    history = json.loads((done / "trainer/trainer_state.json").read_text())["log_history"]
    assert all(np.isfinite(row["loss"]) for row in history if "loss" in row)
    assert log.read_text().rstrip().endswith("6 steps were skipped")


def test_too_many_in_a_row_stop_the_training(broken, tmp_path):
    rows = manifests.read(broken / "train.jsonl")
    files.write_jsonl(broken / "train.jsonl", rows[-1:])
    with pytest.raises(UserError, match=rf"3 steps in a row .*max_skipped_steps.*listen to {rows[-1]['id']}"):
        train(broken, tmp_path / "run", steps=50, max_skipped_steps=3)


def test_the_count_goes_on_in_the_next_leg(broken, tmp_path):
    rows = manifests.read(broken / "train.jsonl")
    files.write_jsonl(broken / "train.jsonl", rows[-1:])
    _, first = train(broken, tmp_path / "leg1", 1, 2, steps=4)
    assert json.loads((first / "leg.json").read_text())["skipped_steps"] == 2
    with pytest.raises(UserError, match="3 steps in a row"):
        train(broken, tmp_path / "leg2", 2, 2, steps=4, previous=first, max_skipped_steps=3)
    _, second = train(broken, tmp_path / "leg2b", 2, 2, steps=4, previous=first)
    assert json.loads((second / "leg.json").read_text())["skipped_steps"] == 4


def gradients_of(value):
    """A parameter whose gradient is `value`, in a model with batch norm."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model[0].weight.grad = torch.full((2, 2), value)
    return model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_dropped_though_the_loss_was_finite(value, log):
    model = gradients_of(value)
    watched = guard.Guard(model, 10)
    watched.before(["a", "b"])
    model[1].running_mean.fill_(7.0)
    watched.after(torch.tensor(1.0), ["a", "b"], torch.zeros(2, 5))
    state = transformers.TrainerState()
    watched.on_pre_optimizer_step(None, state, None, model=model)
    assert model[0].weight.grad is None
    assert (model[1].running_mean == 0).all()
    assert state.log_history == [{"step": 1, "skipped": ["a", "b"]}]
    assert "step 1 skipped, gradient not finite; utterances: a, b" in log.read_text()


def test_a_finite_step_is_left_alone():
    model = gradients_of(1.0)
    watched = guard.Guard(model, 1)
    state = transformers.TrainerState()
    watched.before(["a"])
    assert watched.after(torch.tensor(2.0), ["a"], torch.zeros(1, 5)) == 2
    watched.on_pre_optimizer_step(None, state, None, model=model)
    assert (model[0].weight.grad == 1).all() and state.log_history == []


class Scaler:
    """A gradient scaler as far as the guard asks it."""

    def __init__(self, scale):
        self.scale = scale

    def get_scale(self):
        return self.scale

    def update(self, scale):
        self.scale = scale


def test_a_collapsed_fp16_scale_stops_and_an_overflow_does_not():
    model = gradients_of(float("inf"))
    watched = guard.Guard(model, 1)
    watched.scaler = Scaler(1024.0)
    state = transformers.TrainerState()
    watched.on_pre_optimizer_step(None, state, None, model=model)  # the scaler's to skip
    assert state.log_history == []
    watched.scaler = Scaler(0.5)
    with pytest.raises(UserError, match=r"gradient scale has collapsed to 0.5: set training.precision to bf16 or fp32"):
        watched.on_pre_optimizer_step(None, state, None, model=model)


def test_a_broken_recording_does_not_lower_the_fp16_scale():
    model = gradients_of(float("nan"))
    watched = guard.Guard(model, 10)
    watched.scaler = Scaler(1024.0)
    watched.before(["a"])
    watched.after(torch.tensor(float("nan")), ["a"], torch.full((1, 5), float("nan")))
    watched.on_pre_optimizer_step(None, transformers.TrainerState(), None, model=model)
    watched.scaler.scale = 512.0  # what the scaler does with the step
    watched.on_step_end(None, None, None)
    assert watched.scaler.scale == 1024


def test_a_step_of_many_utterances_names_some(log):
    model = gradients_of(float("nan"))
    watched = guard.Guard(model, 10)
    names = [f"u{n}" for n in range(300)]
    watched.before(names)
    watched.after(torch.tensor(1.0), names, torch.zeros(300, 5))
    watched.on_pre_optimizer_step(None, transformers.TrainerState(), None, model=model)
    assert "u19 and 280 more" in log.read_text()


def test_statistics_are_those_of_every_batch_norm(prepared):
    model = models.build("contextnet_dummy", prepared / "tokenizer")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert norms
    kept = models.BatchNormStatistics(model)
    for norm in norms:
        norm.running_var.fill_(float("nan"))
    kept.restore()
    assert all(torch.isfinite(norm.running_var).all() for norm in norms)
