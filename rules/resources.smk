"""What a job asks a scheduler for, beside threads: minutes, memory, GPUs. More with each attempt."""

# Of an architecture in config/models; other files count by their size.
SMALL = ("_dummy", "_tiny", "_small")
PARAMETERS = {True: 1e6, False: 150e6}
SPEECH_PER_SECOND = {"gpu": 1e10, "cpu": 3e7}  # seconds of speech that are trained in a second, times parameters: low


def parameters(dataset):
    """About how many parameters a data set's model has."""
    model = section(dataset, "model")
    base = nemo_file(base_model_of(dataset))
    if base and os.path.isfile(base):
        return max(1e5, os.path.getsize(base) / 4)
    return PARAMETERS[not model["init_from"] and model["architecture"].endswith(SMALL)]


def seconds_of_speech(dataset, kinds):
    """The speech in a data set's splits of some kinds once they are listed, 100 hours before."""
    summary = Path(f"results/{dataset}/manifests/summary.json")
    if not summary.is_file():
        return 3.6e5
    found = json.loads(summary.read_text(encoding="utf-8"))
    return sum(found[split]["hours"] * 3600 for kind in kinds for split in splits(dataset, kind) if split in found)


def training_minutes(wildcards, attempt):
    """A leg's share of the training by a low guess of the speed, and half an hour. One that is cut off goes on."""
    dataset = dataset_of(wildcards)
    lasts, training = length(dataset), section(dataset, "training")
    budget = training["batch_budget"] if isinstance(training["batch_budget"], (int, float)) else 600
    if "max_steps" in lasts:
        speech = lasts["max_steps"] * budget * training["gradient_accumulation_steps"]
    else:
        speech = lasts["num_train_epochs"] * seconds_of_speech(dataset, ["train"])
    return minutes(speech / legs(dataset), dataset, attempt)


def decoding_minutes(wildcards, attempt):
    """A split takes no longer than all that a data set is validated and tested on would take in training."""
    dataset = dataset_of(wildcards)
    return minutes(seconds_of_speech(dataset, ["validation", "test"]), dataset, attempt)


def minutes(speech, dataset, attempt):
    """For so many seconds of speech: from half an hour to two days."""
    speed = SPEECH_PER_SECOND["gpu" if gpus(None) else "cpu"] / parameters(dataset)
    return min(2880, round(attempt * (30 + speech / speed / 60)))


def model_memory(wildcards, attempt):
    """MB for NeMo, weights, gradients, two moments and a mean in 32 bits, and room for a batch."""
    return round(attempt * (6000 + 2 * 20 * parameters(dataset_of(wildcards)) / 1e6))


def training_memory(wildcards, attempt):
    """The same for each process that trains."""
    return processes(wildcards) * model_memory(wildcards, attempt)
