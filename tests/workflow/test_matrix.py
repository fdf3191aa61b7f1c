"""Options together: every pair of values of them, in trainings that are killed, go on and are evaluated.

`make test` takes PART of the combinations, `make matrix` all. Each is trained twice, undisturbed and killed once
at a random step; the weights must be the same, and so must those of one uninterrupted training where the legs differ in
nothing but where they are cut.
"""

import itertools
import json
import os
import random
import signal
import subprocess
from typing import NamedTuple

import pytest
import torch
from allpairspy import AllPairs

import tracked
import trees
from conftest import ROOT, SCRIPTS, entries
from legs import OPTIONS, RUNNING, difference, everything
from nemo_files import nvidia_like
from rnnt import files
from rnnt.corpora import local
from rnnt.data import manifests, tokenizers
from rnnt.training import models

PART = 5
STEPS = 6
VALUES = {
    "start": ("scratch", "own tokenizer", "extended tokenizer", "new tokenizer"),
    "optimizer": ("adamw_torch", "adamw_8bit"),
    "transducer": ("fused", "nemo_fused_batch", "nemo"),
    "batching": ("duration", "fixed"),
    "precision": ("fp32", "bf16", "fp16") if torch.cuda.is_available() else ("fp32", "bf16"),
    "gradient_checkpointing": (False, True),
    "frozen_encoder_legs": (0, 1, 3),
    "gradient_accumulation_steps": (1, 2),
    "batch_budget": (6, "auto"),
    "ctc_weight": (None, 0.3),
    "encoder_learning_rate": (None, 0.001),
    "averaging": (0, 1.0),
    "weight": (None, 0.3),  # of every third utterance
    "legs": (3, 1),
    "wandb": ("off", "offline"),
    "augmentation": ("off", "all"),
}
# Of what the same arithmetic gives another way: the order of sums depends on what else the process has done.
TOLERANCE = {"fp32": 1e-6, "bf16": 1e-6, "fp16": 1e-6}


class Combination(NamedTuple):
    """One value of each option."""

    number: int
    values: dict

    def __str__(self):
        return " ".join(f"{key}={value}".replace(" ", "_") for key, value in self.values.items())


def combinations():
    """All of them, in a random order that is always the same."""
    found = AllPairs([list(values) for values in VALUES.values()])
    rows = [dict(zip(VALUES, row, strict=True)) for row in found]
    random.Random(6).shuffle(rows)  # the first PART have each transducer step, optimizer and number of legs
    return [Combination(number, row) for number, row in enumerate(rows)]


def pytest_generate_tests(metafunc):
    """All combinations with `--matrix`, else a part."""
    if "combination" in metafunc.fixturenames:
        found = combinations() if metafunc.config.getoption("matrix") else combinations()[:PART]
        metafunc.parametrize("combination", found, ids=str)


def test_every_pair_of_values_is_in_the_matrix():
    rows = [combination.values for combination in combinations()]
    keys = list(VALUES)
    for one in keys:
        for other in keys[keys.index(one) + 1 :]:
            pairs = {(row[one], row[other]) for row in rows}
            wanted = {(a, b) for a in VALUES[one] for b in VALUES[other]}
            assert pairs == wanted, f"{one}, {other}"


@pytest.fixture(scope="session")
def short(speech, tmp_path_factory):
    """Utterances of a second or two, a tokenizer of theirs, and a pretrained model with another vocabulary."""
    folder = tmp_path_factory.mktemp("short")
    for split in ("train", "test"):
        found, _ = entries(local.utterances({"path": str(speech)}, split, None), "lower", 1, split)
        kept, _ = manifests.filter_for_training(found, 0.1, 2.5)
        manifests.write(folder / f"{split}.jsonl", itertools.islice(kept, 12))
    rows = manifests.read(folder / "train.jsonl")
    parts = [[row for n, row in enumerate(rows) if (n % 3 == 0) == third] for third in (False, True)]
    times = manifests.weigh(list(zip(parts, (None, 0.3), strict=True)))
    weighted = [{**row, "part": str(n % 3 == 0), "times": times[n % 3 == 0]} for n, row in enumerate(rows)]
    files.write_jsonl(folder / "weighted.jsonl", weighted)
    texts = [row["text"] for row in manifests.read(folder / "train.jsonl")]
    tokenizers.write(folder / "tokenizer", tokenizers.train(texts, 20))
    base = nvidia_like(folder, [text[::-1] for text in texts], 24)
    trees.write(folder / "noises/street.wav", trees.noise(2, 16000), 16000)
    own = tokenizers.from_nemo(base)
    tokenizers.write(folder / "own", own)
    tokenizers.write(folder / "extended", tokenizers.extend(own, ["naïve"])[0])
    return folder


class Training:
    """The rules' commands for one training of a combination, in a folder of its own."""

    def __init__(self, warm, short, folder, values, legs):
        self.short, self.folder, self.values, self.legs = short, folder, values, legs
        self.environment = {**os.environ, "PATH": warm, "WANDB_API_KEY": tracked.KEY}
        start = values["start"]
        self.base = short / "stt_en_contextnet_small.nemo" if start != "scratch" else None
        self.tokenizer = short / {"own tokenizer": "own", "extended tokenizer": "extended"}.get(start, "tokenizer")

    def leg(self, number, killed_at=None):
        """Train a leg; returns the finished process."""
        trained = {key: value for key, value in self.values.items() if key in OPTIONS and key not in RUNNING}
        trained["augmentation"] = everything(self.short / "noises") if self.values["augmentation"] == "all" else {}
        options = {key: value for key, value in {**OPTIONS, "seed": 3, **trained}.items() if key not in RUNNING}
        arguments = {
            "manifest": self.short / ("weighted.jsonl" if self.values["weight"] else "train.jsonl"),
            "tokenizer": self.tokenizer,
            "model": json.dumps({
                "architecture": "contextnet_dummy",
                "init_from": self.base and str(self.base),
                "reinitialize_decoder": self.values["start"] == "new tokenizer",
            }),
            "training": json.dumps(options),
            "length": json.dumps({"max_steps": STEPS}),
            **({"base-model": self.base} if self.base else {}),
            "leg": number,
            "legs": self.legs,
            **({"previous": self.folder / f"checkpoints/leg_{number - 1}"} if number > 1 else {}),
            "threads": 1,
            "running": json.dumps({
                "checkpoint_every_steps": 1,
                "gradient_checkpointing": self.values["gradient_checkpointing"],
                "max_skipped_steps": 10,
            }),
            "tracking": json.dumps({
                "wandb": {"mode": self.values["wandb"], "project": "matrix"}, "tensorboard": False
            }),
            "run": self.folder / f"runs/leg_{number}",
            "output": self.folder / f"checkpoints/leg_{number}",
            "label": "matrix",
        }  # fmt: skip
        script = [SCRIPTS / "train_leg.py", *(part for key, value in arguments.items() for part in (f"--{key}", value))]
        return self.run([ROOT / "tests/killed_at.py", killed_at, *script] if killed_at else script)

    def run(self, command):
        return subprocess.run(
            ["python", *map(str, command)], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )

    def whole(self, killed_at=None):
        """All legs, one of them killed at the end of a step and begun again; the final model's folder."""
        self.folder.mkdir()
        for number in range(1, self.legs + 1):
            first, last = (round(STEPS * n / self.legs) for n in (number - 1, number))
            if killed_at and first < killed_at <= last:
                done = self.leg(number, killed_at)
                assert done.returncode == -signal.SIGKILL, done.stderr
            done = self.leg(number)
            assert done.returncode == 0, done.stderr
        return self.folder / f"checkpoints/leg_{self.legs}"

    def transcribe(self, checkpoint, search):
        """Hypotheses of the test split."""
        hypotheses, decoding = (self.folder / f"{search['strategy']}{suffix}" for suffix in (".jsonl", ".json"))
        done = self.run([
            SCRIPTS / "transcribe_split.py", "--checkpoint", checkpoint, "--tokenizer", self.tokenizer,
            "--manifest", self.short / "test.jsonl", "--search", json.dumps(search), "--batch-size", 4,
            "--threads", 1, "--progress", self.folder / "progress", "--hypotheses", hypotheses, "--decoding", decoding,
        ])  # fmt: skip
        assert done.returncode == 0, done.stderr
        return files.read_jsonl(hypotheses)


def test_options_together_across_a_kill(combination, warm, short, tmp_path):
    values = combination.values
    killed_at = random.Random(combination.number).randint(1, STEPS)
    undisturbed = Training(warm, short, tmp_path / "undisturbed", values, values["legs"]).whole()
    training = Training(warm, short, tmp_path / "killed", values, values["legs"])
    killed = training.whole(killed_at)
    one, other = (models.restore(folder / "model.nemo") for folder in (undisturbed, killed))
    assert difference(other, one) <= TOLERANCE[values["precision"]], f"killed at step {killed_at}"
    if values["legs"] == 3 and values["frozen_encoder_legs"] != 1:
        piece = Training(warm, short, tmp_path / "piece", values, 1).whole()
        assert difference(one, models.restore(piece / "model.nemo")) <= TOLERANCE[values["precision"]]
    start = models.restore(training.base) if training.base else None
    if start and values["frozen_encoder_legs"] >= values["legs"]:
        assert all(torch.equal(a, b) for a, b in zip(start.encoder.parameters(), one.encoder.parameters(), strict=True))
    rows = {row["id"] for row in manifests.read(short / "test.jsonl")}
    for search in ({"strategy": "greedy_batch"}, {"strategy": "malsd_batch", "beam_size": 2}):
        assert {row["id"] for row in training.transcribe(killed, search) if "pred_text" in row} == rows
    steps = {step for run in tracked.wandb_runs(training.folder / "runs") for step, _ in run.curve("train/loss")}
    # What its client has not sent dies with the process; from there on every step is in.
    assert steps >= set(range(killed_at, STEPS + 1)) if values["wandb"] == "offline" else not steps
