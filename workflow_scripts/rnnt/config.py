"""Validate the configuration and give each rule the part of it that it depends on.

Imported by the Snakefile: standard library, and jsonschema and PyYAML, which Snakemake itself requires.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import math
import os
import re
import unicodedata
from pathlib import Path

import jsonschema
import yaml

from rnnt.errors import UserError

SPLITS = {  # of the sources whose splits are known beforehand
    "synthetic": "train validation test",
    "librispeech": "train-clean-100 train-clean-360 train-other-500 dev-clean dev-other test-clean test-other",
    "common_voice": "train dev test",
    "tedlium": "train dev test",
    "switchboard": "train validation test_switchboard test_callhome",
}
BEAM_PARAMETERS = {  # which searches have them; the others of the `beam` section all have
    "lm": ("malsd_batch", "maes_batch"),
    "max_symbols": ("tsd", "malsd_batch"),
    "alsd_max_target_len": ("alsd",),
    "maes_num_steps": ("maes", "maes_batch"),
    "maes_expansion_beta": ("maes",),
    "maes_expansion_gamma": ("maes", "maes_batch"),
}
LANGUAGE_TAG = re.compile(  # RFC 5646, 2.1; of its languages those that have been given out
    r"[a-z]{2,3}(-[a-z]{3}){0,3}(-[a-z]{4})?(-([a-z]{2}|\d{3}))?(-([a-z0-9]{5,8}|\d[a-z0-9]{3}))*"
    r"(-[a-wyz0-9](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?",
    re.ASCII | re.IGNORECASE,
)
# RFC 5646, 2.2.1: the shortest code is the tag. Of the languages that `rnnt.data.languages` tells apart.
SHORTEST = {
    **{"eng": "en", "tur": "tr", "aze": "az", "lit": "lt", "tat": "tt", "jpn": "ja", "tha": "th", "lao": "lo"},
    **{"zho": "zh", "chi": "zh", "khm": "km", "mya": "my", "bur": "my", "bod": "bo", "tib": "bo", "dzo": "dz"},
}
NAME_OF_A_MODEL = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"
RANGES = (("noise", "snr"), ("babble", "snr"), ("babble", "speakers"))  # of training.augmentation
LISTED_BEFORE = " (to change a data set of another file, list that file first: --configfile config/config.yaml YOURS)"
LENGTHS = ("max_steps", "num_train_epochs")
WITHOUT = "-without-"  # in the name of a data set that is made of an overlay of `ablation`
SHARED_SECTIONS = ("model", "tokenizer", "text", "filter", "training", "evaluation")


FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("language-tag")
def _is_language_tag(value) -> bool:
    return not isinstance(value, str) or bool(LANGUAGE_TAG.fullmatch(value) and _shortest(value) == value)


def _shortest(tag: str) -> str:
    """The tag with the shortest code of its language, where there is a shorter one."""
    language, *others = tag.split("-")
    return "-".join([SHORTEST.get(language.lower(), language), *others])


def load_schema(path: str | Path) -> dict:
    """Read a JSON schema written as YAML."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def validate(config: dict, schema: dict) -> dict:
    """Return a copy of `config` with every default filled in.

    Raises UserError with one line that names the first wrong key, what was expected and what to do.
    """
    config = copy.deepcopy(config)
    _read_off_as_a_word(config)
    _check_names(config)
    _check_values(config, "")
    _check_seeds(config)
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    errors = sorted(validator.iter_errors(config), key=lambda error: (error.validator == "oneOf", len(error.path)))
    if errors:
        raise UserError(_explain(errors[0], schema))
    _fill_defaults(config, schema, schema, "", overrides=False)
    if config["training"]["seeds"]:
        _leave_one_of_seed_and_seeds(config)
    for name, dataset in config["datasets"].items():
        _check_dataset(config, name, dataset, f"datasets.{name}")
    if config["ablation"]:
        _check_ablation(config, **config["ablation"])
    return config


def dataset_config(config: dict, dataset: str, *sections: str) -> dict:
    """The named sections of a data set, its own overrides merged over the shared ones.

    `training` has one of `seed` and `seeds`.
    """
    own = own_keys(config, dataset)
    found = {
        section: _merged(config[section], own.get(section, {})) if section in SHARED_SECTIONS else own[section]
        for section in sections
    }
    if "training" in found:
        ours = own.get("training", {})
        several = ours["seeds"] if "seeds" in ours else config["training"]["seeds"] and "seed" not in ours
        found["training"].pop("seed" if several else "seeds", None)
    return found


def own_keys(config: dict, dataset: str) -> dict:
    """A data set's own keys. `NAME-without-PART` has those of NAME, and over them those of PART of `ablation`."""
    name, _, part = dataset.partition(WITHOUT)
    if not part:
        return config["datasets"][name]
    merged = _merged(config["datasets"][name], config["ablation"]["without"][part])
    return {key: value for key, value in merged.items() if key not in LENGTHS or value is not None}


def ablated(config: dict) -> dict[str, str]:
    """The data set that each part of `ablation` is left out in, by the name of the part."""
    ablation = config["ablation"] or {"without": {}}
    return {part: f"{ablation['dataset']}{WITHOUT}{part}" for part in ablation["without"]}


def seeds(config: dict, dataset: str) -> list[int]:
    """The seeds that a data set's recipe is trained with."""
    training = dataset_config(config, dataset, "training")["training"]
    return training["seeds"] if "seeds" in training else [training["seed"]]


def augmentation(training: dict) -> dict:
    """What of the `augmentation` of a `training` section is on: a later key that is off trains nothing anew."""
    off = {"speed": lambda on: set(on) == {1}, "gain": lambda on: on is None, "spec_augment": lambda on: on is None}
    return {
        name: on
        for name, on in training["augmentation"].items()
        if not (off[name](on) if name in off else on["probability"] == 0)
    }


def parts(config: dict, dataset: str, split: str) -> list[dict]:
    """The splits of sources that a data set's split is made of, and what of them.

    Each has `source`, the section; `split`, its name there; `label`, its name in the data set's `splits`; `hours` or
    `weight` where it is a share.
    """
    own = own_keys(config, dataset)
    found = []
    for share in _shares(own["splits"][split]):
        name, _, below = share["split"].partition("/")
        source, name = (own["source"], share["split"]) if "source" in own else (config["sources"][name], below)
        found.append({**share, "source": source, "split": name, "label": share["split"]})
    return found


def drawn(config: dict, dataset: str) -> dict[str, list[dict]]:
    """Of each split of a data set the splits of sources that it draws on: `source`, the section, and `split`."""
    return {
        ours: [{"source": part["source"], "split": part["split"]} for part in parts(config, dataset, ours)]
        for ours in own_keys(config, dataset)["splits"]
    }


def _shares(value: str | dict | list) -> list[dict]:
    """What a data set's split is made of, each a section."""
    return [{"split": one} if isinstance(one, str) else one for one in (value if isinstance(value, list) else [value])]


def trained_here(config: dict, init_from: str | None) -> str | None:
    """The data set whose model `model.init_from` names, `results/NAME/model/model.nemo`, where it is one of these."""
    match = re.fullmatch(r"(?:\./)?results/([a-z][a-z0-9_]*)/model/model\.nemo", init_from or "")
    return match[1] if match and match[1] in config["datasets"] else None


def ancestors(config: dict, dataset: str) -> list[str]:
    """The data sets whose models a data set's training started from, the nearest first."""
    found = []
    while earlier := trained_here(
        config, dataset_config(config, (found or [dataset])[-1], "model")["model"]["init_from"]
    ):
        if earlier in (dataset, *found):
            break
        found.append(earlier)
    return found


def source_id(source: dict) -> str:
    """What tells a source's files from those of others: its type, and a hash of all but its cleaning rules."""
    content = as_argument({key: value for key, value in source.items() if key != "rules"})
    return f"{source['type']}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _merged(shared: dict, own: dict) -> dict:
    """`own` over `shared`, key by key, the sections within them too."""
    below = {key: _merged(shared.get(key) or {}, value) for key, value in own.items() if isinstance(value, dict)}
    return {**shared, **own, **below}


def beam_width(beam: dict) -> int:
    """How many tokens a beam search looks at for one hypothesis: no more than the vocabulary has."""
    if not beam["strategy"].startswith("maes"):
        return beam["beam_size"]
    beta = beam.get("maes_expansion_beta")
    return beam["beam_size"] + (2 if beta is None else beta)


def as_argument(value: dict) -> str:
    """JSON on one line, the same for the same content: a script's argument that Snakemake can compare."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _read_off_as_a_word(config: dict) -> None:
    """YAML 1.1 reads a bare `off` as false."""
    wandb = config.get("wandb")
    if isinstance(wandb, dict) and wandb.get("mode") is False:
        wandb["mode"] = "off"


def _check_names(config: dict) -> None:
    """YAML 1.1 reads some bare words, such as `on`, and numbers as something else than text."""
    datasets = config.get("datasets")
    for name in datasets if isinstance(datasets, dict) else ():
        if not isinstance(name, str):
            raise UserError(f"config: datasets.{name}: YAML does not read this name as text: put it in quotes")


def _check_values(value, where: str) -> None:
    """What JSON Schema lets pass: `.nan` and `.inf` of YAML, a line break at the end of a name."""
    if isinstance(value, dict):
        for key, child in value.items():
            _check_values(str(key), f"{where}.{key!a}")
            _check_values(child, f"{where}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for child in value:
            _check_values(child, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config: {where}: expected a finite number, got {value}")
    elif isinstance(value, str) and any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        raise UserError(f"config: {where}: {value!a} holds a line break or a control character: take it out")


def _check_seeds(config: dict) -> None:
    """`seed` and `seeds` exclude one another, before defaults hide what was given."""
    datasets = config.get("datasets")
    sections = {"": config, **(datasets if isinstance(datasets, dict) else {})}
    for name, section in sections.items():
        training = section.get("training") if isinstance(section, dict) else None
        if isinstance(training, dict) and "seed" in training and training.get("seeds") is not None:
            raise UserError(
                f"config: {f'datasets.{name}.' * bool(name)}training: seed and seeds are both given: take out one "
                "(seed trains once, seeds once for each)"
            )


def _leave_one_of_seed_and_seeds(config: dict) -> None:
    """Shared seeds are in place of the default seed, which stays for the data set that takes them off."""
    seed = config["training"].pop("seed")
    for dataset in config["datasets"].values():
        own = dataset.get("training", {})
        if own.get("seeds", ()) is None:
            own.setdefault("seed", seed)


def _path(value: str, where: str) -> str:
    """A path with its `~` expanded."""
    expanded = os.path.expanduser(value)
    if expanded.startswith("~"):
        raise UserError(f"config: {where}: {value}: no such home (for a folder of that name here write ./{value})")
    return expanded


def _check_dataset(config: dict, name: str, dataset: dict, key: str) -> None:
    """What a schema cannot say: keys that exclude or need one another. `key` is where they are given."""
    if re.fullmatch(r"seed_\d+", name):
        raise UserError(f"config: {key}: the folders of seeds are called so: choose another name")
    if "source" not in dataset and not config["sources"]:
        raise UserError(f"config: {key}.source is missing{LISTED_BEFORE}")
    for length in LENGTHS:
        if dataset.get(length, 0) is None:
            del dataset[length]
    if ("max_steps" in dataset) == ("num_train_epochs" in dataset):
        raise UserError(f"config: {key} needs either max_steps or num_train_epochs, and not both")
    if not any(split.startswith("test") for split in dataset["splits"]):
        raise UserError(f"config: {key}.splits has no test split: name one `test` or `test_...`")
    _check_splits(config, key, dataset)
    _check_shares_apart(key, dataset["splits"])
    merged = dataset_config(config, name, "model", "tokenizer", "filter", "training", "evaluation")
    beam = merged["evaluation"]["beam"]
    for parameter, strategies in BEAM_PARAMETERS.items():
        if beam[parameter] is not None and beam["strategy"] not in strategies:
            raise UserError(
                f"config: {key}: evaluation.beam.{parameter} is for {' and '.join(strategies)}, not for "
                f"{beam['strategy']}: set it to null, or take another strategy"
            )
    if beam["lm_text"] and beam["lm"] != "auto":
        raise UserError(f"config: {key}: evaluation.beam.lm_text is for `lm: auto`: set that, or take lm_text out")
    if beam["beam_size"] == 1 and beam["strategy"] in ("beam", "tsd", "alsd", "maes"):
        raise UserError(f"config: {key}: evaluation.beam: {beam['strategy']} with beam_size 1 is NeMo's greedy search")
    if merged["tokenizer"]["source"] == "train" and beam_width(beam) > merged["tokenizer"]["vocab_size"]:
        raise UserError(
            f"config: {key}: evaluation.beam: {beam['strategy']} looks at {beam_width(beam)} tokens at a time, "
            "which must not exceed tokenizer.vocab_size: lower beam_size"
        )
    if dataset.get("max_steps", math.inf) < (legs := merged["evaluation"]["legs"]):
        raise UserError(f"config: {key}: {dataset['max_steps']} max_steps can't be cut into {legs} evaluation.legs")
    if (warmup := merged["training"]["warmup_steps"]) > 1 and warmup != int(warmup):
        raise UserError(f"config: {key}: training.warmup_steps: expected whole steps, or a share below 1, got {warmup}")
    if merged["filter"]["min_duration"] >= merged["filter"]["max_duration"]:
        raise UserError(f"config: {key}: filter.min_duration must be below filter.max_duration")
    if merged["tokenizer"]["source"] != "train" and not merged["model"]["init_from"]:
        raise UserError(
            f"config: {key}: tokenizer.source is `{merged['tokenizer']['source']}`, but there is no model to take it "
            "from: set model.init_from, or tokenizer.source: train"
        )
    init_from = merged["model"]["init_from"] or ""
    if init_from and not init_from.endswith(".nemo") and not re.fullmatch(NAME_OF_A_MODEL, init_from):
        raise UserError(
            f"config: {key}: model.init_from: {init_from}: neither the path of a file *.nemo nor a model's name, "
            "such as stt_en_contextnet_1024"
        )
    _check_chain(config, name)
    if merged["evaluation"]["transfer"] and len(config["datasets"]) == 1:
        raise UserError(f"config: {key}: evaluation.transfer: there is no other data set to test its models on")
    if merged["training"]["precision"] == "fp16" and config["device"] == "cpu":
        raise UserError(f"config: {key}: training.precision fp16 needs a CUDA GPU: use bf16 or fp32")
    if not merged["filter"]["allow_overlap"]:
        _check_disjoint(key, dataset["splits"])
    _check_augmentation(f"{key}: training.augmentation", augmentation(merged["training"]))


def _check_ablation(config: dict, dataset: str, without: dict) -> None:
    """That every part that is left out is one of the data set's recipe, and another than all others."""
    if dataset not in config["datasets"]:
        near = difflib.get_close_matches(dataset, config["datasets"], n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"the data sets are {', '.join(config['datasets'])}"
        raise UserError(f"config: ablation.dataset: there is no data set {dataset}: {hint}")
    known = {"": _recipe(config, dataset)}
    for part, name in ablated(config).items():
        key = f"ablation.without.{part}"
        if {"seed", "seeds"} & without[part].get("training", {}).keys():
            raise UserError(
                f"config: {key}.training: an ablation has the seeds of its data set: take out seed and seeds"
            )
        _check_dataset(config, name, own_keys(config, name), key)
        recipe = _recipe(config, name)
        if same := next((other for other, found in known.items() if found == recipe), None):
            raise UserError(f"config: {key}: the same as ablation.without.{same}: take one of them out")
        if same is not None:
            raise UserError(f"config: {key}: changes nothing of {dataset}: which part of its recipe is left out?")
        known[part] = recipe


def _recipe(config: dict, dataset: str) -> dict:
    """What of a data set's configuration an ablation may change."""
    sections = dataset_config(config, dataset, "model", "tokenizer", "training", "evaluation")
    own = own_keys(config, dataset)
    return sections | {length: own.get(length) for length in LENGTHS}


def _check_augmentation(key: str, on: dict) -> None:
    """That ranges are none backwards, and that noise comes from somewhere."""
    ranges = {"gain": on.get("gain")}
    ranges |= {f"{name}.{inner}": on.get(name, {}).get(inner) for name, inner in RANGES}
    for name, value in ranges.items():
        if value and value[0] > value[1]:
            raise UserError(f"config: {key}.{name}: {value[0]} to {value[1]}: the lower one comes first")
    if "noise" in on and not on["noise"]["path"]:
        raise UserError(f"config: {key}.noise.path: not set: noise is taken from a folder with audio files")


def _check_chain(config: dict, name: str) -> None:
    """That no data set's training starts, over others, from its own model."""
    passed = [name, *ancestors(config, name)]
    first = dataset_config(config, passed[-1], "model")["model"]["init_from"]
    if trained_here(config, first) == name:
        raise UserError(
            f"config: datasets.{name}: model.init_from: starts from its own model: {' from '.join([*passed, name])}"
        )


def _check_splits(config: dict, key: str, dataset: dict) -> None:
    """That every split is of a source that is there, and that shares add up."""
    for ours, value in dataset["splits"].items():
        where, shares = f"config: {key}.splits.{ours}", _shares(value)
        names = [share["split"] for share in shares]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{where}: {name} is named twice")
            _check_split(config["sources"], dataset.get("source"), where, name)
        for share in shares:
            if {"hours", "weight"} <= share.keys():
                raise UserError(f"{where}: {share['split']}: hours and weight are both given: take out one")
        weights = [share["weight"] for share in shares if "weight" in share]
        if weights and ours != "train":
            raise UserError(f"{where}: only train has weights: use hours")
        total = sum(weights)
        if weights and (abs(total - 1) > 1e-6 if len(weights) == len(shares) else total >= 1):
            wanted = (
                "1, as every split has one" if len(weights) == len(shares) else "less than 1: the others get the rest"
            )
            raise UserError(f"{where}: the weights add up to {total:g}, expected {wanted}")


def _check_shares_apart(key: str, splits: dict) -> None:
    """That no share is drawn of a split that validates or trains too: the one would lie inside the other."""
    drawn = [(ours, share) for ours, value in splits.items() if ours[:4] != "test" for share in _shares(value)]
    for ours, share in drawn:
        for theirs, other in drawn:
            if (
                ours < theirs
                and share["split"] == other["split"]
                and {"hours", "weight"} & (share.keys() | other.keys())
            ):
                raise UserError(
                    f"config: {key}.splits: {share['split']} is in {theirs} and in {ours}, one of them a share: shares "
                    "of one split overlap: take another split for one of them"
                )


def _check_split(sources: dict, own: dict | None, where: str, name: str) -> None:
    """That a split is of the data set's own source, or of a named one, that may have it."""
    source, _, split = name.partition("/")
    if own is not None and source in sources and split:
        raise UserError(
            f"{where}: {name}: the data set has a `source` of its own, whose splits are named without it: to draw on "
            f"{source} too, give that a name in `sources`"
        )
    if own is None and source in sources and not split:
        raise UserError(f"{where}: {name}: expected SOURCE/SPLIT: which split of {source}?")
    if own is None and source not in sources:
        near = difflib.get_close_matches(source, sources, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"sources has {', '.join(sources)}"
        expected = "" if "/" in name else "expected SOURCE/SPLIT: "
        raise UserError(f"{where}: {name}: {expected}there is no source {source or 'without a name'}: {hint}")
    kind = (own or sources[source])["type"]
    split = name if own is not None else split
    if split.startswith("-"):
        raise UserError(f"{where}: {name}: a split's name does not begin with a hyphen")
    if kind in SPLITS and split not in SPLITS[kind].split():
        near = difflib.get_close_matches(split, SPLITS[kind].split(), n=1)
        hint = f": did you mean `{near[0]}`?" if near else ""
        known = SPLITS[kind].replace(" ", ", ")
        raise UserError(f"{where}: the source {kind} has no split {split} (it has {known}){hint}")


def _check_disjoint(key: str, splits: dict) -> None:
    """That no split is tested on that is trained or validated on, which needs no look at a recording."""
    learned = {share["split"]: name for name, value in splits.items() if name[:4] != "test" for share in _shares(value)}
    for name, value in splits.items():
        if name.startswith("test") and value in learned:
            raise UserError(
                f"config: {key}.splits.{name}: {value} is in {learned[value]} too: the score would be of what it "
                "has learned from: take another split, or accept it with filter.allow_overlap: true"
            )


def _resolve(node: dict, schema: dict) -> dict:
    if "$ref" not in node:
        return node
    return schema["$defs"][node["$ref"].removeprefix("#/$defs/")]


def _properties(node: dict, instance: dict, schema: dict) -> dict:
    """The sub-schema of every property of `node`, the right branch of `source` taken by its `type`."""
    if "oneOf" in node and "properties" in node:
        for branch in node["oneOf"]:
            branch = _resolve(branch, schema)
            if branch["properties"]["type"]["const"] == instance.get("type"):
                return branch["properties"]
    properties = dict(node.get("properties", {}))
    for key in instance:
        for pattern in node.get("patternProperties", {}).values():
            properties.setdefault(key, pattern)
    return properties


def _fill_defaults(instance: dict, node: dict, schema: dict, where: str, overrides: bool, fill: bool = True) -> None:
    """Fill defaults and expand paths, in place.

    A data set's overrides of the shared sections get no defaults: they would hide the shared. But a section that may be
    null, which there is no other to merge with.
    """
    for key, child in _properties(node, instance, schema).items():
        child = _resolve(child, schema)
        own = fill and not (overrides and key in SHARED_SECTIONS)
        if key not in instance:
            if "default" not in child or not own:
                continue
            instance[key] = copy.deepcopy(child["default"])
        if isinstance(instance[key], float) and "integer" in str(child.get("type")) and instance[key].is_integer():
            instance[key] = int(instance[key])  # 3.0 is an integer to JSON Schema
        if isinstance(instance[key], list) and child.get("items", {}).get("type") == "integer":
            instance[key] = [int(one) for one in instance[key]]
        if child.get("format") == "path" and instance[key] is not None:
            instance[key] = _path(instance[key], f"{where}{key}")
        if isinstance(instance[key], dict):
            whole = own or child.get("default", {}) is None
            _fill_defaults(
                instance[key], child, schema, f"{where}{key}.", overrides or key in ("datasets", "without"), whole
            )


def _explain(error: jsonschema.ValidationError, schema: dict) -> str:
    """One line for a person out of a validation error."""
    if error.validator == "oneOf" and isinstance(error.instance, dict):
        error = _error_in_chosen_branch(error)
    where = ".".join(str(part) for part in error.absolute_path)
    key = f"config: {where}" if where else "config"
    value = error.instance
    if error.validator == "additionalProperties":
        known = _known_keys(error.schema, schema)
        patterns = list(error.schema.get("patternProperties", {}))
        unknown = next(
            k
            for k in value
            if k not in error.schema.get("properties", {}) and not any(re.search(p, str(k)) for p in patterns)
        )
        full = f"{where}.{unknown}" if where else str(unknown)
        kinds = {"datasets": "data set", "sources": "source", "ablation.without": "part"}
        if kind := kinds.get(where):
            return f"config: {full}: a {kind}'s name is up to 100 lower-case letters, digits and underscores"
        near = difflib.get_close_matches(str(unknown), known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return f"config: unknown key {full}: {hint}"
    if error.validator == "required":
        missing = error.message.split("'")[1]
        hint = LISTED_BEFORE if where.startswith("datasets.") and where.count(".") == 1 else ""
        return f"{key}{'.' if where else ': '}{missing} is missing{hint}"
    if error.validator == "type":
        expected = error.validator_value
        expected = " or ".join(expected) if isinstance(expected, list) else expected
        hint = ""
        if isinstance(value, str) and expected.split(" or ")[0] in ("number", "integer"):
            hint = _number_hint(value, expected.split(" or ")[0])
        elif value is False and where.endswith("text.language"):
            hint = ': YAML reads a bare no as false, write "no"'
        elif isinstance(value, bool | int | float) and "string" in expected:
            hint = ": put it in quotes" + (" (YAML reads yes, no, on and off so)" if isinstance(value, bool) else "")
        return f"{key}: expected {_article(expected)}, got {_shown(value)}{hint}"
    if error.validator == "format":
        near = _shortest(value.replace("_", "-"))
        hint = f": did you mean `{near}`?" if LANGUAGE_TAG.fullmatch(near) else ""
        return (
            f"{key}: expected a BCP 47 language tag such as en, pt-BR or sr-Latn, "
            f"got {json.dumps(value, ensure_ascii=False)}{hint}"
        )
    if error.validator == "anyOf" and ".splits." in where:
        return _explain_share(error, where)
    if error.validator == "uniqueItems":
        return f"{key}: {next(one for one in value if value.count(one) > 1)} is there twice"
    if error.validator == "anyOf":
        number, word = error.validator_value
        limits = f"from {number['minimum']} to {number['maximum']}" if "maximum" in number else "above 0"
        expected = f"{_article(number['type'])} {limits} or `{word['const']}`"
        hint = _number_hint(value, number["type"]) if isinstance(value, str) else ""
        return f"{key}: expected {expected}, got {_shown(value)}{hint}"
    if error.validator in ("enum", "const"):
        allowed = error.validator_value if error.validator == "enum" else [error.validator_value]
        near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
        hint = f": did you mean `{near[0]}`?" if near else ""
        return f"{key}: {_shown(value)} is not one of {', '.join(map(str, allowed))}{hint}"
    if error.validator == "pattern":
        return f"{key}: {_shown(value)} does not fit: {' '.join(error.schema['description'].split())}"
    return f"{key}: {error.message}"


def _explain_share(error: jsonschema.ValidationError, where: str) -> str:
    """What is wrong with one of the splits that a split is made of."""
    value = error.instance
    for number, one in enumerate(value if isinstance(value, list) else [value]):
        place = f"config: {where}" + (f".{number}" if isinstance(value, list) else "")
        if isinstance(one, dict) and isinstance(one.get("split"), str) and one["split"]:
            for name, most in (("hours", math.inf), ("weight", 1)):
                share = one.get(name, 0.5)
                if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < most:
                    expected = "above 0" if most > 1 else "above 0 and below 1"
                    hint = _number_hint(share, "number") if isinstance(share, str) else ""
                    return f"{place}.{name}: expected a number {expected}, got {_shown(share)}{hint}"
            unknown = next((key for key in one if key not in ("split", "hours", "weight")), None)
            if unknown:
                near = difflib.get_close_matches(str(unknown), ("split", "hours", "weight"), n=1)
                hint = f"did you mean `{near[0]}`?" if near else "known here: split, hours, weight"
                return f"config: unknown key {place.removeprefix('config: ')}.{unknown}: {hint}"
        elif not isinstance(one, str) or not one:
            hint = (
                " (put it in quotes: YAML reads yes, no, on and off as true and false)" if one in (True, False) else ""
            )
            return f"{place}: expected a split's name, or {{split: NAME, hours: 10}}, got {_shown(one)}{hint}"
    expected = (
        "a split's name or a list of them" if where.endswith(".train") else "one split, by its name or as a share"
    )
    return f"config: {where}: expected {expected}, got {_shown(value)}"


def _shown(value) -> str:
    """A value as it is quoted in a message: whole where it is short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _error_in_chosen_branch(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Of `source`'s alternatives, report on the one that its `type` chose."""
    by_branch: dict[int, list] = {}
    for sub in error.context:
        by_branch.setdefault(sub.schema_path[0], []).append(sub)
    chosen = [subs for subs in by_branch.values() if not any(sub.validator == "const" for sub in subs)]
    return chosen[0][0] if chosen else error


def _known_keys(node: dict, schema: dict) -> list[str]:
    keys = list(node.get("properties", {}))
    below = {key: _resolve(child, schema).get("properties", {}) for key, child in node.get("properties", {}).items()}
    keys += [f"{key}.{inner}" for key, children in below.items() for inner in children]
    return keys + (
        ["validation", "test"] if "patternProperties" in node and "train" in node.get("required", []) else []
    )


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def _number_hint(value: str, expected: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return ""
    if "e" in value.lower():
        mantissa, exponent = value.lower().split("e")
        if "." not in mantissa:
            example = f"{number:g}" if expected == "integer" else f"{mantissa}.0e{exponent} or {number:g}"
            return f": YAML reads {value} as text, write {example}"
    return ": write it without quotes (and not with --config, which makes text of nested numbers: use --configfile)"
