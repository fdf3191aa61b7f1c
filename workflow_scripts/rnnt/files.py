"""Write files whole, and tell their contents apart."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from rnnt.errors import UserError


def write_text(path: str | Path, text: str) -> None:
    """Write to a temporary name, then rename: the file is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: str | Path, value: object) -> None:
    """Write indented JSON, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: str | Path) -> dict:
    """Read a JSON file. Raises UserError naming the file when it is not one."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error})") from None


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
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line.decode("utf-8-sig")) if line.strip() else None
        except ValueError as error:
            raise UserError(f"{path}:{number}: expected one JSON object a line, UTF-8 ({error})") from None
        if row is not None and not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected one JSON object a line, got {type(row).__name__}")
        if row is not None:
            rows.append(row)
    return rows


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
