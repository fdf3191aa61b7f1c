"""A training that is killed or told to stop, as a process of its own: what is computed stays, and it goes on."""

import json
import os
import signal
import subprocess
import sys
import time

from conftest import SCRIPTS, run_script
from legs import OPTIONS, arguments, run_leg, weights
from rnnt.training import checkpoints, models


def start(arguments):
    command = [sys.executable, str(SCRIPTS / "train_leg.py"), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path, process):
    until = time.monotonic() + 600
    while not list(path.parent.glob(path.name)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_killed_leg_resumes_and_ends_as_if_nothing_had_happened(prepared, tmp_path):
    run_leg(arguments(prepared, tmp_path / "calm"))

    folder = tmp_path / "killed"
    process = start(arguments(prepared, folder))
    wait_for(folder / "runs/leg_1/checkpoint-20/trainer_state.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "leg_1").exists()
    # The newest checkpoint was cut off while it was written: the one before it serves.
    cut = sorted((folder / "runs/leg_1").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[-1]
    (cut / "trainer_state.json").write_text((cut / "trainer_state.json").read_text()[:100])

    run_leg(arguments(prepared, folder))
    log = folder / "runs/training.log"
    assert "was cut off while it was written: removed" in log.read_text()
    assert "continue at step" in log.read_text()
    calm, killed = (models.restore(place / "leg_1/model.nemo") for place in (tmp_path / "calm", folder))
    assert (weights(calm) - weights(killed)).norm() / weights(calm).norm() <= 1e-6

    log.unlink()
    run_leg(arguments(prepared, folder))
    assert "step" not in log.read_text(), "a leg that is done is not trained again"

    run_leg(arguments(prepared, folder, training=json.dumps({**OPTIONS, "seed": 4}), length='{"max_steps": 2}'))
    assert "config or data changed since" in log.read_text()
    assert len(list((folder / "runs").glob("leg_1.aside-*"))) == 1
    assert json.loads((folder / "leg_1/leg.json").read_text())["step"] == 2


def test_a_training_that_is_told_to_stop_saves_and_does_not_count_as_done(prepared, tmp_path):
    folder = tmp_path / "stopped"
    process = start(arguments(prepared, folder, length='{"max_steps": 100000}'))
    wait_for(folder / "runs/leg_1/checkpoint-*", process)
    busy = run_script("train_leg", *arguments(prepared, folder, length='{"max_steps": 100000}'))
    assert busy.returncode == 1 and "another training is at work there" in busy.stderr
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "as asked; the same command continues from there" in stderr and "Traceback" not in stderr
    assert not (folder / "leg_1").exists()
    step = checkpoints.steps_done(checkpoints.newest(folder / "runs/leg_1"))
    assert f"stopped at step {step} of 100000" in stderr
    assert "stopped at step" in (folder / "runs/training.log").read_text()
