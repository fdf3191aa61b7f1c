"""The results in the tracked run: what is logged, once, and a table that no tracker can hold up."""

import json

import pytest

import tracked
from conftest import fill, run_script
from rnnt import console, files, tracking
from rnnt.errors import UserError
from rnnt.evaluation import scoring
from rnnt.report import table

CHECKPOINT = {"model": "m", "leg": 2, "step": 8, "fingerprint": "f2", "code_version": "c"}
METRICS = {
    "wer": 25.0, "wer_low": 12.5, "wer_high": 37.5, "interval_by": "6 speakers", "cer": 9.0, "wer_normalized": 20.0,
    "substitutions": 1, "deletions": 1, "insertions": 0, "reference_words": 8, "utterances": 3, "hours": 0.01,
    "rtfx": 50.0, "strategy": "malsd_batch", "beam_size": 4, "checkpoint": CHECKPOINT, "versions": {"code": "c"},
}  # fmt: skip
HYPOTHESES = [
    {"id": "a", "duration": 1.5, "text": "one two", "pred_text": "one two", "audio_filepath": "secret.flac"},
    {"id": "b", "duration": 2.0, "text": "one two three four", "pred_text": "one | three", "audio_filepath": "b.flac"},
    {"id": "c", "duration": 1.0, "text": "five six", "pred_text": "five", "audio_filepath": "c.flac"},
]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The results of a data set that was trained in two legs, in a folder without a login to W&B."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_SERVICE"):  # the latter: a client that another test started
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "results/speech"
    files.write_json(folder / "runs/leg_1/fingerprint.json", {"fingerprint": "f1f1f1f1f1f1f1"})
    for leg in (1, 2):
        checkpoint = {**CHECKPOINT, "leg": leg, "step": 4 * leg}
        path = folder / f"evaluation/leg_{leg}/greedy/validation.json"
        files.write_sealed(path, {"wer": 50.0 - leg, "checkpoint": checkpoint})
    files.write_sealed(folder / "evaluation/leg_2/greedy/test.json", {**METRICS, "wer": 30.0})
    files.write_sealed(folder / "evaluation/leg_2/beam/test.json", METRICS)
    files.write_sealed(folder / "evaluation/leg_0/beam/test.json", {**METRICS, "wer": 90.0})
    files.write_jsonl(folder / "evaluation/leg_2/beam/test.jsonl", HYPOTHESES)
    return folder


def track(results, mode="offline", tensorboard=True, *more):
    """Run the script as the rule does; returns its process and what it wrote."""
    evaluation = "results/speech/evaluation"
    done = run_script(
        "track_results",
        *("--greedy", f"{evaluation}/leg_2/greedy/test.json", "--beam", f"{evaluation}/leg_2/beam/test.json"),
        *("--zero-shot", f"{evaluation}/leg_0/beam/test.json", "--hypotheses", f"{evaluation}/leg_2/beam/test.jsonl"),
        *("--interim", *(f"{evaluation}/leg_{leg}/greedy/validation.json" for leg in (1, 2))),
        *("--tracking", json.dumps({"wandb": {"mode": mode, "project": "p"}, "tensorboard": tensorboard})),
        *("--runs", "results/speech/runs", "--label", "speech", "--log", "track.log"),
        *("--output", "results/speech/tracked.json", *more),
    )
    assert done.returncode == 0, done.stderr
    return done, files.read_json(results / "tracked.json")


def test_the_results_are_in_the_run_that_the_training_began(results):
    options = {"wandb": {"mode": "offline", "project": "p"}, "tensorboard": True}
    with tracking.run(options, results / "runs", "speech") as run:
        first = files.read_sealed(results / "evaluation/leg_1/greedy/validation.json")
        run.interim([("validation", first)])
        run.interim([("validation", first)])
    _, report = track(results)
    training, found = tracked.wandb_runs(results / "runs")
    assert training.id == found.id == report["id"] == "speech-f1f1f1f1f1"
    assert training.curve("validation/wer") == [(4, 49.0)]
    assert found.curve("validation/wer") == [(8, 48.0)], "each interim WER once"
    expected = {
        "wer_zero_shot": 90.0, "wer_greedy": 30.0, "wer_beam": 25.0, "wer_beam_low": 12.5, "wer_beam_high": 37.5,
        "wer_beam_normalized": 20.0, "cer_beam": 9.0,
    }  # fmt: skip
    assert {key: found.summary[f"test/{key}"] for key in expected} == expected
    assert {key: found.curve(f"test/{key}") for key in expected} == {key: [(8, v)] for key, v in expected.items()}
    row = table.row("speech", "test", {**METRICS, "wer": 30.0}, METRICS, {**METRICS, "wer": 90.0})
    row |= {"seeds": "1", "wer_beam_sd": "", "wer_beam_without_lm": ""}
    assert found.table("wer_table") == [row]
    predictions = found.table("predictions")
    assert predictions[0] == {
        "split": "test", "id": "b", "duration": 2.0, "reference": "one two three four", "hypothesis": "one | three",
        "word_errors": 2,
    }  # fmt: skip
    assert [(row["id"], row["word_errors"]) for row in predictions] == [("b", 2), ("c", 1), ("a", 0)]
    events = tracked.EventFiles(results / "runs")
    assert events.folder.name == found.id
    assert events.curve("validation/wer") == [(4, 49.0), (8, 48.0)]
    assert {key: events.curve(f"test/{key}") for key in expected} == {key: [(8, v)] for key, v in expected.items()}
    lines = events.text("predictions").splitlines()
    assert lines[0] == "| split | id | duration | reference | hypothesis | word_errors |" and len(lines) == 2 + 3
    assert lines[2] == "| test | b | 2.0 | one two three four | one \\| three | 2 |"
    assert f"| {' | '.join(row.values())} |" in events.text("wer_table").splitlines()
    assert report["interim"] == {"leg_1/validation": 49.0, "leg_2/validation": 48.0}
    assert (report["rows"], report["predictions"]) == (1, 3)
    assert report["wandb"] == {"mode": "offline", "folder": str(found.folder.relative_to(results.parents[1]))}
    assert not tracked.holding(results / "runs", "secret.flac")


def test_transcripts_that_are_licensed_stay_on_the_machine(results):
    track(results, "offline", True, "--licensed")
    (found,) = tracked.wandb_runs(results / "runs")
    assert found.summary["test/wer_beam"] == 25.0 and len(found.table("wer_table")) == 1
    assert not tracked.holding(results / "runs/wandb", "one two three four")
    assert "one two three four" in tracked.EventFiles(results / "runs").text("predictions")


def test_the_utterances_with_the_most_errors_are_shown_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(scoring, "PREDICTIONS", 2)
    assert [row["id"] for row in scoring.predictions("test", HYPOTHESES)] == ["b", "c"]


@pytest.mark.parametrize("login", [True, False])
def test_without_a_connection_or_a_login_the_results_are_written_offline(results, monkeypatch, login):
    """A key that no server answers to; it occurs in no file."""
    if login:
        monkeypatch.setenv("WANDB_API_KEY", tracked.KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    done, report = track(results, "online", tensorboard=False)
    (found,) = tracked.wandb_runs(results / "runs")
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("[speech]")]
    assert f"`wandb sync {report['wandb']['folder']}` sends it" in warning and report["wandb"]["mode"] == "offline"
    assert ("not logged in" in warning) == (not login)
    assert found.summary["test/wer_beam"] == 25.0 and len(found.table("predictions")) == 3
    assert tracked.KEY not in done.stderr + done.stdout
    assert not tracked.holding(results.parents[1], tracked.KEY)


def test_a_training_that_is_to_be_online_does_not_begin_without_a_login(results, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")  # where another test left a key with the client
    options = {"wandb": {"mode": "online", "project": "p"}, "tensorboard": False}
    message = "wandb.mode: online: .*: run `wandb login`, check the network, or set mode: offline"
    with pytest.raises(UserError, match=message) as error, tracking.run(options, results / "runs", "speech"):
        pass
    assert "\n" not in str(error.value)


def test_a_tracker_that_fails_costs_a_line_and_not_the_table(results):
    (results / "runs/tensorboard").write_text("no folder\n")
    done, report = track(results, "off")
    warning = done.stderr.splitlines()[-1]
    assert "not all results were tracked" in warning and "--forcerun track_results" in warning
    assert "runs/tensorboard" in report["error"]


def test_where_one_tracker_can_t_write_the_other_has_the_results(results):
    """In the way of W&B's folder is a file."""
    files.write_text(results / "runs/wandb", "")
    done, note = track(results)
    assert "results/speech/runs/wandb can't be written (" in done.stderr and "Traceback" not in done.stderr
    assert note["error"].startswith("wandb: wandb.mode: offline: ") and "wandb" not in note
    assert tracked.EventFiles(results / "runs").curve("test/wer_beam") == [(8, 25.0)]


def test_where_the_disk_of_the_trackers_fills_up_they_are_told_of_and_the_table_goes_on(results, small_disk):
    disk = small_disk(100_000)
    (results / "runs/tensorboard").symlink_to(disk)
    fill(disk)
    done, note = track(results)
    assert "Traceback" not in done.stderr and "tensorboard: [Errno 28] No space left on device" in done.stderr
    assert note["error"].startswith("tensorboard: [Errno 28]") and note["wandb"]


def test_a_result_that_was_edited_is_the_table_s_to_refuse(results):
    path = results / "evaluation/leg_2/beam/test.json"
    path.write_text(path.read_text().replace("25.0", "5.0"))
    _, report = track(results)
    assert "changed since it was computed" in report["error"] and not (results / "runs/wandb").exists()


def test_what_could_not_be_sent_in_time_is_named(results, monkeypatch, capsys):
    console.start_logging(None, "")
    options = {"wandb": {"mode": "offline", "project": "p"}, "tensorboard": False}
    with tracking.run(options, results / "runs", "speech") as run:
        finish, wandb = run.trackers[0].run.finish, run.trackers[0]
        wandb.run.finish = lambda: (finish(), (_ for _ in ()).throw(TimeoutError()))
    assert f"`wandb sync --include-online {wandb.folder}` sends it" in capsys.readouterr().err


def test_tracking_that_is_off_writes_nothing(results):
    with tracking.run(tracking.OFF, results / "runs", "speech") as run:
        assert run is None
    assert [path.name for path in (results / "runs").iterdir()] == ["leg_1"]
