"""Rows that memory does not hold come back as they were, in their order or sorted, and leave nothing behind."""

import os
import random
from array import array
from concurrent.futures.process import BrokenProcessPool

import pytest

from rnnt import streams


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(streams, "RUN", 7)
    monkeypatch.setattr(streams, "TOGETHER", 3)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 14, 100])
def test_rows_are_read_as_often_as_wanted_from_memory_and_disk(tmp_path, count):
    rows = [{"id": str(n), "text": "é\u2028" * n} for n in range(count)]
    found = streams.Rows(tmp_path, iter(rows))
    assert list(found) == rows == list(found) and len(found) == count and bool(found) == bool(rows)
    assert list(zip(found, found, strict=True)) == list(zip(rows, rows, strict=True)), "by two at a time"
    found.append("more")
    assert list(found) == [*rows, "more"]
    assert (found.file is not None) == (count >= 7) and not list(tmp_path.iterdir()), "in a file without a name"


@pytest.mark.parametrize("count", [0, 6, 7, 8, 50, 300])
def test_what_is_sorted_in_runs_is_what_sorted_makes_of_it(tmp_path, count):
    draw = random.Random(count)
    keys = ["".join(draw.choices("abÄéz\U0001f600\u3042\uffff-/0", k=draw.randrange(4))) for _ in range(count)]
    rows = [(key, n) for n, key in enumerate(keys)]  # many keys are the same: these stay in their order
    found = streams.Sorted(tmp_path, lambda row: row[0], rows)
    assert list(found) == sorted(rows, key=lambda row: row[0]) == list(found)


def test_processes_give_what_map_gives_in_its_order_and_take_no_more_than_a_few_ahead():
    taken = []

    def items():
        for n in range(1000):
            taken.append(n)
            yield n

    found = streams.by_processes(str, items(), 2, 10)
    assert next(found) == "0" and len(taken) <= 100
    assert ["0", *found] == list(map(str, range(1000)))
    with pytest.raises(ZeroDivisionError):
        list(streams.by_processes((1).__floordiv__, [1, 2, 0, 3], 2, 1))
    with pytest.raises(BrokenProcessPool):
        list(streams.by_processes(os._exit, [1, 1], 2, 1))


def test_hashes_that_occur_twice_are_found():
    assert streams.repeated(array("q", [3, -1, 3, 2, -1, 3])) == {3, -1}
    assert streams.repeated(array("q", [3, 1])) == set() == streams.repeated(array("q"))
    assert list(streams.hashes(["a", "b"])) == sorted([hash("a"), hash("b")])
