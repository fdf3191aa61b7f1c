"""Common Voice 9.0 (CC0): sentences read by volunteers, mp3 of 48 kHz, a table per split.

Layout: cv-corpus-9.0-2022-04-27/en/clips/*.mp3 and train.tsv, dev.tsv, test.tsv. The tables are written without
quoting: a quotation mark is part of the sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rnnt.corpora import Utterance, published
from rnnt.corpora.published import Archive, Counts
from rnnt.errors import UserError

RELEASE = "cv-corpus-9.0-2022-04-27"
FOLDER_KEYS = ("type", "path")
EXPECTED = {"train": Counts(890116), "dev": Counts(16335), "test": Counts(16335)}
COLUMNS = "client_id path sentence up_votes down_votes age gender accents locale segment".split()
ARCHIVE = Archive(
    name=f"{RELEASE}-en.tar.gz",
    marker="en/clips",
    sha256="7c789a325e1d9f16137c1aeab9f45a1fde049a39b8fbf49e9ef4a8827ae67eae",
    how=f"Common Voice needs an account: get {RELEASE}-en.tar.gz from Mozilla (commonvoice.mozilla.org, release 9.0) "
    "and set source.path to it, or to the folder it was extracted to",
)


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Check and extract the archive, or find what was extracted from it; it can't be downloaded without an account.

    Raises UserError when it is not there or of another release.
    """
    published.obtain(source, folder, ARCHIVE, source["path"])
    for split in source["splits"]:
        next(_rows(_table(source, split, folder)), None)


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split. Raises UserError naming the line that lacks a column."""
    table = _table(source, split, folder)
    for number, row in _rows(table):
        yield Utterance(
            id=Path(row["path"]).stem,
            audio_filepath=str(table.parent / "clips" / row["path"]),
            text=row["sentence"],
            speaker=row["client_id"].strip() or None,
            origin=f"{table}:{number}",
            rules="common_voice",
        )


def _table(source: dict, split: str, folder: Path) -> Path:
    root = published.root(folder, ARCHIVE, source["path"])
    table = root / "en" / f"{split}.tsv"
    if not table.is_file():
        raise UserError(f"{table}: missing: is the archive extracted to its end?")
    return table


def _rows(table: Path) -> Iterator[tuple[int, dict]]:
    for number, line in published.lines(table):
        fields = line.split("\t")
        if number == 1 and fields != COLUMNS:
            found = sorted(set(fields) ^ set(COLUMNS)) or ["their order"]
            raise UserError(f"{table}:1: not the columns of {RELEASE} ({', '.join(found)} differ): another release?")
        if len(fields) != len(COLUMNS) or not fields[1]:
            raise UserError(f"{table}:{number}: expected {len(COLUMNS)} columns separated by tabs, `path` not empty")
        if Path(fields[1]).name != fields[1] or fields[1].splitlines() != [fields[1]]:
            raise UserError(f"{table}:{number}: expected the name of a file in clips/ as `path`, got {fields[1]}")
        if number > 1:
            yield number, dict(zip(COLUMNS, fields, strict=True))
