"""GPUs for each job: Snakemake counts GPUs but does not say which ones a job has (snakemake#281)."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rnnt import console
from rnnt.errors import UserError

_leased = []


def lease(poll_seconds: float = 1.0, count: int = 1) -> str | None:
    """Make `count` GPUs that no other job of this project uses the only ones this process sees; returns their ids.

    Chooses among CUDA_VISIBLE_DEVICES where a scheduler has set it, else among all that nvidia-smi lists, and waits
    while too few are free, holding none. The lease is file locks and ends with the process, and those that have
    inherited the files `held`. None where there is no GPU. To be called before CUDA is initialised.
    Raises UserError where there are fewer.
    """
    candidates = _visible()
    if 0 < len(candidates) < count:
        raise UserError(
            f"{count} GPUs are wanted (training.processes), there are {len(candidates)}: {', '.join(candidates)}"
        )
    waiting = False
    while candidates:
        found = {}
        for gpu in candidates:
            lock = _open(Path(tempfile.gettempdir()) / f"rnnt-finetune-gpu-{gpu.replace('/', '_')}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            found[gpu] = lock
            if len(found) == count:
                _leased.extend(found.values())
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(found)
                return os.environ["CUDA_VISIBLE_DEVICES"]
        for lock in found.values():  # Two jobs that kept what they have would wait for each other.
            lock.close()
        if not waiting:
            waiting = True
            console.log.info("GPUs are leased to other jobs (%s): waiting for %d", ", ".join(candidates), count)
        time.sleep(poll_seconds)
    return None


def held() -> list[int]:
    """The descriptors of the locks, for a process that is to hold them too."""
    return [lock.fileno() for lock in _leased]


def _open(path: Path):
    """Open a lock file for flock, be it another user's."""
    try:
        return open(path, "a")
    except PermissionError:
        return open(path)


def _visible() -> list[str]:
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu.strip() for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    return [line.split(":")[0].removeprefix("GPU ") for line in listed.splitlines() if line.startswith("GPU ")]
