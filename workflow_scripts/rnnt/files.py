"""Write files whole, and tell their contents apart."""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import json
import math
import os
import re
import reprlib
import shutil
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rnnt import disk
from rnnt.errors import UserError

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # a half of a character beyond U+FFFF, as JSON escapes it


@contextlib.contextmanager
def whole(path: str | Path, size: int = 0) -> Iterator[Path]:
    """A temporary name to write a file of `size` bytes to: `path` is there whole or not at all when the context ends.

    Raises DiskFull where there is no room.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk.room(path.parent, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: str | Path, size: int = 0) -> Iterator[Path]:
    """The same for a folder, which is empty at first; what is there stays until it is replaced."""
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with disk.room(folder.parent, size):
            temporary.mkdir(parents=True)
            yield temporary
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with whole(path, len(data)) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: object) -> None:
    """Write indented JSON, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line, as they come, whole or not at all."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(encode(row) + "\n" for row in rows)


def read_json(path: str | Path) -> dict:
    """Read a JSON object. Raises UserError naming the file when it is not one."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a readable JSON file (expected an object, not {reprlib.repr(value)})")
    return value


def write_sealed(path: str | Path, value: dict) -> None:
    """Write JSON with a hash of its content, so that an edit by hand is noticed."""
    write_json(path, {**value, "seal": _seal(value)})


def read_sealed(path: str | Path) -> dict:
    """Read what `write_sealed` wrote. Raises UserError when it was changed since."""
    value = read_json(path)
    seal = value.pop("seal", None)
    if seal != _seal(value):
        raise UserError(f"{path}: changed since it was computed: delete it, and the same command computes it again")
    return value


def _seal(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def read_jsonl(path: str | Path) -> list[dict]:
    """Read one JSON object a line. Raises UserError naming file and line where that fails."""
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: str | Path, as_written: bool = False) -> Iterator[tuple[int, dict]]:
    """The objects of `read_jsonl`, each with the number of its line in the file; blank lines are passed over.

    With `as_written` a number is the text that stands there: 1.10 is not 1.1. Raises UserError naming file and line for
    what is no JSON (NaN, Infinity), a key given twice, half a character (a lone surrogate) and nesting without end.
    """
    numbers = {"parse_int": str, "parse_float": str} if as_written else {"parse_float": _finite}
    decoder = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_constant=_no_constant, **numbers)
    path = str(path)
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8-sig").strip()
            if not text:
                continue
            row = decoder.decode(text)
            if SURROGATE.search(line):
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UserError(f"{where}: half a character (a lone surrogate): write the file anew as UTF-8") from None
        except RecursionError:
            raise UserError(f"{where}: expected one JSON object a line, not one nested so deeply") from None
        except ValueError as error:
            raise UserError(f"{where}: expected one JSON object a line, UTF-8 ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected one JSON object a line, not {reprlib.repr(row)}")
        yield number, row


def _lines(path: str | Path) -> Iterator[bytes]:
    """The lines of a text file, as bytes.splitlines has them. Raises UserError for what can't be read, or is UTF-16."""
    try:
        with open(path, "rb") as file:
            if file.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise UserError(f"{path}: is UTF-16: convert it to UTF-8")
            for line in file:
                yield from line.splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _each_key_once(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} is given twice")
    return found


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{reprlib.repr(number)} is too large for a number")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def existing(path: str) -> str | None:
    """The file's path, or that of the file whose name is the same in another normal form of Unicode; None without one.

    macOS writes names decomposed (NFD), most listings are composed (NFC).
    """
    if os.path.isfile(path):
        return path
    found = ""
    for part in Path(path).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        found = next((place for form in forms if os.path.exists(place := os.path.join(found, form))), None)
        if found is None:
            return None
    return found if os.path.isfile(found) else None


def link(source: str | Path, target: str | Path) -> None:
    """Hard-link a file, or copy it where that can't be done."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: str | Path) -> str:
    """The same of a file that this process asks for again; read anew where it was changed since."""
    state = os.stat(path)
    return _sha256_once(os.path.abspath(path), state.st_ino, state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256_once(path: str, *state: int) -> str:
    return sha256(path)


def code_version() -> str:
    """`git describe` of the code that runs, `unknown` outside a checkout and where git can't be asked."""
    here = Path(__file__).resolve()
    # A copy without .git may lie inside another project's checkout.
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    found = _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12") if tracked else ""
    return found or "unknown"


def _git(folder: Path, *arguments: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
