"""One process at a time: what a killed one left behind is found, and what it left at work is waited for.

The lock is a file's (flock), and ends with the process that has it, however that ends. Between machines it holds on
NFS 4 and on what else carries flock over (Lustre: `-o flock`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

log = logging.getLogger("rnnt")
SAY_EVERY_SECONDS = 600
PROCESSES = "RNNT_PROCESSES"  # the environment variable of what launch.py has started


def is_held_for() -> bool:
    """Whether another process holds the job's lock for this one: that of launch.py, or the first one of torchrun's."""
    return PROCESSES in os.environ or os.environ.get("RANK", "0") != "0"


def take(path: Path) -> TextIO | None:
    """The file `path`, locked by this process until it is closed and saying so; None while another process has it.

    Where the file system has no locks there is none, and a line that says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (it is the lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        log.warning("%s: no lock there (%s): nothing else may work on it meanwhile", path, error.strerror)
    return file


def write(file: TextIO, **about) -> None:
    """Say in a lock's file who has it, and what else is to be told; on a full disk it is a lock without."""
    with contextlib.suppress(OSError):
        file.seek(0)
        file.truncate()
        json.dump({"host": platform.node(), "pid": os.getpid(), **about}, file)
        file.flush()


def read(path: Path) -> dict:
    """What its last holder said there; nothing while it writes."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}


def holder(path: Path) -> str:
    """Who has the lock, in words."""
    found = read(path)
    return f"process {found['pid']} on {found['host']}" if found else "another process"


@contextlib.contextmanager
def held(path: Path, what: str, **about) -> Iterator[dict]:
    """Hold the lock of `what`, and wait for it where another process has it.

    Yields what the process said that was waited for, nothing without one. `about` is what this one says; when the
    context ends without an exception it says `done` too.
    """
    waited = False
    said = -SAY_EVERY_SECONDS
    while not (file := take(path)):
        if time.monotonic() >= said + SAY_EVERY_SECONDS:
            log.info("%s is at work on %s already, left by a run that was killed: waiting for it", holder(path), what)
            said = time.monotonic()
        waited = True
        time.sleep(0.2)
    with file:
        before = read(path) if waited else {}
        write(file, **about)
        yield before
        write(file, **about, done=True)
