"""A job that finds another process at it: it waits, and does what that has not done."""

import signal
import subprocess
import sys
import time

import pytest

from conftest import SCRIPTS
from rnnt import alone

SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from rnnt import console

def main(args):
    (args.output.parent / "begun").open("a").write("x")
    while not (args.output.parent / "go").exists():
        time.sleep(0.02)
    args.output.write_text("done")

p = console.parser("")
p.add_argument("--output", type=Path)
p.add_argument("--threads")
console.run(main, p)
"""


@pytest.fixture
def start(tmp_path):
    """Start a rule's script; what it says goes to a file of the given name."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(SCRIPTS)))
    started = []

    def start(name, threads=1):
        with open(tmp_path / name, "w") as said:
            arguments = ["--log", tmp_path / "job.log", "--output", tmp_path / "output", "--threads", str(threads)]
            started.append(subprocess.Popen([sys.executable, script, *arguments], stderr=said))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(path, text=""):
    until = time.monotonic() + 300
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < until, path
        time.sleep(0.02)


def test_it_waits_for_a_process_that_is_at_the_same_job_and_finds_it_done(tmp_path, start):
    first = start("first")
    wait_for(tmp_path / "begun")
    second = start("second")
    line = f"is at work on {tmp_path / 'job.log'} already, left by a run that was killed: waiting for it"
    wait_for(tmp_path / "second", line)
    assert f"process {first.pid} on " in (tmp_path / "second").read_text()
    (tmp_path / "go").touch()
    assert first.wait() == 0 and second.wait() == 0
    assert (tmp_path / "begun").read_text() == "x" and "it has done what was asked" in (tmp_path / "second").read_text()
    assert start("third").wait() == 0, "nobody is at work"
    assert (tmp_path / "begun").read_text() == "xx"


@pytest.mark.parametrize("what", ["killed", "other arguments", "output removed"])
def test_it_does_what_the_other_process_has_not_done(tmp_path, start, what):
    first = start("first")
    wait_for(tmp_path / "begun")
    second = start("second", threads=2 if what == "other arguments" else 1)
    wait_for(tmp_path / "second", "waiting for it")
    if what == "killed":
        first.send_signal(signal.SIGKILL)
    elif what == "output removed":  # as Snakemake does before it begins a job
        second.send_signal(signal.SIGSTOP)
        (tmp_path / "go").touch()
        first.wait()
        (tmp_path / "output").unlink()
        second.send_signal(signal.SIGCONT)
    (tmp_path / "go").touch()
    assert second.wait() == 0
    assert (tmp_path / "begun").read_text() == "xx" and (tmp_path / "output").read_text() == "done"


def test_where_a_file_system_has_no_locks_it_goes_on_and_says_so(tmp_path, monkeypatch, log):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(alone.fcntl, "flock", no_locks)
    with alone.held(tmp_path / "lock", "a job"):
        pass
    assert "no lock there (Operation not supported)" in log.read_text()
