"""The four corpora through the rules that prepare them, and the full-size configurations through a dry run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import trees
from rnnt.data import manifests

SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))


def snakemake(folder, *arguments):
    env = {"PATH": f"{Path(SNAKEMAKE).parent}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run([SNAKEMAKE, *arguments], cwd=folder, capture_output=True, text=True, env=env)


@pytest.mark.parametrize("name", ["paper", "esb"])
def test_a_full_size_experiment_is_planned_without_its_data(checkout, name):
    done = snakemake(checkout, "--dry-run", "--configfile", f"config/{name}.yaml")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    for dataset in yaml.safe_load((checkout / f"config/{name}.yaml").read_text())["datasets"]:
        assert f"output: results/{dataset}/wer_table.csv" in plan
    if name == "paper":
        assert re.search(r"train_kept_leg +8\n", plan), "half and end of four data sets"
    assert not (checkout / "data").exists()


@pytest.mark.parametrize("name", ["a*b", "it's [v2] $HOME g::h %s"])
def test_a_folder_may_be_called_as_anything(checkout, name):
    """The checkout, the corpus and a split; beside each lies one whose name fits when theirs is taken for a pattern."""
    folder, beside = checkout.rename(checkout.with_name(name)), checkout.with_name("aXb")
    for place, rows in ((folder / name / name, 2), (folder / "aXb/aXb", 3), (beside / name / name, 4)):
        lines = ["file_name,text"]
        for n in range(rows):
            trees.write(place / f"{n}.wav", trees.noise(1, 16000, seed=n), 16000)
            lines.append(f"{n}.wav,word")
        (place / "metadata.csv").write_text("\n".join(lines) + "\n")
    splits = {"train": name, "validation": name, "test": name}
    dataset = {"source": {"type": "local", "path": name}, "splits": splits, "max_steps": 3}
    dataset["filter"] = {"allow_overlap": True}
    (folder / "mine.yaml").write_text(yaml.safe_dump({"datasets": {"mine": dataset}}))
    done = snakemake(folder, "--cores", "1", "results/mine/manifests/overlap.json", "--configfile", "mine.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(manifests.read(folder / "results/mine/manifests/test.jsonl")) == 2


def test_another_split_of_a_prepared_source_is_made_in_the_same_run(checkout):
    """Snakemake looks past what depends on a source that is prepared anew; exit 0, and the target missing."""
    for split in ("a", "b"):
        trees.write(checkout / f"speech/{split}/1.wav", trees.noise(1, 16000, seed=ord(split)), 16000)
        (checkout / f"speech/{split}/metadata.csv").write_text("file_name,text\n1.wav,word\n")
    dataset = {"source": {"type": "local", "path": "speech"}, "max_steps": 3, "filter": {"allow_overlap": True}}
    datasets = {}
    for name, split in (("first", "a"), ("second", "b")):
        datasets[name] = {**dataset, "splits": dict.fromkeys(("train", "validation", "test"), split)}
        (checkout / "mine.yaml").write_text(yaml.safe_dump({"datasets": datasets}))
        manifest = f"results/{name}/manifests/train.jsonl"
        done = snakemake(checkout, "--cores", "1", manifest, "--configfile", "mine.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(manifests.read(checkout / manifest)) == 1


def test_all_four_corpora_become_manifests(checkout, tmp_path):
    for split, speaker in (("train-clean-100", "14"), ("dev-clean", "16"), ("test-other", "17")):
        trees.librispeech(tmp_path, split, [speaker])
    trees.voice(tmp_path)
    trees.tedlium(tmp_path)
    trees.switchboard(tmp_path)
    config = yaml.safe_load((checkout / "config/paper.yaml").read_text())
    datasets = config["datasets"]
    datasets["librispeech"]["splits"] = {
        "train": "train-clean-100", "validation": "dev-clean", "test_other": "test-other",
    }  # fmt: skip
    for dataset in datasets.values():
        dataset["source"] |= {"path": str(tmp_path), "allow_subset": True}
    datasets["switchboard"]["source"] |= {
        "path": str(tmp_path / "LDC97S62"),
        "transcripts": str(tmp_path),
        "hub5_audio": str(tmp_path / "eval2000"),
        "hub5_transcripts": None,
        "validation_utterances": 3,
    }
    (checkout / "mine.yaml").write_text(yaml.safe_dump({"datasets": datasets}))
    targets = [f"results/{name}/manifests/overlap.json" for name in datasets]
    done = snakemake(checkout, "--cores", "2", *targets, "--configfile", "mine.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    texts = {
        name: [row["text"] for row in manifests.read(checkout / f"results/{name}/manifests/train.jsonl")]
        for name in datasets
    }
    assert texts == {
        "librispeech": ["it's utterance a", "it's utterance b"],
        "common_voice": ['"good-bye," said the boy.', 'don\'t go, "ann".'],
        "tedlium": ["it's fine", "so we don't"],
        "switchboard": ["hi yeah i'd", "uh-huh", "westmin- them"] * 3,
    }
    score = "results/switchboard/evaluation/leg_3/beam/test_callhome.json"
    done = snakemake(checkout, "--dry-run", "--printshellcmds", score, "--configfile", "mine.yaml")
    assert f"--glm {tmp_path}/eval2000/LDC2002T43/reference/en20000405_hub5.glm" in done.stdout + done.stderr
    summary = json.loads((checkout / "results/tedlium/manifests/summary.json").read_text())
    assert summary["train"]["cleaning"]["join split contractions"]["utterances"] == 2

    overlay = {"datasets": {"tedlium": {**datasets["tedlium"], "text": {"rules": "none"}}}}
    (checkout / "none.yaml").write_text(yaml.safe_dump(overlay))
    done = snakemake(
        checkout, "--cores", "2", "results/tedlium/manifests/overlap.json", "--configfile", "mine.yaml", "none.yaml"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = manifests.read(checkout / "results/tedlium/manifests/train.jsonl")
    assert [row["text"] for row in rows] == ["it 's <unk> fine", "so we don 't"]
