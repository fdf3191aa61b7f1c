"""What is decoded, with which search, and which files tell of it."""


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
