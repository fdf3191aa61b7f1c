"""The profile for Slurm on a private one: the table of a local run, whatever happens to its jobs on the way."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from types import SimpleNamespace

import pytest
import yaml
from snakemake_executor_plugin_slurm.utils import set_gres_string

import experiments
import private_slurm
from rnnt import files

LEGS = 3
STEPS = 120  # of a leg
CONFIG = {
    "datasets": {
        "digits": {
            "source": {
                "type": "synthetic", "corpus": "spoken_digits", "utterances": {"train": 24, "validation": 6, "test": 6}
            },
            "splits": {"train": "train", "validation": "validation", "test": "test"},
            "max_steps": STEPS * LEGS,
            "evaluation": {"legs": LEGS, "beam": {"beam_size": 2}, "suspects": False},
        },
    },
    "model": {"architecture": "contextnet_dummy"},
    "tokenizer": {"vocab_size": 24},
    "training": {"batch_budget": 8, "checkpoint_every_steps": 5},
}  # fmt: skip
TARGET = "results/digits/wer_table.csv"
# What is other than in the profile: one machine sees its files at once, and has nobody else to be careful of. A job
# takes some 6 s; each look that finds none ended puts off the next one by 10.
QUICK = [
    "--latency-wait",
    "5",
    "--slurm-init-seconds-before-status-checks",
    "5",
    "--seconds-between-status-checks",
    "5",
]


@pytest.fixture(scope="module")
def slurm():
    """The variables of a private Slurm."""
    if reason := private_slurm.lacking():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, private_slurm.cluster(folder) as environment:
        yield environment


def check_out(folder):
    experiments.check_out(folder)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory, warm):
    """The folder of a run on this machine alone."""
    folder = check_out(tmp_path_factory.mktemp("local") / "checkout")
    done = experiments.snakemake(folder, warm, "--cores", "2", TARGET, configfiles=["small.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(tmp_path, warm, slurm):
    """A run on Slurm, none of which is left; what comes before the trainings is done here already, to be quicker."""
    folder = check_out(tmp_path / "checkout")
    gates = [f"results/digits/{name}" for name in ("manifests/overlap.json", "tokenizer/check.json")]
    done = experiments.snakemake(folder, warm, "--cores", "2", *gates, configfiles=["small.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(folder, warm, slurm)
    yield run
    for process in run.started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Run:
    """A run on Slurm, and what can happen to the training of a leg."""

    def __init__(self, folder, warm, slurm):
        self.folder, self.runs, self.started = folder, folder / "results/digits/runs", []
        first, _, rest = slurm["PATH"].partition(":")
        self.environment = {**os.environ, **slurm, "PATH": f"{first}:{warm}:{rest}"}

    def start(self):
        with open(self.folder / "said.log", "a") as said:
            command = [experiments.SNAKEMAKE, TARGET, "--configfile", "small.yaml"]
            command += ["--workflow-profile", "profiles/slurm", *QUICK]
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=said, stderr=said, start_new_session=True
            )
        self.started.append(process)
        return process

    def said(self):
        return (self.folder / "said.log").read_text()

    def call(self, *command):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait(self, ready, process):
        until = time.monotonic() + 900
        while not (found := ready()):
            assert process.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.02)
        return found

    def training(self, leg, process, after=None):
        """Wait for a leg's training, another process than `after`, and hold it: its number, and that of Slurm's job."""

        def begun():
            path = self.runs / "status.json"
            status = files.read_json(path) if path.exists() else {}
            return status.get("leg") == leg and status["pid"] != after and status

        status = self.wait(begun, process)
        os.kill(status["pid"], signal.SIGSTOP)
        return status["pid"], status["job"]

    def go_on(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def is_over(self, job):
        return "RUNNING" not in self.call("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")


def has_to_end(pid):
    """Whether SIGTERM waits for a process that is held."""
    with open(f"/proc/{pid}/status") as status:
        pending = re.search(r"ShdPnd:\s*(\w+)", status.read())[1]
    return int(pending, 16) >> (signal.SIGTERM - 1) & 1


def test_jobs_that_are_cancelled_killed_requeued_and_cut_off_end_in_the_table_of_a_local_run(local, run):
    process = run.start()

    pid, job = run.training(1, process)
    run.call("scancel", job)
    run.wait(lambda: run.is_over(job), process)
    run.go_on(pid)
    pid, job = run.training(1, process, after=pid)
    os.kill(pid, signal.SIGKILL)

    pid, job = run.training(2, process)
    run.call("scontrol", "update", f"JobId={job}", "Requeue=1")
    run.call("scontrol", "requeue", job)
    run.go_on(pid)
    # Its limit is near: it is told to stop, and saves.
    pid, job = run.training(2, process, after=pid)
    limit = int(re.search(r"TimeLimit=00:(\d+):00", run.call("scontrol", "show", "job", job))[1])
    assert limit >= 30
    run.call("scontrol", "update", f"JobId={job}", "EndTime=now+100")
    run.wait(lambda: has_to_end(pid), process)
    run.go_on(pid)
    run.wait(lambda: "stopped at step" in (run.runs / "training.log").read_text(), process)

    pid, _ = run.training(3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = run.start()
    log = run.folder / "logs/digits/train_leg_3_kept.log"
    run.wait(lambda: log.exists() and "is at work on logs/digits/train_leg_3_kept.log" in log.read_text(), again)
    run.go_on(pid)
    assert again.wait() == 0, run.said()

    text = (run.runs / "training.log").read_text()
    step = re.findall(rf"stopped at step (\d+) of {STEPS * 2} as asked", text)[-1]
    assert f"continue at step {step} of {STEPS * LEGS}" in text
    assert "Traceback" not in run.said()
    assert experiments.difference(run.folder / "results/digits", local / "results/digits", LEGS) <= 1e-6
    ours, theirs = (experiments.of_csv(folder / TARGET) for folder in (run.folder, local))
    timed = ("rtfx_greedy", "rtfx_beam", "code_version")
    assert [{**row, **dict.fromkeys(timed)} for row in ours] == [{**row, **dict.fromkeys(timed)} for row in theirs]


def test_a_training_asks_for_a_gpu_and_gets_one(slurm):
    """What the plugin makes of `gpu: 1`, which test_dry_run.py finds in the plan, on the two that are counted here."""
    asked = set_gres_string(SimpleNamespace(resources={"gpu": 1}))
    done = subprocess.run(["srun", *shlex.split(asked), "printenv", "CUDA_VISIBLE_DEVICES"],
                          env={**os.environ, **slurm}, capture_output=True, text=True)  # fmt: skip
    assert asked.strip() == "--gpus=1" and done.stdout.strip() in ("0", "1"), done.stderr
