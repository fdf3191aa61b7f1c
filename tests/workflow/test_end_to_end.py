"""The real rules on a tiny configuration: every file of a run, and what runs again after a change."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tracked
from conftest import OFFLINE, ROOT
from rnnt import files
from rnnt.evaluation import error_rate
from rnnt.report import table
from rnnt.training import models

SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))
ENV = {**os.environ, "PATH": f"{Path(SNAKEMAKE).parent}:{os.environ['PATH']}", "WANDB_API_KEY": tracked.KEY}


BESIDE = [
    f"results/{name}" for name in ("wer_table.csv", "wer_table.md", "runs.csv", "provenance.json", "comparisons.csv")
]
SPLITS = [
    f"results/{name}.json"
    for name in ("digits/evaluation/test", *(f"recordings/evaluation/test_{n}" for n in ("clean", "other")))
]
TRACKED = [f"results/{dataset}/tracked.json" for dataset in ("digits", "recordings")]


def snakemake(folder, *arguments, config="tests/config/tiny.yaml", offline=False):
    command = [SNAKEMAKE, *arguments, "--configfile", *([config] if isinstance(config, str) else config)]
    if offline:
        command = [*OFFLINE, *command]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENV)


@pytest.fixture(scope="module", autouse=True)
def warm_rules(warm):
    ENV["PATH"] = warm


def planned(folder, *config, target="results/wer_table.csv"):
    """The outputs that a dry run would make."""
    done = snakemake(folder, "--dry-run", target, config=["tests/config/tiny.yaml", *config])
    assert done.returncode == 0, done.stderr
    return sorted(
        path for line in re.findall(r"^    output: (.*)$", done.stdout + done.stderr, re.M) for path in line.split(", ")
    )


def check_out(folder, speech):
    """A copy of the project's files, as `git clone` would make, with recordings; returns it."""
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(speech, folder / "recordings")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, speech):
    """A checkout in which the whole tiny experiment has run, without a network."""
    folder = check_out(tmp_path_factory.mktemp("run") / "checkout", speech)
    done = snakemake(folder, "--cores", "2", "results/wer_table.csv", offline=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_two_runs_from_scratch_give_the_same_table_but_for_the_time_they_took(run, speech, tmp_path):
    again = check_out(tmp_path / "again", speech)
    done = snakemake(again, "--cores", "2", "digits")
    assert done.returncode == 0, done.stdout + done.stderr
    tables = []
    for path in (run / "results/wer_table.csv", again / "results/digits/wer_table.csv"):
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["dataset"] == "digits"]
        tables.append([{key: value for key, value in row.items() if not key.startswith("rtfx")} for row in rows])
    assert tables[0] == tables[1] and tables[0][0]["wer_beam"]
    for name in (
        "manifests/train.jsonl",
        "tokenizer/tokenizer.model",
        "checkpoints/leg_2/trainer/model.safetensors",
        "evaluation/leg_1/greedy/validation.jsonl",
        "evaluation/leg_2/beam/test.jsonl",
    ):
        first, second = ((folder / f"results/digits/{name}").read_bytes() for folder in (run, again))
        assert first.replace(bytes(run), b"") == second.replace(bytes(again), b""), name


def test_the_table_has_a_row_for_each_test_split_with_every_number(run):
    with open(run / "results/wer_table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["split"]) for row in rows] == [
        ("digits", "test"),
        ("recordings", "test_clean"),
        ("recordings", "test_other"),
    ]
    assert list(rows[0]) == table.COLUMNS
    for row in rows:
        for column in ("wer_greedy", "wer_beam", "cer_beam", "wer_beam_normalized"):
            assert re.fullmatch(r"\d+\.\d\d", row[column]), column
        assert (row["utterances"], row["beam_strategy"], row["beam_size"]) == ("6", "malsd_batch", "2")
        assert row["model"] == "contextnet_dummy" and float(row["rtfx_beam"]) > 0
        low, wer, high = (float(row[f"wer_beam{part}"]) for part in ("_low", "", "_high"))
        assert low <= wer <= high
    leg = json.loads((run / "results/recordings/checkpoints/leg_1/leg.json").read_text())
    assert rows[0]["train_steps"] == "4" and rows[1]["train_steps"] == str(leg["batches_per_epoch"])
    assert (run / "results/wer_table.md").read_text().count("\n|") == 4


def test_comparisons_and_provenance_stand_beside_the_table(run):
    with open(run / "results/comparisons.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    compared = [(row["dataset"], row["split"], row["a"], row["b"]) for row in rows]
    assert ("digits", "test", "greedy", "beam") in compared and len(compared) == 3
    provenance = json.loads((run / "results/provenance.json").read_text())
    assert provenance["config"]["datasets"]["digits"]["max_steps"] == 4
    assert provenance["code_version"]
    digits = provenance["datasets"]["digits"]
    assert digits["manifests"]["train"] == files.sha256(run / "results/digits/manifests/train.jsonl")
    beam = digits["evaluations"]["leg_2/beam/test"]
    assert beam["hypotheses_sha256"] == files.sha256(run / "results/digits/evaluation/leg_2/beam/test.jsonl")
    assert beam["versions"]["torch"] and beam["device"] == "cpu"


def test_a_metrics_file_that_was_edited_by_hand_stops_the_table(run):
    path = run / "results/digits/evaluation/leg_2/beam/test.json"
    whole = path.read_text()
    path.write_text(whole.replace('"wer": ', '"wer": 1'))
    done = snakemake(run, "--cores", "2", "results/wer_table.csv")
    assert done.returncode != 0
    assert "leg_2/beam/test.json: changed since it was computed: delete it" in done.stdout + done.stderr
    path.unlink()
    assert snakemake(run, "--cores", "2", "results/wer_table.csv").returncode == 0
    assert json.loads(path.read_text())["wer"] == json.loads(whole)["wer"]


def test_the_table_s_numbers_follow_from_the_hypotheses(run):
    with open(run / "results/wer_table.csv", newline="") as file:
        row = next(csv.DictReader(file))
    lines = (run / "results/digits/evaluation/leg_2/beam/test.jsonl").read_text().splitlines()
    hypotheses = [json.loads(line) for line in lines]
    assert row["wer_beam"] == f"{error_rate.of(hypotheses).percent:.2f}"
    assert row["reference_words"] == str(error_rate.of(hypotheses).words.sum())


def test_the_test_split_is_scored_whole_while_training_is_filtered(run):
    summary = json.loads((run / "results/digits/manifests/summary.json").read_text())
    assert summary["train"]["dropped"]["longer than 20 s"]["utterances"] >= 2
    assert summary["test"] == {**summary["test"], "utterances": 6, "dropped": {}}
    hypotheses = (run / "results/digits/evaluation/leg_2/beam/test.jsonl").read_text().splitlines()
    durations = [json.loads(line)["duration"] for line in hypotheses]
    assert max(durations) > 20 and len(durations) == 6


def test_every_leg_was_evaluated_and_only_the_last_checkpoint_is_left(run):
    for leg in (1, 2):
        found = json.loads((run / f"results/digits/evaluation/leg_{leg}/greedy/validation.json").read_text())
        assert found["checkpoint"]["step"] == 2 * leg
    assert not list((run / "results/digits/checkpoints/temporary").glob("*"))
    assert models.restore(run / "results/digits/checkpoints/leg_2/model.nemo").tokenizer.vocab_size == 24


def test_each_short_split_was_transcribed_by_the_training_that_had_the_model(run):
    logs = list((run / "logs").rglob("transcribe_leg_*.log"))
    assert len(logs) == 4 + 5, "two legs, and one with a test split more"
    assert all("the training transcribed it at its end" in path.read_text() for path in logs)
    assert not list((run / "results").glob("*/runs/transcripts/*")), "all was taken up"


def test_a_second_run_has_nothing_to_do(run):
    assert planned(run) == []
    done = snakemake(run, "--cores", "2", "results/wer_table.csv")
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "Nothing to be done" in said and "rule " not in said


def test_changing_to_conda_runs_nothing(run, tmp_path, monkeypatch):
    conda = tmp_path / "conda"  # as much of it as Snakemake asks before it plans
    answers = {
        "--version": "conda 26.1.0",
        "info --json": json.dumps({"conda_prefix": str(tmp_path), "platform": "linux-64"}),
        "config --get channel_priority --json": json.dumps({"get": {"channel_priority": "strict"}}),
    }
    cases = "".join(f"'{asked}') echo '{answer}' ;;\n" for asked, answer in answers.items())
    conda.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}*) exit 1 ;;\nesac\n')
    conda.chmod(0o755)
    monkeypatch.setitem(ENV, "PATH", f"{tmp_path}:{ENV['PATH']}")
    done = snakemake(run, "--dry-run", "results/wer_table.csv", "--sdm", "conda")
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert "Conda environment envs/light.yaml will be created" in output and "Nothing to be done" in output


def test_touching_or_checking_out_a_script_runs_nothing(run):
    for path in [*(run / "workflow_scripts").rglob("*.py"), run / "Snakefile", *(run / "rules").glob("*.smk")]:
        path.touch()
    assert planned(run) == []


def test_another_beam_size_runs_the_beam_search_and_the_table_again_and_no_more(run):
    (run / "beam.yaml").write_text("evaluation: {beam: {beam_size: 3}}\n")
    again = planned(run, "beam.yaml")
    assert again and all("/beam/" in path or path in BESIDE + TRACKED + SPLITS for path in again)
    assert "results/digits/evaluation/leg_2/beam/test.jsonl" in again


def test_another_learning_rate_of_one_data_set_trains_that_data_set_alone(run):
    (run / "rate.yaml").write_text("datasets: {digits: {training: {learning_rate: 0.001}}}\n")
    again = planned(run, "rate.yaml")
    assert any("checkpoints/leg_2" in path for path in again)
    assert not any("results/recordings" in path for path in again)
    assert not any("manifests" in path or "tokenizer" in path or "corpus.json" in path for path in again)


def test_what_changes_no_result_runs_nothing(run):
    (run / "other.yaml").write_text("training: {checkpoint_every_steps: 7}\nevaluation: {batch_size: 3}\ndevice: cpu\n")
    assert planned(run, "other.yaml") == []


def test_wrong_transcripts_are_looked_for_in_a_sample_and_again_only_where_that_matters(run):
    made = [f"results/recordings/suspects.{suffix}" for suffix in ("json", "tsv")]
    assert planned(run, target=made[1]) == made, "and nothing is trained again"
    (run / "hours.yaml").write_text("evaluation: {suspects_hours: 0.005}\n")
    done = snakemake(run, made[1], config=["tests/config/tiny.yaml", "hours.yaml"])
    assert done.returncode == 0, done.stderr
    scored = json.loads((run / made[0]).read_text())
    assert list(scored) == ["train", "validation"]
    assert 0 < scored["train"]["scored"] < scored["train"]["utterances"] and scored["train"]["scored_hours"] <= 0.005
    assert scored["train"]["utterances"] == len(files.read_jsonl(run / "results/recordings/manifests/train.jsonl"))
    assert (run / made[1]).read_text().startswith("rank\tsplit\tid\t")
    assert planned(run, target=made[1]) == made
    (run / "other.yaml").write_text("evaluation: {batch_size: 3, beam: {beam_size: 3}}\n")
    assert planned(run, "hours.yaml", "other.yaml", target=made[1]) == []
    (run / "symbols.yaml").write_text("evaluation: {greedy: {max_symbols: 5}}\n")
    assert planned(run, "hours.yaml", "symbols.yaml", target=made[1]) == made


def test_another_tracker_gets_the_results_and_nothing_is_trained_or_decoded(run):
    (run / "online.yaml").write_text("wandb: {mode: online}\n")
    table_files = [path for path in BESIDE if "comparisons" not in path]
    assert planned(run, "online.yaml") == sorted(table_files + TRACKED)


def test_the_experiment_is_in_one_tracked_run_for_each_data_set(run):
    runs = run / "results/digits/runs"
    first, second, last, *_ = tracked.wandb_runs(runs)  # two legs, the results, those of the tests above once more
    report = json.loads((run / "results/digits/tracked.json").read_text())
    assert first.id == second.id == last.id == report["id"] and last.name == "digits" and last.project == "tiny"
    history = json.loads((run / "results/digits/checkpoints/leg_2/trainer/trainer_state.json").read_text())
    events = tracked.EventFiles(runs)
    for name in ("loss", "learning_rate", "grad_norm"):
        curve = [(row["step"], row[name]) for row in history["log_history"] if name in row]
        assert [step for step, _ in curve] == [1, 2, 3, 4]
        assert first.curve(f"train/{name}") + second.curve(f"train/{name}") == curve
        assert events.curve(f"train/{name}") == [(step, pytest.approx(value)) for step, value in curve]
    metrics = [
        json.loads((run / f"results/digits/evaluation/leg_{leg}/greedy/validation.json").read_text()) for leg in (1, 2)
    ]
    interim = [(2, metrics[0]["wer"]), (4, metrics[1]["wer"])]
    # The first leg's by the training of the second, where its evaluation was done by then.
    assert [*second.curve("validation/wer"), *last.curve("validation/wer")] == interim
    assert events.curve("validation/wer") == [(step, pytest.approx(value)) for step, value in interim]
    with open(run / "results/wer_table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert last.table("wer_table") == rows[:1]
    for column in ("wer_beam", "wer_beam_low", "wer_beam_high"):
        assert last.summary[f"test/{column}"] == float(rows[0][column])
    hypotheses = files.read_jsonl(run / "results/digits/evaluation/leg_2/beam/test.jsonl")
    shown = {row["id"]: row["hypothesis"] for row in last.table("predictions")}
    assert shown == {row["id"]: row["pred_text"] for row in hypotheses}
    assert events.text("predictions").count("\n") == 1 + len(hypotheses)
    (recordings,) = {found.id for found in tracked.wandb_runs(run / "results/recordings/runs")}
    assert recordings.startswith("recordings-")


def test_the_key_is_in_no_file(run):
    assert ENV["WANDB_API_KEY"] == tracked.KEY
    for folder in ("results", "logs", "benchmarks", ".snakemake"):
        assert not tracked.holding(run / folder, tracked.KEY)


def test_tracking_that_is_turned_on_trains_and_decodes_nothing_again(run):
    (run / "untracked.yaml").write_text("wandb: {mode: off}\ntensorboard: false\n")
    config = ["tests/config/tiny.yaml", "untracked.yaml"]
    table_files = [path for path in BESIDE if "comparisons" not in path]
    assert planned(run, "untracked.yaml") == sorted(table_files)
    assert snakemake(run, "--cores", "2", "results/wer_table.csv", config=config).returncode == 0
    assert planned(run, "untracked.yaml") == []
    for path in TRACKED:
        (run / path).unlink()
    assert planned(run) == sorted(table_files + TRACKED)
    done = snakemake(run, "--cores", "2", "results/wer_table.csv")
    assert done.returncode == 0, done.stderr
    assert len(tracked.EventFiles(run / "results/digits/runs").curve("validation/wer")) == 2, "each once"


def test_an_edited_listing_starts_its_data_set_anew(run):
    listing = run / "recordings/train/metadata.csv"
    text = listing.read_text()
    listing.write_text(text.replace("one", "two", 1))
    again = planned(run)
    listing.write_text(text)
    assert "results/recordings/manifests/train.jsonl" in again
    assert any(re.fullmatch("results/sources/local-[0-9a-f]+/train/samples/utterances.jsonl", path) for path in again)
    assert not any("results/digits" in path or "/validation/" in path for path in again if "evaluation" not in path)


def test_another_test_split_is_decoded_alone(run):
    """Nothing is trained, the tokenizer is not made anew, and no other split is listed or decoded."""
    (run / "other.yaml").write_text("datasets: {recordings: {splits: {test_other: test}}}\n")
    again = planned(run, "other.yaml")
    decoded = {path for path in again if path.endswith(".jsonl")}
    assert decoded == {
        "results/recordings/manifests/test_other.jsonl",
        *(f"results/recordings/evaluation/leg_1/{search}/test_other.jsonl" for search in ("greedy", "beam")),
    }
    assert not any("checkpoints" in path or "tokenizer.model" in path or "sources" in path for path in again)
    assert "results/recordings/manifests/overlap.json" in again and "results/wer_table.csv" in again


def test_what_changes_beside_a_new_test_split_is_done_in_the_same_run(run, tmp_path):
    """The looks at the new split hide from Snakemake what else is to be done, until they are over."""
    folder = shutil.copytree(run, tmp_path / "checkout")
    (folder / "both.yaml").write_text(
        "datasets: {digits: {splits: {test_other: validation}, training: {learning_rate: 0.001}}}\n"
        "filter: {allow_overlap: true}\n"
    )
    config = ["tests/config/tiny.yaml", "both.yaml"]
    done = snakemake(folder, "--cores", "2", "results/wer_table.csv", config=config)
    assert done.returncode == 0, done.stderr
    before, after = (
        files.read_json(place / "results/digits/checkpoints/leg_2/leg.json")["fingerprint"] for place in (run, folder)
    )
    assert before != after
    decoded = [
        files.read_sealed(folder / f"results/digits/evaluation/leg_2/beam/{split}.json")
        for split in ("test", "test_other")
    ]
    assert [metrics["checkpoint"]["fingerprint"] for metrics in decoded] == 2 * [after]
    assert planned(folder, "both.yaml") == []


def test_the_model_s_config_is_part_of_what_training_depends_on(run):
    path = run / "config/models/contextnet_dummy.yaml"
    text = path.read_text()
    path.write_text(text.replace("dropout: 0.1", "dropout: 0.2"))
    again = planned(run)
    path.write_text(text)
    assert any("results/digits/checkpoints" in name for name in again)
    assert planned(run) == []


def test_what_the_check_of_the_model_looks_at_does_not_hide_what_it_changes(run):
    (run / "search.yaml").write_text("datasets: {digits: {evaluation: {beam: {strategy: alsd}}}}\n")
    assert "results/digits/evaluation/leg_2/beam/test.jsonl" in planned(run, "search.yaml")
    (run / "step.yaml").write_text("datasets: {digits: {training: {transducer: nemo}}}\n")
    assert any("results/digits/checkpoints" in name for name in planned(run, "step.yaml"))


def test_a_repeated_interim_evaluation_trains_nothing_again(run):
    """Its temporary checkpoint is gone: the leg is exported anew from the run directory."""
    before = (run / "results/digits/runs/training.log").read_text()
    (run / "greedy.yaml").write_text("datasets: {digits: {evaluation: {greedy: {strategy: greedy}}}}\n")
    config = ["tests/config/tiny.yaml", "greedy.yaml"]
    done = snakemake(run, "results/digits/evaluation/leg_1/greedy/validation.json", config=config)
    assert done.returncode == 0, done.stderr
    decoding = json.loads((run / "results/digits/evaluation/leg_1/greedy/validation.json").read_text())
    assert decoding["strategy"] == "greedy" and decoding["checkpoint"]["step"] == 2
    logged = (run / "results/digits/runs/training.log").read_text().removeprefix(before)
    assert "parameters" in logged and "loss" not in logged


def test_one_data_set_failing_does_not_stop_the_other(run):
    """A listing that names a missing file: the reason is on the terminal, the other data set's rows are made."""
    listing = run / "recordings/validation/metadata.csv"
    text = listing.read_text()
    listing.write_text(f"{text}lost.flac,one,ann\n")
    (run / "results/digits/evaluation/leg_2/beam/test.json").unlink()
    (run / "results/digits/wer_table.csv").unlink(missing_ok=True)
    done = snakemake(run, "recordings", "digits")
    listing.write_text(text)
    assert done.returncode == 1
    assert (
        "no such file: recordings/validation/lost.flac" in done.stderr + done.stdout and "Traceback" not in done.stderr
    )
    assert (run / "results/digits/wer_table.csv").is_file()
    assert (run / "results/recordings/checkpoints/leg_1/model.nemo").is_file()


def test_a_pretrained_model_is_evaluated_untouched_and_training_that_harms_says_so(run):
    """Fine-tuned with a learning rate that destroys it."""
    base = run / "results/digits/checkpoints/leg_2/model.nemo"
    (run / "tuned.yaml").write_text(
        "datasets:\n"
        "  tuned:\n"
        "    source: {type: synthetic, corpus: spoken_digits, utterances: {train: 24, validation: 6, test: 6}}\n"
        "    splits: {train: train, validation: validation, test: test}\n"
        "    max_steps: 2\n"
        f"model: {{init_from: {base}}}\n"
        "tokenizer: {source: model}\n"
        "training: {batch_budget: 16, warmup_steps: 0, learning_rate: 5.0}\n"
        "evaluation: {legs: 1, beam: {beam_size: 2}}\n"
    )
    done = snakemake(run, "--cores", "2", "results/wer_table.csv", config="tuned.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    with open(run / "results/wer_table.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    untouched = files.read_sealed(run / "results/tuned/evaluation/leg_0/beam/test.json")
    assert row["wer_zero_shot"] == f"{untouched['wer']:.2f}" and untouched["checkpoint"]["step"] == 0
    assert row["model"] == "model", "and not the path"
    hypotheses = [files.read_jsonl(run / f"results/{d}/evaluation/{leg}/beam/test.jsonl") for d, leg in
                  (("tuned", "leg_0"), ("digits", "leg_2"))]  # fmt: skip
    assert [r["pred_text"] for r in hypotheses[0]] == [r["pred_text"] for r in hypotheses[1]], "the same model"
    harmed = float(row["wer_beam"]) > float(row["wer_zero_shot"])
    told = f"{row['wer_zero_shot']} % before training, {row['wer_beam']} % after, worse by "
    assert harmed == (told in (run / "results/wer_table.md").read_text())
    provenance = json.loads((run / "results/provenance.json").read_text())
    assert provenance["base_models"] == {str(base): files.sha256(base)}
    with open(run / "results/comparisons.csv", newline="") as file:
        assert [(r["a"], r["b"]) for r in csv.DictReader(file)] == [("zero-shot", "beam"), ("greedy", "beam")]
