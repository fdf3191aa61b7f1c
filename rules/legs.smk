"""What is trained, with what, and from where: trainings, their legs and checkpoints."""


def model_options(dataset):
    """A data set's model section, without a key that came later and is not set: see `training_options`."""
    return {key: value for key, value in section(dataset, "model").items() if key != "overrides" or value}


def running_options(dataset):
    """What of a data set's training section does not change the weights."""
    keys = ("checkpoint_every_steps", "gradient_checkpointing", "max_skipped_steps", "processes")
    return {key: section(dataset, "training")[key] for key in keys}


def processes(wildcards):
    """The processes that train a data set's model together."""
    return section(dataset_of(wildcards), "training")["processes"]


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


def seed_of(wildcards):
    """The seed of a training's folder; ends with one line where it is not asked for."""
    known = runs(dataset_of(wildcards))
    if wildcards.run not in known:
        sys.exit(
            f"error: results/{wildcards.run}: no such seed: training.seeds has {', '.join(map(str, known.values()))}"
        )
    return known[wildcards.run]


def length(dataset):
    """How long to train: max_steps or num_train_epochs."""
    own = experiment.own_keys(config, dataset)
    return {key: own[key] for key in experiment.LENGTHS if key in own}


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


def base_models():
    """The pretrained models of all data sets, each once."""
    return sorted({str(path) for path in map(base_model_of, config["datasets"]) if path})
