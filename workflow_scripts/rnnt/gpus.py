"""One GPU for each job: Snakemake counts GPUs but does not say which one a job has (snakemake#281)."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from rnnt import console

_leased = []


def lease(poll_seconds: float = 1.0) -> str | None:
    """Make one GPU that no other job of this project uses the only one this process sees; returns its id.

    Chooses among CUDA_VISIBLE_DEVICES where a scheduler has set it, else among all that nvidia-smi lists, and waits
    while all are taken. The lease is a file lock and ends with the process. None where there is no GPU. To be called
    before CUDA is initialised.
    """
    candidates = _visible()
    waiting = False
    while candidates:
        for gpu in candidates:
            lock = _open(Path(tempfile.gettempdir()) / f"rnnt-finetune-gpu-{gpu.replace('/', '_')}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            _leased.append(lock)
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            return gpu
        if not waiting:
            waiting = True
            console.log.info("all GPUs are leased to other jobs (%s): waiting for one", ", ".join(candidates))
        time.sleep(poll_seconds)
    return None


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
