"""More rows than memory holds: put by on disk, sorted in runs, worked on by several processes.

What is put by lies in files without a name, which are gone with the process, however that ends.
"""

from __future__ import annotations

import heapq
import pickle
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import IO

RUN = 30_000  # rows that are in memory
TOGETHER = 100  # rows that are read back at once


class Rows:
    """Rows in the order in which they came, to be read as often as wanted; the first RUN of them stay in memory."""

    def __init__(self, folder: str | Path | None, rows: Iterable = ()):
        """`folder` is where they are put by, None: where temporary files are."""
        self.folder, self.file, self.places, self.held, self.count = folder, None, [], [], 0
        for row in rows:
            self.append(row)

    def append(self, row: object) -> None:
        """Put a row behind the others."""
        if len(self.held) == RUN:
            self._put_by()
        self.held.append(row)
        self.count += 1

    def _put_by(self) -> None:
        """Write what is held as a run."""
        if self.file is None:
            self.file = unnamed(self.folder)
        start = self.file.seek(0, 2)
        for part in batched(self.held, TOGETHER):
            pickle.dump(part, self.file, pickle.HIGHEST_PROTOCOL)
        self.file.flush()  # a forked process must not have a part of it to write
        self.places.append((start, self.file.tell()))
        self.held = []

    def run(self, place: tuple[int, int]) -> Iterator:
        """The rows of a run."""
        position, end = place
        while position < end:
            self.file.seek(position)
            part = pickle.load(self.file)
            position = self.file.tell()
            yield from part

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator:
        for place in self.places:
            yield from self.run(place)
        yield from self.held


class Sorted(Rows):
    """Rows as `sorted(rows, key=key)` has them: runs of them are sorted, and merged when they are read."""

    def __init__(self, folder: str | Path | None, key: Callable, rows: Iterable = ()):
        self.key = key
        super().__init__(folder, rows)

    def _put_by(self) -> None:
        self.held.sort(key=self.key)
        super()._put_by()

    def __iter__(self) -> Iterator:
        return heapq.merge(*map(self.run, self.places), sorted(self.held, key=self.key), key=self.key)


def unnamed(folder: str | Path | None) -> IO[bytes]:
    """A file without a name in a folder, None: where temporary files are."""
    return tempfile.TemporaryFile(dir=folder)


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last of what is left."""
    items = iter(items)
    while found := list(islice(items, size)):
        yield found


def by_processes(call: Callable, items: Iterable, workers: int, together: int) -> Iterator:
    """`map(call, items)` by so many forked processes, `together` items at a time; a few are under way at once.

    Raises what `call` raises, and BrokenProcessPool where a process dies.
    """
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        waiting: deque = deque()
        try:
            for part in batched(items, together):
                waiting.append(pool.submit(_each, call, part))
                if len(waiting) > 3 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _each(call: Callable, items: list) -> list:
    return [call(item) for item in items]


def repeated(hashes: array) -> set[int]:
    """The numbers, of an array of 8 bytes each, that are in it more than once."""
    import numpy as np  # not above: the Snakefile has Snakemake's packages alone

    found = np.sort(np.frombuffer(hashes, np.int64))
    return set(found[1:][found[1:] == found[:-1]].tolist())


def hashes(values: Iterable[str]) -> array:
    """The hash of each in this process, 8 bytes, sorted."""
    import numpy as np

    return array("q", np.sort(np.fromiter(map(hash, values), np.int64)).tobytes())
