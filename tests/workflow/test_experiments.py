"""Every experiment that we ship runs, in small, on any machine: that very file, all rules, to the table and the models.

An overlay makes it small. What it hides of the file is listed here with the reason; all else is run as it is shipped.
"""

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import experiments
import trees
from conftest import ROOT
from experiments import Experiment
from rnnt.data import manifests


def four_corpora(folder, speech):
    """Trees of the corpora of paper.yaml. Each has as much audio as its epochs need for a step a leg or more."""
    corpora = folder / "corpora"
    subsets = yaml.safe_load((folder / "config/paper.yaml").read_text())["datasets"]["librispeech"]["splits"].values()
    for n, split in enumerate(name for names in subsets for name in ([names] if isinstance(names, str) else names)):
        trees.librispeech(corpora, split, [f"{n}1", f"{n}2"])
    trees.voice(corpora, train=50)
    trees.tedlium(corpora, train=12)
    trees.switchboard(corpora)


def data_sets_of_the_hub(folder, speech):
    """Folders that are called what esb.yaml's data sets are called on the Hub: `datasets` looks for a folder first."""
    for own in yaml.safe_load((folder / "config/esb.yaml").read_text())["datasets"].values():
        names = own["splits"].values()
        trees.hub(
            folder, own["source"]["name"], [s for name in names for s in ([name] if isinstance(name, str) else name)]
        )


STEPS = "a step or two for each leg"
UTTERANCES = {"train": 24, "validation": 4, "test": 4}
TREE = "a small tree, which the test makes"
SUBSET = "it has not the published size"
BASE = ("base.nemo", "600 MB to download: a small model in the same form")
VOCABULARY = (24, "a few sentences do not have as many tokens")
HERE = ("corpora", TREE)


def recipe(name, hidden=None, added=None):
    """A recipe, laid over the experiment with one's own recordings."""
    return Experiment(
        ("config/local_example.yaml", f"config/recipes/{name}.yaml"),
        lambda folder, speech: shutil.copytree(speech, folder / "my_recordings"),
        hidden={"datasets.digits.max_steps": (6, STEPS)} | (hidden or {}),
        added={"evaluation.suspects": (False, "time: local_example.yaml has them")} | (added or {}),
    )


EXPERIMENTS = {
    "config": Experiment(
        ("config/config.yaml",),
        lambda folder, speech: None,
        hidden={
            "datasets.spoken_digits.max_steps": (6, STEPS),
            "datasets.spoken_commands.max_steps": (6, STEPS),
        },
        added={
            "datasets.spoken_digits.source.utterances": (UTTERANCES, "1,710 take a minute to make"),
            "datasets.spoken_commands.source.utterances": (UTTERANCES, "1,710 take a minute to make"),
        },
    ),
    "local_example": Experiment(
        ("config/local_example.yaml",),
        lambda folder, speech: shutil.copytree(speech, folder / "my_recordings"),
        hidden={"datasets.digits.max_steps": (6, STEPS)},
        added={},
    ),
    "paper": Experiment(
        ("config/paper.yaml",),
        four_corpora,
        hidden={
            "datasets.common_voice.source.path": HERE,
            "datasets.switchboard.source.path": ("corpora/LDC97S62", TREE),
            "datasets.switchboard.source.hub5_audio": ("corpora/eval2000/LDC2002S09", TREE),
            "datasets.switchboard.source.hub5_transcripts": ("corpora/eval2000/LDC2002T43", TREE),
            "model.init_from": BASE,
            "tokenizer.vocab_size": VOCABULARY,
            **({} if experiments.GPU else {"training.precision": ("bf16", "fp16 needs a GPU")}),
            "wandb.mode": ("offline", "no account, no network"),
        },
        added={
            "datasets.librispeech.source.path": HERE,
            "datasets.librispeech.source.allow_subset": (True, SUBSET),
            "datasets.common_voice.source.allow_subset": (True, SUBSET),
            "datasets.tedlium.source.path": HERE,
            "datasets.tedlium.source.allow_subset": (True, SUBSET),
            "datasets.switchboard.source.transcripts": HERE,
            "datasets.switchboard.source.allow_subset": (True, SUBSET),
            "datasets.switchboard.source.validation_utterances": (3, "the tree has 12 utterances, not 4,000"),
        },
    ),
    "replay": Experiment(
        ("config/replay.yaml",),
        lambda folder, speech: None,
        hidden={
            "datasets.digits.max_steps": (6, STEPS),
            "datasets.tuned.max_steps": (4, STEPS),
            "datasets.tuned_5.max_steps": (4, STEPS),
            "datasets.tuned_20.max_steps": (4, STEPS),
            "training.seeds": ([1, 2], "time: a third is as the second"),
        },
        added={
            "sources.digits.utterances": (UTTERANCES, "1,710 take a minute to make"),
            "sources.commands.utterances": (UTTERANCES, "1,710 take a minute to make"),
            "datasets.tuned.training.seeds": ([1], "time: tuned_20 has two"),
            "datasets.tuned_5.training.seeds": ([1], "time: tuned_20 has two"),
        },
    ),
    "esb": Experiment(
        ("config/esb.yaml",),
        data_sets_of_the_hub,
        hidden={
            "datasets.librispeech_hub.max_steps": (6, STEPS),
            "datasets.ami.max_steps": (6, STEPS),
            "datasets.voxpopuli.max_steps": (6, STEPS),
            "datasets.gigaspeech.max_steps": (6, STEPS),
            "datasets.spgispeech.max_steps": (6, STEPS),
            "datasets.earnings22.max_steps": (6, STEPS),
            "model.init_from": BASE,
            "tokenizer.vocab_size": VOCABULARY,
            "evaluation.legs": (1, "time: paper.yaml has six"),
        },
        added={"evaluation.suspects": (False, "time: paper.yaml has them, for four data sets")},
    ),
    "scratch_small": recipe("scratch_small", hidden={"tokenizer.vocab_size": VOCABULARY}),
    "scratch_large": recipe(
        "scratch_large",
        hidden={
            "tokenizer.vocab_size": VOCABULARY,
            "model.architecture": ("fastconformer_tiny", "112 million parameters: one of the same kind"),
            "evaluation.legs": (2, "time: finetune_large has five"),
        },
    ),
    "finetune_small": recipe("finetune_small", added={"model.init_from": BASE}),
    "finetune_large": recipe(
        "finetune_large", hidden={"datasets.digits.max_steps": (10, STEPS)}, added={"model.init_from": BASE}
    ),
}


class Run(NamedTuple):
    """A checkout in which an experiment was made small and run."""

    folder: Path
    configfiles: list[str]
    done: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def run(tmp_path_factory, speech, pretrained, warm):
    """Make an experiment small and run it; each once."""

    @functools.cache
    def call(name):
        folder = tmp_path_factory.mktemp(name) / "checkout"
        configfiles = EXPERIMENTS[name].check_out(folder, speech, pretrained)
        return Run(folder, configfiles, experiments.snakemake(folder, warm, "--cores", "2", configfiles=configfiles))

    return call


def test_every_file_of_config_is_an_experiment_that_is_run():
    shipped = {f"config/{path.name}" for path in (ROOT / "config").glob("*.yaml")} - {"config/schema.yaml"}
    shipped |= {f"config/recipes/{path.name}" for path in (ROOT / "config/recipes").glob("*")} - {
        "config/recipes/README.md"
    }
    assert {file for experiment in EXPERIMENTS.values() for file in experiment.configfiles} == shipped


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_overlay_hides_what_is_listed_and_nothing_else(name):
    EXPERIMENTS[name].assert_hides_what_is_listed(experiments.laid_over(ROOT, *EXPERIMENTS[name].configfiles))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_runs_from_its_sources_to_the_table_and_the_models(run, name):
    made = run(name)
    assert made.done.returncode == 0, made.done.stdout + made.done.stderr
    experiments.assert_complete(made.folder, experiments.read(made.folder, *made.configfiles))


def test_the_paper_s_six_legs_keep_the_third_and_the_last(run):
    folder = run("paper").folder
    for dataset in ("librispeech", "common_voice", "tedlium", "switchboard"):
        kept = {path.name for path in (folder / f"results/{dataset}/checkpoints").glob("leg_*")}
        assert kept == {"leg_3", "leg_6"}
        assert len(list((folder / f"results/{dataset}/evaluation").glob("leg_*/greedy/validation.json"))) == 6


def test_the_batches_of_replay_hold_what_the_weights_say_and_seeds_are_told(run):
    folder = run("replay").folder
    for dataset, share in (("digits", 0.98), ("tuned_5", 0.05), ("tuned_20", 0.2)):
        leg = json.loads((folder / f"results/{dataset}/checkpoints/leg_1/leg.json").read_text())
        # Half a minute of audio: an utterance more or less is some percent.
        assert leg["shares"]["digits/train"][0] == pytest.approx(share, abs=0.05)
    seeds = [
        json.loads((folder / f"results/tuned_20{place}/checkpoints/leg_1/leg.json").read_text())["fingerprint"]
        for place in ("", "/seed_2")
    ]
    assert seeds[0] != seeds[1]
    rows = {row["a"] for row in experiments.of_csv(folder / "results/comparisons.csv") if row["dataset"] == "tuned"}
    assert rows >= {"zero-shot", "greedy", "tuned test beam", "tuned test_digits beam"}
    assert (
        "One seed alone was trained of digits, tuned, tuned_5: how far" in (folder / "results/wer_table.md").read_text()
    )


def test_the_columns_and_rules_of_esb_are_those_of_its_data_sets(run):
    folder = run("esb").folder
    rows = {
        name: manifests.read(folder / f"results/{name}/manifests/train.jsonl")
        for name in yaml.safe_load((folder / "config/esb.yaml").read_text())["datasets"]
    }
    assert {name: sorted({row["text"] for row in found}) for name, found in rows.items()} == {
        "librispeech_hub": ["he's gone home by now", "she read the old book"],
        "ami": ["mm-hmm i know what you mean", "yeah that's the one"],
        "voxpopuli": ["i hope that we all agree.", "thank you, mr president."],
        "gigaspeech": ["as they're leaving, can i pull you aside?", "well, so do we."],
        "spgispeech": ["thank you, and good morning.", "we have had a good quarter."],
        "earnings22": ["and so we grew this year.", "thanks for the question."],
    }
    assert {name: len(found) for name, found in rows.items()} == {**dict.fromkeys(rows, 4), "librispeech_hub": 12}
    speakers = {name: {row.get("speaker") for row in found} for name, found in rows.items()}
    assert speakers == {
        "librispeech_hub": {"0", "1"},
        "ami": {"MEE0", "MEE1"},
        "voxpopuli": {"0", "1"},
        "gigaspeech": {None},
        "spgispeech": {None},
        "earnings22": {None},
    }


def test_a_data_set_of_the_paper_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    run, tmp_path, speech, pretrained, warm
):
    """In the first leg, in one that goes on from another, and after a kept one, then with Snakemake itself."""
    calm = run("paper").folder / "results/tedlium"
    folder = tmp_path / "checkout"
    configfiles = EXPERIMENTS["paper"].check_out(folder, speech, pretrained)
    # Else a leg ends before its first rolling checkpoint; it does not change the weights.
    (folder / "often.yaml").write_text("training: {checkpoint_every_steps: 1}\n")
    results = folder / "results/tedlium"
    options = {"configfiles": [*configfiles, "often.yaml"]}
    snakemake = functools.partial(experiments.snakemake, folder, warm, "--cores", "2", "tedlium", **options)
    for leg in (1, 2, 5):
        hard = {"with_snakemake": leg == 5}
        experiments.kill_training(folder, warm, results, leg, "--cores", "2", "tedlium", **options, **hard)
        assert not list((results / "checkpoints").glob(f"**/leg_{leg}"))
    done = snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (results / "runs/training.log").read_text().count("continue at step") > 3

    for leg in (3, 6):
        assert experiments.difference(results, calm, leg) <= 1e-6
    for leg, search, split in [(6, "beam", "test"), *((leg, "greedy", "validation") for leg in range(1, 7))]:
        ours, theirs = (
            experiments.hypotheses(place, "tedlium", leg, search, split) for place in (folder, run("paper").folder)
        )
        assert ours == theirs
