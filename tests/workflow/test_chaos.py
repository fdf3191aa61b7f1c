"""An experiment that is killed at random moments ends, by the same command alone, as one that never was.

`make test` does it once, `make chaos` 25 times with another seed each; `--chaos-seed` repeats one.
"""

import contextlib
import os
import random
import signal
import subprocess
import time

import psutil
import pytest
import yaml

import experiments
from rnnt import alone

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TARGETS = ("a job", "Snakemake", "all")
CONFIG = {
    "datasets": {
        "digits": {
            "source": {
                "type": "synthetic", "corpus": "spoken_digits", "utterances": {"train": 24, "validation": 6, "test": 6}
            },
            "splits": {"train": "train", "validation": "validation", "test": "test"},
            "max_steps": 40,
        },
    },
    "model": {"architecture": "contextnet_dummy"},
    "tokenizer": {"vocab_size": 24},
    "training": {"batch_budget": 16, "warmup_steps": 1, "checkpoint_every_steps": 1},
    "evaluation": {"legs": 2, "beam": {"beam_size": 2}},
}  # fmt: skip


def pytest_generate_tests(metafunc):
    """The seeds of the runs: one, or as many others as `--chaos` asks for."""
    if "seed" in metafunc.fixturenames:
        first, times = metafunc.config.getoption("chaos_seed"), metafunc.config.getoption("chaos")
        first = random.SystemRandom().randrange(10**6) if first is None and times else first or 2
        metafunc.parametrize("seed", range(first, first + (times or 1)))


class Run:
    """The command in a checkout of its own, as often as it is given."""

    def __init__(self, folder, warm):
        self.folder, self.process = folder, None
        self.environment = {**os.environ, "PATH": warm}
        experiments.check_out(folder)
        (folder / "chaos.yaml").write_text(yaml.safe_dump(CONFIG))

    def start(self):
        with open(self.folder / "said.log", "a") as said:
            command = [experiments.SNAKEMAKE, "--cores", "2", "--configfile", "chaos.yaml"]
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=said, stderr=said, start_new_session=True
            )

    def jobs(self):
        """The processes that are at work on a rule, with its log file."""
        found = {}
        for lock in (self.folder / "logs").glob("**/.*.log.lock"):
            about = alone.read(lock)
            with contextlib.suppress(psutil.Error):
                if about and not about.get("done") and psutil.Process(about["pid"]).status() != psutil.STATUS_ZOMBIE:
                    found[about["pid"]] = lock.name[1:-9]
        return found

    def hit(self, target, number, rng, jobs):
        """Send a signal; Snakemake gets what is for a job where none is at work."""
        with contextlib.suppress(ProcessLookupError):
            if target == "a job" and jobs:
                os.kill(rng.choice(sorted(jobs)), number)
            elif target == "all":
                for process in (-self.process.pid, *jobs):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, number) if process > 0 else os.killpg(-process, number)
            else:
                os.kill(self.process.pid, number)

    def steps(self):
        """How many jobs have ended well, in all runs so far."""
        return (self.folder / "said.log").read_text().count("%) done")

    def outcome(self):
        """The table without what was measured in seconds, and the last weights."""
        (row,) = experiments.of_csv(self.folder / "results/wer_table.csv")
        leg = self.folder / "results/digits/checkpoints/leg_2/trainer/model.safetensors"
        return {key: value for key, value in row.items() if not key.startswith("rtfx")}, leg.read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, warm):
    """What a run that nobody kills comes to, and in how many steps."""
    run = Run(tmp_path_factory.mktemp("undisturbed") / "checkout", warm)
    run.start()
    assert run.process.wait() == 0, (run.folder / "said.log").read_text()
    return run.outcome(), run.steps()


def test_killed_at_random_moments_it_ends_as_if_it_never_had_been(undisturbed, warm, tmp_path, seed):
    wanted, steps = undisturbed
    rng = random.Random(seed)
    run = Run(tmp_path / "checkout", warm)
    for _ in range(rng.randint(1, 3)):
        target, number = rng.choice(TARGETS), rng.choice(SIGNALS)
        share, at_a_job, pause = rng.random(), rng.random() < 0.8, rng.random()
        run.start()
        done = run.steps()
        until = done + share * (steps - done)
        while run.steps() < until and run.process.poll() is None:
            time.sleep(0.02)
        time.sleep(pause)
        while not (jobs := run.jobs()) and at_a_job and run.process.poll() is None:
            time.sleep(0.02)
        run.hit(target, number, rng, jobs)
        run.process.wait()
        at_work, left = (", ".join(sorted(found.values())) or "nothing" for found in (jobs, run.jobs()))
        print(f"seed {seed}: {number.name} to {target} at step {run.steps()} of {steps},", end=" ")
        print(f"at work: {at_work}; left at work: {left}")
    before = len((run.folder / "said.log").read_text())
    run.start()
    code = run.process.wait()
    said = (run.folder / "said.log").read_text()[before:]
    assert code == 0, said
    assert "Traceback" not in said and "--unlock" not in said, said
    assert run.outcome() == wanted
