"""The tests' own python for the rules: a job must not notice that its process was there before it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import warm_python

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the real python serves where there is no Linux")
SCRIPT = """
import atexit, os, signal, sys, time
import beside
atexit.register(print, "at exit")
what = sys.argv[1]
print(beside.NAME, os.getcwd(), os.environ.get("COLOUR"), __name__, "colorsys" in sys.modules, sys.argv[1:])
print(sys.stdin.read(), file=sys.stderr)
if what == "wait":
    print(os.getpid(), flush=True)
    time.sleep(60)
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wrong":
    raise ValueError("wrong")
sys.exit({"3": 3, "text": "a last word", "nothing": None}[what])
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The shim of a server that has imported a module which nobody else does."""
    folder = tmp_path_factory.mktemp("w")
    with warm_python.server(folder, packages=["colorsys"]):
        yield folder / "python"


@pytest.fixture
def script(tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


def call(python, *arguments, cwd, **environ):
    return subprocess.run(
        [python, *arguments], input="in", capture_output=True, text=True, cwd=cwd, env={**os.environ, **environ}
    )


@pytest.mark.parametrize("what", ["3", "text", "nothing", "wrong", "killed"])
def test_a_job_ends_and_says_what_it_would_with_the_real_python(python, script, tmp_path, what):
    ours, real = (call(p, script, what, cwd=tmp_path, COLOUR="red") for p in (python, sys.executable))
    assert ours.returncode == real.returncode
    assert ours.stdout == real.stdout.replace("False", "True"), "but for the module that was there"
    assert ours.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]


def test_what_is_no_script_is_for_the_real_python(python, tmp_path):
    done = call(python, "-c", "import sys; print(sys.executable, 'colorsys' in sys.modules)", cwd=tmp_path)
    assert done.stdout.split() == [sys.executable, "False"]


def test_a_job_gets_the_signal_that_its_shim_gets(python, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('at work', flush=True)\n"
        "time.sleep(60)\n"
    )
    job = subprocess.Popen([python, script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 7


def test_jobs_run_side_by_side_and_one_dies_with_its_shim(python, script, tmp_path):
    waiting = subprocess.Popen([python, script, "wait"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    waiting.stdout.readline()
    job = Path("/proc", waiting.stdout.readline().strip())
    assert call(python, script, "3", cwd=tmp_path).returncode == 3
    assert job.is_dir()
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    until = time.monotonic() + 30
    while job.is_dir() and time.monotonic() < until:
        time.sleep(0.01)
    assert not job.is_dir()


def test_a_job_does_not_remove_what_a_package_made_when_it_was_imported(tmp_path, monkeypatch):
    (tmp_path / "package.py").write_text(
        "import atexit, tempfile\nFOLDER = tempfile.TemporaryDirectory()\natexit.register(FOLDER.cleanup)\n"
    )
    (tmp_path / "job.py").write_text("import os, package, sys\nsys.exit(not os.path.isdir(package.FOLDER.name))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with warm_python.server(tmp_path, packages=["package"]):
        codes = [subprocess.run([tmp_path / "python", "job.py"], cwd=tmp_path).returncode for _ in range(2)]
    assert codes == [0, 0]


def test_the_server_takes_its_jobs_with_it(script, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(warm_python.server(tmp_path, packages=[]))
        waiting = subprocess.Popen([tmp_path / "python", script, "wait"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True)  # fmt: skip
        waiting.stdout.readline()
    assert waiting.wait(timeout=30) == -signal.SIGKILL
