"""What a training goes on from: by the names of parameters, and whole or not at all."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from legs import difference, train, weights
from nemo_files import nvidia_like
from rnnt.data import manifests, tokenizers
from rnnt.errors import UserError
from rnnt.training import checkpoints, legs, models

OPTIMIZERS = ("adamw_torch", "adamw_8bit")
REMADE = {"reinitialize": True, "batch_budget": 16}


@pytest.fixture(scope="module")
def base(prepared, tmp_path_factory):
    """A pretrained model as NVIDIA publishes them, with a vocabulary as large as the corpus' own."""
    texts = [row["text"] for row in manifests.read(prepared / "train.jsonl")]
    return nvidia_like(tmp_path_factory.mktemp("base"), [text[::-1] for text in texts], 24)


def in_legs(prepared, folder, numbers, legs, previous=None, **options):
    """Train these legs, one after the other; the last model and its folder."""
    for number in numbers:
        model, previous = train(prepared, folder / f"leg{number}", number, legs, 9, previous, **options)
    return model, previous


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("size", [24, 28])
def test_legs_after_a_new_vocabulary_add_up(prepared, base, tmp_path, optimizer, size):
    """24 tokens are as many as the model had: by position, their state would go to other parameters in silence."""
    texts = [row["text"] for row in manifests.read(prepared / "train.jsonl")]
    tokenizers.write(tmp_path / "other", tokenizers.train(texts, size))
    options = {**REMADE, "base": base, "tokenizer": tmp_path / "other", "optimizer": optimizer}
    whole, _ = in_legs(prepared, tmp_path / "whole", [1], 1, **options)
    model, _ = in_legs(prepared, tmp_path / "legs", [1, 2, 3], 3, **options)
    assert difference(model, whole) <= 1e-6
    assert model.joint.num_classes_with_blank == size + 1


def test_a_model_saved_with_a_fused_joint_trains_with_the_plain_step(prepared, base, tmp_path):
    """The others: tests/workflow/test_matrix.py."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "tokenizer.model").write_bytes(tokenizers.from_nemo(base))
    options = {"base": base, "tokenizer": own, "transducer": "nemo", "batch_budget": 4}
    _, previous = train(prepared, tmp_path / "leg1", 1, 2, 2, **options)
    model, done = train(prepared, tmp_path / "leg2", 2, 2, 2, previous, **options)
    assert torch.isfinite(weights(model)).all()
    assert models.restore(done / "model.nemo").cfg.joint.fuse_loss_wer, "published as it was received"


def test_a_new_vocabulary_keeps_the_loss_of_the_model_s_file(prepared, base, tmp_path):
    """NeMo makes it anew without its options."""
    model = models.restore(base)
    model.cfg.loss = {"loss_name": "warprnnt_numba", "warprnnt_numba_kwargs": {"fastemit_lambda": 0.25, "clamp": 2.0}}
    model.cfg.rnnt_reduction = "mean_volume"
    model.save_to(str(tmp_path / "base.nemo"))
    model = models.restore(tmp_path / "base.nemo")
    models.adapt(model, prepared / "tokenizer", reinitialize_decoder=True)
    assert model.loss.reduction == "mean_volume"
    assert (model.loss._loss.fastemit_lambda, model.loss._loss.clamp) == (0.25, 2.0)
    assert model.loss._blank == 24


class Shuffled(torch.nn.Module):
    """Weights of equal shapes, made in an order of one's own."""

    def __init__(self, order):
        super().__init__()
        for name in order:
            setattr(self, name, torch.nn.Linear(80, 80))


def optimizer_of(model, kind, steps=0):
    """An optimizer with the two groups that the Trainer makes, after some steps."""
    import bitsandbytes

    groups = [
        {"params": [p for n, p in model.named_parameters() if n.endswith("bias") == is_bias], "weight_decay": decay}
        for is_bias, decay in ((False, 0.1), (True, 0.0))
    ]
    make = bitsandbytes.optim.AdamW8bit if kind == "adamw_8bit" else torch.optim.AdamW
    optimizer = make(groups, lr=0.01)
    for _ in range(steps):
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizer_state_finds_its_parameter_whatever_order_modules_were_made_in(kind, tmp_path):
    one, other = Shuffled("abc"), Shuffled("cab")
    other.load_state_dict(one.state_dict())
    first = optimizer_of(one, kind, steps=2)
    torch.save(checkpoints.optimizer_state(first, one), tmp_path / "optimizer.pt")
    other.load_state_dict(one.state_dict())
    second = optimizer_of(other, kind)
    checkpoints.load_optimizer(second, other, checkpoints.read(tmp_path / "optimizer.pt"), tmp_path / "optimizer.pt")
    for optimizer, model in ((first, one), (second, other)):
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
        optimizer.step()
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, dict(other.named_parameters())[name]), name


def test_state_of_other_parameters_is_named(tmp_path):
    saved = checkpoints.optimizer_state(optimizer_of(model := Shuffled("abc"), "adamw_torch", 1), model)
    for order, message in (("ab", "c.bias is not in this model"), ("abcd", "d.bias is missing")):
        other = Shuffled(order)
        with pytest.raises(UserError, match=rf"optimizer.pt: is of another model: {message}: delete the folders"):
            checkpoints.load_optimizer(optimizer_of(other, "adamw_torch"), other, saved, tmp_path / "optimizer.pt")
    saved["shapes"]["a.weight"] = [80, 40]
    with pytest.raises(UserError, match=r"a.weight has the shape \[80, 40\], in this model it has \[80, 80\]"):
        checkpoints.load_optimizer(optimizer_of(model, "adamw_torch"), model, saved, tmp_path / "optimizer.pt")
    saved["shapes"]["a.weight"] = [80, 80]
    with pytest.raises(UserError, match="optimizer.pt: has 1 groups of parameters, the optimizer has 2: delete"):
        saved["groups"].pop()
        checkpoints.load_optimizer(optimizer_of(model, "adamw_torch"), model, saved, tmp_path / "optimizer.pt")


def test_a_parameter_that_decays_no_longer_keeps_its_state(tmp_path):
    """As the scales of ContextNet's batch norms, which an earlier version let decay."""
    saved = checkpoints.optimizer_state(optimizer_of(model := Shuffled("abc"), "adamw_torch", 1), model)
    before = saved["state"]["a.weight"]["exp_avg"].clone()
    saved["groups"][1]["params"].remove("a.bias")
    saved["groups"][0]["params"].append("a.bias")
    loaded = optimizer_of(model, "adamw_torch")
    checkpoints.load_optimizer(loaded, model, saved, tmp_path / "optimizer.pt")
    assert torch.equal(loaded.state[model.a.weight]["exp_avg"], before)
    (group,) = [g for g in loaded.param_groups if any(p is model.a.bias for p in g["params"])]
    assert group["weight_decay"] == 0 and model.a.bias in loaded.state


def by_position(checkpoint):
    """Rewrite a checkpoint as versions before this one wrote it: the plain state of the optimizer."""
    saved = checkpoints.read(checkpoint / checkpoints.OPTIMIZER)
    order = [name for group in saved["groups"] for name in group["params"]]
    state = {order.index(name): value for name, value in saved["state"].items()}
    groups, at = [], 0
    for group in saved["groups"]:
        groups.append({**group, "params": list(range(at, at + len(group["params"])))})
        at += len(group["params"])
    (checkpoint / checkpoints.OPTIMIZER).unlink()  # a hard link of the rolling one
    torch.save({"state": state, "param_groups": groups}, checkpoint / checkpoints.OPTIMIZER)
    (checkpoint / checkpoints.HASHES).unlink()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_results_of_an_earlier_version_are_read(prepared, tmp_path, optimizer):
    whole, _ = in_legs(prepared, tmp_path / "whole", [1, 2], 2, optimizer=optimizer)
    _, first = in_legs(prepared, tmp_path / "old", [1], 2, optimizer=optimizer)
    by_position(first / "trainer")
    model, _ = in_legs(prepared, tmp_path / "old", [2], 2, first, optimizer=optimizer)
    assert torch.equal(weights(model), weights(whole))


def test_of_an_earlier_version_what_may_be_mixed_up_is_refused(prepared, base, tmp_path):
    options = {**REMADE, "base": base}
    _, first = in_legs(prepared, tmp_path, [1], 3, **options)
    by_position(first / "trainer")
    _, second = in_legs(prepared, tmp_path, [2], 3, first, **options)
    by_position(second / "trainer")
    with pytest.raises(UserError, match=r"leg2_done/trainer/optimizer.pt: made by an earlier version, which mixed up"):
        in_legs(prepared, tmp_path, [3], 3, second, **options)


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """A first leg of two."""
    return in_legs(prepared, tmp_path_factory.mktemp("finished"), [1], 2)[1]


def cut(path):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(("name", "change", "message"), [
    ("model.safetensors", cut, "missing or cut off"),
    ("model.safetensors", lambda path: path.unlink(), "missing or cut off"),
    ("optimizer.pt", cut, "missing or cut off"),
    ("optimizer.pt", lambda path: path.unlink(), "missing or cut off"),
    ("scheduler.pt", lambda path: path.unlink(), "missing or cut off"),
    ("rng_state.pth", lambda path: path.unlink(), "no such file: delete the folders of that leg"),
    ("trainer_state.json", cut, "not a readable JSON file"),
])  # fmt: skip
def test_a_leg_goes_on_from_the_whole_of_the_one_before_or_not_at_all(
    prepared, finished, tmp_path, name, change, message
):
    previous = shutil.copytree(finished, tmp_path / "leg_1")
    (previous / "trainer" / checkpoints.HASHES).unlink()  # as of an earlier version
    change(previous / "trainer" / name)
    with pytest.raises(UserError, match=rf"leg_1/trainer/{name}: {message}") as error:
        in_legs(prepared, tmp_path, [2], 2, previous)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_weights_of_another_model_are_refused(prepared, finished, tmp_path, change):
    previous = shutil.copytree(finished, tmp_path / "leg_1")
    path = previous / "trainer/model.safetensors"
    saved = load_file(path)
    name = "model.joint.pred.weight"
    if change == "missing":
        del saved[name]
    elif change == "more":
        saved["model.joint.extra"] = torch.zeros(2)
    else:
        saved[name] = saved[name][:1]
    path.unlink()
    save_file(saved, path)
    checkpoints.seal(path.parent)
    words = {"missing": f"{name} is missing", "more": "model.joint.extra is not in", "shape": f"{name} has the shape"}
    with pytest.raises(UserError, match=f"is of another model: {words[change]}"):
        in_legs(prepared, tmp_path, [2], 2, previous)


def test_a_schedule_of_other_groups_is_refused(tmp_path):
    model = Shuffled("ab")
    optimizer = optimizer_of(model, "adamw_torch")
    saved = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0).state_dict()
    torch.save({**saved, "base_lrs": saved["base_lrs"][:1]}, tmp_path / "scheduler.pt")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with pytest.raises(UserError, match="has 1 groups of parameters, the optimizer has 2"):
        checkpoints.load_scheduler(scheduler, tmp_path / "scheduler.pt")


def test_the_gradient_scale_goes_on_or_the_training_does_not(tmp_path):
    """fp16 needs a GPU: the Trainer's hook with a scaler of the CPU."""
    trainer = object.__new__(legs.LegTrainer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trainer.accelerator = type("Accelerator", (), {"scaler": scaler})
    with pytest.raises(UserError, match=r"scaler.pt: can't be read"):
        trainer._load_scaler(str(tmp_path))
    torch.save(torch.amp.GradScaler("cpu", init_scale=2.0).state_dict(), tmp_path / "scaler.pt")
    trainer._load_scaler(str(tmp_path))
    assert scaler.state_dict()["scale"] == 2.0


@pytest.mark.parametrize("hashes", [True, False], ids=["", "of an earlier version"])
def test_the_newest_whole_checkpoint_is_taken(finished, tmp_path, log, hashes):
    for step in (4, 8, 12, 16):
        shutil.copytree(finished / "trainer", tmp_path / f"checkpoint-{step}")
        if not hashes:
            (tmp_path / f"checkpoint-{step}" / checkpoints.HASHES).unlink()
    (tmp_path / "checkpoint-16/scheduler.pt").unlink()
    cut(tmp_path / "checkpoint-12/optimizer.pt")
    (tmp_path / "checkpoint-8/model.safetensors").write_bytes(b"")
    assert checkpoints.newest(tmp_path) == tmp_path / "checkpoint-4"
    assert log.read_text().count("was cut off while it was written, or damaged since: removed") == 3
    assert not (tmp_path / "checkpoint-12").exists()


def flip(path):
    """Another bit in the middle of a file, as a bad disk has it; size and format stay."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_bit_that_flipped_is_noticed_and_the_checkpoint_before_serves(prepared, finished, tmp_path, name, log):
    for step in (4, 8):
        shutil.copytree(finished / "trainer", tmp_path / f"run/checkpoint-{step}")
    assert checkpoints.newest(tmp_path / "run").name == "checkpoint-8"
    flip(tmp_path / "run/checkpoint-8" / name)
    assert checkpoints.newest(tmp_path / "run").name == "checkpoint-4"
    assert "checkpoint-8 was cut off while it was written, or damaged since: removed" in log.read_text()
    previous = shutil.copytree(finished, tmp_path / "leg_1")
    flip(previous / "trainer" / name)
    with pytest.raises(UserError, match=rf"leg_1/trainer/{name}: .*damaged: .*delete the folders of that leg"):
        in_legs(prepared, tmp_path, [2], 2, previous)


def test_a_model_that_is_not_what_was_written_is_refused(finished, tmp_path):
    done = shutil.copytree(finished, tmp_path / "leg_1")
    models.restore(done / "model.nemo")
    flip(done / "model.nemo")
    with pytest.raises(UserError, match=r"leg_1/model.nemo: damaged, .*: delete leg_1 there, and it is made anew"):
        models.restore(done / "model.nemo")
    best = shutil.copytree(done, tmp_path / "best")
    with pytest.raises(UserError, match=r"delete best and leg_1 there"):
        tokenizers.from_nemo(best / "model.nemo")


def test_an_lstm_computes_in_fp32_where_the_cpu_has_it_not_in_bf16(prepared, monkeypatch):
    model = models.build("contextnet_dummy", prepared / "tokenizer").eval()
    tokens, lengths = torch.randint(24, (2, 5)), torch.tensor([5, 5])
    plain = model.decoder(targets=tokens, target_length=lengths)[0]
    models.keep_lstm_out_of_bf16_where_it_fails(model)
    monkeypatch.setattr(models, "bf16_lstm_works", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.decoder(targets=tokens, target_length=lengths)[0]
        assert model.joint.pred(plain.transpose(1, 2)).dtype == torch.bfloat16, "the rest stays in it"
    assert torch.equal(inside, plain)
