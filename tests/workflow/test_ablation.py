"""A data set without parts of its recipe, through the real rules, across a kill; and that nothing else waits for it."""

import re

import pytest

import experiments

CONFIG = """
datasets:
  digits:
    source: {type: local, path: recordings}
    splits: {train: train, validation: validation, test: test}
    max_steps: 12
    training: {seeds: [1, 2], ctc_weight: 0.3}
  other:
    source: {type: local, path: recordings}
    splits: {train: train, validation: validation, test: test}
    max_steps: 2
model: {architecture: contextnet_dummy}
tokenizer: {vocab_size: 24}
training: {batch_budget: 16, warmup_steps: 1, checkpoint_every_steps: 1, augmentation: {speed: [0.9, 1.1]}}
evaluation: {legs: 2, select: best, suspects: false, beam: {beam_size: 2}}
"""
ABLATION = """
ablation:
  dataset: digits
  without:
    ctc: {training: {ctc_weight: null}}
    speed:
      max_steps: 2
      training: {augmentation: {speed: [1.0]}}
      evaluation: {legs: 1, select: last}
"""


@pytest.fixture
def folder(tmp_path, speech):
    made = experiments.check_out(tmp_path / "checkout")
    (made / "recordings").symlink_to(speech)
    (made / "small.yaml").write_text(CONFIG)
    (made / "ablation.yaml").write_text(ABLATION)
    return made


def run(folder, path, *arguments, configfiles=("small.yaml", "ablation.yaml")):
    done = experiments.snakemake(folder, path, *arguments, configfiles=configfiles)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(plan):
    """What a dry run would make."""
    return sorted(line for line in plan.splitlines() if line.startswith("    output: "))


def test_nothing_else_waits_for_an_ablation_and_its_trainings_are_those_of_other_data_sets(folder, warm):
    without = jobs(run(folder, warm, "--dry-run", configfiles=["small.yaml"]))
    assert jobs(run(folder, warm, "--dry-run")) == without and not [line for line in without if "ablation" in line]
    plan = run(folder, warm, "--dry-run", "--printshellcmds", "ablation")
    assert "results/other" not in plan and "digits-without-ctc/seed_2/checkpoints/best" in plan
    assert len([line for line in jobs(plan) if "/corpus.json" in line]) == 1
    assert len([line for line in jobs(plan) if "utterances.jsonl" in line]) == 3
    trained = [line for line in plan.splitlines() if "python workflow_scripts/train_leg.py" in line]
    for part, legs, steps, weighted, speed in (
        ("", 4, 12, True, "0.9,1.1"),
        ("-without-ctc", 4, 12, False, "0.9,1.1"),
        ("-without-speed", 2, 2, True, None),
    ):
        of_part = [line for line in trained if f"results/digits{part}/manifests/train.jsonl" in line]
        assert len(of_part) == legs, part
        for line in of_part:
            assert f'{{"max_steps":{steps}}}' in line and ('"ctc_weight":0.3' in line) == weighted, part
            assert (re.search(r'"speed":.([0-9.,]+)', line) or [None, None])[1] == speed, part


def test_without_the_key_the_target_says_what_is_missing(folder, warm):
    done = experiments.snakemake(folder, warm, "--dry-run", "ablation", configfiles=["small.yaml"])
    output = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in output
    assert "error: ablation: not set: which data set, and what to leave out of its recipe (config/README.md)" in output


def test_it_is_killed_goes_on_and_is_shown(folder, warm):
    configfiles = ["small.yaml", "ablation.yaml"]
    place = folder / "results/digits-without-ctc"
    experiments.kill_training(folder, warm, place, 1, "--cores", "2", "ablation", configfiles=configfiles)
    run(folder, warm, "--cores", "2", "ablation")
    assert "continue at step" in (place / "runs/training.log").read_text()
    rows = experiments.of_csv(folder / "results/ablation.csv")
    assert [(row["name"], row["split"], row["search"], row["seeds"]) for row in rows] == [
        (part, split, search, "2")
        for part in ("ctc", "speed")
        for split, search in (("test", "beam"), ("validation", "greedy"))
    ]
    assert not (folder / "results/report.html").exists() and not (folder / "results/other").exists()
    assert "    output: " not in run(folder, warm, "--dry-run", "ablation"), "all is done"

    run(folder, warm, "--cores", "2", "results/report.html")
    page = (folder / "results/report.html").read_text(encoding="utf-8")
    assert page.count("without ctc: test, beam") == 1 and "<h3>digits-without-ctc" not in page
    assert [row["dataset"] for row in experiments.of_csv(folder / "results/wer_table.csv")] == ["digits", "other"]
    again = run(folder, warm, "--dry-run", "results/report.html", configfiles=["small.yaml"])
    assert jobs(again) == ["    output: results/report.html, results/figures"]
    run(folder, warm, "--cores", "2", "results/report.html", configfiles=["small.yaml"])
    assert "without ctc" not in (folder / "results/report.html").read_text(encoding="utf-8")
