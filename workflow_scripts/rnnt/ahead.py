"""Outputs that another process made ahead of their job, as it had at hand what they take: the job takes them up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rnnt import files


def key(*parts: object) -> str:
    """A name for all that outputs depend on: JSON values, and files, by their content."""
    content = [files.sha256(part) if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def made(folder: Path) -> Iterator[Path]:
    """A folder to write outputs to; `folder` is there when the context ends, whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    for path in (temporary, folder):
        shutil.rmtree(path, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def take_up(folder: Path, *outputs: Path) -> bool:
    """Move the outputs, by their names, out of `folder` to where they belong; False where it has not all of them."""
    there = all((folder / output.name).is_file() for output in outputs)
    for output in outputs if there else ():
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / output.name, output)
    shutil.rmtree(folder, ignore_errors=True)
    return there
