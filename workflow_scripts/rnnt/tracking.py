"""Weights & Biases: one run per data set, the same run across legs and restarts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rnnt import files
from rnnt.errors import UserError


@contextlib.contextmanager
def run(section: dict, folder: Path, dataset: str, first_leg: str | None) -> Iterator[str]:
    """Open the data set's W&B run; yields what the Trainer reports to: `wandb`, or `none` when the mode is `off`.

    `first_leg` is the fingerprint of a training's first leg, None on the later ones: they go on with its run.
    Raises UserError when `online` is asked for without a login.
    """
    if section["mode"] == "off":
        yield "none"
        return
    import wandb

    note = folder / "wandb_run.json"
    if first_leg or not note.is_file():
        files.write_json(note, {"id": f"{dataset}-{(first_leg or wandb.util.generate_id())[:10]}"})
    try:
        tracked = wandb.init(
            project=section["project"],
            name=dataset,
            id=files.read_json(note)["id"],
            resume="allow",
            mode=section["mode"],
            dir=str(folder),
            settings=wandb.Settings(silent=True),
        )
    except wandb.errors.Error as error:
        raise UserError(f"wandb.mode: {section['mode']}: {error}: run `wandb login`, or set mode: offline") from None
    try:
        yield "wandb"
    finally:
        tracked.finish()
