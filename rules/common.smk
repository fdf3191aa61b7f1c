"""What the rules share: the checked configuration, and which files a data set needs."""

import difflib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from rnnt import config as experiment
from rnnt.configfile import check as check_files
from rnnt.corpora import glm
from rnnt.corpora import local
from rnnt.data import languages
from rnnt.errors import UserError


def asked(function, *arguments):
    """What a function returns; ends with one line where it refuses the user's input, or can't look where that lies."""
    try:
        return function(*arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


asked(check_files, workflow.configfiles)
if "datasets" not in config:
    asked(check_files, ["config/config.yaml"])

    configfile: "config/config.yaml"


config = asked(experiment.validate, config, experiment.load_schema(Path(workflow.basedir) / "config/schema.yaml"))


def check_places():
    """End with one line where Snakemake can't work: it takes braces for its own, and must write."""
    if set("{}") & set(str(workflow.basedir)):
        sys.exit(f"error: {workflow.basedir}: braces in the path of the checkout are Snakemake's patterns: rename it")
    for place in ("results", "logs", "benchmarks", "data", ".snakemake"):
        for path in [place, *(f"{place}/{name}" for name in config["datasets"])]:
            there = os.path.lexists(path)
            if not os.access(path if there else ".", os.W_OK | os.X_OK) or (there and not os.path.isdir(path)):
                sys.exit(f"error: {os.path.abspath(path)}: not a folder that may be written to: results go there")


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


def running_options(dataset):
    """What of a data set's training section does not change the weights."""
    keys = ("checkpoint_every_steps", "gradient_checkpointing", "max_skipped_steps")
    return {key: section(dataset, "training")[key] for key in keys}


def training_options(dataset):
    """What of a data set's training section changes the weights."""
    return {k: v for k, v in section(dataset, "training").items() if k not in running_options(dataset)}


def as_json(value):
    """A value as a script's argument."""
    return experiment.as_argument(value)


def length(dataset):
    """How long to train: max_steps or num_train_epochs."""
    own = config["datasets"][dataset]
    return {key: own[key] for key in ("max_steps", "num_train_epochs") if key in own}


def splits(dataset, kind):
    """A data set's splits of one kind: train, validation or test."""
    return [split for split in config["datasets"][dataset]["splits"] if split.split("_")[0] == kind]


def source_splits(dataset):
    """The splits of the source that a data set draws on, each once."""
    names = []
    for value in config["datasets"][dataset]["splits"].values():
        names += [value] if isinstance(value, str) else value
    return list(dict.fromkeys(names))


def source_listings(wildcards):
    """The files that list a local source's splits: an edit of theirs starts the data set anew."""
    source = section(wildcards.dataset, "source")
    if source["type"] != "local":
        return []
    found = (asked(local.listing, source, split) for split in source_splits(wildcards.dataset))
    return [as_input(str(path)) for path in found if path]


def base_model(wildcards):
    """The .nemo file that training starts from: a local file, or the download of a pretrained name."""
    init_from = section(wildcards.dataset, "model")["init_from"]
    if not init_from:
        return []
    if not init_from.endswith(".nemo"):
        return f"data/base_models/{init_from}.nemo"
    path = Path(init_from)
    if not asked(path.is_file):
        sys.exit(f"error: model.init_from: {init_from}: no such file")
    return as_input(str(path))


def architecture(wildcards):
    """The model config that training from scratch builds; a name without one is refused by the script."""
    model = section(wildcards.dataset, "model")
    path = Path(f"config/models/{model['architecture']}.yaml")
    return [] if model["init_from"] or not path.is_file() else str(path)


def tokenizer_source(wildcards):
    """The .nemo file whose tokenizer is taken, where none is trained."""
    return base_model(wildcards) if section(wildcards.dataset, "tokenizer")["source"] == "model" else []


def option(name, value):
    """`--name value` where there is a value."""
    return f"--{name} {shlex.quote(str(value))}" if value else ""


def cleaning_options(dataset):
    """How build_manifests cleans the texts; the language where it matters: else its change would train again."""
    text = section(dataset, "text")
    matters = text["case"] == "lower" and languages.has_own_case(text["language"])
    language = option("language", text["language"] if matters else "")
    return f"--case {text['case']} --rules {text['rules']} {language}".strip()


def legs(dataset):
    return section(dataset, "evaluation")["legs"]


def is_kept(dataset, leg):
    every = section(dataset, "evaluation")["save_every_legs"]
    return leg == legs(dataset) or bool(every and leg % every == 0)


def checkpoint(dataset, leg):
    """Where a leg's checkpoint lies: kept, or until its evaluation and the next leg are done."""
    return f"results/{dataset}/checkpoints/{'' if is_kept(dataset, leg) else 'temporary/'}leg_{leg}"


def asked_leg(wildcards, first):
    """The number of a leg that is asked for; ends with one line where there is none, before the others are trained."""
    leg, last = int(wildcards.leg), legs(wildcards.dataset)
    if not first <= leg <= last:
        sys.exit(f"error: {wildcards.dataset} has no leg {leg}: evaluation.legs is {last}")
    return leg


def previous_leg(wildcards):
    leg = asked_leg(wildcards, 1)
    return checkpoint(wildcards.dataset, leg - 1) if leg > 1 else []


def leg_checkpoint(wildcards):
    """What a split is transcribed with; leg 0 is the pretrained model as it is."""
    leg = asked_leg(wildcards, 0 if section(wildcards.dataset, "model")["init_from"] else 1)
    known = config["datasets"][wildcards.dataset]["splits"]
    if wildcards.split not in known:
        sys.exit(f"error: {wildcards.dataset} has no split {wildcards.split}: it has {', '.join(known)}")
    return checkpoint(wildcards.dataset, leg) if leg else f"results/{wildcards.dataset}/checkpoints/pretrained"


def evaluations(dataset, search, suffix=".json"):
    """The metrics (or hypotheses) of a data set's test splits after its last leg; `zero_shot`: before the first."""
    if search == "zero_shot":
        if not section(dataset, "model")["init_from"]:
            return []
        folder = f"results/{dataset}/evaluation/leg_0/beam"
    else:
        folder = f"results/{dataset}/evaluation/leg_{legs(dataset)}/{search}"
    return [f"{folder}/{split}{suffix}" for split in splits(dataset, "test")]


def of_all(search, suffix=".json"):
    """The same of all data sets."""
    return [path for dataset in config["datasets"] for path in evaluations(dataset, search, suffix)]


def base_models():
    """The pretrained models of all data sets, each once."""
    found = (base_model(type("Wildcards", (), {"dataset": dataset})) for dataset in config["datasets"])
    return sorted({str(path) for path in found if path})


def interim_metrics(dataset):
    """The metrics of greedy search on the validation splits after every leg."""
    return [
        f"results/{dataset}/evaluation/leg_{leg}/greedy/{split}.json"
        for leg in range(1, legs(dataset) + 1)
        for split in splits(dataset, "validation")
    ]


def suspects(suffix=".tsv"):
    """What lists each data set's transcripts that may be wrong, where the configuration asks for it."""
    asking = [name for name in config["datasets"] if section(name, "evaluation")["suspects"]]
    return [f"results/{name}/suspects{suffix}" for name in asking]


def search(wildcards):
    """The parameters of a search, which change its hypotheses; NeMo's defaults and the file of `lm` are not in it."""
    options = section(wildcards.dataset, "evaluation")[wildcards.search]
    without = {"lm"} if language_model(wildcards) else {"lm", "lm_weight"}
    return {key: value for key, value in options.items() if value is not None and key not in without}


def language_model(wildcards):
    """The ARPA file of the beam search. It speaks of the tokens of training: an untouched model may have others."""
    path = section(wildcards.dataset, "evaluation")["beam"]["lm"]
    other_tokens = int(wildcards.leg) == 0 and section(wildcards.dataset, "tokenizer")["source"] == "train"
    if not path or wildcards.search == "greedy" or other_tokens:
        return []
    if not asked(Path(path).is_file):
        sys.exit(f"error: evaluation.beam.lm: {path}: no such file: it takes an ARPA file, or null")
    return as_input(str(Path(path)))


def mapping_file(wildcards):
    """The GLM that a test split is scored by too, as sclite does it; of Switchboard and CallHome."""
    found = asked(glm.find, section(wildcards.dataset, "source")) if wildcards.split.startswith("test") else None
    return [as_input(str(found))] if found else []


def card_options(dataset):
    """What of the configuration a model card tells."""
    sections = ("source", "splits", "model", "text", "filter")
    return {**experiment.dataset_config(config, dataset, *sections), "training": training_options(dataset)}


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


def model_threads(wildcards):
    """CPU threads of a training or decoding: readers for a GPU; on a CPU one each, and data sets side by side."""
    return 4 if gpus(wildcards) else 1


def tracking():
    """What the scripts that track are told; no param of a training: to track must not train again."""
    return as_json({key: config[key] for key in ("wandb", "tensorboard")})


def tracked(dataset):
    """What says that a data set's results were logged, where they are tracked."""
    on = config["wandb"]["mode"] != "off" or config["tensorboard"]
    return [f"results/{dataset}/tracked.json"] if on else []


def needs():
    """What the machine must have for this configuration."""
    training = [section(dataset, "training") for dataset in config["datasets"]]
    return {
        "device": config["device"],
        "optimizers": sorted({options["optimizer"] for options in training}),
        "precisions": sorted({options["precision"] for options in training}),
        "sources": sorted({section(dataset, "source")["type"] for dataset in config["datasets"]}),
        "wandb": config["wandb"]["mode"],
    }


def no_such_target(wildcards):
    """Refuse a target that no rule makes, naming the nearest data set."""
    near = difflib.get_close_matches(wildcards.target, config["datasets"], n=1)
    if wildcards.target in config["datasets"]:
        sys.exit(f"error: the target {wildcards.target} is written without a slash")
    hint = f"did you mean `{near[0]}`?" if near else f"the data sets are {', '.join(config['datasets'])}"
    sys.exit(f"error: no data set or target {wildcards.target}: {hint}")
