"""TED-LIUM 3 (OpenSLR 51, CC BY-NC-ND 3.0): talks, 16 kHz SPHERE, segments in a NIST STM file per talk.

Layout: TEDLIUM_release-3/legacy/SPLIT/{sph,stm}. legacy/train holds symbolic links to all talks of data/; where they
are lost, data/ itself serves. STM: talk, channel, speaker, start and end in seconds, label, text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rnnt.corpora import Utterance, published
from rnnt.corpora.published import Archive, Counts
from rnnt.errors import UserError

URL = "http://www.openslr.org/resources/51"
FOLDER_KEYS = ("type", "path")
EXPECTED = {"train": Counts(268263, 453.8), "dev": Counts(507), "test": Counts(1155)}
SIZE = 54_000_000_000  # bytes of the archive, about
SHA256 = "ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb"
NOT_SCORED = "ignore_time_segment_in_scoring"


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Download, check and extract the archive where `path` doesn't hold it. Raises UserError when it can't be had."""
    published.check_room(source, folder, [_archive(source)], source["path"])
    published.obtain(source, folder, _archive(source), source["path"])


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split, without the segments that are not scored. Raises UserError naming the line that is wrong."""
    root = published.root(folder, _archive(source), source["path"])
    place = root / "legacy" / split
    if split == "train" and not place.is_dir():
        place = root / "data"
    tables = sorted((place / "stm").glob("*.stm"))
    if not tables:
        raise UserError(f"{place}/stm: no .stm files there")
    audio = {path.stem for path in (place / "sph").glob("*.sph")}
    used = set()
    for table in tables:
        for utterance in _talk(table, place / "sph", audio):
            used.add(Path(utterance.audio_filepath).stem)
            yield utterance
    if audio - used:
        raise UserError(f"{place / 'sph' / min(audio - used)}.sph: has no segments in {place}/stm")


def _archive(source: dict) -> Archive:
    url = (source["url"] or URL).rstrip("/")
    return Archive("TEDLIUM_release-3.tgz", "legacy", f"{url}/TEDLIUM_release-3.tgz", SHA256, size=SIZE)


def _talk(table: Path, folder: Path, audio: set[str]) -> Iterator[Utterance]:
    for number, line in published.lines(table):
        where = f"{table}:{number}"
        fields = line.split(maxsplit=6)
        if line.startswith(";;"):
            continue
        if len(fields) < 6:
            raise UserError(f"{where}: expected talk, channel, speaker, start, end, label and text")
        talk, _, speaker, start, end, _, *text = fields
        if text and text[0].strip().lower() == NOT_SCORED:
            continue
        offset, duration = published.seconds(start, end, where)
        # A few files are named otherwise than their talk.
        name = next((name for name in (talk, table.stem) if name in audio), None)
        if name is None:
            raise UserError(f"{where}: no such file: {folder / talk}.sph")
        yield Utterance(
            id=f"{talk}-{offset * 100:07.0f}-{(offset + duration) * 100:07.0f}",
            audio_filepath=str(folder / f"{name}.sph"),
            text=text[0] if text else "",
            offset=offset,
            duration=duration,
            speaker=speaker,
            origin=where,
            rules="tedlium",
        )
