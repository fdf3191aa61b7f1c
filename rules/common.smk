"""What the rules share: the checked configuration, and which files a data set needs."""

import difflib
import functools
import hashlib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from rnnt import config as experiment
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


def model_options(dataset):
    """A data set's model section, without a key that came later and is not set: see `training_options`."""
    return {key: value for key, value in section(dataset, "model").items() if key != "overrides" or value}


def running_options(dataset):
    """What of a data set's training section does not change the weights."""
    keys = ("checkpoint_every_steps", "gradient_checkpointing", "max_skipped_steps")
    return {key: section(dataset, "training")[key] for key in keys}


def training_options(dataset, seed):
    """What of a data set's training section changes the weights."""
    options = {**section(dataset, "training"), "seed": seed, "augmentation": augmentation(dataset) or None}
    # A key that came later and is not set must not train again what was trained without it.
    unset = {key for key in ("ctc_weight", "encoder_learning_rate", "augmentation") if options[key] is None}
    unset |= {"averaging"} if options["averaging"] == 0 else set()
    without = {*running_options(dataset), "seeds", *unset}
    return {key: value for key, value in options.items() if key not in without}


def augmentation(dataset):
    """What of a data set's augmentation is on, and which files are in its folders."""
    return {
        name: {**on, "files": files_hash(on["path"], f"training.augmentation.{name}.path")} if "path" in on else on
        for name, on in experiment.augmentation(section(dataset, "training")).items()
    }


@functools.cache
def files_hash(folder, key):
    """What tells the audio in a folder from other audio: names and sizes; null for no folder."""
    if folder is None:
        return None
    found = [(name, os.path.getsize(f"{folder}/{name}")) for name in asked(local.audio_below, folder, key)]
    return hashlib.sha256(as_json(found).encode()).hexdigest()[:16]


def previews(*datasets):
    """The examples of what is done to the audio of training, of the data sets where something is."""
    return [
        f"results/{name}/augmentation"
        for name in datasets or config["datasets"]
        if experiment.augmentation(section(name, "training")).keys() - {"spec_augment"}
    ]


def previewed(wildcards):
    """The manifest of which examples are made; ends with one line where there is nothing to listen to."""
    if not previews(wildcards.dataset):
        sys.exit(
            f"error: results/{wildcards.dataset}/augmentation: nothing of training.augmentation is on that can be heard"
        )
    return f"results/{wildcards.dataset}/manifests/train.jsonl"


def runs(dataset):
    """The folders of a data set's trainings below results/, one for each seed.

    The first seed's is the data set's own: more seeds that are asked for later don't train it again.
    """
    first, *others = experiment.seeds(config, dataset)
    return {dataset: first, **{f"{dataset}/seed_{seed}": seed for seed in others}}


def dataset_of(wildcards):
    """The data set, or that of a training's folder."""
    return getattr(wildcards, "dataset", None) or wildcards.run.partition("/")[0]


def seed_of(wildcards):
    """The seed of a training's folder; ends with one line where it is not asked for."""
    known = runs(dataset_of(wildcards))
    if wildcards.run not in known:
        sys.exit(
            f"error: results/{wildcards.run}: no such seed: training.seeds has {', '.join(map(str, known.values()))}"
        )
    return known[wildcards.run]


def as_json(value):
    """A value as a script's argument."""
    return experiment.as_argument(value)


def length(dataset):
    """How long to train: max_steps or num_train_epochs."""
    own = experiment.own_keys(config, dataset)
    return {key: own[key] for key in experiment.LENGTHS if key in own}


def all_splits(dataset):
    """The names of a data set's splits."""
    return experiment.own_keys(config, dataset)["splits"]


def splits(dataset, kind):
    """A data set's splits of one kind: train, validation or test."""
    return [split for split in all_splits(dataset) if split.split("_")[0] == kind]


def deciding_manifest(wildcards):
    """The validation split that decides whether a leg's weights or their mean are kept, where there is a mean."""
    dataset = dataset_of(wildcards)
    return [f"results/{dataset}/manifests/validation.jsonl"] if section(dataset, "training")["averaging"] else []


def deciding_options(wildcards, manifest):
    """How that split is decoded. No other search decides anew: a greedy one has little to set."""
    if not manifest:
        return ""
    evaluation = section(dataset_of(wildcards), "evaluation")
    greedy, size = as_json(evaluation["greedy"]), evaluation["batch_size"]
    return f"{option('validation', manifest)} {option('greedy', greedy)} --batch-size {size}"


def ahead(wildcards):
    """What a training transcribes when it has the model at hand, if it is short: all of a leg but by a language model.

    The manifests are there, as the gates look at all. They are no inputs: another test split must not train again.
    """
    run, evaluation = wildcards.run, section(dataset_of(wildcards), "evaluation")
    after_each = [Path(path).with_suffix(".jsonl") for path in interim_metrics(run)]
    after_last = [path for kind in ("greedy", "beam", "beam_without_lm") for path in of_run(run, kind, ".jsonl")]
    wanted = []
    for path in map(Path, after_each + after_last):
        job = SimpleNamespace(run=run, leg=wildcards.leg, search=path.parent.name, split=path.stem)
        if path.parts[-3] == f"leg_{wildcards.leg}" and not language_model(job):
            wanted.append({"manifest": decoded_manifest(job), "search": search(job), "hypotheses": str(path)})
    return {"batch_size": evaluation["batch_size"], "progress": transcripts(wildcards), "splits": wanted}


def transcripts(wildcards):
    """Where what is transcribed waits for the job that it is of, and what was transcribed before a kill."""
    return f"results/{wildcards.run}/runs/transcripts"


def gates(wildcards):
    """What is looked at before anything is trained or decoded, and does neither again when it is looked at once more."""
    dataset = dataset_of(wildcards)
    looked_at = ("manifests/overlap.json", "tokenizer/check.json")
    return ancient([f"results/{dataset}/{name}" for name in looked_at])


def base_model(wildcards):
    """What training starts from: a local .nemo file, the download of a pretrained name, another data set's last leg."""
    return base_model_of(dataset_of(wildcards))


def base_model_of(dataset):
    init_from = section(dataset, "model")["init_from"]
    if not init_from:
        return []
    if not init_from.endswith(".nemo"):
        return f"data/base_models/{init_from}.nemo"
    if earlier := experiment.trained_here(config, init_from):
        return final_checkpoint(earlier)
    path = Path(init_from)
    if not asked(path.is_file):
        sys.exit(f"error: model.init_from: {init_from}: no such file")
    return as_input(str(path))


def nemo_file(base_model):
    """The .nemo file of what training starts from, which may be the folder of a finished leg."""
    return f"{base_model}/model.nemo" if base_model and not str(base_model).endswith(".nemo") else base_model


def architecture(wildcards):
    """The model config that training from scratch builds; a name without one is refused by the script."""
    model = section(dataset_of(wildcards), "model")
    path = Path(f"config/models/{model['architecture']}.yaml")
    return [] if model["init_from"] or not path.is_file() else str(path)


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


def legs(dataset):
    return section(dataset, "evaluation")["legs"]


def every_leg(dataset):
    return range(1, legs(dataset) + 1)


def final_leg(dataset):
    """The leg whose weights are tested and given away, as `evaluation.select` says: the last one, or `best`."""
    return "best" if section(dataset, "evaluation")["select"] == "best" else legs(dataset)


def final_checkpoint(run):
    """Where those weights lie."""
    leg = final_leg(run.partition("/")[0])
    return f"results/{run}/checkpoints/best" if leg == "best" else checkpoint(run, leg)


def is_kept(dataset, leg):
    every = section(dataset, "evaluation")["save_every_legs"]
    return leg == legs(dataset) or bool(every and leg % every == 0)


def checkpoint(run, leg):
    """Where a leg's checkpoint lies: kept, or until its evaluation and the next leg are done."""
    kept = is_kept(run.partition("/")[0], leg)
    return f"results/{run}/checkpoints/{'' if kept else 'temporary/'}leg_{leg}"


def asked_leg(wildcards, first):
    """The number of a leg that is asked for; ends with one line where there is none, before the others are trained."""
    seed_of(wildcards)
    leg, dataset = wildcards.leg, dataset_of(wildcards)
    if leg == "best":
        sys.exit(f"error: {dataset} has no leg best: that is for evaluation.select: best, and in checkpoints/best")
    if not first <= int(leg) <= legs(dataset):
        sys.exit(f"error: {dataset} has no leg {leg}: evaluation.legs is {legs(dataset)}")
    return int(leg)


def previous_leg(wildcards):
    leg = asked_leg(wildcards, 1)
    return checkpoint(wildcards.run, leg - 1) if leg > 1 else []


def refuse_split(dataset, split):
    sys.exit(f"error: {dataset} has no split {split}: it has {', '.join(all_splits(dataset))}")


def leg_checkpoint(wildcards):
    """What a split is transcribed with; leg 0 is the pretrained model as it is, which has no seed."""
    dataset = dataset_of(wildcards)
    if wildcards.leg == final_leg(dataset) == "best":
        return final_checkpoint(wildcards.run)
    pretrained = section(dataset, "model")["init_from"] and wildcards.run == dataset
    leg = asked_leg(wildcards, 0 if pretrained else 1)
    return checkpoint(wildcards.run, leg) if leg else f"results/{dataset}/checkpoints/pretrained"


def decoded_manifest(wildcards):
    """The split that is transcribed."""
    dataset = dataset_of(wildcards)
    if wildcards.split not in all_splits(dataset):
        refuse_split(dataset, wildcards.split)
    return f"results/{dataset}/manifests/{wildcards.split}.jsonl"


def evaluations(dataset, search, suffix=".json"):
    """The metrics (or hypotheses) of a data set's test splits after its final leg; `zero_shot`: before the first.

    `beam_without_lm` is the beam search without its language model, where it has one.
    """
    if search == "zero_shot":
        if not section(dataset, "model")["init_from"]:
            return []
        folders = [f"results/{dataset}/evaluation/leg_0/beam"]
    else:
        if search == "beam_without_lm" and not section(dataset, "evaluation")["beam"]["lm"]:
            return []
        folders = [f"results/{run}/evaluation/leg_{final_leg(dataset)}/{search}" for run in runs(dataset)]
    return [f"{folder}/{split}{suffix}" for folder in folders for split in splits(dataset, "test")]


def of_run(run, search, suffix=".json"):
    """Those of `evaluations` that are of one training; the model before training is in all."""
    found = evaluations(run.partition("/")[0], search, suffix)
    return [path for path in found if search == "zero_shot" or path.startswith(f"results/{run}/evaluation/")]


def of_split(dataset, split, search):
    """Those hypotheses of `evaluations` that are of one test split."""
    if split not in splits(dataset, "test"):
        refuse_split(dataset, split)
    return [path for path in evaluations(dataset, search, ".jsonl") if Path(path).stem == split]


def summaries(dataset):
    """What all seeds together made of a data set's test splits."""
    return [f"results/{dataset}/evaluation/{split}.json" for split in splits(dataset, "test")]


def of_all(search, suffix=".json"):
    """The same of all data sets."""
    return [path for dataset in config["datasets"] for path in evaluations(dataset, search, suffix)]


def foreign_splits(dataset):
    """The test splits of all other data sets, each with the data set's name."""
    return [(other, split) for other in config["datasets"] if other != dataset for split in splits(other, "test")]


def foreign_manifest(wildcards):
    """The test split of another data set; ends with one line where there is none."""
    seed_of(wildcards)
    if wildcards.other == dataset_of(wildcards):
        sys.exit(
            f"error: results/{wildcards.run}/transfer: its own test splits are in results/{wildcards.run}/evaluation"
        )
    if (wildcards.other, wildcards.split) not in foreign_splits(dataset_of(wildcards)):
        refuse_split(wildcards.other, wildcards.split)
    return f"results/{wildcards.other}/manifests/{wildcards.split}.jsonl"


def transferring():
    """The data sets whose models are tested on the other data sets too."""
    return [name for name in config["datasets"] if section(name, "evaluation")["transfer"] and foreign_splits(name)]


def transfers(dataset, suffix):
    """The metrics or hypotheses of a data set's models on the test splits of the others."""
    if dataset not in transferring():
        return []
    return [
        f"results/{run}/transfer/{other}/{split}{suffix}"
        for run in runs(dataset)
        for other, split in foreign_splits(dataset)
    ]


def transfer_table():
    return ["results/transfer.csv"] if transferring() else []


def ablation():
    """What is left out of which data set; ends with one line where nothing is."""
    if not config["ablation"]:
        sys.exit("error: ablation: not set: which data set, and what to leave out of its recipe (config/README.md)")
    return config["ablation"]


def compared_recipe(dataset):
    """What an ablation compares of a data set: test splits with beam search, validation splits with greedy search."""
    validated = [
        f"results/{run}/evaluation/leg_{final_leg(dataset)}/greedy/{split}.jsonl"
        for run in runs(dataset)
        for split in splits(dataset, "validation")
    ]
    return evaluations(dataset, "beam", ".jsonl") + validated


def shown_ablation():
    """What tells the results that the page shows. No input of it: it is not to train what it was made of."""
    path = Path("results/ablation.csv")
    there = config["ablation"] and path.is_file()
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if there else ""


def base_models():
    """The pretrained models of all data sets, each once."""
    return sorted({str(path) for path in map(base_model_of, config["datasets"]) if path})


def interim_metrics(run):
    """The metrics of greedy search on the validation splits after every leg of a training."""
    dataset = run.partition("/")[0]
    return [
        f"results/{run}/evaluation/leg_{leg}/greedy/{split}.json"
        for leg in every_leg(dataset)
        for split in splits(dataset, "validation")
    ]


def all_interim_metrics(*datasets):
    """The same of all trainings of some data sets, or of all."""
    return [path for name in datasets or config["datasets"] for run in runs(name) for path in interim_metrics(run)]


def suspects(suffix=".tsv"):
    """What lists each data set's transcripts that may be wrong, where the configuration asks for it."""
    asking = [name for name in config["datasets"] if section(name, "evaluation")["suspects"]]
    return [f"results/{name}/suspects{suffix}" for name in asking]


def search(wildcards):
    """The parameters of a search, which change its hypotheses; NeMo's defaults and the file of `lm` are not in it."""
    kind = getattr(wildcards, "search", "beam")  # a decoding of another data set has no other
    options = section(dataset_of(wildcards), "evaluation")["greedy" if kind == "greedy" else "beam"]
    without = {"lm", "lm_text", "lm_order"}
    if not language_model(wildcards) or options["lm_weight"] == "auto":
        without.add("lm_weight")
    return {key: value for key, value in options.items() if value is not None and key not in without}


def language_model(wildcards):
    """The ARPA file of the beam search. An untouched model gets none of other tokens, and none of the training's making."""
    dataset = dataset_of(wildcards)
    beam = section(dataset, "evaluation")["beam"]
    path, untouched = beam["lm"], getattr(wildcards, "leg", None) == "0"
    of_training = section(dataset, "tokenizer")["source"] != "model" or "auto" in (path, beam["lm_weight"])
    if not path or getattr(wildcards, "search", "beam") != "beam" or (untouched and of_training):
        return []
    if path == "auto":
        return f"results/{dataset}/language_model/ngram.arpa"
    if not asked(Path(path).is_file):
        sys.exit(f"error: evaluation.beam.lm: {path}: no such file: it takes an ARPA file, auto, or null")
    return as_input(str(Path(path)))


def language_model_weight(wildcards):
    """What holds the weight that the language model was given on validation."""
    tuned = section(dataset_of(wildcards), "evaluation")["beam"]["lm_weight"] == "auto"
    return f"results/{wildcards.run}/language_model/weight.json" if tuned and language_model(wildcards) else []


def language_model_text(wildcards):
    """The file of the user's that the language model is made of; without, it is of the training transcripts."""
    path = section(wildcards.dataset, "evaluation")["beam"]["lm_text"]
    if not path:
        return []
    if not asked(Path(path).is_file):
        sys.exit(f"error: evaluation.beam.lm_text: {path}: no such file: it takes a text file, one sentence a line")
    return as_input(str(Path(path)))


def training_texts(wildcards):
    """The texts that a language model's tokens are checked with."""
    return [f"results/{dataset_of(wildcards)}/manifests/train.jsonl"] if language_model(wildcards) else []


def mapping_file(dataset, split):
    """The GLM that a test split is scored by too, as sclite does it; of Switchboard and CallHome."""
    if not split.startswith("test"):
        return []
    (part,) = experiment.parts(config, dataset, split)
    found = asked(glm.find, part["source"])
    return [as_input(str(found))] if found else []


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
