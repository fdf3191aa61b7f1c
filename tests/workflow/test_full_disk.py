"""The disk fills up in the middle of a write: one line says so, what was computed stays, and the same command finishes
once there is room. Of the page: tests/unit/report/test_page.py."""

import json

import build_manifest
import torch
import train_leg
import transcribe_split
from nemo.collections.asr.models import EncDecRNNTBPEModel

from conftest import fill, one_line_of_a_full_disk, run_script
from legs import RUNNING, arguments, weights
from rnnt import console, files
from rnnt.training import legs, models

SEARCH = json.dumps({"strategy": "greedy_batch", "max_symbols": 3})


def ends(monkeypatch, capfd, script, *given):
    """Run a script as its rule does, in this process, which has NeMo; returns its exit status and what it told."""
    monkeypatch.setattr("sys.argv", [script.__name__, *map(str, given)])
    capfd.readouterr()
    code = 0
    try:
        console.run(script.main, script.parser())
    except SystemExit as stop:
        code = stop.code
    return code, capfd.readouterr().err


def test_a_corpus_goes_on_behind_the_last_whole_recording(small_disk, tmp_path):
    disk = small_disk(700_000)
    utterances = {"train": 20, "validation": 2, "test": 2}
    source = json.dumps({"type": "synthetic", "corpus": "spoken_digits", "seed": 7, "utterances": utterances})
    command = ["--source", source, "--splits", "train", "--folder", disk / "data", "--workers", "2"]
    command += ["--log", disk / "log", "--output", disk / "corpus.json"]
    done = run_script("prepare_corpus", *command)
    assert done.returncode == 1
    assert "MB are needed" in one_line_of_a_full_disk(done.stderr, disk / "data")
    kept = {path: path.stat().st_mtime_ns for path in disk.rglob("*.flac")}
    assert kept and not (disk / "corpus.json").exists()
    small_disk(20_000_000)
    assert run_script("prepare_corpus", *command).returncode == 0
    assert len(list(disk.rglob("*.flac"))) == 24 and not list(disk.rglob("*.tmp"))
    assert kept == {path: path.stat().st_mtime_ns for path in kept}, "what was there is not made again"


def test_a_listing_and_a_manifest(speech, small_disk, tmp_path, monkeypatch, capfd):
    disk = small_disk(8192)
    source = {"type": "local", "path": str(speech), "allow_unlisted": False}
    files.write_json(tmp_path / "corpus.json", {"source": source, "folder": "-"})
    listed = ["--corpus", tmp_path / "corpus.json", "--split", "test", "--workers", "1", "--log", disk / "log"]
    done = run_script("list_split", *listed, "--output", disk / "listing")
    assert done.returncode == 1
    one_line_of_a_full_disk(done.stderr, disk)
    small_disk(1 << 20)
    assert run_script("list_split", *listed, "--output", disk / "listing").returncode == 0
    fill(disk)
    part = {"label": "test", "listing": str(disk / "listing"), "prefix": ""}
    build = ["--split", "test", "--parts", json.dumps([part]), "--workers", "1"]
    build += ["--output", disk / "test.jsonl", "--summary", disk / "test.json"]
    code, told = ends(monkeypatch, capfd, build_manifest, *build)
    assert code == 1
    one_line_of_a_full_disk(told, disk)
    assert not list(disk.glob("*test.*"))
    (disk / "ballast").unlink()
    assert ends(monkeypatch, capfd, build_manifest, *build)[0] == 0
    assert len(files.read_jsonl(disk / "test.jsonl")) == 6


def test_a_training_its_export_and_its_hypotheses(prepared, small_disk, tmp_path, monkeypatch, capfd):
    disk = small_disk(3 << 20)
    running = json.dumps({**RUNNING, "checkpoint_every_steps": 2})
    options = {"length": '{"max_steps": 6}', "running": running}
    command = arguments(prepared, disk, **options)
    run, done = disk / "runs/leg_1", disk / "leg_1"
    assert ends(monkeypatch, capfd, train_leg, *arguments(prepared, tmp_path, **options))[0] == 0
    rest = fill(disk, 600_000)
    code, told = ends(monkeypatch, capfd, train_leg, *command)
    assert code == 1
    assert "rolling checkpoints and model.nemo" in one_line_of_a_full_disk(told, run), "before the first step"
    assert "step" not in told.partition("error:")[0] and not list(run.glob("checkpoint-*"))
    rest.unlink()

    with monkeypatch.context() as patch:
        save = legs.LegTrainer._save_optimizer_and_scheduler

        def save_on_a_full_disk(self, folder):
            if self.state.global_step == 4:
                fill(disk, 8192)
            save(self, folder)

        patch.setattr(legs.LegTrainer, "_save_optimizer_and_scheduler", save_on_a_full_disk)
        code, told = ends(monkeypatch, capfd, train_leg, *command)
    assert code == 1
    assert "MB are needed" in one_line_of_a_full_disk(told, run)
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-2"] and not done.exists()
    rest.unlink()

    with monkeypatch.context() as patch:
        export = EncDecRNNTBPEModel.save_to

        def export_on_a_full_disk(self, path):
            fill(disk, 8192)
            export(self, path)

        patch.setattr(EncDecRNNTBPEModel, "save_to", export_on_a_full_disk)
        code, told = ends(monkeypatch, capfd, train_leg, *command)
    assert code == 1 and f"continue at step 2 of 6 from {run}/checkpoint-2" in told
    assert "MB are needed" in one_line_of_a_full_disk(told, disk)
    assert not done.exists() and not list(disk.glob(".*"))
    rest.unlink()

    code, told = ends(monkeypatch, capfd, train_leg, *command)
    assert code == 0 and "continue at step" not in told, "it was trained already"
    ours, calm = (models.restore(place / "leg_1/model.nemo") for place in (disk, tmp_path))
    assert torch.equal(weights(ours), weights(calm))

    split = prepared / "test.jsonl"
    command = ["--checkpoint", done, "--tokenizer", prepared / "tokenizer", "--manifest", split, "--search", SEARCH]
    command += ["--device", "cpu", "--threads", "1", "--progress", disk / "progress"]
    command += ["--hypotheses", disk / "found/test.jsonl", "--decoding", disk / "found/test.decoding.json"]
    fill(disk, 4096)  # what is transcribed so far takes it
    code, told = ends(monkeypatch, capfd, transcribe_split, *command)
    assert code == 1
    one_line_of_a_full_disk(told, disk)
    assert not list(disk.glob("found/*")) and not list(disk.glob("found/.*"))
    rest.unlink()
    code, told = ends(monkeypatch, capfd, transcribe_split, *command)
    number = len(files.read_jsonl(split))
    assert code == 0 and f"go on behind {number} of {number} utterances" in told
    assert len(files.read_jsonl(disk / "found/test.jsonl")) == number


def test_where_temporary_files_go_is_looked_at_too(prepared, small_disk, tmp_path, monkeypatch, capfd):
    disk = small_disk(100_000)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    code, told = ends(monkeypatch, capfd, train_leg, *arguments(prepared, tmp_path, length='{"max_steps": 2}'))
    assert code == 1
    assert "TMPDIR sets another folder" in one_line_of_a_full_disk(told, disk)
