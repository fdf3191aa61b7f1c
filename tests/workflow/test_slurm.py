"""The profile for Slurm on a private one: the table of a local run, whatever happens to its jobs on the way."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time

import pytest
import yaml

import experiments
import private_slurm
from rnnt import alone, files

LEGS = 5
CONFIG = {
    "datasets": {
        "digits": {
            "source": {
                "type": "synthetic", "corpus": "spoken_digits", "utterances": {"train": 24, "validation": 6, "test": 6}
            },
            "splits": {"train": "train", "validation": "validation", "test": "test"},
            "max_steps": 50 * LEGS,
            "evaluation": {"legs": LEGS, "beam": {"beam_size": 2}, "suspects": False},
        },
    },
    "model": {"architecture": "contextnet_dummy"},
    "tokenizer": {"vocab_size": 24},
    "training": {"batch_budget": 8, "checkpoint_every_steps": 5},
}  # fmt: skip
TARGET = "results/digits/wer_table.csv"
# What is other than in the profile: one machine sees its files at once, and has nobody else to be careful of.
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
    """A run on Slurm, none of which is left."""
    run = Run(check_out(tmp_path / "checkout"), warm, slurm)
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

    def training(self, leg, process):
        """Wait for a leg's first rolling checkpoint and hold its training there: the process, and Slurm's job."""
        self.wait(lambda: list(self.runs.glob(f"leg_{leg}/checkpoint-*/trainer_state.json")), process)
        pid = alone.read(self.runs / f"leg_{leg}.lock")["pid"]
        os.kill(pid, signal.SIGSTOP)
        return pid, files.read_json(self.runs / "status.json")["job"]

    def go_on(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def jobs(self):
        """The numbers of all jobs, with the rules that they are of."""
        listed = self.call("squeue", "--noheader", "--states=all", "--format=%i %k").splitlines()
        return {tuple(line.split()) for line in listed}

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
    assert "gres/gpu" not in run.call("scontrol", "show", "job", job)
    run.call("scancel", job)
    run.wait(lambda: run.is_over(job), process)
    run.go_on(pid)

    pid, job = run.training(2, process)
    os.kill(pid, signal.SIGKILL)

    pid, job = run.training(3, process)
    run.call("scontrol", "update", f"JobId={job}", "Requeue=1")
    run.call("scontrol", "requeue", job)
    run.go_on(pid)

    # Its limit is near: it is told to stop, and saves.
    pid, job = run.training(4, process)
    limit = int(re.search(r"TimeLimit=00:(\d+):00", run.call("scontrol", "show", "job", job))[1])
    assert limit >= 30
    run.call("scontrol", "update", f"JobId={job}", "EndTime=now+100")
    run.wait(lambda: has_to_end(pid), process)
    run.go_on(pid)
    run.wait(lambda: "stopped at step" in (run.runs / "training.log").read_text(), process)

    run.training(5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = run.start()
    run.wait(lambda: re.search("process .* is at work on logs/digits/train_leg_5_kept.log", log(run, 5)), again)
    run.go_on(alone.read(run.runs / "leg_5.lock")["pid"])
    assert again.wait() == 0, run.said()

    text = (run.runs / "training.log").read_text()
    (step,) = re.findall(rf"stopped at step (\d+) of {50 * 4} as asked", text)
    assert f"continue at step {step} of {50 * LEGS}" in text
    assert text.count("continue at step") >= LEGS - 1 + 4, "each leg, and after each of four faults"
    assert "Traceback" not in run.said()
    assert experiments.difference(run.folder / "results/digits", local / "results/digits", LEGS) <= 1e-6
    ours, theirs = (experiments.of_csv(folder / TARGET) for folder in (run.folder, local))
    timed = ("rtfx_greedy", "rtfx_beam", "code_version")
    assert [{**row, **dict.fromkeys(timed)} for row in ours] == [{**row, **dict.fromkeys(timed)} for row in theirs]


def log(run, leg):
    path = run.folder / f"logs/digits/train_leg_{leg}_kept.log"
    return path.read_text() if path.exists() else ""


def test_a_training_asks_for_a_gpu_where_the_device_is_one_and_a_light_job_for_none(run):
    """No GPU is here: Slurm counts two, and the training says that it can't use the one that it was given."""
    (run.folder / "small.yaml").write_text(yaml.safe_dump({**CONFIG, "device": "cuda"}))
    earlier = run.jobs()
    process = run.start()

    def asked(rule):
        found = [job for job, comment in run.jobs() - earlier if comment.startswith(f"rule_{rule}_")]
        return found and run.call("scontrol", "show", "job", found[0])

    assert "TresPerJob=gres:gpu:1" in run.wait(lambda: asked("train_leg"), process)
    assert "gres" not in asked("build_tokenizer")
    process.send_signal(signal.SIGINT)
    assert process.wait() and "device: cuda is set, but torch sees no CUDA GPU here" in run.said()
