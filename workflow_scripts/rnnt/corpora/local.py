"""Audio on this machine: a folder per split with a metadata file, or NeMo manifests. Read in place."""

from __future__ import annotations

import contextlib
import csv
import difflib
import math
import os
import re
import reprlib
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rnnt import console, files, streams
from rnnt.corpora import MOST_SECONDS, Utterance
from rnnt.errors import UserError

FOLDER_KEYS = ("type", "path")
METADATA = ("metadata.csv", "metadata.jsonl")
TEXT_COLUMNS = ("transcription", "text")
METADATA_COLUMNS = ("file_name", *TEXT_COLUMNS, "speaker")
MANIFEST_COLUMNS = ("audio_filepath", "text", "offset", "duration", "channel", "speaker", "id")
# What counts as audio beside a listing, whether it can be read or not.
AUDIO = set(
    ".wav .flac .mp3 .ogg .oga .opus .sph .aif .aiff .aifc .au .snd .caf .w64 .rf64 .voc .mp2 .m4a .aac .wma .webm "
    ".amr".split()
)
ROUNDING = 0.05  # seconds below 0 that an offset may lie: published times are rounded


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Nothing to fetch; check that the folder is there.

    Raises UserError when it is not.
    """
    if not Path(source["path"]).is_dir():
        raise UserError(f"{source['path']}: no such folder: set source.path to the folder that holds the splits")


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split: the folder `path`/`split` with its metadata file, or the NeMo manifest `path`/`split`.

    An id is the file's name without its suffix, in a manifest with the offset, unless that occurs twice: then with all
    that tells the utterances apart. Raises UserError naming file and line of what is missing or wrong.
    """
    place = Path(source["path"], split)
    found = _listings(source, split)
    if len(found) > 1:
        one, other = found[0], found[-1]
        cure = "remove one" if other.parent == place else f"name {other.name} in `splits`, or the folder as {split}/"
        raise UserError(f"{place}: listed by {one} and by {other}: which is it? {cure}")
    if os.path.isfile(place):
        return _distinct(_nemo_manifest(place), folder)
    if not os.path.isdir(place):
        hint = _hint(found) or _nearest(source["path"], split)
        raise UserError(f"{place}: neither a folder with {' or '.join(METADATA)} nor a NeMo manifest{hint}")
    if not os.access(place, os.R_OK | os.X_OK):
        raise UserError(f"{place}: no permission to read this folder")
    if not found or found[0].parent != place:
        raise UserError(f"{place}: holds no {' or '.join(METADATA)}{_hint(found)}")
    return _distinct(_metadata(found[0]), folder)


def _nearest(path: str, split: str) -> str:
    """The split below `path` whose name is most like one that is not there."""
    with contextlib.suppress(OSError):
        there = [name for name in os.listdir(path) if not name.startswith(".") and not _is_audio(name)]
        if near := difflib.get_close_matches(split, there, n=1):
            return f": did you mean {near[0]}?"
    return ""


def listing(source: dict, split: str) -> Path | None:
    """The file that lists a split, None where there is none (yet)."""
    return next(iter(_listings(source, split)), None)


def unlisted(source: dict, split: str, listed: Iterable[str]) -> list[str]:
    """Audio files in the folder of a split, and below, that are none of `listed`; of a NeMo manifest none.

    A folder below with a metadata file is a split of its own; what begins with a dot is hidden. `listed` is read twice.
    """
    place = str(Path(source["path"], split))
    if not os.path.isdir(place):
        return []
    known, left = streams.hashes(listed), []
    for folder, below, names in os.walk(place):
        if folder != place and set(METADATA) & set(names):
            below.clear()
            continue
        below[:] = [name for name in below if not name.startswith(".")]
        found = (os.path.join(folder, name) for name in names if _is_audio(name) and not name.startswith("."))
        left += [path for path in found if not _is_in(known, hash(path))]
    known = set(map(_real, listed)) if left else set()  # by links, through .., in another normal form
    return sorted(path for path in left if _real(path) not in known)


def _is_in(known: array, value: int) -> bool:
    place = bisect_left(known, value)
    return place < len(known) and known[place] == value


def audio_below(folder: str, key: str) -> list[str]:
    """The audio files anywhere in a folder that the configuration's `key` names, relative to it, sorted.

    What begins with a dot is hidden. Raises UserError where there is no such folder, or no audio in it.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{key}: {folder}: no such folder: it takes one with audio files")
    found = [
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
        if _is_audio(name) and not name.startswith(".")
    ]
    if not found:
        raise UserError(f"{key}: {folder}: no audio in this folder or below")
    return sorted(found)


def _real(path: str) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(path))


def _listings(source: dict, split: str) -> list[Path]:
    """What may list a split, the file of its own name first; a folder is meant where the name ends with a slash."""
    place = Path(source["path"], split)
    beside = [] if split.endswith("/") else [Path(f"{place}{suffix}") for suffix in (".json", ".jsonl")]
    candidates = [place] if os.path.isfile(place) else [*(place / name for name in METADATA), *beside]
    return [path for path in candidates if os.path.isfile(path)]


def _hint(found: list[Path]) -> str:
    return f": is {found[0].name} the listing? name it in `splits`" if found else ""


def _distinct(found: Iterable[tuple[Utterance, str | None]], folder: Path | None) -> Iterator[Utterance]:
    """The utterances. Those whose id occurs twice get the long id that comes with each, where one does.

    They are looked at for it before the first one is given, and put by in `folder`. An id is looked for by 8 bytes, and
    compared where these are the same.
    """
    ids, rows = array("q"), streams.Rows(folder)
    for utterance, long in found:
        ids.append(hash(utterance.id))
        rows.append((utterance, long))
    changed: set[int] = set()  # places of those that have their long id

    def utterances() -> Iterator[tuple[int, Utterance, str | None]]:
        for n, (utterance, long) in enumerate(rows):
            yield n, replace(utterance, id=long) if n in changed else utterance, None if n in changed else long

    while twice := streams.repeated(ids):
        alike = [(n, u.id, long) for n, u, long in utterances() if hash(u.id) in twice]
        counts = Counter(id for _, id, _ in alike)
        clashes = {n: long for n, id, long in alike if counts[id] > 1 and long not in (None, id)}
        if not clashes:
            break
        changed |= clashes.keys()
        for n, long in clashes.items():
            ids[n] = hash(long)
    return (utterance for _, utterance, _ in utterances())


def _metadata(path: Path) -> Iterator[tuple[Utterance, str]]:
    folder = "" if path.parent == Path() else str(path.parent)
    rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path, METADATA_COLUMNS)
    for where, row in rows:
        name = _file_name(row, "file_name", where)
        utterance = Utterance(
            id=_without_suffix(name),
            audio_filepath=os.path.join(folder, name),
            text=_text(row, TEXT_COLUMNS, where),
            speaker=_speaker(row, where),
            origin=where,
        )
        yield utterance, name


def _nemo_manifest(path: Path) -> Iterator[tuple[Utterance, str | None]]:
    folder = "" if path.parent == Path() else str(path.parent)
    for where, row in _json_rows(path, MANIFEST_COLUMNS):
        name = _file_name(row, "audio_filepath", where)
        offset, duration = _seconds(row, "offset", where) or 0.0, _seconds(row, "duration", where)
        if offset < -ROUNDING:
            raise UserError(f"{where}: offset must not be below 0 s, as {offset:g} is")
        if duration is not None and duration <= 0:
            raise UserError(f"{where}: duration must be above 0 s, not {duration:g}")
        offset = offset if offset > 0 else 0.0
        channel = _channel(row, where)
        suffix = "" if channel is None else f"-ch{channel}"
        end = "end" if duration is None else round(offset + duration, 6)
        own = _optional(row, "id", where)
        if own and own.splitlines() != [own]:
            raise UserError(f"{where}: an id with a line break, {reprlib.repr(own)}")
        utterance = Utterance(
            id=own or f"{_without_suffix(name)}-{offset:.3f}{suffix}",
            audio_filepath=_audio_path(name, folder, where),
            text=_text(row, ("text",), where),
            offset=offset,
            duration=duration,
            channel=channel,
            speaker=_speaker(row, where),
            origin=where,
        )
        yield utterance, None if own else f"{name}-{offset}-{end}{suffix}"


def _audio_path(name: str, folder: str, where: str) -> str:
    """As NeMo has it: relative to the working directory, or to the manifest's folder where the former has no file."""
    beside = os.path.join(folder, name)
    if not os.path.isfile(name):
        return beside
    if name != beside and os.path.isfile(beside) and not os.path.samefile(name, beside):
        raise UserError(f"{where}: {name} is both in the working directory and in {folder}: write its whole path")
    return name


def _json_rows(path: Path, known: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    names: dict[tuple, list[str]] = {}  # of each set of keys, found once
    told: set[str] = set()
    path = str(path)
    for line, row in files.numbered_jsonl(path, as_written=True):
        where, keys = f"{path}:{line}", tuple(row)
        if keys not in names:
            names[keys] = _columns(keys, known, where, told)
        yield where, dict(zip(names[keys], row.values(), strict=True))


def _csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    columns: list[str] = []
    for line, fields in _csv_records(path):
        where = f"{path}:{line}"
        if not columns:
            columns = _columns(fields, METADATA_COLUMNS, where, set())
            for names in (("file_name",), TEXT_COLUMNS):
                if not set(names) & set(columns):
                    raise UserError(f"{where}: {_no_column(names, fields)}{_advice(fields)}")
        elif len(fields) != len(columns):
            raise UserError(f"{where}: expected {len(columns)} fields, not {len(fields)}")
        else:
            yield where, dict(zip(columns, fields, strict=True))


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of each record that is not blank, and the line it begins in."""
    _check_text(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader, line = csv.reader(file, strict=True, skipinitialspace=True), 1
        try:
            for fields in reader:
                if reader.line_num > line and (name := _swallowed(fields, path.parent)):
                    raise UserError(
                        f"{path}:{line}: a field goes on over {name} in the lines after: is a quote left open?"
                    )
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path}:{line}: {error}: is a quote left open?") from None


def _check_text(path: Path) -> None:
    """Raise UserError naming the line that is not UTF-8, or else the first that holds a NUL."""
    null = None
    try:
        with open(path, "rb") as file:
            for line, data in enumerate(file, 1):
                if "\0" in data.decode() and null is None:
                    null = line
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f'{path}:{line}: not UTF-8: convert it, or save it as "CSV UTF-8"') from None
    if null:
        raise UserError(f"{path}:{null}: holds a NUL character: is it UTF-16?")


def _swallowed(fields: list[str], folder: Path) -> str | None:
    """The audio file that a field with line breaks names, as it does where it holds the rows after it."""
    lines = (line for field in fields if len(field.splitlines()) > 1 for line in field.splitlines())
    cells = (cell.strip(' "') for line in lines for cell in line.split(","))
    return next((cell for cell in cells if _is_audio(cell) or os.path.isfile(folder / cell)), None)


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO


def _columns(found: Iterable[str], known: tuple[str, ...], where: str, told: set[str]) -> list[str]:
    """The names of columns, those that are `known` as they are there. Raises UserError where two are the same."""
    lower = {name: name.strip().lower() for name in found}
    names = [lower[name] if lower[name] in known else name for name in found]
    for group in (TEXT_COLUMNS, *((name,) for name in known)):
        same = [f"`{name}`" for name in found if lower[name] in group and lower[name] in known]
        if len(same) > 1:
            raise UserError(f"{where}: columns {' and '.join(same)}: which is it? keep one, or rename the other")
    changed = [f"`{name}` for `{taken}`" for name, taken in zip(found, names, strict=True) if name != taken]
    if set(changed) - told:
        told.update(changed)
        console.log.warning("%s: takes column %s", where, ", ".join(changed))
    return names


def _no_column(names: tuple[str, ...], found: Iterable[str]) -> str:
    return f"no column `{'` or `'.join(names)}` (found: {' '.join(', '.join(found).split())[:200]})"


def _advice(header: list[str]) -> str:
    if len(header) == 1 and (sign := next((sign for sign in ";\t|" if sign in header[0]), None)):
        return f": fields are separated by {sign!r}, expected commas"
    return ": expected a first line of column names" if any(map(_is_audio, header)) else ""


def _text(row: dict, names: tuple[str, ...], where: str) -> str:
    name = next((name for name in names if name in row), None)
    if name is None:
        raise UserError(f"{where}: {_no_column(names, row)}")
    if not isinstance(row[name], str):
        raise UserError(f"{where}: `{name}` must be text or a number, not {reprlib.repr(row[name])}")
    if "\0" in row[name]:
        raise UserError(f"{where}: `{name}` holds a NUL character")
    return row[name]


def _optional(row: dict, name: str, where: str) -> str | None:
    return None if row.get(name) is None else _text(row, (name,), where) or None


def _speaker(row: dict, where: str) -> str | None:
    return (_optional(row, "speaker", where) or "").strip() or None


def _file_name(row: dict, column: str, where: str) -> str:
    """As pathlib writes it, which takes as long as all else of a row."""
    text = _text(row, (column,), where)
    first, *others = text.split("/")
    plain = first != "." and others and not {"", "."} & set(others)
    if not plain and not Path(text).name:
        raise UserError(f"{where}: no file name")
    if text.splitlines() != [text]:
        raise UserError(f"{where}: a file name with a line break, {reprlib.repr(text)}: is a quote left open?")
    return text if plain else str(Path(text))


def _without_suffix(name: str) -> str:
    """As pathlib's `with_suffix("")` has it."""
    start = name.rfind("/") + 1
    dot = name.rfind(".")
    return name[:dot] if start < dot < len(name) - 1 else name


def _seconds(row: dict, name: str, where: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, str) and "_" not in value else math.nan
    except ValueError:
        seconds = math.nan
    if not abs(seconds) <= MOST_SECONDS:
        raise UserError(f"{where}: {name} must be a number, in seconds, not {reprlib.repr(value)}")
    return seconds


def _channel(row: dict, where: str) -> int | None:
    channel = row.get("channel")
    if channel is None:
        return None
    if not isinstance(channel, str) or not re.fullmatch(r"[0-9]{1,4}", channel):
        raise UserError(f"{where}: channel must be a number from 0, not {reprlib.repr(channel)}")
    return int(channel)
