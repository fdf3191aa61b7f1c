"""Training: legs that add up to one training, a kill that loses nothing, and options that change what happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from omegaconf import OmegaConf

import tracked
from conftest import SCRIPTS, SHARED_DATA, entries
from legs import OPTIONS, arguments, losses, run_leg, train, weights
from rnnt import files
from rnnt.corpora import local
from rnnt.data import families, manifests, tokenizers
from rnnt.errors import UserError
from rnnt.training import batching, callbacks, legs, memory, models


def test_an_unknown_architecture_names_the_known_ones(prepared):
    with pytest.raises(UserError, match="contextnet_dummy, contextnet_large, contextnet_tdt_small, contextnet_tiny"):
        models.build("contextnet_huge", prepared / "tokenizer")


def test_legs_add_up_to_an_uninterrupted_training(prepared, tmp_path):
    """Dropout, augmentation, shuffling and schedule included; the legs end in the middle of an epoch."""
    whole, whole_done = train(prepared, tmp_path / "whole", steps=13)
    previous = None
    for leg in (1, 2, 3):
        model, previous = train(prepared, tmp_path / f"leg{leg}", leg, 3, 13, previous)
    assert json.loads((previous / "leg.json").read_text())["step"] == 13
    difference = (weights(model) - weights(whole)).norm() / weights(whole).norm()
    assert difference <= 1e-6
    assert losses(previous)[13] == pytest.approx(losses(whole_done)[13], rel=1e-5)


def batches_of(monkeypatch):
    """The utterance ids of every batch that is trained on from now on."""
    seen = []
    before = legs.Guard.before
    monkeypatch.setattr(legs.Guard, "before", lambda guard, ids: (seen.append(sorted(ids)), before(guard, ids))[1])
    return seen


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_epoch_is_shuffled_anew_and_a_restart_goes_on_in_it(prepared, tmp_path, monkeypatch, accumulation):
    seen = batches_of(monkeypatch)
    options = {"gradient_accumulation_steps": accumulation}
    _, done = train(prepared, tmp_path / "whole", steps=24, **options)
    length = json.loads((done / "leg.json").read_text())["batches_per_epoch"]
    epochs = [seen[start : start + length] for start in range(0, len(seen) - length + 1, length)]
    assert len(epochs) >= 2
    ids = sorted(row["id"] for row in manifests.read(prepared / "train.jsonl"))
    for epoch in epochs:
        assert sorted(id for batch in epoch for id in batch) == ids
    assert epochs[0] != epochs[1] and sorted(epochs[0]) != sorted(epochs[1]), "other batches, in another order"
    whole, seen[:] = seen[:], []
    previous = None
    for leg in (1, 2, 3):
        _, previous = train(prepared, tmp_path / f"leg{leg}", leg, 3, 24, previous, **options)
    assert seen == whole


def test_processes_that_read_audio_change_nothing(prepared, tmp_path):
    whole, _ = train(prepared, tmp_path / "whole", steps=14)
    previous = None
    for leg in (1, 2):
        model, previous = train(prepared, tmp_path / f"leg{leg}", leg, 2, 14, previous, workers=1)
    assert torch.equal(weights(model), weights(whole))


def test_more_legs_than_steps_are_refused(prepared, tmp_path):
    with pytest.raises(UserError, match="2 steps of training can't be cut into 3 legs"):
        train(prepared, tmp_path / "run", 1, 3, 2)


def encoder_weights(model):
    return torch.cat([value.detach().flatten() for value in model.encoder.parameters()])


def test_a_frozen_encoder_keeps_its_weights_while_batch_norm_goes_on_and_learns_after_its_legs(prepared, tmp_path):
    start = models.build("contextnet_dummy", prepared / "tokenizer")
    previous, seen, scale = None, [], []
    for leg in (1, 2, 3):
        model, previous = train(prepared, tmp_path / f"leg{leg}", leg, 3, 12, previous, frozen_encoder_legs=2)
        seen.append((encoder_weights(model), model.encoder.state_dict(), model.joint.pred.weight.detach().clone()))
        norms = [value for name, value in model.encoder.state_dict().items() if "running_mean" in name]
        scale.append(torch.cat(norms))
    assert torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[1][0], seen[2][0])
    assert not torch.equal(scale[0], scale[1]) and scale[0].abs().sum() > 0
    assert not torch.equal(seen[0][2], seen[1][2]), "the rest learns"
    state = torch.load(tmp_path / "leg2_done/trainer/optimizer.pt", weights_only=False)["state"]
    trained = sum(1 for name, _ in start.named_parameters() if not name.startswith("encoder."))
    assert len(state) == trained, "no optimizer state for what is frozen"


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_checkpointing_changes_neither_gradients_nor_batch_norm(prepared):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        model = models.build("contextnet_tiny", prepared / "tokenizer")  # with dropout
        if checkpointing:
            models.checkpoint_encoder(model)
        step = legs.Transducer(model, "fused")
        torch.manual_seed(2)
        step(**memory.noise(step, 3, 2.0, 8))["loss"].backward()
        norms = [value for name, value in model.state_dict().items() if "running_" in name or "num_batches" in name]
        found.append((gradients(model), torch.cat([value.double().flatten() for value in norms])))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_checkpointing_trains_the_same_model(prepared, tmp_path):
    plain, _ = train(prepared, tmp_path / "plain", steps=4)
    checkpointed, _ = train(prepared, tmp_path / "checkpointed", steps=4, gradient_checkpointing=True)
    assert torch.equal(weights(plain), weights(checkpointed))


def test_accumulated_gradients_are_the_mean_of_their_batches(prepared, tmp_path, monkeypatch):
    taken, batches = [], batches_of(monkeypatch)
    monkeypatch.setattr(
        legs.Guard, "on_pre_optimizer_step", lambda *args, model, **_: taken.append(gradients(model).clone())
    )
    # An encoder without noise, so that a batch's gradient does not depend on what went before.
    build = models.build

    def quiet(*args):
        model = build(*args)
        model.preprocessor.featurizer.dither = 0.0
        model.spec_augmentation = None
        return model

    monkeypatch.setattr(models, "build", quiet)
    calm = {"dropout": False, "max_grad_norm": 1e9, "learning_rate": 1e-12, "weight_decay": 0.0}
    train(prepared, tmp_path / "single", steps=3, **calm)
    single, taken[:] = taken[:], []
    train(prepared, tmp_path / "accumulated", steps=1, gradient_accumulation_steps=3, **calm)
    assert batches[:3] == batches[3:]
    mean = sum(single) / 3
    assert (taken[0] - mean).norm() / mean.norm() <= 1e-4


def test_the_loss_falls(prepared, tmp_path):
    _, done = train(prepared, tmp_path / "run", steps=60, learning_rate=0.01)
    curve = list(losses(done).values())
    assert sum(curve[-11:]) < 0.6 * sum(curve[:11]), "of an epoch of 11 batches"


@pytest.mark.parametrize("other", [{"transducer": "nemo"}, {"transducer": "nemo_fused_batch", "fused_batch_size": 3}])
def test_our_transducer_step_and_nemo_s_train_the_same_model(prepared, tmp_path, other):
    ours, ours_done = train(prepared, tmp_path / "ours", steps=3, dropout=False, transducer="fused")
    theirs, theirs_done = train(prepared, tmp_path / "theirs", steps=3, dropout=False, **other)
    assert losses(ours_done) == pytest.approx(losses(theirs_done), rel=1e-4)
    assert (weights(ours) - weights(theirs)).norm() / weights(theirs).norm() <= 1e-3


@pytest.mark.parametrize("option", [
    {"optimizer": "adamw_8bit"}, {"precision": "bf16"}, {"seed": 5}, {"learning_rate": 0.001},
    {"batching": "fixed"}, {"batch_budget": 12}, {"batch_cells": 500}, {"frozen_encoder_legs": 1},
    {"gradient_accumulation_steps": 2}, {"warmup_steps": 5}, {"weight_decay": 0.5}, {"max_grad_norm": 1e-4},
    {"lr_scheduler": "linear"}, {"ctc_weight": 0.3}, {"encoder_learning_rate": 0.0005},
], ids=lambda option: next(iter(option)))  # fmt: skip
def test_an_option_changes_the_weights_and_training_stays_finite(prepared, tmp_path_factory, option):
    reference = baseline(prepared, tmp_path_factory)
    model, done = train(prepared, tmp_path_factory.mktemp("option") / "run", architecture="contextnet_dummy", **option)
    assert torch.isfinite(weights(model)).all()
    assert all(loss == loss for loss in losses(done).values())
    assert not torch.equal(weights(model), reference)


_baseline = []


def baseline(prepared, tmp_path_factory):
    if not _baseline:
        _baseline.append(weights(train(prepared, tmp_path_factory.mktemp("baseline") / "run")[0]))
    return _baseline[0]


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_8bit"])
def test_the_encoder_learns_at_its_own_rate_in_every_leg(prepared, tmp_path, optimizer):
    """None in the first leg, where it is frozen; then so little that it stays in place."""
    options = {"frozen_encoder_legs": 1, "optimizer": optimizer, "warmup_steps": 0}
    previous, seen = None, []
    for leg, rate in ((1, 1e-12), (2, 1e-12)):
        model, previous = train(
            prepared, tmp_path / f"leg{leg}", leg, 2, 6, previous, encoder_learning_rate=rate, **options
        )
        seen.append((encoder_weights(model), model.joint.pred.weight.detach().clone()))
    assert torch.allclose(seen[0][0], seen[1][0], atol=1e-9) and not torch.allclose(seen[0][1], seen[1][1], atol=1e-4)
    state = files.read_json(previous / "trainer/trainer_state.json")["log_history"]
    assert next(row["learning_rate"] for row in state) == OPTIONS["learning_rate"], "that of the rest is logged"
    saved = torch.load(previous / "trainer/optimizer.pt", weights_only=True)
    assert [group["initial_lr"] for group in saved["groups"]] == 2 * [0.003] + 2 * [1e-12]
    of_encoder = ["model.encoder." in group["params"][0] for group in saved["groups"]]
    assert of_encoder == [False, False, True, True]
    learning, _ = train(prepared, tmp_path / "alike", steps=6, encoder_learning_rate=OPTIONS["learning_rate"])
    plain, _ = train(prepared, tmp_path / "plain", steps=6)
    assert torch.equal(weights(learning), weights(plain))


@pytest.mark.parametrize("name", ["contextnet", "fastconformer", "streaming", "stateless"])
def test_norms_and_biases_do_not_decay_and_all_else_does(prepared, bases, tmp_path, name):
    options = {"steps": 1, "base": bases(name), "reinitialize": True, "warmup_steps": 0}
    (decayed, _), (plain, _) = (
        train(prepared, tmp_path / str(decay), weight_decay=decay, **options) for decay in (0.5, 0.0)
    )
    norms = {
        id(parameter)
        for module in plain.modules()
        if "Norm" in type(module).__name__
        for parameter in module.parameters()
    }
    assert norms
    others = dict(decayed.named_parameters())
    for key, value in plain.named_parameters():
        stays = id(value) in norms or "bias" in key
        assert torch.equal(value, others[key]) is (stays or not value.any()), key


def test_a_warm_up_may_be_a_share_of_the_whole_training(prepared, tmp_path):
    rates = {}
    for name, warmup in (("share", 0.4), ("steps", 4)):
        previous = None
        for leg in (1, 2):
            _, previous = train(prepared, tmp_path / f"{name}{leg}", leg, 2, 10, previous, warmup_steps=warmup)
        history = files.read_json(previous / "trainer/trainer_state.json")["log_history"]
        rates[name] = [row["learning_rate"] for row in history if "learning_rate" in row]
    assert rates["share"] == rates["steps"] and len(rates["share"]) == 10
    assert max(rates["share"]) == rates["share"][4] == 0.003


def dropouts(model):
    """The shares of a model's parts."""
    parts = {"encoder": model.encoder, "decoder": model.decoder, "joint": model.joint}
    kinds = (torch.nn.Dropout, torch.nn.LSTM)
    return {
        name: {m.p if isinstance(m, torch.nn.Dropout) else m.dropout for m in part.modules() if isinstance(m, kinds)}
        for name, part in parts.items()
    }


def test_values_of_the_model_s_configuration_are_overridden_each_where_its_path_leads(prepared, tmp_path):
    plain = models.build("contextnet_tiny", prepared / "tokenizer")
    wanted = {"joint.jointnet.dropout": 0.25, "encoder.jasper.*.dropout": 0.3, "encoder.jasper.5.filters": 96}
    model = models.build("contextnet_tiny", prepared / "tokenizer", wanted)
    assert dropouts(plain)["encoder"] == {0.0, 0.05} and dropouts(model)["encoder"] == {0.3}
    assert dropouts(plain)["joint"] == {0.1} and dropouts(model)["joint"] == {0.25}
    assert dropouts(model)["decoder"] == dropouts(plain)["decoder"]
    filters = [block.filters for block in model.cfg.encoder.jasper]
    assert filters == [128, 128, 128, 128, 128, 96, 128], "the 4th, which the file has the 6th for an alias of, stays"
    path = tmp_path / "model.nemo"
    model.save_to(str(path))
    assert dropouts(models.restore(path))["joint"] == {0.25}
    tuned = models.restore(path, {"joint.jointnet.dropout": 0.5})
    assert dropouts(tuned) == {**dropouts(model), "joint": {0.5}} and tuned.cfg.joint.jointnet.dropout == 0.5
    assert torch.equal(weights(tuned), weights(model))


@pytest.mark.parametrize(("wanted", "restored", "message"), [
    ({"joint.jointnet.drop": 0.2}, False, "drop: .*_dummy.yaml has no such value: did you mean joint.jointnet.d"),
    ({"encoder.jasper.9.dropout": 0.2}, False, "no such value: did you mean encoder.jasper.[01].dropout"),
    ({"joint.jointnet": 0.2}, False, "no such value: did you mean joint.jointnet.dropout"),
    ({"joint.jointnet.dropout": 1}, False, "dropout: expected a number of at least 0 and below 1, got 1"),
    ({"joint.jointnet.dropout": "0.2"}, True, "expected a number of at least 0 and below 1, got '0.2'"),
    ({"encoder.jasper.0.filters": 64}, True, "filters: of a model that training starts from dropouts alone"),
    ({"encoder.jasper.0.filters": "1e2"}, False, "filters: expected a number as \\d+, got '1e2'"),
])  # fmt: skip
def test_a_value_that_can_t_be_overridden_is_one_line(wanted, restored, message):
    path = models.architecture_file("contextnet_dummy")
    with pytest.raises(UserError, match=f"^model.overrides.(joint|encoder).*{message}") as error:
        families.override(families.architecture(path), wanted, path, restored)
    assert "\n" not in str(error.value)


def test_an_architecture_is_read_as_nemo_reads_it(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("preprocessor: {dither: 1e-5, window_size: 0.025, n: 7, name: 1e-5x}\n")
    assert families.architecture(path) == OmegaConf.to_container(OmegaConf.load(path))
    path.write_text("decoder:\n  a: 1\n  a: 2\n")
    with pytest.raises(UserError, match=r"own.yaml:3: a is given twice$"):
        families.architecture(path)


def test_a_training_that_starts_from_a_model_knows_whether_that_is_the_mean_of_its_weights(prepared, tmp_path):
    base = tmp_path / "leg_1/model.nemo"
    base.parent.mkdir()
    base.touch()
    model = {"architecture": "contextnet_dummy", "init_from": str(base)}
    found = []
    for start in ({"base_model": base}, {"base_model": base, "previous": base.parent}):
        leg = legs.Leg(1, 1, prepared / "train.jsonl", prepared / "tokenizer", model, {}, {"max_steps": 1}, **start)
        for kept in ("last", "averaged"):
            report = {"fingerprint": "a", "weights": "a" + kept}
            (base.parent / "leg.json").write_text(json.dumps(report))
            found.append(leg.fingerprint())
    assert found[0] != found[1] and found[2] == found[3], "a later leg goes on from the last weights"


def test_eight_bit_state_is_smaller_on_disk(prepared, tmp_path):
    sizes = {}
    for optimizer in ("adamw_torch", "adamw_8bit"):
        _, done = train(prepared, tmp_path / optimizer, steps=1, optimizer=optimizer, architecture="contextnet_tiny")
        sizes[optimizer] = (done / "trainer/optimizer.pt").stat().st_size
    assert sizes["adamw_8bit"] < 0.6 * sizes["adamw_torch"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_fp16_and_cuda_without_a_gpu_say_so(prepared, tmp_path):
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU"):
        train(prepared, tmp_path / "run", precision="fp16")
    with pytest.raises(UserError, match="device: cuda is set"):
        models.pick_device("cuda")


def test_training_starts_from_a_nemo_file(prepared, tmp_path):
    base, done = train(prepared, tmp_path / "base", steps=3)
    section = {"architecture": "unused", "init_from": str(done / "model.nemo"), "reinitialize_decoder": False}
    restored = models.restore(done / "model.nemo")
    assert torch.equal(weights(restored), weights(base))
    options = {**OPTIONS, "learning_rate": 1e-9, "warmup_steps": 0, "weight_decay": 0.0}
    changes = {"model": json.dumps(section), "training": json.dumps(options), "length": '{"max_steps": 1}'}
    run_leg(arguments(prepared, tmp_path / "tuned", **changes, **{"base-model": done / "model.nemo"}))
    names = [name for name, _ in base.named_parameters()]
    after = dict(models.restore(tmp_path / "tuned/leg_1/model.nemo").named_parameters())
    for name in names:
        assert torch.allclose(after[name], dict(base.named_parameters())[name], atol=1e-6), name


def test_reinitialising_the_decoder_keeps_the_encoder_and_takes_the_tokenizer(prepared, tmp_path):
    _, done = train(prepared, tmp_path / "base", steps=1)
    texts = [row["text"] for row in manifests.read(prepared / "train.jsonl")]
    tokenizers.write(tmp_path / "other", tokenizers.train(texts, 30))
    model = models.restore(done / "model.nemo")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    models.adapt(model, tmp_path / "other", reinitialize_decoder=True)
    assert model.joint.num_classes_with_blank == 31
    assert model.tokenizer.vocab_size == 30
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("encoder."))
    assert not torch.equal(after["joint.pred.weight"], before["joint.pred.weight"])


def test_a_nemo_file_of_garbage_is_one_line(tmp_path):
    (tmp_path / "x.nemo").write_bytes(b"garbage")
    with pytest.raises(UserError, match="not a NeMo model"):
        models.restore(tmp_path / "x.nemo")


def test_a_training_prints_nothing_but_the_project_s_own_lines(prepared, tmp_path):
    """A process of its own: what libraries print when they are imported counts."""
    options = json.dumps({**OPTIONS, "seed": 3, "optimizer": "adamw_8bit"})
    command = arguments(prepared, tmp_path, training=options, length='{"max_steps": 1}', label="speech")
    code = (
        f"import logging, runpy, sys; sys.argv = {['train_leg.py', *command]!r}\n"
        f"runpy.run_path({str(SCRIPTS / 'train_leg.py')!r}, run_name='__main__')\n"
        # bitsandbytes itself does so on a CPU with AVX-512 alone.
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('Failed to load CPU gemm_4bit_forward')"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert done.stdout == "" and len(lines) > 3 and [line for line in lines if not line.startswith("[speech] ")] == []


def test_epochs_become_steps():
    assert legs.total_steps(6, {"num_train_epochs": 3}) == 18
    assert legs.total_steps(6, {"num_train_epochs": 0.01}) == 1
    assert legs.total_steps(6, {"max_steps": 7}) == 7


def test_a_run_is_tracked_across_legs_and_a_restart(prepared, tmp_path, monkeypatch):
    """The second leg is killed at its second step; W&B then has the first one twice, TensorBoard each step once."""
    monkeypatch.setenv("WANDB_API_KEY", tracked.KEY)
    runs = tmp_path / "runs"
    options = json.dumps({"wandb": {"mode": "offline", "project": "test"}, "tensorboard": True})
    extra = {"tracking": options, "label": "speech", "length": '{"max_steps": 8}', "legs": 2}
    run_leg(arguments(prepared, tmp_path, **extra, log=tmp_path / "leg_1.log"))
    fingerprint = files.read_json(runs / "leg_1/fingerprint.json")["fingerprint"]
    for split, trained in (("validation", fingerprint), ("validation_stale", "of another training")):
        checkpoint = {"leg": 1, "step": 4, "fingerprint": trained}
        path = tmp_path / f"evaluation/leg_1/greedy/{split}.json"
        files.write_sealed(path, {"wer": 42.5, "checkpoint": checkpoint})
    files.write_json(tmp_path / "evaluation/leg_1/greedy/validation.decoding.json", {})
    leg_2 = {"leg": 2, "previous": tmp_path / "leg_1", "run": runs / "leg_2", "output": tmp_path / "leg_2"}

    def killed(self, args, state, control, **kwargs):
        if state.global_step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks.LegEnd, "on_step_end", killed)
        run_leg(arguments(prepared, tmp_path, **extra, **leg_2))
    run_leg(arguments(prepared, tmp_path, **extra, **leg_2))
    run_leg(arguments(prepared, tmp_path, **extra, **leg_2))  # found done: logs nothing

    found = tracked.wandb_runs(runs)
    assert {run.id for run in found} == {f"speech-{fingerprint[:10]}"} and {run.project for run in found} == {"test"}
    events = tracked.EventFiles(runs)
    history = json.loads((tmp_path / "leg_2/trainer/trainer_state.json").read_text())["log_history"]
    for name in ("loss", "learning_rate", "grad_norm"):
        curve = [(row["step"], row[name]) for row in history if name in row]
        assert [step for step, _ in curve] == list(range(1, 9)) and curve[0][1] != curve[-1][1]
        logged = [point for run in found for point in run.curve(f"train/{name}")]
        assert logged == [*curve[:5], *curve[4:]]
        assert events.curve(f"train/{name}") == [(step, pytest.approx(value)) for step, value in curve]
    padding = files.read_json(tmp_path / "leg_2/leg.json")["padding"]
    assert 0 < padding < 1
    logged = [point for run in found for point in run.curve("train/padding")]
    assert logged == [(step, pytest.approx(padding, abs=1e-4)) for step in (0, 4, 4)]
    assert [step for step, _ in events.curve("train/padding")] == [0, 4, 4]
    assert [point for run in found for point in run.curve("validation/wer")] == [(4, 42.5)]
    assert events.curve("validation/wer") == [(4, 42.5)]
    assert not any("validation_stale" in key for run in found for row in run.history for key in row)
    assert not tracked.holding(tmp_path, tracked.KEY)

    other = {**extra, "length": '{"max_steps": 2}', "legs": 1, "tracking": options.replace("true", "false")}
    run_leg(arguments(prepared, tmp_path, **other))
    assert len({run.id for run in tracked.wandb_runs(runs)}) == 2, "another training, another run"


def test_a_training_that_was_begun_does_not_end_because_wandb_is_away(prepared, tmp_path, monkeypatch, log):
    monkeypatch.setenv("WANDB_API_KEY", tracked.KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    online = json.dumps({"wandb": {"mode": "online", "project": "test"}, "tensorboard": False})
    extra = {"length": '{"max_steps": 2}', "legs": 2, "log": log, "label": "speech"}
    with pytest.raises(UserError, match="check the network"):
        run_leg(arguments(prepared, tmp_path, **extra, tracking=online))
    run_leg(arguments(prepared, tmp_path, **extra))
    leg_2 = {"leg": 2, "previous": tmp_path / "leg_1", "run": tmp_path / "runs/leg_2", "output": tmp_path / "leg_2"}
    run_leg(arguments(prepared, tmp_path, **extra, **leg_2, tracking=online))
    assert "written offline; `wandb sync" in log.read_text() and (tmp_path / "leg_2/model.nemo").is_file()
    assert tracked.KEY not in log.read_text()


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ../shared/data here")
def test_real_speech_is_read_at_the_model_s_rate(digits, tmp_path):
    found, _ = entries(local.utterances({"path": str(digits)}, "test", Path()), "lower", 1, "test")
    assert len(found) == 200
    files.write_jsonl(tmp_path / "test.jsonl", found)
    tokenizers.write(tmp_path / "tokenizer", tokenizers.train([row["text"] for row in found], 32))
    dataset = batching.load_dataset(tmp_path / "test.jsonl", tmp_path / "tokenizer/tokenizer.model", 16000, tmp_path)
    for index in (0, 99, 199):
        assert len(dataset[index]["audio"]) == pytest.approx(found[index]["duration"] * 16000, abs=2)


def test_a_pretrained_name_is_fetched_through_nemo_from_the_hub_s_cache(prepared, tmp_path, monkeypatch):
    _, done = train(prepared, tmp_path / "base", steps=1)
    repository = tmp_path / "cache/models--lab--small_rnnt"
    (repository / "snapshots/abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    (repository / "snapshots/abc/small_rnnt.nemo").write_bytes((done / "model.nemo").read_bytes())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    models.fetch("lab/small_rnnt", tmp_path / "models/base.nemo")
    assert (tmp_path / "models/base.nemo").read_bytes() == (done / "model.nemo").read_bytes()
    (repository / "snapshots/abc/small_rnnt.nemo").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"cache.*/small_rnnt.nemo: not a NeMo model.*copy or download it again"):
        models.fetch("lab/small_rnnt", tmp_path / "models/other.nemo")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["base.nemo"]


def test_a_pretrained_name_that_does_not_exist_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match="model.init_from: stt_en_nonsense: neither a .nemo file nor a pretrained"
    ) as error:
        models.fetch("stt_en_nonsense", tmp_path / "base.nemo")
    assert "\n" not in str(error.value) and not (tmp_path / "base.nemo").exists()


def test_a_manifest_whose_optional_keys_come_late_is_read(prepared, tmp_path):
    rows = manifests.read(prepared / "train.jsonl")
    for row in rows[:-1]:
        row.pop("speaker")
    rows[-1] |= {"offset": 0.25, "duration": rows[-1]["duration"] - 0.5, "channel": 0, "stm": "(%HESITATION) ONE"}
    files.write_jsonl(tmp_path / "late.jsonl", rows)
    dataset = batching.load_dataset(tmp_path / "late.jsonl", prepared / "tokenizer/tokenizer.model", 16000, tmp_path)
    assert len(dataset[len(rows) - 1]["audio"]) == pytest.approx(rows[-1]["duration"] * 16000, abs=2)
    assert len(dataset[0]["audio"]) == pytest.approx(rows[0]["duration"] * 16000, abs=2)
