"""A full disk: noticed before a large write where its size is known, and told in one line whatever library met it."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rnnt.errors import DiskFull, UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
# Of exceptions that carry no number: from another process, from Rust (safetensors), from SQLite.
WORDS = re.compile("no space left on device|disk quota exceeded|os error (28|122)\\b|disk is full", re.IGNORECASE)
WRITER = re.compile("PytorchStreamWriter|inline_container|iostream error")  # torch's: something is wrong with a write
SHARED = re.compile("</torch_|out of shared memory")  # what the data loader's processes hand over batches in
LEAST = 1 << 20  # bytes: a file system with less is full, whatever an exception says
STARTED = time.time()


def need(folder: str | Path, size: float, why: str = "") -> None:
    """Raise DiskFull where less than `size` bytes are free in `folder`, or in what is there of its path."""
    if _free(place := _existing(folder)) < size:
        raise DiskFull(_line(place, size, why))


@contextlib.contextmanager
def room(folder: str | Path, size: float) -> Iterator[None]:
    """For a write of `size` bytes to `folder`: raises DiskFull where they are not free, before it or in the middle."""
    need(folder, size)
    try:
        yield
    except Exception as error:
        # Else it may be another disk that is full.
        short = _free(_existing(folder)) < max(size, LEAST)
        if short and (line := explain(error, [folder], size)):
            raise DiskFull(line) from error
        raise


def explain(error: BaseException, folders: Iterable[str | Path], size: float = 0) -> str | None:
    """The line for an exception that a full disk is behind, None for another one.

    A full disk is behind it when it, or what it was raised in, says so; or when one of the `folders`, which the process
    writes to, has no room now: torch and libsndfile give no reason for a write that failed.
    """
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, DiskFull):
            return str(one)
    places = sorted({place for folder in folders if os.access(place := _existing(folder), os.W_OK)}, key=_free)
    for one in chain:
        said = "" if isinstance(one, UserError) else str(one)  # which may quote anything
        if SHARED.search(said):
            return _line(Path("/dev/shm"), 0, "shared memory: a container gets more by --shm-size")
        if getattr(one, "errno", None) in FULL or WORDS.search(said):
            named = getattr(one, "filename", None)
            place = _existing(Path(os.fsdecode(named)).absolute().parent) if isinstance(named, str | bytes) else None
            quota = "the quota is used up" if getattr(one, "errno", None) == errno.EDQUOT else ""
            return _line(place or (places or [Path()])[0], size, quota)
    # What NeMo had written to a temporary folder is gone by now.
    least = max(size, LEAST) if any(WRITER.search(str(one)) for one in chain) else LEAST
    if places and not _has_reason(error) and _free(places[0]) < least:
        said = (str(error).strip().splitlines() or [""])[-1]
        return _line(places[0], size, f"{type(error).__name__}: {said}")
    return None


def written(arguments: Iterable[object]) -> list[Path]:
    """Folders that a script may write to: of those of its arguments that are no older files, and for temporary ones."""
    paths = [path for value in arguments for path in (value if isinstance(value, list) else [value])]
    found = [Path(os.environ.get("TMPDIR") or "/tmp")]
    for path in paths:
        if isinstance(path, Path) and not (path.is_file() and path.stat().st_mtime < STARTED):
            found.append(path.absolute() if path.is_dir() else path.absolute().parent)
    return found


def quiet_logs() -> None:
    """Let log files, of any library, miss lines while their disk is full, without tracebacks: the terminal has them."""

    def handle_error(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            logging.Handler.handleError(handler, record)

    logging.FileHandler.handleError = handle_error


def _has_reason(error: BaseException) -> bool:
    """Whether an exception says what is wrong, and that is no full disk; tempfile says where it could not write."""
    known = isinstance(error, OSError) and error.errno not in (None, errno.EIO)
    return isinstance(error, UserError | MemoryError) or (known and "usable temporary directory" not in str(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it was raised from, or in the handling of: also where `from None` hides them."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and all(one is not other for other in seen):
            seen.append(one)
            yield one
            waiting += [one.__cause__, one.__context__]


def _existing(folder: str | Path) -> Path:
    place = Path(folder).absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def _free(place: Path) -> float:
    """Bytes that may be written; 0 where no file can be made any more, inf where the file system does not tell."""
    found = os.statvfs(place)
    if found.f_files and not found.f_ffree:
        return 0
    blocks = found.f_bavail if os.geteuid() else found.f_bfree  # what is kept for root
    return blocks * found.f_frsize if found.f_blocks else math.inf


def _line(place: Path, size: float, why: str) -> str:
    found, free = os.statvfs(place), _free(place)
    if found.f_files and not found.f_ffree:
        why = "its file system can hold no more files: no inode is free"
    told = [f"disk full: {place}"]
    told += [f"{_megabytes(size)} are needed"] if size else []
    told += [f"{_megabytes(free)} are free"] if math.isfinite(free) else []
    return f"{', '.join(told)}{f' ({why})' if why else ''}: make room, and give the same command again"


def _megabytes(size: float) -> str:
    return f"{math.ceil(size / 1e6)} MB" if size >= 1e7 else f"{math.ceil(size / 1e4) / 100:g} MB"
