"""What a training transcribes with the model that it has at hand, and transcribe_split.py takes up."""

import json
import subprocess
import sys

import pytest
import transcribe_split

from conftest import SCRIPTS
from legs import OPTIONS, arguments, run_leg
from rnnt import ahead, console, files
from rnnt.data import manifests
from rnnt.evaluation import decoding, hypotheses
from rnnt.training import models
from speaking import made_to_speak

SEARCHES = {
    "greedy": {"strategy": "greedy_batch", "max_symbols": 3},
    "beam": {"strategy": "malsd_batch", "beam_size": 2},
}


@pytest.fixture(scope="module")
def base(prepared, tmp_path_factory):
    """A model that finds something in each utterance, to train from."""
    path = tmp_path_factory.mktemp("base") / "base.nemo"
    made_to_speak(models.build("contextnet_dummy", prepared / "tokenizer"), prepared).save_to(str(path))
    return path


def train(prepared, base, folder, *splits, searches=SEARCHES, **changes):
    """Two steps of training, which is to transcribe the manifests `splits` with each search."""
    wanted = {
        "batch_size": 4,
        "progress": str(folder / "progress"),
        "splits": [
            {"manifest": str(path), "search": search, "hypotheses": str(folder / name / f"{path.stem}.jsonl")}
            for path in splits
            for name, search in searches.items()
        ],
    }
    options = {
        "model": json.dumps({"architecture": None, "init_from": str(base), "reinitialize_decoder": False}),
        "training": json.dumps({**OPTIONS, "seed": 3, "learning_rate": 1e-6}),
        "base-model": base,
        "length": '{"max_steps": 2}',
        "ahead": json.dumps(wanted),
    }
    run_leg(arguments(prepared, folder, **{**options, **changes}))


def command(prepared, folder, manifest, name, **changes):
    """The arguments of transcribe_split.py for a split and a search of SEARCHES."""
    output = folder / name / f"{manifest.stem}.jsonl"
    options = {
        "checkpoint": folder / "leg_1", "manifest": manifest, "tokenizer": prepared / "tokenizer", "batch-size": 4,
        "search": json.dumps(SEARCHES[name]), "device": "cpu", "threads": 1, "progress": folder / "progress",
        "hypotheses": output, "decoding": output.with_suffix(".decoding.json"), **changes,
    }  # fmt: skip
    return [part for key, value in options.items() for part in (f"--{key}", str(value))]


def transcribe(*given, **changes):
    """Run it; returns the hypotheses, and what was told beside the seconds."""
    args = transcribe_split.parser().parse_args(command(*given, **changes))
    console.start_logging(args.log, args.label)
    transcribe_split.main(args)
    told = files.read_json(args.decoding)
    assert told.pop("decoding_seconds") > 0
    return files.read_jsonl(args.hypotheses), told


def folders(progress):
    return [path for path in progress.glob("*") if path.is_dir()]


@pytest.fixture
def restored(monkeypatch):
    """The files of which models were restored."""
    paths, restore = [], models.restore
    monkeypatch.setattr(models, "restore", lambda path, *rest: paths.append(path) or restore(path, *rest))
    return paths


def test_what_the_training_transcribed_is_what_its_job_would_have(prepared, base, tmp_path, restored):
    split = prepared / "test.jsonl"
    train(prepared, base, tmp_path, split)
    assert len(folders(tmp_path / "progress")) == 2
    restored.clear()
    made = {name: transcribe(prepared, tmp_path, split, name) for name in SEARCHES}
    assert restored == [] and folders(tmp_path / "progress") == []
    again = {name: transcribe(prepared, tmp_path, split, name) for name in SEARCHES}
    assert len(restored) == 2, "what is asked for once more is found once more"
    assert made == again
    rows, told = made["beam"]
    assert len({row["pred_text"] for row in rows}) == len(rows) > 3 and told["strategy"] == "malsd_batch"
    assert told["hypotheses_sha256"] == files.sha256(tmp_path / "beam/test.jsonl")
    assert rows != made["greedy"][0]


def test_the_job_that_takes_it_up_imports_neither_torch_nor_nemo(prepared, base, tmp_path):
    split = prepared / "test.jsonl"
    train(prepared, base, tmp_path, split, searches={"greedy": SEARCHES["greedy"]})
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); sys.argv[0] = 'transcribe_split.py'\n"
        "import transcribe_split; transcribe_split.console.run(transcribe_split.main, transcribe_split.parser())\n"
        "sys.exit('torch' in sys.modules or 'nemo' in sys.modules)"
    )
    options = command(prepared, tmp_path, split, "greedy")
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "greedy_batch test: the training transcribed it at its end" in done.stderr
    assert all(row["pred_text"] for row in files.read_jsonl(tmp_path / "greedy/test.jsonl"))


def test_what_is_asked_otherwise_is_transcribed_anew(prepared, base, tmp_path, restored):
    split = tmp_path / "test.jsonl"
    files.write_jsonl(split, manifests.read(prepared / "test.jsonl"))
    train(prepared, base, tmp_path, split, searches={"greedy": SEARCHES["greedy"]})
    (made,) = folders(tmp_path / "progress")
    restored.clear()
    leg = tmp_path / "leg_1/leg.json"
    trained = files.read_json(leg)
    for changes in (
        {"search": '{"strategy": "greedy_batch", "max_symbols": 2}'},
        {"batch-size": 5},
        {"device": "auto"},
        {"hypotheses": tmp_path / "other.jsonl"},
    ):
        transcribe(prepared, tmp_path, split, "greedy", **changes)
    files.write_json(leg, {**trained, "weights": "others"})
    transcribe(prepared, tmp_path, split, "greedy")
    files.write_json(leg, trained)
    rows = manifests.read(split)
    files.write_jsonl(split, rows[:-1])
    assert len(transcribe(prepared, tmp_path, split, "greedy")[0]) == len(rows) - 1
    assert len(restored) == 6 and made.is_dir()
    files.write_jsonl(split, rows)
    assert len(transcribe(prepared, tmp_path, split, "greedy")[0]) == len(rows)
    assert len(restored) == 6


def test_a_long_split_and_a_leg_that_was_done_are_left_to_jobs_beside(prepared, base, tmp_path, restored, monkeypatch):
    short, long = prepared / "test.jsonl", prepared / "train.jsonl"
    lasts = [sum(row["duration"] for row in manifests.read(path)) for path in (short, long)]
    assert lasts[0] < lasts[1]
    monkeypatch.setattr(hypotheses, "SHORT", lasts[0])
    train(prepared, base, tmp_path, long)
    assert restored == [base] and not (tmp_path / "progress").exists(), "and no model is restored for nothing"
    train(prepared, base, tmp_path, short)
    assert restored == [base, base], "it was done: what is asked for may be one evaluation"
    train(prepared, base, tmp_path, short, long, length='{"max_steps": 3}')
    assert len(folders(tmp_path / "progress")) == 2
    restored.clear()
    transcribe(prepared, tmp_path, short, "beam")
    assert restored == []
    transcribe(prepared, tmp_path, long, "beam")
    assert len(restored) == 1


def test_a_search_that_fails_fails_in_its_own_job_and_the_others_are_made(prepared, base, tmp_path, log):
    broken = {"strategy": "malsd_batch", "beam_size": 100}
    split = prepared / "test.jsonl"
    train(prepared, base, tmp_path, split, searches={"beam": broken, "greedy": SEARCHES["greedy"]}, log=log)
    assert (tmp_path / "leg_1/model.nemo").is_file()
    said = log.read_text()
    assert "beam/test.jsonl: left to its own job (UserError: evaluation.beam: malsd_batch with beam_size 100" in said
    (only,) = folders(tmp_path / "progress")
    assert sorted(path.name for path in only.iterdir()) == ["test.decoding.json", "test.jsonl"]


def test_outputs_are_made_whole_or_not_at_all(tmp_path):
    place, outputs = tmp_path / "ahead/key", [tmp_path / "results/a.jsonl", tmp_path / "results/b.json"]
    with pytest.raises(KeyboardInterrupt), files.whole_folder(place) as folder:
        (folder / "a.jsonl").write_text("half")
        raise KeyboardInterrupt
    assert list(place.parent.iterdir()) == []
    with files.whole_folder(place) as folder:
        (folder / "a.jsonl").write_text("one of two")
    assert not ahead.take_up(place, *outputs) and not outputs[0].exists() and not place.exists()
    for text in ("first", "second"):
        with files.whole_folder(place) as folder:
            for output in outputs:
                (folder / output.name).write_text(text)
    assert ahead.take_up(place, *outputs) and [output.read_text() for output in outputs] == ["second"] * 2
    assert not ahead.take_up(place, *outputs)
    assert ahead.key("a", outputs[0]) != ahead.key("b", outputs[0]) == ahead.key("b", outputs[1])


def test_a_transcription_that_was_killed_is_taken_up_as_earlier_versions_named_it(prepared, base, tmp_path):
    """By fingerprint, settings, manifest, batch size and output."""
    split = prepared / "test.jsonl"
    train(prepared, base, tmp_path, split, searches={})
    leg = files.read_json(tmp_path / "leg_1/leg.json")
    rows = sorted(manifests.read(split), key=lambda row: -row["duration"])
    settings = {**SEARCHES["greedy"], **decoding.long_form([row["duration"] for row in rows])}
    output = tmp_path / "greedy/test.jsonl"
    name = ahead.key(leg["fingerprint"], settings, split, 4, str(output))
    (tmp_path / "progress").mkdir()
    begun = [{"id": row["id"], "pred_text": "from before", "seconds": 1.0} for row in rows[:4]]
    files.write_jsonl(tmp_path / f"progress/{name}.jsonl", begun)
    found, _ = transcribe(prepared, tmp_path, split, "greedy")
    assert [row["pred_text"] for row in found].count("from before") == 4
    assert list((tmp_path / "progress").iterdir()) == []
