"""Start a script as several processes that do one job together; where one of them fails, all end, with one line.

torchrun does the same for processes on several machines, and `joined` finds its processes too. Here there is no agent
of torch's to import, a stop request reaches the processes and not their data loaders, nothing waits half a minute for
what hangs without the one that failed, and the GPUs stay leased while one of them lives.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rnnt import alone, console, gpus
from rnnt.errors import UserError

FOLDER = alone.PROCESSES  # has the folder where the processes meet and say what is wrong
OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
PEER_LOST = 113  # how a process ends that another one has left: that one says why
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Place(NamedTuple):
    """Which of several processes this one is, and where torch.distributed's rendezvous lets them meet."""

    index: int
    count: int
    here: int  # of the processes, how many are on this machine
    meeting: str


def launch(count: int, device: str) -> None:
    """Run this script `count` times more, at once, with its own arguments; returns when all have ended well.

    Each has the environment that torchrun would give it and, unless `device` is `cpu` or there is none, a GPU of its
    own. SIGTERM and SIGINT are passed on to all.
    Raises UserError, with the message of the process that failed first, when the others are killed.
    """
    visible = (gpus.lease(count=count) if device != "cpu" else None) or ""
    with tempfile.TemporaryDirectory(prefix="rnnt-processes-") as folder:
        processes: list[subprocess.Popen] = []
        asked: list[int] = []

        def pass_on(number, frame):
            asked.append(number)
            for process in processes:
                process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for index in range(count):
                place = dict.fromkeys(OF_TORCHRUN, str(count)) | {"RANK": str(index), "LOCAL_RANK": str(index)}
                own = {"CUDA_VISIBLE_DEVICES": visible.split(",")[index]} if visible else {}
                # gloo asks for the machine's name otherwise, which not every machine can resolve.
                environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, **place, **own, FOLDER: folder}
                command = [sys.executable, *sys.argv]
                processes.append(subprocess.Popen(command, env=environment, pass_fds=gpus.held()))
                if asked:
                    processes[-1].send_signal(asked[-1])
            while not any(process.poll() for process in processes) and None in [p.returncode for p in processes]:
                time.sleep(0.1)
            codes = [process.poll() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
        if any(codes):
            _fail(codes, Path(folder), asked)


def _fail(codes: list[int | None], folder: Path, asked: list[int]) -> None:
    """Raise or log what the process said that failed first, or how it was killed."""
    said = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
    if said:
        text = said[0].read_text(encoding="utf-8").rstrip("\n")
        if text.startswith("error: "):
            raise UserError(text.removeprefix("error: "))
        console.log.error("%s", text)
        sys.exit(1)
    index, code = next(
        ((index, code) for index, code in enumerate(codes) if code and code != PEER_LOST), (0, PEER_LOST)
    )
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if -code in asked:
        raise UserError("stopped before the first step as asked; the same command starts again")
    hint = " (as the system does where memory runs out)" if code == -signal.SIGKILL else ""
    raise UserError(
        f"process {index + 1} of {len(codes)} {how}{hint}, and the others with it; the same command continues from the "
        "last checkpoint"
    )


def joined(wanted: int) -> Place | None:
    """The place that `launch` or torchrun gave this process; None where it is alone.

    The environment forgets it: libraries would do with several processes what they think right. A process of `launch`
    is asked to stop when that is killed.
    Raises UserError where torchrun has started another number of processes than `wanted`.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    index, count, _, here = (int(os.environ.get(name, 1)) for name in OF_TORCHRUN)
    if count != wanted:
        raise UserError(
            f"started as one of {count} processes, as by torchrun, but training.processes is {wanted}: "
            f"set it to {count}, or start the script alone"
        )
    for name in OF_TORCHRUN:
        os.environ.pop(name, None)
    if count == 1:
        return None
    folder = os.environ.get(FOLDER)
    if folder and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    meeting = f"file://{folder}/meeting" if folder else "env://"
    return Place(index, count, here, meeting)


def is_launched() -> bool:
    """Whether this is a process of `launch`, which has leased its GPU."""
    return FOLDER in os.environ


def let_one_speak(place: Place) -> None:
    """Leave the messages to the first process; what is wrong in any is left to `launch` where that has started it."""
    if place.index:
        for handler in console.log.handlers:
            handler.setLevel(logging.ERROR)
    if folder := os.environ.get(FOLDER):
        for handler in console.log.handlers:
            handler.addFilter(lambda record: record.levelno < logging.ERROR)
        errors = logging.FileHandler(f"{folder}/error-{place.index}", encoding="utf-8", delay=True)
        errors.setLevel(logging.ERROR)
        console.log.addHandler(errors)
