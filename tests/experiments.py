"""Run an experiment in a checkout, as a user would, and see that it left all that an experiment leaves."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import yaml
from safetensors.numpy import load_file

import tracked
from conftest import ROOT
from rnnt import config, files

GPU = shutil.which("nvidia-smi") is not None
SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))
SCHEMA = config.load_schema(ROOT / "config/schema.yaml")
RATES = ("wer_greedy", "wer_beam", "wer_beam_normalized", "cer_beam", "interval_by")


class Experiment(NamedTuple):
    """Configuration that we ship, what else it needs in a checkout, and what is laid over it to make it small.

    `configfiles` are laid one over the other; `prepare(folder, speech)` makes data, and files that are none of ours.
    `hidden` keys are in the configuration with another value, `added` keys are not in it: each dotted, with its value
    and the reason.
    """

    configfiles: tuple[str, ...]
    prepare: Callable[[Path, Path], None]
    hidden: dict[str, tuple]
    added: dict[str, tuple]

    @property
    def overlay(self):
        """The configuration to lay over what we ship."""
        return nested({key: value for key, (value, _) in (self.hidden | self.added).items()})

    def check_out(self, folder, speech, pretrained):
        """Make a checkout with its data, `base.nemo` and `small.yaml`; returns the configuration files to run."""
        check_out(folder)
        self.prepare(folder, speech)
        shutil.copy(pretrained, folder / "base.nemo")
        (folder / "small.yaml").write_text(yaml.safe_dump(self.overlay, sort_keys=False))
        return [*self.configfiles, "small.yaml"]

    def assert_hides_what_is_listed(self, shipped):
        """`shipped` is the configuration without the overlay."""
        below, above = keys(shipped), keys(self.overlay)
        assert {key for key in above if key in below} == self.hidden.keys(), (
            "hidden or added that is not listed as such"
        )
        assert not [key for key in self.hidden if below[key] == above[key]], "hidden, and has the same value"


def check_out(folder):
    """A copy of the project's files in `folder`, as `git clone` would make; returns it."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(lambda name: name and (ROOT / name).is_file(), listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def snakemake(folder, path, *arguments, configfiles):
    """Run Snakemake there with that PATH and those configuration files."""
    command = [SNAKEMAKE, *arguments, "--configfile", *configfiles]
    env = {**os.environ, "PATH": path, "WANDB_API_KEY": tracked.KEY}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)


def laid_over(folder, *configfiles):
    """What those files say, each laid over the ones before."""
    found = {}
    for name in configfiles:
        lay_over(found, yaml.safe_load((folder / name).read_text()))
    return found


def read(folder, *configfiles):
    """The experiment that those files make, with every default."""
    return config.validate(laid_over(folder, *configfiles), SCHEMA)


def lay_over(below, above):
    """Change `below` key by key, as Snakemake does with its configuration files."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            lay_over(below[key], value)
        else:
            below[key] = value


def keys(section, before=""):
    """A configuration as one level of dotted keys; lists are values."""
    found = {}
    for key, value in section.items():
        found |= keys(value, f"{before}{key}.") if value and isinstance(value, dict) else {f"{before}{key}": value}
    return found


def nested(dotted):
    """The configuration of dotted keys."""
    found = {}
    for key, value in dotted.items():
        *path, last = key.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def table(folder):
    """The rows of results/wer_table.csv by data set and split."""
    return {(row["dataset"], row["split"]): row for row in of_csv(folder / "results/wer_table.csv")}


def of_csv(path):
    """The rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def hypotheses(folder, dataset, leg, search, split):
    """What a search of a leg made of a split: id, text and hypothesis."""
    return of_search(folder / "results" / dataset, leg, search, split)


def of_search(place, leg, search, split):
    """The same in the folder of a training."""
    rows = files.read_jsonl(place / f"evaluation/leg_{leg}/{search}/{split}.jsonl")
    return [(row["id"], row["text"], row["pred_text"]) for row in rows]


def assert_complete(folder, experiment):
    """Every data set was trained, evaluated and tabulated, and nothing of it is missing."""
    rows = table(folder)
    assert list(rows) == sorted(
        (name, split)
        for name, own in experiment["datasets"].items()
        for split in own["splits"]
        if split.startswith("test")
    )
    for name in experiment["datasets"]:
        assert_data_set_complete(folder / "results" / name, experiment, rows)
    page = (folder / "results/report.html").read_text(encoding="utf-8")
    for name in experiment["datasets"]:
        wanted = config.dataset_config(experiment, name, "evaluation")["evaluation"]["suspects"]
        assert (f"<code>results/{name}/suspects.tsv</code>" in page) == wanted


def assert_data_set_complete(place, experiment, rows):
    """The same of the data set whose results are in the folder `place`."""
    name, folder = place.name, place.parent.parent
    sections = config.dataset_config(experiment, name, "model", "training", "evaluation", "splits")
    tested = [split for split in sections["splits"] if split.startswith("test")]
    tuned = bool(sections["model"]["init_from"])
    first, *others = config.seeds(experiment, name)
    for seed in (first, *others):
        assert_trained(place if seed == first else place / f"seed_{seed}", sections, tuned and seed == first)
    final = final_leg(sections)
    given = json.loads(
        (place / "checkpoints" / (final if final == "best" else f"leg_{final}") / "leg.json").read_text()
    )
    runs = [row for row in of_csv(folder / "results/runs.csv") if row["dataset"] == name]
    assert [(row["split"], row["seed"]) for row in runs] == [
        (split, str(seed)) for split in sorted(tested) for seed in (first, *others)
    ]
    for split in tested:
        row = rows[name, split]
        assert [column for column in RATES if not row[column]] == []
        ends = [bool(row["wer_beam_low"]), bool(row["wer_beam_high"])]
        assert ends == 2 * [not row["interval_by"].startswith("none: ")]
        assert (row["seeds"], bool(row["wer_beam_sd"])) == (str(1 + len(others)), bool(others))
        mean = np.mean([float(run["wer_beam"]) for run in runs if run["split"] == split])
        assert abs(float(row["wer_beam"]) - mean) <= 0.011
        assert bool(row["wer_zero_shot"]) == tuned
        (part,) = config.drawn(experiment, name)[split]
        assert bool(row["wer_glm"]) == (part["source"]["type"] == "switchboard")
        assert row["train_steps"] == str(given["step"])
        assert final == "best" or given["step"] == given["total_steps"]
    if sections["evaluation"]["transfer"]:
        assert_tested_elsewhere(place, experiment, 1 + len(others))
    assert_augmented(place, given, config.augmentation(sections["training"]))
    if sections["evaluation"]["suspects"]:
        scored = files.read_json(place / "suspects.json")
        assert list(scored) == [split for split in sections["splits"] if not split.startswith("test")]
        for split, found in scored.items():
            assert found["scored"] == found["utterances"] == len(files.read_jsonl(place / f"manifests/{split}.jsonl"))
    assert {path.name for path in (place / "model").iterdir()} >= {"README.md", "model.nemo", "tokenizer"}
    if experiment["wandb"]["mode"] == "offline":
        assert "error" not in json.loads((place / "tracked.json").read_text())
        runs = tracked.wandb_runs(place / "runs")
        assert len({run.id for run in runs}) == 1 and runs[-1].project == experiment["wandb"]["project"]
        logged = sorted(runs[-1].table("wer_table"), key=lambda row: row["split"])
        assert logged == [row for (dataset, _), row in rows.items() if dataset == name]


def final_leg(sections):
    """The leg that is tested and given away: the last one, or `best`."""
    return "best" if sections["evaluation"]["select"] == "best" else sections["evaluation"]["legs"]


def assert_augmented(place, leg, on):
    """What was on is said, and there are examples and a page that plays them where it can be heard; else nothing."""
    card = (place / "model/README.md").read_text(encoding="utf-8")
    assert bool(on) == ("augmentation" in leg) == ("| augmentation |" in card)
    heard = bool(on.keys() - {"spec_augment"})
    assert (place / "augmentation").is_dir() == heard
    page = (place.parent / "report.html").read_text(encoding="utf-8")
    if heard:
        with open(place / "augmentation/list.tsv", newline="", encoding="utf-8") as file:
            listed = list(csv.DictReader(file, delimiter="\t"))
        assert {row["file"] for row in listed} == {path.name for path in (place / "augmentation").glob("*.flac")}
        assert all(row["done"] for row in listed) or "gain" not in on
        assert page.count(f'aria-label="{listed[0]["id"]}, {listed[0]["done"] or "as it is"}"') == 1
        assert leg["augmentation"] in page


def assert_trained(place, sections, with_zero_shot):
    """All that one training leaves, in its folder: evaluations of every leg and of the tests, and what is kept."""
    legs, every = sections["evaluation"]["legs"], sections["evaluation"]["save_every_legs"]
    manifests = (place.parent if place.name.startswith("seed_") else place) / "manifests"
    for leg in range(1, legs + 1):
        for split in (split for split in sections["splits"] if split.startswith("validation")):
            metrics = files.read_sealed(place / f"evaluation/leg_{leg}/greedy/{split}.json")
            assert (metrics["checkpoint"]["leg"], metrics["checkpoint"]["legs"]) == (leg, legs)
    for split in (split for split in sections["splits"] if split.startswith("test")):
        wanted = [(entry["id"], entry["text"]) for entry in files.read_jsonl(manifests / f"{split}.jsonl")]
        final = final_leg(sections)
        for leg, search in [(final, "greedy"), (final, "beam"), *([(0, "beam")] if with_zero_shot else [])]:
            found = of_search(place, leg, search, split)
            assert [(identity, text) for identity, text, _ in found] == wanted
            assert all(isinstance(hypothesis, str) for *_, hypothesis in found)
    kept = {f"leg_{leg}" for leg in range(1, legs + 1) if leg == legs or (every and leg % every == 0)}
    found = {path.name for path in (place / "checkpoints").iterdir() if any(path.iterdir())}
    kept |= ({"pretrained"} if with_zero_shot else set()) | ({"best"} if final_leg(sections) == "best" else set())
    assert found == kept, "and none in temporary/"


def assert_tested_elsewhere(place, experiment, seeds):
    """A data set's models were tested on the test splits of all others, and stand in the matrix with them."""
    name, results = place.name, place.parent
    matrix = {
        (row["dataset"], row["split"]): row for row in of_csv(results / "transfer.csv") if row["trained_on"] == name
    }
    assert matrix.keys() == {
        (other, split)
        for other, own in experiment["datasets"].items()
        for split in own["splits"]
        if split[:4] == "test"
    }
    for (other, split), row in matrix.items():
        assert bool(row["wer_beam"]) != bool(row["remark"]) and row["seeds"] == str(seeds)
        if other != name:
            wanted = files.read_jsonl(results / other / f"manifests/{split}.jsonl")
            found = files.read_jsonl(place / f"transfer/{other}/{split}.jsonl")
            assert [(line["id"], line["text"]) for line in found] == [(line["id"], line["text"]) for line in wanted]


def kill_training(folder, path, results, leg, *arguments, configfiles, with_snakemake=False):
    """Begin as `snakemake` does and kill a leg's training, as `kill -9`, when it has a rolling checkpoint."""
    said = folder / "killed.log"  # A pipe that nobody reads would hold it up after 64 KiB.
    with said.open("w") as log:
        process = subprocess.Popen(
            [SNAKEMAKE, *arguments, "--configfile", *configfiles],
            cwd=folder,
            env={**os.environ, "PATH": path, "WANDB_API_KEY": tracked.KEY},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + 900
    while not list(results.glob(f"runs/leg_{leg}/checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < until, said.read_text()
        time.sleep(0.01)
    (training,) = _at_work(results / f"runs/leg_{leg}.lock")
    os.kill(training, signal.SIGKILL)
    if with_snakemake:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(), said.read_text()


def _at_work(lock):
    """The trainings that have a lock file open."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += [process.pid] if str(lock) in {file.path for file in process.open_files()} else []
    return found


def difference(place, other, leg):
    """The distance of a leg's weights, in a data set's results, to those in other results, relative to those."""
    ours, theirs = (
        load_file(results / f"checkpoints/leg_{leg}/trainer/model.safetensors") for results in (place, other)
    )
    ours, theirs = (np.concatenate([weights[key].ravel() for key in sorted(ours)]) for weights in (ours, theirs))
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
