"""What is told of a full disk, whatever library met it, and that nothing else is taken for one."""

import errno
import sqlite3

import pytest
import safetensors.torch
import torch

from conftest import fill
from rnnt import disk, files
from rnnt.errors import DiskFull, UserError


class Full(torch.utils.data.Dataset):
    """Meets a full disk in the data loader's process."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/x")


def hidden(error):
    """Turned into a message of one's own, as is done with all that a download may raise."""
    try:
        raise error
    except Exception:
        raise UserError("speech/corpus: split `train` can't be loaded") from None


def read_in_a_process():
    next(iter(torch.utils.data.DataLoader(Full(), num_workers=1)))


def raised(function, *arguments):
    with pytest.raises(Exception) as found:
        function(*arguments)
    return found.value


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    sqlite3.OperationalError("database or disk is full"),
    raised(hidden, OSError(errno.ENOSPC, "No space left on device")),
    raised(read_in_a_process),
])  # fmt: skip
def test_what_says_that_the_disk_is_full_is_told_as_that(tmp_path, error):
    line = disk.explain(error, [tmp_path / "made/later"], 123_456_789)
    assert line.startswith(f"disk full: {tmp_path}, 124 MB are needed, ") and "\n" not in line


@pytest.mark.parametrize("said", [
    "unable to write to file </torch_12_345_0>: No space left on device (28)",
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit.",
])  # fmt: skip
def test_shared_memory_of_a_container_is_told_as_that(tmp_path, said):
    line = disk.explain(RuntimeError(said), [tmp_path])
    assert line.startswith("disk full: /dev/shm, ") and "--shm-size" in line


def test_the_folder_is_that_of_the_file_where_it_is_known_and_a_quota_is_called_one(tmp_path):
    (tmp_path / "quota").mkdir()
    error = OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "quota/x.jsonl"))
    line = disk.explain(error, [tmp_path])
    assert line.startswith(f"disk full: {tmp_path}/quota, ") and "(the quota is used up)" in line


@pytest.mark.parametrize("error", [
    ValueError("a bug"),
    PermissionError(errno.EACCES, "Permission denied", "x"),
    UserError("list.csv:3: expected a number, got no space left on device"),
])  # fmt: skip
def test_nothing_else_is_taken_for_a_full_disk(tmp_path, small_disk, error):
    assert disk.explain(error, [tmp_path]) is None
    place = small_disk(8192)
    fill(place)
    told = disk.explain(error, [place])
    assert (told is None) == (not isinstance(error, ValueError)), "a library may not know why it could not write"
    assert told is None or "(ValueError: a bug)" in told


def test_torch_and_safetensors_which_say_nothing_of_use_are_told_as_a_full_disk(small_disk):
    place = small_disk(8192)
    for write in (
        lambda: torch.save(torch.zeros(10_000), place / "x.pt"),
        lambda: safetensors.torch.save_file({"x": torch.zeros(10_000)}, place / "x.safetensors"),
    ):
        line = disk.explain(raised(write), [place], 40_000)
        assert line.startswith(f"disk full: {place}, 0.04 MB are needed, ")


def test_an_error_in_a_large_write_that_has_room_is_not_taken_for_a_full_disk(small_disk):
    place = small_disk(20 << 20)
    with pytest.raises(EOFError, match="a damaged archive"), disk.room(place, 15 << 20):
        (place / "half").write_bytes(bytes(10 << 20))
        raise EOFError("a damaged archive")


def test_a_file_that_does_not_fit_leaves_the_one_before_and_nothing_else(small_disk):
    place = small_disk(16384)
    files.write_text(place / "kept.txt", "before")
    with pytest.raises(DiskFull, match=rf"^disk full: {place}, 0.1 MB are needed, 0.02 MB are free: make room"):
        files.write_text(place / "kept.txt", "x" * 100_000)
    with pytest.raises(DiskFull), files.whole_folder(place / "folder") as folder:
        (folder / "large").write_bytes(bytes(100_000))
    assert [path.name for path in place.iterdir()] == ["kept.txt"] and (place / "kept.txt").read_text() == "before"


def test_a_disk_that_can_hold_no_more_files_is_told_as_that(small_disk):
    place = small_disk(1 << 20, "nr_inodes=3")
    with pytest.raises(DiskFull, match="no inode is free"):
        for number in range(3):
            files.write_text(place / f"{number}.txt", "")
