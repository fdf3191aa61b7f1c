"""Outputs that another process made ahead of their job, as it had at hand what they take: the job takes them up."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from rnnt import files


def key(*parts: object) -> str:
    """A name for all that outputs depend on: JSON values, and files, by their content."""
    content = [files.sha256(part) if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def take_up(folder: Path, *outputs: Path) -> bool:
    """Move the outputs, by their names, out of `folder` to where they belong; False where it has not all of them."""
    there = all((folder / output.name).is_file() for output in outputs)
    for output in outputs if there else ():
        with files.whole(output) as temporary:
            shutil.move(folder / output.name, temporary)
    shutil.rmtree(folder, ignore_errors=True)
    return there
