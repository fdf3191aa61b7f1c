"""What data sets draw on: sources, their splits, and which splits are compared with which."""


def file_name(split):
    """A split's name as a part of a path."""
    if re.fullmatch(r"\w[\w.-]{0,99}", split, re.ASCII):
        return split
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", split)[-50:]
    return f"_{plain}-{hashlib.sha256(split.encode()).hexdigest()[:6]}"


def without_rules(source):
    """A source's section without its cleaning rules, which change nothing that is prepared or listed."""
    return {key: value for key, value in source.items() if key != "rules"}


def all_sources():
    """What data sets draw on, by id: the source's section, and the names of its splits by those of their folders."""
    found = {}
    for dataset, own in config["datasets"].items():
        for split in own["splits"]:
            for part in experiment.parts(config, dataset, split):
                known = found.setdefault(
                    experiment.source_id(part["source"]), {"source": without_rules(part["source"]), "splits": {}}
                )
                known["splits"][file_name(part["split"])] = part["split"]
    return found


SOURCES = all_sources()  # by the wildcard `source`


def is_licensed(dataset):
    """Whether a data set draws on transcripts that are for licensees alone."""
    drawn = experiment.drawn(config, dataset).values()
    return any(part["source"]["type"] == "switchboard" for parts in drawn for part in parts)


def parts(dataset, split):
    """What a split of a data set is made of, for build_manifest.py: listings of splits of sources."""
    found = experiment.parts(config, dataset, split)
    heard = "samples" if section(dataset, "filter")["read_samples"] else "headers"
    same = len({experiment.source_id(part["source"]) for part in found}) == 1
    described = []
    for part in found:
        source, name = part.pop("source"), part.pop("split")
        # Ids as they are where they can't be the same, so that a source that gets a name changes no manifest.
        part["label"] = name if same else part["label"]
        part["prefix"] = "" if len(found) == 1 else f"{part['label']}/"
        part["listing"] = f"results/sources/{experiment.source_id(source)}/{file_name(name)}/{heard}"
        described.append({**part, **({"rules": source["rules"]} if "rules" in source else {})})
    return described


def listings(dataset, split, name):
    """The files of that name of the listings that a split of a data set is made of."""
    if split not in all_splits(dataset):
        refuse_split(dataset, split)
    return [f"{part['listing']}/{name}" for part in parts(dataset, split)]


def duration_limits(dataset, split):
    """How build_manifest filters a split: a test split not at all."""
    limits = section(dataset, "filter")
    if split.startswith("test"):
        return ""
    return f"--min-duration {limits['min_duration']} --max-duration {limits['max_duration']}"


def learned(*datasets):
    """What the models of some data sets have learned from, each split by a name that no other has."""
    return {
        f"{kind}_{name}/{split}": compared(name, split)
        for name in datasets
        for kind in KINDS[:2]
        for split in splits(name, kind)
    }


def own_splits(dataset):
    """What of a data set is compared: its splits, and what the models that its training started from have learned."""
    own = {split: compared(dataset, split) for kind in KINDS for split in splits(dataset, kind)}
    return own | learned(*experiment.ancestors(config, dataset))


def learned_and_foreign(dataset):
    """What a data set's models have learned from, and the test splits of all others."""
    foreign = {f"test_{other}/{split}": compared(other, split) for other, split in foreign_splits(dataset)}
    return learned(dataset, *experiment.ancestors(config, dataset)) | foreign


def compared(dataset, split):
    return {"manifest": f"results/{dataset}/manifests/{split}.jsonl", "parts": parts(dataset, split)}


def manifest_files(compared):
    """The manifests of splits that are compared."""
    return [split["manifest"] for split in compared.values()]


def fingerprint_files(compared):
    """The files with the fingerprints of splits that are compared, each once."""
    folders = [part["listing"] for split in compared.values() for part in split["parts"]]
    return [
        f"{folder}/{name}" for folder in dict.fromkeys(folders) for name in ("fingerprints.npz", "utterances.jsonl")
    ]


def manifests(dataset, name="{split}.jsonl", kinds=KINDS):
    """The manifests of a data set, or what lies beside them, of splits of some kinds."""
    names = [split for kind in kinds for split in splits(dataset, kind)]
    return [f"results/{dataset}/manifests/{name}".format(split=split) for split in names]


def source_listing(wildcards):
    """The file that lists a local source's split: an edit of it lists the split anew."""
    known = SOURCES[wildcards.source]
    if known["source"]["type"] != "local":
        return []
    found = asked(local.listing, known["source"], known["splits"][wildcards.part])
    return as_input(str(found)) if found else []


def cleaning_options(dataset):
    """How build_manifest cleans the texts; the language where it matters: else its change would train again."""
    text = section(dataset, "text")
    matters = text["case"] == "lower" and languages.has_own_case(text["language"])
    language = option("language", text["language"] if matters else "")
    return f"--case {text['case']} --rules {text['rules']} {language}".strip()


def cleaning_of_text(dataset):
    """How build_language_model cleans a text of the user's: as the training split, where that has one set of rules."""
    text = section(dataset, "text")
    kinds = {part["source"].get("rules", part["source"]["type"]) for part in experiment.parts(config, dataset, "train")}
    return (
        f"--case {text['case']} --rules {text['rules']} --language {text['language']} --kinds {' '.join(sorted(kinds))}"
    )
