"""Several processes that train one model together, by gloo: the model of one, whatever happens to any of them."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import nemo_files
from conftest import SCRIPTS
from legs import OPTIONS, RUNNING, arguments, difference, losses, run_leg
from rnnt import files
from rnnt.data import manifests
from rnnt.errors import UserError
from rnnt.training import batching, checkpoints, models

# An encoder with nothing random in it, and no batch norm, whose statistics are those of a share of a batch.
CALM = nemo_files.FASTCONFORMER | {
    "conv_norm_type": "layer_norm", "dropout": 0.0, "dropout_pre_encoder": 0.0, "dropout_att": 0.0,
}  # fmt: skip
NO_MASKS = {"spec_augment": {"frequency_masks": 0, "frequency_width": 1, "time_masks": 0, "time_width": 0.1}}


@pytest.fixture(scope="module")
def calm(prepared, tmp_path_factory):
    """A model file whose training has nothing random but the order of its batches."""
    with pytest.MonkeyPatch.context() as patch:
        quiet = {"encoder": CALM, "joint": {"jointnet": {"dropout": 0.0}}, "decoder": {"prednet": {"dropout": 0.0}}}
        config = [quiet, {"preprocessor": {"dither": 0.0}}, nemo_files.CTC]
        patch.setitem(nemo_files.FAMILIES, "calm hybrid", config)
        texts = [row["text"] for row in manifests.read(prepared / "train.jsonl")]
        return nemo_files.family(tmp_path_factory.mktemp("calm"), "calm hybrid", texts)


def start(warm, folder, arguments, processes=2, **environ):
    """train_leg.py as a process of its own, which starts `processes` more; its messages are in folder/stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments[arguments.index("--running") + 1] = json.dumps({**RUNNING, "processes": processes})
    with open(folder / "stderr", "a") as stderr:
        command = ["python", SCRIPTS / "train_leg.py", *arguments, "--log", folder / "train_leg.log"]
        return subprocess.Popen(command, stderr=stderr, env={**os.environ, "PATH": warm, **environ})


def finish(process, folder):
    """Wait for a process; its messages."""
    process.wait(timeout=900)
    return (folder / "stderr").read_text()


def trained(warm, folder, arguments, processes=2):
    """Train to the end; the model and the finished leg's folder."""
    process = start(warm, folder, arguments, processes)
    said = finish(process, folder)
    assert process.returncode == 0, said
    return models.restore(folder / "leg_1/model.nemo"), folder / "leg_1"


def of_base(base, **options):
    section = {"architecture": "unused", "init_from": str(base), "reinitialize_decoder": False}
    options = {**OPTIONS, "seed": 3, "augmentation": NO_MASKS, **options}
    return {"model": json.dumps(section), "base-model": base, "training": json.dumps(options)}


def the_same_in_both(said):
    """Whether the messages say that both processes ended with the same weights, by their hashes."""
    return len(re.findall(r"the weights are the same in all 2 processes \([0-9a-f]{16}\)", said)) == 1


@pytest.mark.parametrize("options", [
    {"batch_budget": 4, "optimizer": "adamw_8bit"}, {"transducer": "nemo", "batching": "fixed", "batch_size": 3},
], ids=["duration", "fixed"])  # fmt: skip
def test_two_processes_train_the_model_of_one(prepared, calm, warm, tmp_path, options):
    """Some batches are one utterance, of which the second process has none; an epoch's last step may be one batch."""
    changes = of_base(calm, gradient_accumulation_steps=2, **options) | {"length": '{"max_steps": 8}'}
    run_leg(arguments(prepared, tmp_path / "one", **changes))
    two, done = trained(warm, tmp_path / "two", arguments(prepared, tmp_path / "two", **changes))
    one = models.restore(tmp_path / "one/leg_1/model.nemo")
    assert losses(done) == pytest.approx(losses(tmp_path / "one/leg_1"), rel=1e-4)
    assert difference(two, one) <= 1e-4
    reports = [files.read_json(tmp_path / f"{name}/leg_1/leg.json") for name in ("one", "two")]
    assert reports[1]["processes"] == 2
    for key in ("fingerprint", "batches_per_epoch", "batch_budget", "total_steps"):
        assert reports[0][key] == reports[1][key]


def test_what_is_not_finite_in_one_process_is_skipped_in_both_as_in_one(prepared, calm, warm, tmp_path):
    rows = manifests.read(prepared / "train.jsonl")
    sizes = np.array([row["duration"] for row in rows]), np.ones(len(rows), int)
    plan = batching.plan(*sizes, {"batching": "fixed", "batch_size": 4, "batch_cells": None}, None, 1)
    row = rows[list(batching.BatchSampler(plan, 3))[1][1]]  # the second utterance of the second batch
    samples, rate = soundfile.read(row["audio_filepath"], dtype="float32")
    samples[100:110] = np.nan
    row["audio_filepath"] = str(tmp_path / "broken.wav")
    soundfile.write(row["audio_filepath"], samples, rate, subtype="FLOAT")
    (tmp_path / "tokenizer").symlink_to(prepared / "tokenizer")
    files.write_jsonl(tmp_path / "train.jsonl", rows)

    changes = of_base(calm, batching="fixed") | {"length": '{"max_steps": 6}'}
    run_leg(arguments(tmp_path, tmp_path / "one", **changes))
    two, _ = trained(warm, tmp_path / "two", arguments(tmp_path, tmp_path / "two", **changes))
    said = (tmp_path / "two/runs/training.log").read_text()
    assert f"step 2 skipped, loss not finite; utterances: {row['id']}\n" in said and the_same_in_both(said)
    assert said.count("skipped, ") == 1, "the first process alone says so"
    assert difference(two, models.restore(tmp_path / "one/leg_1/model.nemo")) <= 1e-4


@pytest.fixture(scope="module")
def undisturbed(prepared, warm, tmp_path_factory):
    """A training by two processes with dropout, batch norm and augmentation; its model."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return trained(warm, folder, noisy(prepared, folder))[0]


def noisy(prepared, folder, **changes):
    options = {**OPTIONS, "seed": 3, "ctc_weight": 0.3, "averaging": 0.5, "batch_budget": 4}
    options["augmentation"] = {"speed": [0.9, 1.0, 1.1], "gain": [-6, 6]}
    validation = {"validation": prepared / "test.jsonl", "greedy": '{"strategy": "greedy_batch", "max_symbols": 10}'}
    return arguments(prepared, folder, training=json.dumps(options), **validation, **changes)


def rank(folder, index):
    """The process id of one of the processes that train in a folder."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = ((path / name).read_bytes() for name in ("environ", "cmdline"))
        except OSError:  # has ended
            continue
        if f"\0RANK={index}\0".encode() in environment and str(folder).encode() in command:
            return int(path.name)
    raise AssertionError(f"no process {index}")


def wait_for(path, process, folder):
    until = time.monotonic() + 900
    while not path.exists():
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_process_ends_all_with_one_line_and_the_same_command_goes_on(prepared, undisturbed, warm, tmp_path):
    process = start(warm, tmp_path, noisy(prepared, tmp_path))
    wait_for(tmp_path / "runs/leg_1/checkpoint-20/trainer_state.json", process, tmp_path)
    os.kill(rank(tmp_path, 1), signal.SIGKILL)
    said = finish(process, tmp_path)
    assert process.returncode == 1 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: process 2 of 2 was killed by SIGKILL (as the system does")
    assert said.count("error") == 1
    model, _ = trained(warm, tmp_path, noisy(prepared, tmp_path))
    said = (tmp_path / "stderr").read_text()
    assert "continue at step" in said and the_same_in_both(said)
    assert difference(model, undisturbed) <= 1e-6


@pytest.mark.parametrize("whom", ["all by the first", "one"])
def test_a_stop_request_to_any_process_saves_once_and_stops_all(prepared, undisturbed, warm, tmp_path, whom):
    process = start(warm, tmp_path, noisy(prepared, tmp_path))
    wait_for(tmp_path / "runs/leg_1/checkpoint-10/trainer_state.json", process, tmp_path)
    os.kill(process.pid if whom == "all by the first" else rank(tmp_path, 1), signal.SIGTERM)
    said = finish(process, tmp_path)
    assert process.returncode == 1 and not (tmp_path / "leg_1").exists()
    step = checkpoints.steps_done(checkpoints.newest(tmp_path / "runs/leg_1"))
    assert 10 < step < 60
    assert said.splitlines()[-1] == (
        f"error: stopped at step {step} of 60 as asked; the same command continues from there"
    )
    assert said.count("error") == 1 and "Traceback" not in said
    if whom == "one":
        model, _ = trained(warm, tmp_path, noisy(prepared, tmp_path))
        assert difference(model, undisturbed) <= 1e-6


def test_processes_that_torchrun_started_train_alike_and_others_are_refused(
    prepared, undisturbed, warm, tmp_path, monkeypatch
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environ = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        start(warm, tmp_path, noisy(prepared, tmp_path), RANK=str(index), LOCAL_RANK=str(index), **environ)
        for index in range(2)
    ]
    for process in processes:
        said = finish(process, tmp_path)
        assert process.returncode == 0, said
    assert difference(models.restore(tmp_path / "leg_1/model.nemo"), undisturbed) <= 1e-6
    for key, value in {**environ, "RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match="one of 2 processes, as by torchrun, but training.processes is 1: set it to 2"):
        run_leg(arguments(prepared, tmp_path / "other"))


def test_a_loss_that_shares_can_t_add_up_to_is_refused(prepared, calm, warm, tmp_path):
    summed = nemo_files.changed(calm, tmp_path / "summed.nemo", {"rnnt_reduction": "mean_volume"})
    process = start(warm, tmp_path, arguments(prepared, tmp_path, **of_base(summed)))
    said = finish(process, tmp_path)
    assert process.returncode == 1
    assert "error: training.processes: the model's configuration has rnnt_reduction: mean_volume" in said
    assert said.count("error") == 1
