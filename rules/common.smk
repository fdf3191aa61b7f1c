"""What the rules share: the checked configuration, and which files a data set needs."""

import difflib
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from rnnt import alone
from rnnt import config as experiment
from rnnt import disk
from rnnt.configfile import check as check_files
from rnnt.corpora import glm
from rnnt.corpora import local
from rnnt.data import languages
from rnnt.errors import UserError

KINDS = ("train", "validation", "test")


def asked(function, *arguments):
    """What a function returns; ends with one line where it refuses the user's input, or can't look where that lies."""
    try:
        return function(*arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


disk.quiet_logs()  # Snakemake's own

if os.path.realpath(workflow.basedir) != os.path.realpath(os.curdir):
    sys.exit(
        f"error: run Snakemake in {workflow.basedir}, where the Snakefile is; results/ and data/ may be links there"
    )
asked(check_files, workflow.configfiles)
if "datasets" not in config:
    asked(check_files, ["config/config.yaml"])

    configfile: "config/config.yaml"


config = asked(experiment.validate, config, experiment.load_schema(Path(workflow.basedir) / "config/schema.yaml"))


# Those that are asked for by name alone among them.
DATASETS = [*config["datasets"], *experiment.ablated(config).values()]


def check_places():
    """End with one line where Snakemake can't work: it takes braces for its own, and must write."""
    if set("{}") & set(str(workflow.basedir)):
        sys.exit(f"error: {workflow.basedir}: braces in the path of the checkout are Snakemake's patterns: rename it")
    for place in ("results", "logs", "benchmarks", "data", ".snakemake"):
        for path in [place, *(f"{place}/{name}" for name in ("sources", *config["datasets"]))]:
            there = os.path.lexists(path)
            if not os.access(path if there else ".", os.W_OK | os.X_OK) or (there and not os.path.isdir(path)):
                sys.exit(f"error: {os.path.abspath(path)}: not a folder that may be written to: results go there")


def exclude_other_runs():
    """End with one line where another run is at work in this folder; its lock ends with it, however that ends."""
    path = Path(".snakemake/run.lock")
    lock = alone.take(path)
    if not lock:
        sys.exit(f"error: {os.getcwd()}: {alone.holder(path)} is at work here: wait for it, or stop it")
    alone.write(lock)
    held_locks.append(lock)  # closed with the process alone


held_locks = []


def check_names():
    """End with one line where a data set is called as something else in the workflow is."""
    outputs = (Path(path).parts for rule in workflow.rules for path in rule.output)
    taken = {rule.name for rule in workflow.rules} | {parts[1] for parts in outputs if parts[0] == "results"}
    for name in config["datasets"]:
        if name in taken:
            sys.exit(f"error: config: datasets.{name}: the workflow has something of that name: choose another")


def as_input(path):
    """A file of the user's as an input. Snakemake has no way to quote its patterns, and may take a word for a target."""
    if re.search("{.*}|<.*>", path):
        sys.exit(f"error: {path}: braces and angle brackets are Snakemake's patterns: rename it, or link to it (ln -s)")
    return path if "." in path or os.sep in path else os.path.abspath(path)


def section(dataset, name):
    """One section of a data set's configuration, its overrides merged in."""
    return experiment.dataset_config(config, dataset, name)[name]


def dataset_of(wildcards):
    """The data set, or that of a training's folder."""
    return getattr(wildcards, "dataset", None) or wildcards.run.partition("/")[0]


def as_json(value):
    """A value as a script's argument."""
    return experiment.as_argument(value)


def all_splits(dataset):
    """The names of a data set's splits."""
    return experiment.own_keys(config, dataset)["splits"]


def splits(dataset, kind):
    """A data set's splits of one kind: train, validation or test."""
    return [split for split in all_splits(dataset) if split.split("_")[0] == kind]


def tokenizer_source(wildcards):
    """The .nemo file whose tokenizer is taken, where none is trained."""
    return [] if section(dataset_of(wildcards), "tokenizer")["source"] == "train" else base_model(wildcards)


def language_of_tokenizer(wildcards):
    """The language that a pretrained model's tokenizer has to spell, where it is taken."""
    taken = section(wildcards.dataset, "tokenizer")["source"] != "train"
    return option("language", taken and section(wildcards.dataset, "text")["language"])


def option(name, value):
    """`--name value` where there is a value."""
    return f"--{name} {shlex.quote(str(value))}" if value else ""


def refuse_split(dataset, split):
    sys.exit(f"error: {dataset} has no split {split}: it has {', '.join(all_splits(dataset))}")


def card_options(dataset):
    """What of the configuration a model card tells."""
    found = experiment.dataset_config(config, dataset, "model", "text", "filter")
    found["model"] = model_options(dataset)
    training = training_options(dataset, runs(dataset)[dataset])
    before = {name: experiment.drawn(config, name)["train"] for name in experiment.ancestors(config, dataset)}
    return {**found, "splits": experiment.drawn(config, dataset), "before": before, "training": training}


def repository(wildcards):
    """Where on the Hugging Face Hub a data set's model goes."""
    name = config["publish"]["repository"]
    if not name:
        sys.exit("error: publish.repository: not set: USER/NAME on the Hugging Face Hub, with {dataset} in it")
    return name.replace("{dataset}", wildcards.dataset)


def gpus(wildcards):
    """GPUs that a training or decoding asks for: where there is one, they take turns."""
    if config["device"] == "auto":
        return int(shutil.which("nvidia-smi") is not None)
    return int(config["device"] == "cuda")


def tokenizer_of(wildcards):
    return f"results/{dataset_of(wildcards)}/tokenizer/tokenizer.model"


def named(wildcards):
    """A training in a message: the data set, and the seed where it is not the first."""
    return "-".join(Path(wildcards.run).parts)


def model_threads(wildcards):
    """CPU threads of a training or decoding: readers for a GPU; on a CPU one each, and data sets side by side."""
    return 4 if gpus(wildcards) else 1


def tracking():
    """What the scripts that track are told; no param of a training: to track must not train again."""
    return as_json({key: config[key] for key in ("wandb", "tensorboard")})


def tracked(*datasets):
    """What says that the results of all trainings, or of those of some data sets, were logged, where they are."""
    on = config["wandb"]["mode"] != "off" or config["tensorboard"]
    return [f"results/{run}/tracked.json" for name in datasets or config["datasets"] for run in runs(name) if on]


def needs():
    """What the machine must have for this configuration."""
    training = [section(dataset, "training") for dataset in config["datasets"]]
    return {
        "device": config["device"],
        "optimizers": sorted({options["optimizer"] for options in training}),
        "precisions": sorted({options["precision"] for options in training}),
        "sources": sorted({known["source"]["type"] for known in SOURCES.values()}),
        "wandb": config["wandb"]["mode"],
    }


def no_such_target(wildcards):
    """Refuse a target that no rule makes, naming the nearest data set."""
    near = difflib.get_close_matches(wildcards.target, config["datasets"], n=1)
    if wildcards.target in config["datasets"]:
        sys.exit(f"error: the target {wildcards.target} is written without a slash")
    hint = f"did you mean `{near[0]}`?" if near else f"the data sets are {', '.join(config['datasets'])}"
    sys.exit(f"error: no data set or target {wildcards.target}: {hint}")
