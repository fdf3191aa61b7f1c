"""How far each training is, from the files that it leaves: works while it runs, on any machine that sees them."""

from __future__ import annotations

import os
import platform
import re
import time
from datetime import timedelta
from pathlib import Path

from rnnt import files
from rnnt.errors import UserError

HEADINGS = ("training", "state", "leg", "step", "loss", "WER of leg", "time left", "host", "job", "seen", "log")
SILENT_SECONDS = 600  # after which a training on another machine counts as stopped; it writes every ten seconds


def rows(results: Path) -> list[dict[str, str]]:
    """A row for each training below `results`, keys as HEADINGS, empty where there is no value.

    `WER of leg` is the newest interim one, validation, greedy search; `time left` that of the training, in hours,
    minutes and seconds, without what is decoded behind it. Raises UserError where nothing has been begun.
    """
    found = sorted({path.parent for path in (*results.glob("*/manifests"), *results.glob("*/**/runs"))})
    if not found:
        raise UserError(f"{results}: no data set there has been begun: is it the folder of the results?")
    return [_row(results, folder) for folder in found]


def _row(results: Path, folder: Path) -> dict[str, str]:
    row = dict.fromkeys(HEADINGS, "")
    row |= {"training": folder.relative_to(results).as_posix(), "state": "not begun"}
    wers = {_number(path.parents[1]): path for path in folder.glob("evaluation/leg_*/greedy/validation.json")}
    if wers:
        row["WER of leg"] = f"{files.read_json(wers[max(wers)])['wer']:.2f} % of {max(wers)}"
    note = folder / "runs/status.json"
    if not note.is_file():
        return row
    status = files.read_json(note)
    age = time.time() - status["time"]
    done = [_number(path.parent) for path in folder.glob("checkpoints/**/leg.json") if "leg_" in path.parent.name]
    if max(done, default=0) == status["legs"]:
        table = results / folder.relative_to(results).parts[0] / "wer_table.csv"
        state = "in the table" if table.is_file() else "trained"
    elif _at_work(status, age):
        state = "training"
    else:
        state = "between legs" if status["leg"] in done else "stopped"
    row |= {
        "state": state,
        "leg": f"{status['leg']}/{status['legs']}",
        "step": f"{status['step']}/{status['total']}",
        "loss": "" if status["loss"] is None else f"{status['loss']:.3f}",
        "host": status["host"],
        "job": status["job"] or "",
        "seen": f"{_duration(age)} ago",
        "log": str(folder / "runs/training.log"),
    }
    if state == "training" and status["seconds_per_step"]:
        row["time left"] = _duration((status["total"] - status["step"]) * status["seconds_per_step"])
    return row


def _at_work(status: dict, age: float) -> bool:
    if status["host"] != platform.node():
        return age < max(SILENT_SECONDS, 10 * (status["seconds_per_step"] or 0))
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _number(leg: Path) -> int:
    return int(re.sub(r"\D", "", leg.name) or 0)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
