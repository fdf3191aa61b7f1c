"""What the corpora with a published archive share: get the archive, or find what was extracted from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rnnt import disk
from rnnt.corpora import MOST_SECONDS, download
from rnnt.errors import UserError


class Archive(NamedTuple):
    """A published archive: what holds `marker` when it is extracted.

    `size` is in bytes, for the check of the free disk. `url` is None where it can't be downloaded without an account or
    a licence; `how` says then what to do.
    """

    name: str
    marker: str  # a file or folder below the root of the corpus
    url: str | None = None
    sha256: str | None = None
    md5: str | None = None
    how: str = ""
    size: int = 0


class Counts(NamedTuple):
    """The published size of a split; hours None where no precise figure is known."""

    utterances: int
    hours: float | None = None


def obtain(source: dict, folder: Path, archive: Archive, path: str | None) -> None:
    """Make sure that the corpus is there: under `path` as the user has it, or fetched and extracted into `folder`.

    An archive is checked by its published hash unless `source["allow_subset"]`. Raises UserError when it can't be had.
    """
    if find(folder, archive, path):
        return
    hashes = {} if source["allow_subset"] else {"sha256": archive.sha256, "md5": archive.md5}
    local = _local_archive(archive, path)
    if local:
        download.verify(local, **hashes)
        download.extract(local, _extracted(folder, archive))
    elif path:
        raise UserError(f"{path}: holds neither {archive.marker} nor {archive.name}: {archive.how or 'check the path'}")
    elif archive.url is None:
        raise UserError(archive.how)
    else:
        fetched = download.fetch(archive.url, folder / archive.name, **hashes)
        download.extract(fetched, _extracted(folder, archive))
        if not source["keep_archives"]:
            for path in (fetched, *folder.glob(f"{fetched.name}.*")):  # and the notes about it
                path.unlink()
    if not find(folder, archive, path):
        raise UserError(f"{local or archive.url}: holds no {archive.marker}: is it another corpus or release?")


def check_room(source: dict, folder: Path, archives: list[Archive], path: str | None) -> None:
    """Raise DiskFull where archives can't all be downloaded and extracted into `folder`, before the first one is."""
    wanted = [a for a in archives if not find(folder, a, path) and not _local_archive(a, path)]
    if source["allow_subset"] or not wanted:
        return
    lasting = needed = 0.0
    for archive in wanted:
        needed = max(needed, lasting + archive.size * (1 + download.EXPANSION))
        lasting += archive.size * (download.EXPANSION + source["keep_archives"])
    there = sum(found.stat().st_size for a in wanted for found in folder.glob(f"{a.name}*"))
    disk.need(folder, needed - there, f"for {', '.join(a.name for a in wanted)} and what is in them")


def find(folder: Path, archive: Archive, path: str | None) -> Path | None:
    """The root of the corpus, which holds the archive's marker: at `path`, in `folder`, or up to two levels below."""
    places = [_extracted(folder, archive)]
    if path and Path(path).is_dir():
        places.insert(0, Path(path))
    for place in places:
        for pattern in ("", "*/", "*/*/"):
            for found in sorted(place.glob(pattern + archive.marker)):
                return Path(str(found).removesuffix(archive.marker))
    return None


def root(folder: Path, archive: Archive, path: str | None) -> Path:
    """The root of a corpus that `obtain` has seen to. Raises UserError when it has gone."""
    found = find(folder, archive, path)
    if found is None:
        raise UserError(f"{path or folder}: holds no {archive.marker} any more: snakemake --forcerun prepare_corpus")
    return found


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, blank ones left out. Raises UserError naming one that is no text."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                except UnicodeDecodeError:
                    raise UserError(f"{path}:{number}: not UTF-8: the file is damaged, or was converted") from None
                if "\0" in text:
                    raise UserError(f"{path}:{number}: holds a NUL character: the file is damaged, or was converted")
                if text.strip():
                    yield number, text
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def seconds(start: str, end: str, where: str) -> tuple[float, float]:
    """Start and duration of a segment from its published times. Raises UserError where they are none."""
    try:
        begins, ends = float(start), float(end)
    except ValueError:
        begins = ends = math.nan
    if "_" in start + end or not (abs(begins) <= MOST_SECONDS and abs(ends) <= MOST_SECONDS):
        raise UserError(f"{where}: expected start and end in seconds, got {start} and {end}")
    duration = round(ends - begins, 6)
    if begins < 0 or duration <= 0:
        raise UserError(f"{where}: the segment ends at {end} s, before or where it begins, at {start} s")
    return begins, duration


def check_counts(found: int, hours: float, expected: Counts, what: str) -> None:
    """Compare a split with its published size. Raises UserError where it differs by more than 0.5 %."""
    pairs = [(found, expected.utterances, "utterances"), (hours, expected.hours, "hours")]
    for have, want, unit in pairs:
        if want is not None and abs(have - want) > 0.005 * want:
            raise UserError(
                f"{what}: {have:.6g} {unit}, the published split has {want}: is something missing, or is it another "
                "release? source.allow_subset: true accepts it"
            )


def _local_archive(archive: Archive, path: str | None) -> Path | None:
    if not path:
        return None
    place = Path(path)
    return next((p for p in (place, place / archive.name) if p.is_file()), None)


def _extracted(folder: Path, archive: Archive) -> Path:
    return folder / archive.name.split(".tar")[0].split(".tgz")[0]
