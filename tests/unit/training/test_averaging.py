"""The mean of the weights over the end of a leg: what it is, that it survives a kill, and when it is kept."""

import json

import pytest
import safetensors.torch
import torch

from legs import arguments, flight, run_leg, train, weights
from rnnt import files
from rnnt.data import manifests
from rnnt.errors import UserError
from rnnt.evaluation import better_weights, decoding
from rnnt.training import averaging, callbacks, checkpoints, models


def seen_after_each_step(monkeypatch):
    """The weights of every step of the trainings from now on."""
    seen = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})

    monkeypatch.setattr(callbacks.Progress, "on_step_end", on_step_end)
    return seen


@pytest.mark.parametrize(("share", "steps"), [(0.5, 3), (1.0, 6), (0.01, 1)])
def test_the_mean_is_over_the_last_share_of_the_leg_statistics_of_batch_norm_with_it(
    prepared, tmp_path, monkeypatch, share, steps
):
    seen = seen_after_each_step(monkeypatch)
    _, first = train(prepared, tmp_path / "first", 1, 2, 12, averaging=share)
    model, done = train(prepared, tmp_path / "run", 2, 2, 12, first, averaging=share)
    mean = safetensors.torch.load_file(done / "trainer" / checkpoints.AVERAGE)
    assert any("running_var" in name for name in mean) and not any("num_batches" in name for name in mean)
    assert len(seen) == 12
    for name, value in mean.items():
        wanted = torch.stack([step[name] for step in seen[-steps:]]).mean(0)
        assert torch.allclose(value, wanted, atol=1e-6), name
    found = averaging.weights(tmp_path / "run", model)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name.removeprefix("model.")], value) for name, value in mean.items())
    assert any(not torch.equal(mean[f"model.{k}"], v) for k, v in model.named_parameters()) is (steps > 1)


def test_a_mean_changes_nothing_of_the_training_and_without_the_key_there_is_none(prepared, tmp_path):
    plain, plain_done = train(prepared, tmp_path / "plain")
    model, done = train(prepared, tmp_path / "averaged", averaging=0.5)
    assert torch.equal(weights(model), weights(plain))
    assert (done / "trainer" / checkpoints.AVERAGE).is_file()
    assert not (plain_done / "trainer" / checkpoints.AVERAGE).exists()


def test_a_mean_that_is_cut_off_or_gone_is_never_gone_on_with(prepared, tmp_path, log):
    _, done = train(prepared, tmp_path / "run", averaging=1.0)
    path = checkpoints.newest(tmp_path / "run") / checkpoints.AVERAGE
    whole = path.read_bytes()
    path.unlink()  # a hard link of the exported one
    path.write_bytes(whole[:100])
    assert checkpoints.newest(tmp_path / "run") is None and "cut off while it was written" in log.read_text()
    (done / "trainer" / checkpoints.AVERAGE).unlink()
    average = averaging.Average(torch.nn.Linear(2, 2), 6)
    average.load(done / "trainer")
    assert average.means == {}, "it has not begun"
    average.begin = 5
    with pytest.raises(UserError, match=r"averaged.safetensors: missing or cut off .*delete the folders"):
        average.load(done / "trainer")


def test_its_memory_is_predicted(prepared):
    plain, averaged = flight(prepared), flight(prepared, averaging=0.5)
    assert averaged.taken.optimizer == plain.taken.optimizer + plain.taken.weights


def transcribing_right_with(monkeypatch, number):
    """Validation in which the candidate `number` transcribes all as it is, and the other nothing."""
    calls = []

    def transcribe(model, manifest, *_):
        calls.append(weights(model))
        right = len(calls) % 2 == number % 2
        return [row["text"] if right else "" for row in manifests.read(manifest)], 1.0

    monkeypatch.setattr(decoding, "transcribe", transcribe)
    return calls


GREEDY = {"strategy": "greedy_batch", "max_symbols": 3}


@pytest.mark.parametrize("kept", ["last", "averaged"])
def test_the_better_of_both_is_exported_and_the_training_goes_on_from_the_last(prepared, tmp_path, monkeypatch, kept):
    calls = transcribing_right_with(monkeypatch, ["last", "averaged"].index(kept) + 1)
    training = json.loads(arguments(prepared, tmp_path)[7])
    options = {
        "training": json.dumps({**training, "averaging": 1.0, "ctc_weight": 0.3}),
        "length": '{"max_steps": 8}',
        "legs": 2,
    }
    deciding = {"validation": prepared / "test.jsonl", "greedy": json.dumps(GREEDY), "batch-size": 4}
    first = arguments(prepared, tmp_path, **options, **deciding)
    run_leg(first)
    report = files.read_json(tmp_path / "leg_1/leg.json")
    assert report["averaging"] == {"last": 100.0, "averaged": 100.0, "kept": kept, kept: 0.0}
    assert report["weights"] == report["fingerprint"] + ("" if kept == "last" else kept)
    exported = models.restore(tmp_path / "leg_1/model.nemo")
    place = ["last", "averaged"].index(kept)
    assert torch.equal(weights(exported), calls[place]) and not torch.equal(*calls)
    last = safetensors.torch.load_file(tmp_path / "leg_1/trainer/model.safetensors")
    mean = safetensors.torch.load_file(tmp_path / "leg_1/trainer/averaged.safetensors")
    for name, value in exported.named_parameters():
        assert torch.equal(value, (mean if kept == "averaged" else last)[f"model.{name}"])

    second = {"leg": 2, "previous": tmp_path / "leg_1", "run": tmp_path / "runs/leg_2", "output": tmp_path / "leg_2"}
    run_leg(arguments(prepared, tmp_path, **options, **deciding, **second))
    plain = {"training": json.dumps({**training, "ctc_weight": 0.3}), "length": '{"max_steps": 8}'}
    run_leg(arguments(prepared, tmp_path, **plain, run=tmp_path / "plain/leg_1", output=tmp_path / "whole"))
    ends = [tmp_path / place / "trainer/model.safetensors" for place in ("leg_2", "whole")]
    legs, whole = map(safetensors.torch.load_file, ends)
    assert all(torch.allclose(legs[name], value, atol=1e-6) for name, value in whole.items())
    plain = models.restore(tmp_path / "whole/model.nemo")
    assert exported.cfg.decoding == plain.cfg.decoding, "and not the search that decided"


def test_both_are_really_transcribed_and_the_last_stay_where_both_are_alike(prepared, tmp_path):
    model = models.build("contextnet_dummy", prepared / "tokenizer")
    before = weights(model)
    paths = prepared / "test.jsonl", prepared / "tokenizer/tokenizer.model"
    silent = {name: value.clone() for name, value in model.state_dict().items()}
    silent["joint.joint_net.2.bias"][-1] = 50.0  # nothing but blanks
    babbling = {**silent, "joint.joint_net.2.bias": -silent["joint.joint_net.2.bias"]}
    model.load_state_dict(babbling)
    found = better_weights.keep(model, silent, *paths, GREEDY, 4, "cpu", 0)
    assert found["kept"] == "averaged" and found["averaged"] == 100.0 and found["last"] > 100
    assert torch.equal(model.state_dict()["joint.joint_net.2.bias"], silent["joint.joint_net.2.bias"])
    assert better_weights.keep(model, dict(silent), *paths, GREEDY, 4, "cpu", 0)["kept"] == "last"
    assert not torch.equal(weights(model), before)
