"""Audio on this machine: a folder per split with a metadata file, or NeMo manifests. Read in place."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from rnnt import files
from rnnt.corpora import Utterance
from rnnt.errors import UserError

METADATA = ("metadata.csv", "metadata.jsonl")
TEXT_COLUMNS = ("transcription", "text")


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Nothing to fetch; check that the folder is there.

    Raises UserError when it is not.
    """
    if not Path(source["path"]).is_dir():
        raise UserError(f"{source['path']}: no such folder: set source.path to the folder that holds the splits")


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split: the folder `path`/`split` with its metadata file, or the NeMo manifest `path`/`split`.

    Raises UserError naming file and line of what is missing.
    """
    place = Path(source["path"]) / split
    if place.is_file():
        yield from _nemo_manifest(place)
    elif place.is_dir():
        yield from _metadata(place)
    else:
        raise UserError(f"{place}: neither a folder with {' or '.join(METADATA)} nor a NeMo manifest")


def listing(source: dict, split: str) -> Path | None:
    """The file that lists a split, None where there is none (yet)."""
    place = Path(source["path"]) / split
    candidates = [place] if place.is_file() else [place / name for name in METADATA]
    return next((path for path in candidates if path.is_file()), None)


def _metadata(place: Path) -> Iterator[Utterance]:
    path = next((place / name for name in METADATA if (place / name).is_file()), None)
    if path is None:
        raise UserError(f"{place}: holds no {' or '.join(METADATA)}")
    rows = _csv_rows(path) if path.suffix == ".csv" else enumerate(files.read_jsonl(path), 1)
    for line, row in rows:
        where = f"{path}:{line}"
        name, text = _field(row, ("file_name",), where), _field(row, TEXT_COLUMNS, where)
        yield Utterance(
            id=_without_suffix(name, where),
            audio_filepath=str(place / name),
            text=text,
            speaker=str(row["speaker"]) if row.get("speaker") else None,
            origin=where,
        )


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path}:{reader.line_num}: expected {len(reader.fieldnames)} fields")
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}: is a quote left open?") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): convert it") from None


def _field(row: dict, names: tuple[str, ...], where: str) -> str:
    for name in names:
        if isinstance(row.get(name), str | int | float):
            return str(row[name])
        if name in row:
            raise UserError(f"{where}: `{name}` must be text, not {row[name]!r}")
    raise UserError(f"{where}: no column `{'` or `'.join(names)}` (found: {', '.join(map(str, row))})")


def _nemo_manifest(path: Path) -> Iterator[Utterance]:
    for line, row in enumerate(files.read_jsonl(path), 1):
        where = f"{path}:{line}"
        name = _field(row, ("audio_filepath",), where)
        audio = Path(name)
        if not audio.is_absolute() and not audio.is_file():
            audio = path.parent / audio
        try:
            offset = float(row.get("offset") or 0)
            seconds = float(row["duration"]) if row.get("duration") is not None else None
        except (TypeError, ValueError):
            raise UserError(f"{where}: offset and duration must be numbers, in seconds") from None
        yield Utterance(
            id=str(row.get("id") or _segment_id(_without_suffix(name, where), offset, row.get("channel"))),
            audio_filepath=str(audio),
            text=_field(row, ("text",), where),
            offset=offset,
            duration=seconds,
            channel=_channel(row, where),
            speaker=str(row["speaker"]) if row.get("speaker") is not None else None,
            origin=where,
        )


def _channel(row: dict, where: str) -> int | None:
    channel = row.get("channel")
    if channel is not None and (not isinstance(channel, int) or channel < 0):
        raise UserError(f"{where}: channel must be a number from 0, not {channel!r}")
    return channel


def _without_suffix(name: str, where: str) -> str:
    if not Path(name).name:
        raise UserError(f"{where}: no file name")
    return str(Path(name).with_suffix(""))


def _segment_id(stem: str, offset: float, channel: int | None) -> str:
    return f"{stem}-{offset:.3f}" + ("" if channel is None else f"-ch{channel}")
