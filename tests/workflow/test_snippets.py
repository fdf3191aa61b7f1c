"""Every piece of configuration in README.md and config/README.md runs, to the table and the models.

A piece is laid over an experiment, several at once where they have nothing to do with one another.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

import experiments
import trees
from conftest import ROOT
from experiments import Experiment

PAGES = ("README.md", "config/README.md")
SCHEMA = experiments.SCHEMA


def blocks(page):
    """The blocks of code of a page, fenced and indented."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?<=\n\n)(?: {4}.*\n+)+", rest)
    return fenced + [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in indented]


def snippets():
    """The blocks whose first line is a key: by page and keys."""
    found = {}
    for page in PAGES:
        for block in blocks(page):
            if re.match(r"(#.*\n)*[a-z_]+:(\s|$)", block):
                content = yaml.safe_load(block)
                name = f"{page}: {' '.join(content)}"
                assert name not in found, "two of the same keys: the test has to tell them apart"
                found[name] = content
    return found


def experiment(configfile, names, prepare, hidden, added):
    """The named snippets, laid over a file or over nothing; one that is a data set's goes below `datasets`."""

    def write(folder, speech):
        for n, name in enumerate(names):
            content = SNIPPETS[name]
            if not content.keys() <= SCHEMA["properties"].keys():
                content = {"datasets": content}
            (folder / f"snippet_{n}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        prepare(folder, speech)

    configfiles = (*([configfile] if configfile else []), *(f"snippet_{n}.yaml" for n in range(len(names))))
    return names, Experiment(configfiles, write, hidden, added)


def recordings(folder, speech):
    """What the README has a user put there."""
    shutil.copytree(speech, folder / "my_recordings")


def recordings_and_noises(folder, speech):
    """The same, and a folder with a recording of noise."""
    recordings(folder, speech)
    trees.write(folder / "noises/street.wav", trees.noise(2, 16000), 16000)


def librispeech(folder, speech):
    """The splits that the snippet names."""
    for n, split in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        trees.librispeech(folder / "corpora", split, [f"{n}1", f"{n}2"])


SNIPPETS = snippets()
STEPS = {"datasets.digits.max_steps": (6, "a step or two for each leg")}
EXPERIMENTS = {
    "an experiment of ten keys, with a language model": experiment(
        None,
        (
            "config/README.md: datasets model tokenizer training evaluation wandb",
            "config/README.md: evaluation",
        ),
        recordings,
        hidden=STEPS,
        added={},
    ),
    "a pretrained model with its own tokenizer, and augmentation": experiment(
        "config/local_example.yaml",
        (
            "README.md: model tokenizer training",
            "config/README.md: model tokenizer",
            "config/README.md: training",
        ),
        recordings_and_noises,
        hidden=STEPS | {"model.init_from": ("base.nemo", "600 MB to download: a small model in the same form")},
        added={},
    ),
    "an ablation": experiment(
        "config/local_example.yaml",
        ("config/README.md: training ablation",),
        recordings,
        hidden=STEPS | {"training.seeds": ([1, 2], "time: a third is as the second")},
        added={"evaluation.legs": (1, "time"), "evaluation.suspects": (False, "time")},
    ),
    "sources that have names, shares of them, and seeds": experiment(
        None,
        ("config/README.md: sources datasets training",),
        lambda folder, speech: (recordings(folder, speech), librispeech(folder, speech)),
        hidden={
            "datasets.mine.max_steps": (6, "a step or two for each leg"),
            "datasets.mine.splits.train": (
                ["mine/train", {"split": "libri/train-clean-100", "hours": 0.0015}],
                "the tree has some seconds, not ten hours",
            ),
            "training.seeds": ([1, 2], "time: a third is as the second"),
        },
        added={
            "evaluation.legs": (1, "time: the others have three"),
            "sources.libri.path": ("corpora", "a small tree, which the test makes"),
            "sources.libri.allow_subset": (True, "it has not the published size"),
        },
    ),
    "a corpus of the field, tracked, to be published, in lower case of another language": experiment(
        None,
        (
            "config/README.md: librispeech",
            "README.md: wandb tensorboard",
            "README.md: publish",
            "config/README.md: text",
        ),
        librispeech,
        hidden={},
        added={
            "datasets.librispeech.source.path": ("corpora", "a small tree, which the test makes"),
            "datasets.librispeech.source.allow_subset": (True, "it has not the published size"),
            "tokenizer.vocab_size": (24, "four utterances do not have 32 tokens"),
        },
    ),
}


def test_every_snippet_is_run():
    assert sorted(name for names, _ in EXPERIMENTS.values() for name in names) == sorted(SNIPPETS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_runs_to_the_table_and_the_models(name, tmp_path, speech, pretrained, warm):
    names, found = EXPERIMENTS[name]
    configfiles = found.check_out(tmp_path, speech, pretrained)
    found.assert_hides_what_is_listed(experiments.laid_over(tmp_path, *found.configfiles))
    whole = experiments.keys(experiments.laid_over(tmp_path, *found.configfiles))
    for number in range(len(names)):
        own = experiments.keys(experiments.laid_over(tmp_path, f"snippet_{number}.yaml"))
        assert own.items() <= whole.items(), "a snippet that another hides"
    if "language model" in name:
        without = [file for file in configfiles if file != "snippet_1.yaml"]
        make_language_model(tmp_path, warm, without)
    targets = ["all", *(["ablation"] if "ablation" in name else [])]
    done = experiments.snakemake(tmp_path, warm, "--cores", "2", *targets, configfiles=configfiles)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results/ablation.csv").is_file() == ("ablation" in name)
    experiments.assert_complete(tmp_path, experiments.read(tmp_path, *configfiles))
    if "language model" in name:
        assert experiments.table(tmp_path)["digits", "test"]["beam_lm"] == "corpus.arpa x 0.3"


def make_language_model(folder, path, configfiles):
    """As config/README.md says, with a stand-in for KenLM."""
    tokenizer = "results/digits/tokenizer/tokenizer.model"
    done = experiments.snakemake(folder, path, "--cores", "2", tokenizer, configfiles=configfiles)
    assert done.returncode == 0, done.stdout + done.stderr
    (command,) = (block for block in blocks("config/README.md") if "lmplz" in block)
    (folder / "bin").mkdir()
    (folder / "bin/lmplz").write_text(f"#!/bin/sh\nexec {sys.executable} {ROOT / 'tests/arpa.py'}\n")
    (folder / "bin/lmplz").chmod(0o755)
    (folder / "corpus.txt").write_text("one two three\nfour five six seven\neight nine zero\n")
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{path}"}
    subprocess.run(["bash", "-ec", command.replace("DATASET", "digits")], cwd=folder, env=env, check=True)
    (folder / "lm").mkdir()
    (folder / "corpus.arpa").rename(folder / "lm/corpus.arpa")
