"""What validation decides of the weights, through the real rules: a leg's or their mean, and which leg."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch

from rnnt import files
from rnnt.training import models

SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))
CONFIG = """
datasets:
  digits:
    source: {type: synthetic, corpus: spoken_digits, utterances: {train: 24, validation: 6, test: 6}}
    splits: {train: train, validation: validation, test: test}
    max_steps: 9
model: {architecture: contextnet_dummy, overrides: {joint.jointnet.dropout: 0.0}}
tokenizer: {vocab_size: 24}
training:
  {batch_budget: 16, warmup_steps: 0.2, learning_rate: 0.02, encoder_learning_rate: 0.01, ctc_weight: 0.3, averaging: 1}
evaluation: {legs: 3, select: best, suspects: false, beam: {beam_size: 2}}
"""
TARGETS = ("results/report.html", "results/digits/model")


@pytest.fixture
def snakemake(checkout, warm):
    (checkout / "choices.yaml").write_text(CONFIG)
    (checkout / "last.yaml").write_text("evaluation: {select: last}\n")

    def run(*arguments, config=("choices.yaml",)):
        command = [SNAKEMAKE, *arguments, "--configfile", *config]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env={**os.environ, "PATH": warm})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_the_best_leg_and_the_better_weights_of_each_are_what_is_tested_and_given_away(snakemake, checkout):
    # A leg whose evaluation was asked for alone is gone by the time the best is to be chosen.
    snakemake("--cores", "2", "results/digits/evaluation/leg_1/greedy/validation.json")
    folder = checkout / "results/digits"
    assert not (folder / "checkpoints/temporary/leg_1").exists()
    snakemake("--cores", "2", *TARGETS)
    reports = [files.read_sealed(folder / f"evaluation/leg_{leg}/greedy/validation.json") for leg in (1, 2, 3)]
    rates = [report["wer"] for report in reports]
    best = max(leg for leg, rate in enumerate(rates, 1) if rate == min(rates))
    chosen = files.read_json(folder / "checkpoints/best/leg.json")
    assert chosen["leg"] == best and list(chosen["selected"]["wer"].values()) == rates
    mean = chosen["averaging"]
    assert rates[best - 1] == mean[mean["kept"]] == min(mean["last"], mean["averaged"])
    assert not (folder / "checkpoints/temporary/leg_1").exists() and (folder / "checkpoints/leg_3").is_dir()

    for search in ("greedy", "beam"):
        tested = files.read_sealed(folder / f"evaluation/leg_best/{search}/test.json")["checkpoint"]
        assert tested["leg"] == best and tested["selected"] == chosen["selected"]
    assert not (folder / "evaluation/leg_3/beam").exists()
    given = folder / "model/model.nemo"
    assert os.path.samefile(given, folder / "checkpoints/best/model.nemo")
    name = {"last": "model", "averaged": "averaged"}[mean["kept"]]
    state = safetensors.torch.load_file(folder / f"checkpoints/best/trainer/{name}.safetensors")
    model = models.restore(given)
    assert all((value == state[f"model.{key}"]).all() for key, value in model.named_parameters())
    assert model.cfg.joint.jointnet.dropout == 0 and not hasattr(model, "ctc_decoder")
    with open(checkout / "results/wer_table.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["leg"] == f"best: {best}" and row["train_steps"] == str(3 * best)
    taken = f"Leg {best} of 3 was taken: validation WER {', '.join(f'{rate:.2f} %' for rate in rates)} after the legs"
    kept = f"Leg {best}: validation WER {mean['last']:.2f} % with its last weights, {mean['averaged']:.2f} % with"
    for path in (checkout / "results/report.html", folder / "model/README.md"):
        text = re.sub(r"\s+", " ", path.read_text())
        assert taken in text and kept in text, path

    assert "    output: " not in snakemake("--dry-run", *TARGETS), "all is done"
    plan = snakemake("--dry-run", *TARGETS, config=("choices.yaml", "last.yaml"))
    assert "evaluation/leg_3/beam/test.jsonl" in plan and "rule train" not in plan and "select_leg" not in plan
