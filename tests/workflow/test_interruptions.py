"""A training that is killed or told to stop, as a process of its own: what is computed stays, and it goes on."""

import json
import os
import re
import signal
import subprocess
import time

from conftest import SCRIPTS
from legs import OPTIONS, arguments, run_leg, weights
from rnnt import alone
from rnnt.training import models


def start(arguments, said, warm):
    with open(said, "w") as file:
        return subprocess.Popen(
            ["python", SCRIPTS / "train_leg.py", *arguments],
            env={**os.environ, "PATH": warm},
            stderr=file,
            start_new_session=True,
        )


def wait_for(path, process):
    until = time.monotonic() + 600
    while not list(path.parent.glob(path.name)):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)


def test_a_killed_leg_resumes_and_ends_as_if_nothing_had_happened(prepared, tmp_path, warm):
    run_leg(arguments(prepared, tmp_path / "calm"))

    folder = tmp_path / "killed"
    process = start(arguments(prepared, folder), tmp_path / "said", warm)
    wait_for(folder / "runs/leg_1/checkpoint-20/trainer_state.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "leg_1").exists()
    # The newest checkpoint was cut off while it was written: the one before it serves.
    cut = sorted((folder / "runs/leg_1").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[-1]
    (cut / "trainer_state.json").write_text((cut / "trainer_state.json").read_text()[:100])

    run_leg(arguments(prepared, folder))
    log = folder / "runs/training.log"
    assert "was cut off while it was written, or damaged since: removed" in log.read_text()
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


def test_a_training_that_is_told_to_stop_saves_and_one_that_waits_for_it_goes_on_from_there(prepared, tmp_path, warm):
    folder, first, second = tmp_path / "stopped", tmp_path / "first", tmp_path / "second"
    command = arguments(prepared, folder, length='{"max_steps": 100000}')
    process = start(command, first, warm)
    wait_for(folder / "runs/leg_1/checkpoint-*", process)
    waiting = start(command, second, warm)
    wait_for_text(second, f"{alone.holder(folder / 'runs/leg_1.lock')} is at work on", waiting)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 1
    stderr = first.read_text()
    assert "as asked; the same command continues from there" in stderr and "Traceback" not in stderr
    assert not (folder / "leg_1").exists()
    (step,) = map(int, re.findall(r"stopped at step (\d+) of 100000", stderr))
    assert "stopped at step" in (folder / "runs/training.log").read_text()
    wait_for_text(second, f"continue at step {step} of 100000", waiting)
    waiting.kill()
    waiting.wait()


def wait_for_text(path, text, process):
    until = time.monotonic() + 600
    while text not in path.read_text():
        assert process.poll() is None and time.monotonic() < until, path.read_text()
        time.sleep(0.05)
