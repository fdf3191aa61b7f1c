"""What training takes is predicted, tried, and answered with the keys to change when it does not fit."""

import json

import bitsandbytes
import numpy as np
import pytest
import torch

from legs import flight, train
from rnnt.errors import UserError
from rnnt.training import batching, memory, models, preflight

GIB = 2**30


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transducer": "nemo"},
        {"transducer": "nemo_fused_batch"},
        {"gradient_checkpointing": True},
        {"frozen_encoder_legs": 1},
        {"precision": "bf16"},
        {"optimizer": "adamw_8bit"},
    ],
    ids=lambda options: next(iter(options.values()), "default"),
)
def test_the_prediction_is_what_the_worst_batch_takes(prepared, options):
    is_nemo_s = "transducer" in options  # slow to follow: few cells, and a lattice that outweighs the rest
    seconds, tokens = (0.5, 15) if is_nemo_s else (5.0, 30)
    made = flight(prepared, [seconds] * 8, tokens, "contextnet_dummy" if is_nemo_s else "contextnet_tiny", **options)
    bucket = made.worst(8 * seconds)
    assert bucket.utterances == 8
    predicted = made.taken.gradients + sum(memory.of_batch(made.taken, bucket))
    batch = memory.noise(made.step, 8, seconds, tokens)
    with memory._autocast(made.step, made.options["precision"]), memory._account(made.step) as account:
        made.step(**batch)["loss"].backward()
    taken = account.peak
    assert predicted == pytest.approx(taken, rel=0.25)


def test_checkpointing_and_freezing_take_less_memory_and_smaller_batches_too(prepared):
    taken = {
        name: flight(prepared, **options).taken.networks[1]
        for name, options in {
            "plain": {}, "checkpointed": {"gradient_checkpointing": True}, "frozen": {"frozen_encoder_legs": 1},
        }.items()
    }  # fmt: skip
    assert taken["checkpointed"] < 0.5 * taken["plain"]
    assert taken["frozen"] < 0.5 * taken["plain"]
    made = flight(prepared, [5.0] * 8)
    whole, half = (made.try_batch(made.worst(budget)) for budget in (40, 20))
    assert half < 0.6 * whole, "which gradient accumulation makes up for"


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_8bit"])
def test_the_optimizer_s_state_is_as_large_as_predicted(prepared, tmp_path, optimizer):
    # It remembers by position which tensors of an earlier model in this process were embeddings.
    bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()
    _, done = train(prepared, tmp_path / "run", steps=1, optimizer=optimizer, architecture="contextnet_tiny")
    stored = 0
    for entry in torch.load(done / "trainer/optimizer.pt", weights_only=False)["state"].values():
        entry = entry.get("__bnb_optimizer_quant_state__", entry)
        stored += sum(v.nbytes for k, v in entry.items() if torch.is_tensor(v) and k not in ("step", "qmap1", "qmap2"))
    model = models.build("contextnet_tiny", prepared / "tokenizer")
    assert memory.optimizer_bytes(model, optimizer) == pytest.approx(stored, rel=0.02)


def test_measuring_and_trying_leave_the_model_and_the_random_state_alone(prepared):
    made = flight(prepared)
    before = {name: value.clone() for name, value in made.step.state_dict().items()}
    random = torch.random.get_rng_state()
    preflight.try_worst_batch(made, 20.0)
    memory.measure(made.step, "adamw_torch", 3.0, 10, "fp32")
    assert all(torch.equal(before[name], value) for name, value in made.step.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in made.step.parameters())


def test_the_log_says_what_is_to_come_before_the_first_step(prepared, tmp_path, log):
    train(prepared, tmp_path / "run", steps=1)
    lines = log.read_text().splitlines()
    order = ["% of their audio is padding", "predicted peak memory", "tried the worst batch", "step 1 of 1"]
    where = [next(i for i, line in enumerate(lines) if text in line) for text in order]
    assert where == sorted(where)
    for part in ("weights", "gradients", "optimizer state", "(adamw_torch)", "activations", "lattice", "(fused)"):
        assert part in lines[where[1]]


def test_the_worst_batch_is_the_one_of_most_cells_where_the_lattice_is_what_grows():
    few, many = (batching.Bucket(np.arange(4), 1, 4, 5.0, tokens) for tokens in (5, 50))
    taken = memory.Memory(0, 0, 0, (0, 1000.0), (0, 900.0), (0, 100.0), seconds=5.0, cells=100, frames_per_second=12.5)
    assert memory.worst(taken, [few, many]) is many
    assert memory.worst(taken, [few._replace(utterances=9), many._replace(tokens=6)]).utterances == 9


@pytest.mark.parametrize("largest", [3.7, 40.0, 57.0, 640.0])
def test_the_largest_budget_has_two_digits_and_fits(largest):
    assert memory.largest_budget(lambda budget: budget <= largest, 1e4) == largest
    assert memory.largest_budget(lambda budget: budget <= largest, 20.0) == min(largest, 20.0)
    assert memory.largest_budget(lambda budget: False, 20.0) is None


def test_auto_takes_what_the_memory_allows_and_keeps_it_for_all_legs(prepared, tmp_path, monkeypatch, log):
    made = flight(prepared, [2.0] * 400, batch_budget="auto")
    room = {}
    monkeypatch.setattr(memory, "capacity", lambda device, share: room["bytes"])
    budgets = {}
    for mib in (60, 120, 100000):
        room["bytes"] = mib * 2**20
        (tmp_path / str(mib)).mkdir()
        budgets[mib] = preflight.settle_budget(made, tmp_path / str(mib), None)
        needed = made.taken.weights + memory.of_training(made.taken, made.worst(budgets[mib]))
        assert needed <= room["bytes"]
    assert 2 <= budgets[60] < budgets[120] < budgets[100000] == 80, "ten batches an epoch"
    assert preflight.settle_budget(made, tmp_path / "60", None) == budgets[60], "a restart keeps it"
    (tmp_path / "leg.json").write_text(json.dumps({"batch_budget": 33}))
    (tmp_path / "new").mkdir()
    assert preflight.settle_budget(made, tmp_path / "new", tmp_path) == 33, "as does the next leg"

    room["bytes"] = 2**20
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="filter.max_duration"):
        preflight.settle_budget(made, tmp_path / "none", None)


def test_auto_goes_down_when_the_device_does_not_hold_what_was_predicted(prepared, tmp_path, monkeypatch):
    made = flight(prepared, [2.0] * 400, batch_budget="auto")
    tried = []

    def try_batch(step, bucket, precision, optimizer):
        tried.append(bucket.utterances * bucket.seconds)
        if tried[-1] > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(memory, "try_batch", try_batch)
    budget = preflight.settle_budget(made, tmp_path, None)
    assert tried[0] == 80 and tried[-2] > 50 >= tried[-1] and budget >= 0.7 * 50


def test_what_does_not_fit_names_the_keys_to_change_and_their_values(prepared, monkeypatch):
    made = flight(prepared, [5.0] * 50, transducer="nemo", batch_budget=200)
    monkeypatch.setattr(
        memory, "room", lambda device, weights: int(0.5 * memory.of_training(made.taken, made.worst(200)))
    )
    with pytest.raises(UserError) as error:
        preflight.try_worst_batch(made, 200)
    message = str(error.value)
    assert "\n" not in message and "of memory are needed" in message
    suggested = float(message.split("training.batch_budget from 200 to ")[1].split(",")[0])
    assert 5 <= suggested <= 90
    assert made.fits(made.buckets(suggested), memory.room("cpu", 0))
    for part in ("transducer to fused", "gradient_checkpointing to true", "adamw_8bit", "bf16", "filter.max_duration"):
        assert part in message

    fixed = flight(prepared, [5.0] * 50, batching="fixed", batch_size=40, gradient_checkpointing=True)
    needed = memory.of_training(fixed.taken, fixed.worst(None))
    monkeypatch.setattr(memory, "room", lambda device, weights: int(0.5 * needed))
    with pytest.raises(UserError, match=r"training.batch_size from 40 to \d+, or") as error:
        preflight.try_worst_batch(fixed, None)
    assert "gradient_checkpointing" not in str(error.value), "it is on"


@pytest.mark.parametrize(
    ("options", "budget"),
    [({"batch_budget": 10}, 10), ({"batching": "fixed", "batch_size": 1}, None), ({"batch_budget": "auto"}, 10)],
)
def test_no_smaller_batch_is_offered_where_it_would_not_help(prepared, monkeypatch, options, budget):
    made = flight(prepared, [20.0] * 8, **options)  # each utterance is a batch of its own
    monkeypatch.setattr(memory, "room", lambda device, weights: 1000)
    message = preflight.advice(made, budget)
    assert "batch_budget" not in message and "batch_size" not in message
    assert "filter.max_duration to less than 20.0" in message


def test_auto_with_a_frozen_encoder_holds_for_the_legs_after_it(prepared, tmp_path, monkeypatch):
    budgets = {}
    monkeypatch.setattr(memory, "capacity", lambda device, share: 22 * 2**20)
    for legs, name in ((2, "unfrozen later"), (1, "always frozen")):
        _, done = train(
            prepared, tmp_path / name, 1, legs, 2, batch_budget="auto", frozen_encoder_legs=1,
            architecture="contextnet_tiny",
        )  # fmt: skip
        budgets[name] = json.loads((done / "leg.json").read_text())["batch_budget"]
    assert budgets["unfrozen later"] < budgets["always frozen"]


def test_out_of_memory_on_the_device_is_advice_before_and_during_training(prepared, tmp_path, monkeypatch):
    made = flight(prepared, [5.0] * 8)

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(memory, "try_batch", out_of_memory)
    with pytest.raises(UserError, match="out of memory: change training.batch_budget from 20 to"):
        preflight.try_worst_batch(made, 20.0)
    with (
        pytest.raises(UserError, match="out of memory: change training.batch_budget from 20 to"),
        preflight.advice_when_out_of_memory(made, 20.0),
    ):
        torch.empty(2**60)
    monkeypatch.setattr(memory, "measure", out_of_memory)
    with pytest.raises(UserError, match="two utterances of 5.0 s: lower filter.max_duration"):
        preflight.measure(made.step, made.options, made.durations, made.tokens)


def test_an_utterance_over_the_budget_is_reported(prepared, log):
    made = flight(prepared)
    sampler = batching.BatchSampler(made.buckets(4.85), 1)
    preflight.report(made, 4.85, sampler, batching.padding(sampler, made.durations))
    assert "2 utterances are longer than training.batch_budget, 4.85 s" in log.read_text()


def test_memory_that_is_free_and_the_share_of_a_machine():
    assert 0 < memory.room("cpu", 0) <= memory.capacity("cpu")
    assert memory.capacity("cpu", 0.5) == pytest.approx(memory.capacity("cpu") / 2)


def test_a_control_group_s_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 4}\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "memory.max")
    assert memory.capacity("cpu") == GIB
    assert memory.room("cpu", 0) == GIB * 3 // 4
    assert memory.capacity("cpu", 1e-9) < GIB, "a share is one of the machine"
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.capacity("cpu") > GIB
