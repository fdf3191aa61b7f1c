"""What show_status.py tells of a training, from the files that it leaves."""

import os
import platform
import re

import pytest

from conftest import run_script
from legs import train
from rnnt import files
from rnnt.errors import UserError
from rnnt.report import status


def test_a_training_tells_where_it_is_and_where_it_stopped(prepared, tmp_path):
    with pytest.raises(UserError, match="no data set there has been begun"):
        status.rows(tmp_path)
    (tmp_path / "later/manifests").mkdir(parents=True)
    place = tmp_path / "digits"
    train(prepared, place / "runs/leg_1", 1, 2, 12)
    note = files.read_json(place / "runs/status.json")
    assert (note["step"], note["total"], note["pid"], note["host"]) == (6, 12, os.getpid(), platform.node())
    assert note["loss"] > 0 and note["seconds_per_step"] > 0

    shown = run_script("show_status", "--results", tmp_path)
    assert shown.returncode == 0, shown.stderr
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.stdout.splitlines()]
    first, second = (dict(zip(lines[0], line, strict=True)) for line in lines[2:])
    assert (first["state"], first["leg"], first["step"], first["log"]) == (
        *("training", "1/2", "6/12"),  # this process is still there
        str(place / "runs/training.log"),
    )
    assert re.fullmatch(r"\d+\.\d{3}", first["loss"]) and re.fullmatch(r"\d:\d\d:\d\d", first["time left"])
    assert second["training"] == "later" and second["state"] == "not begun" and not second["step"]

    # More than any process may have.
    gone = {**note, "pid": 2**22 + 1}
    files.write_json(place / "runs/status.json", gone)
    assert status.rows(tmp_path)[0]["state"] == "stopped" and not status.rows(tmp_path)[0]["time left"]
    elsewhere = {**gone, "host": "another", "job": "17"}
    files.write_json(place / "runs/status.json", elsewhere)
    row = status.rows(tmp_path)[0]
    assert (row["state"], row["host"], row["job"]) == ("training", "another", "17")
    files.write_json(place / "runs/status.json", {**elsewhere, "time": note["time"] - 3600})
    row = status.rows(tmp_path)[0]
    assert row["state"] == "stopped" and row["seen"].startswith("1:0")


def test_it_tells_what_is_done_and_the_newest_word_error_rate(tmp_path):
    place = tmp_path / "digits/seed_2"
    (tmp_path / "digits/runs").mkdir(parents=True)
    note = {"leg": 9, "legs": 10, "step": 90, "total": 100, "loss": None, "host": "another", "job": None, "pid": 1}
    files.write_json(place / "runs/status.json", {**note, "seconds_per_step": 1.0, "time": 0.0})
    files.write_json(place / "checkpoints/temporary/leg_9/leg.json", {})
    for leg, wer in ((8, 30.0), (9, 12.345), (10, 10.0)):
        files.write_json(place / f"evaluation/leg_{leg}/greedy/validation.json", {"wer": wer})
        if leg == 9:
            row = status.rows(tmp_path)[1]
            assert (row["training"], row["state"]) == ("digits/seed_2", "between legs")
            assert row["WER of leg"] == "12.35 % of 9"
    files.write_json(place / "checkpoints/leg_10/leg.json", {})
    assert status.rows(tmp_path)[1]["state"] == "trained"
    files.write_text(tmp_path / "digits/wer_table.csv", "")
    row = status.rows(tmp_path)[1]
    assert (row["state"], row["WER of leg"], row["loss"]) == ("in the table", "10.00 % of 10", "")
