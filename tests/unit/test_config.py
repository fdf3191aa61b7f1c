"""The configuration: defaults, overrides, and one clear line for each mistake."""

import copy
import datetime
import re
import sys

import pytest
import yaml

from conftest import ROOT
from rnnt import config
from rnnt.errors import UserError

SCHEMA = config.load_schema(ROOT / "config/schema.yaml")
VALID = {
    "datasets": {
        "digits": {
            "source": {"type": "local", "path": "recordings"},
            "splits": {"train": "train", "validation": "dev", "test": "test"},
            "max_steps": 10,
        }
    }
}


def changed(path, value):
    """VALID with one key set, or removed where the value is None."""
    result = copy.deepcopy(VALID)
    *parents, last = path.split(".")
    node = result
    for key in parents:
        node = node.setdefault(key, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return result


@pytest.mark.parametrize("name", ["config.yaml", "local_example.yaml", "paper.yaml", "esb.yaml", "replay.yaml"])
def test_shipped_configurations_are_valid(name):
    config.validate(yaml.safe_load((ROOT / "config" / name).read_text()), SCHEMA)


def test_the_readme_opens_with_a_whole_configuration_of_defaults():
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    given = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    assert config.validate(given, SCHEMA) == config.validate({"datasets": given["datasets"]}, SCHEMA)
    assert set(given) == {"datasets", "model", "tokenizer", "training", "evaluation", "wandb"}


def test_defaults_are_filled_in_and_a_data_set_overrides_them_key_by_key():
    given = changed("training.learning_rate", 0.5)
    given["datasets"]["digits"]["training"] = {"batch_size": 3}
    checked = config.validate(given, SCHEMA)
    training = config.dataset_config(checked, "digits", "training")["training"]
    assert training["learning_rate"] == 0.5
    assert training["batch_size"] == 3
    assert training["precision"] == "fp32"
    assert checked["training"]["batch_size"] == 16
    assert checked["device"] == "auto"


ABLATION = {"dataset": "digits", "without": {"ctc": {"training": {"ctc_weight": None}}}}


def ablation(**changes):
    """A configuration with a recipe to take parts out of, and with other keys of `ablation`."""
    given = changed("ablation", ABLATION | changes)
    masks = {"time_masks": 1, "frequency_masks": 3}
    given["training"] = {"ctc_weight": 0.3, "augmentation": {"speed": [0.9, 1.1], "spec_augment": masks}}
    given["datasets"]["digits"] |= {"training": {"batch_size": 3}, "evaluation": {"legs": 5}}
    return given


def test_a_part_that_is_left_out_is_a_data_set_of_its_own_beside_the_others():
    without = {
        "ctc": {"training": {"ctc_weight": None}},
        "speed": {"training": {"augmentation": {"speed": [1.0]}}},
        "masks": {"training": {"augmentation": {"spec_augment": {"time_masks": 0}}}},
        "length": {"max_steps": None, "num_train_epochs": 2, "evaluation": {"legs": 1}},
    }
    checked = config.validate(ablation(without=without), SCHEMA)
    plain = config.validate(changed("training", ablation()["training"]), SCHEMA)
    assert checked["datasets"]["digits"]["splits"] == plain["datasets"]["digits"]["splits"]
    assert list(checked["datasets"]) == ["digits"] and config.ablated(plain) == {}
    names = config.ablated(checked)
    assert names == {part: f"digits-without-{part}" for part in without}
    found = {part: config.dataset_config(checked, name, "training")["training"] for part, name in names.items()}
    whole = config.dataset_config(checked, "digits", "training")["training"]
    augmentation = {part: training["augmentation"] for part, training in found.items()}
    assert found["ctc"] == whole | {"ctc_weight": None} and whole["ctc_weight"] == 0.3 and whole["batch_size"] == 3
    assert augmentation["speed"] == whole["augmentation"] | {"speed": [1.0]}
    masks = {"time_masks": 0, "frequency_masks": 2, "frequency_width": 27, "time_width": 0.05}
    assert augmentation["masks"] == whole["augmentation"] | {"spec_augment": masks}
    own = config.own_keys(checked, names["length"])
    assert "max_steps" not in own and (own["num_train_epochs"], own["evaluation"]) == (2, {"legs": 1})
    assert config.own_keys(checked, names["ctc"])["evaluation"] == {"legs": 5}
    for part, name in names.items():
        assert config.drawn(checked, name) == config.drawn(checked, "digits"), part


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "digit"}, "ablation.dataset: there is no data set digit: did you mean `digits`?"),
        ({"dataset": "x"}, "ablation.dataset: there is no data set x: the data sets are digits"),
        ({"without": {}}, "ablation.without: {} should be non-empty"),
        ({"without": {"CTC": {}}}, "ablation.without.CTC: a part's name is up to 100 lower-case letters"),
        ({"without": {"ctc": {"splits": {}}}}, "unknown key ablation.without.ctc.splits: known here: max_steps, "),
        (
            {"without": {"ctc": {"training": {"ctc_wait": 1}}}},
            "unknown key ablation.without.ctc.training.ctc_wait: did you mean `ctc_weight`?",
        ),
        (
            {"without": {"a": {"training": {"ctc_weight": 0.0}}, "b": {"training": {"ctc_weight": 0}}}},
            "ablation.without.b: the same as ablation.without.a: take one of them out",
        ),
        (
            {"without": {"ctc": {"training": {"ctc_weight": 0.3}}}},
            "ablation.without.ctc: changes nothing of digits: which part of its recipe is left out?",
        ),
        (
            {"without": {"ctc": {"training": {"seeds": [3]}}}},
            "ablation.without.ctc.training: an ablation has the seeds of its data set: take out seed and seeds",
        ),
        (
            {"without": {"short": {"max_steps": 3}}},
            "ablation.without.short: 3 max_steps can't be cut into 5 evaluation.legs",
        ),
    ],
)
def test_a_mistake_in_an_ablation_is_one_line(changes, message):
    with pytest.raises(UserError) as error:
        config.validate(ablation(**changes), SCHEMA)
    assert str(error.value).startswith(f"config: {message}"), error.value


def test_a_data_set_overrides_a_search_key_by_key():
    given = changed("evaluation.beam", {"strategy": "maes", "maes_num_steps": 3})
    given["datasets"]["digits"]["evaluation"] = {"beam": {"beam_size": 7.0}}
    checked = config.validate(given, SCHEMA)
    beam = config.dataset_config(checked, "digits", "evaluation")["evaluation"]["beam"]
    assert (beam["strategy"], beam["maes_num_steps"], beam["beam_size"], beam["lm"]) == ("maes", 3, 7, None)
    assert repr(beam["beam_size"]) == "7"
    assert checked["evaluation"]["beam"]["beam_size"] == 4


def augmentation(shared, own=None):
    """What is on of the augmentation of a data set, of the shared section and its own."""
    given = changed("training.augmentation", shared)
    if own is not None:
        given["datasets"]["digits"]["training"] = {"augmentation": own}
    checked = config.validate(given, SCHEMA)
    return config.augmentation(config.dataset_config(checked, "digits", "training")["training"])


def test_of_augmentation_what_is_on_is_told_and_nothing_else():
    """So that a training without it, or with a part that is off, stays the training that it was."""
    assert augmentation({}) == augmentation({"speed": [1.0, 1], "noise": {"path": "x"}, "telephone": {}}) == {}
    assert augmentation({"speed": [1.0, 0.9]}) == {"speed": [1.0, 0.9]}
    noise = {"path": "x", "snr": [10, 20], "probability": 0.2}
    assert augmentation({"noise": {"path": "x", "probability": 0.2}}) == {"noise": noise}
    assert augmentation({"noise": {"probability": 0.2}}, {"noise": {"path": "x"}}) == {"noise": noise}
    assert augmentation({"noise": noise, "gain": [0, 3]}, {"noise": {"probability": 0}}) == {"gain": [0, 3]}


def test_a_section_that_may_be_null_is_overridden_as_a_whole():
    masks = {"frequency_masks": 2, "frequency_width": 27, "time_masks": 10, "time_width": 0.05}
    for shared in (None, {"frequency_masks": 7}):
        own = augmentation({"spec_augment": shared}, {"spec_augment": {"time_masks": 3}})
        assert own == {"spec_augment": {**masks, "time_masks": 3}}
    assert augmentation({"spec_augment": {}}) == {"spec_augment": masks}
    assert augmentation({"spec_augment": {}}, {"spec_augment": None}) == {}


def test_a_warm_up_is_whole_steps_or_a_share():
    for given, taken in ((50.0, "50"), (3, "3"), (0.1, "0.1"), (0, "0")):
        checked = config.validate(changed("training.warmup_steps", given), SCHEMA)
        assert repr(checked["training"]["warmup_steps"]) == taken
    with pytest.raises(
        UserError, match="digits: training.warmup_steps: expected whole steps, or a share below 1, got 1.5"
    ):
        config.validate(changed("training.warmup_steps", 1.5), SCHEMA)


def test_values_of_a_model_s_configuration_are_overridden_path_by_path():
    given = changed("model.overrides", {"joint.jointnet.dropout": 0.2, "decoder.prednet.dropout": 0.2})
    given["datasets"]["digits"]["model"] = {"overrides": {"joint.jointnet.dropout": 0.4}}
    found = config.dataset_config(config.validate(given, SCHEMA), "digits", "model")["model"]["overrides"]
    assert found == {"joint.jointnet.dropout": 0.4, "decoder.prednet.dropout": 0.2}
    with pytest.raises(UserError, match="model.overrides.joint: expected a number or string or boolean or null, got"):
        config.validate(changed("model.overrides", {"joint": {"jointnet": {"dropout": 0.2}}}), SCHEMA)


def test_validation_leaves_the_given_configuration_alone():
    given = copy.deepcopy(VALID)
    config.validate(given, SCHEMA)
    assert given == VALID


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("trainig.seed", 1, ["trainig", "did you mean `training`?"]),
        ("training.learning_rat", 1, ["training.learning_rat", "did you mean `learning_rate`?"]),
        ("datasets.digits.evaluation.beam.size", 2, ["datasets.digits.evaluation.beam.size", "`beam_size`"]),
        ("datasets.digits.source.pth", "x", ["datasets.digits.source.pth", "`path`"]),
        ("datasets.digits.splits.tset", "x", ["datasets.digits.splits.tset", "`test`"]),
        ("datasets.Digits", {}, ["datasets.Digits", "lower-case"]),
        ("training.learning_rate", "5e-4", ["training.learning_rate", "reads 5e-4 as text", "5.0e-4"]),
        ("training.batch_size", "16", ["training.batch_size", "an integer", '"16"', "--configfile"]),
        ("training.batch_size", 0, ["training.batch_size", "0 is less than the minimum of 1"]),
        ("evaluation.beam.beam_size", 0, ["evaluation.beam.beam_size", "minimum"]),
        ("evaluation.beam.strategy", "malsd", ["evaluation.beam.strategy", "malsd_batch"]),
        ("training.precision", "fp8", ["training.precision", "fp32"]),
        ("datasets.digits.source.type", "locl", ["datasets.digits.source.type", "did you mean `local`?"]),
        ("datasets.digits.source.path", None, ["datasets.digits.source.path is missing"]),
        ("datasets.digits.source", None, ["datasets.digits.source is missing", "--configfile config/config.yaml"]),
        ("datasets.digits.splits.test", None, ["datasets.digits.splits", "no test split"]),
        ("datasets.digits.max_steps", None, ["datasets.digits", "max_steps or num_train_epochs"]),
        ("datasets.digits.num_train_epochs", 2, ["datasets.digits", "not both"]),
        ("filter.min_duration", 30, ["filter.min_duration must be below"]),
        ("tokenizer.source", "model", ["tokenizer.source", "model.init_from"]),
        ("tokenizer.source", "extend", ["tokenizer.source is `extend`", "model.init_from"]),
        ("training.batch_size", "1e2", ["reads 1e2 as text, write 100"]),
        ("training.batch_budget", "aut", ["training.batch_budget: expected a number above 0 or `auto`", '"aut"']),
        ("training.batch_budget", "80", ["training.batch_budget", "write it without quotes"]),
        ("training.batch_budget", 0, ["training.batch_budget: expected a number above 0 or `auto`, got 0"]),
        ("evaluation.beam.beam_size", 33, ["malsd_batch looks at 33 tokens", "tokenizer.vocab_size: lower beam_size"]),
        ("evaluation.beam", {"strategy": "maes", "beam_size": 31}, ["maes looks at 33 tokens at a time"]),
        ("evaluation.beam.lm_weight", float("nan"), ["config: evaluation.beam.lm_weight: expected a finite number"]),
        ("evaluation.beam.lm_weight", "aut", ["lm_weight: expected a number from 0 to 10 or `auto`, got "]),
        ("evaluation.beam.lm_weight", -1, ["lm_weight: expected a number from 0 to 10 or `auto`, got -1"]),
        ("evaluation.beam.lm_text", "x.txt", ["datasets.digits: evaluation.beam.lm_text is for `lm: auto`: set that"]),
        ("evaluation.beam", {"lm": "x.arpa", "lm_text": "x.txt"}, ["evaluation.beam.lm_text is for `lm: auto`"]),
        ("evaluation.beam.lm_order", 1, ["evaluation.beam.lm_order: 1 is less than the minimum of 2"]),
        ("evaluation.beam.lm_order", 11, ["evaluation.beam.lm_order: 11 is greater than the maximum of 10"]),
        (
            "evaluation.beam",
            {"strategy": "maes", "lm": "auto"},
            ["evaluation.beam.lm is for malsd_batch and maes_batch"],
        ),
        ("evaluation.beam.alsd_max_target_len", "1e3", ["reads 1e3 as text, write 1.0e3 or 1000"]),
        ("evaluation.beam_size", 3, ["unknown key evaluation.beam_size: did you mean `beam.beam_size`?"]),
        ("evaluation.beam_strategy", "tsd", ["evaluation.beam_strategy: did you mean `beam.strategy`?"]),
        ("evaluation.beam", {"strategy": "tsd", "beam_size": 1}, ["tsd with beam_size 1 is NeMo's greedy search"]),
        ("evaluation.beam.maes_num_steps", 3, ["beam.maes_num_steps is for maes and maes_batch, not for malsd_batch"]),
        ("evaluation.beam", {"strategy": "maes", "lm": "x"}, ["evaluation.beam.lm is for malsd_batch and maes_batch"]),
        ("training.augmentation.speed", [0.9, 2.5], ["augmentation.speed.1: 2.5 is greater than the maximum of 2"]),
        ("training.augmentation.gain", [6, -6], ["training.augmentation.gain: 6 to -6: the lower one comes first"]),
        (
            "training.augmentation.babble",
            {"snr": [20, 10], "probability": 1},
            ["training.augmentation.babble.snr: 20 to 10", "lower one"],
        ),
        ("training.augmentation.noise.probability", 0.5, ["training.augmentation.noise.path: not set", "a folder"]),
        ("training.augmentation.noise.path", "~nobody_/x", ["training.augmentation.noise.path", "no such home"]),
        ("training.augmentation.spec_augment", 3, ["augmentation.spec_augment: expected an object or null, got 3"]),
        ("training.augmentation.reverb", {}, ["augmentation.reverb: did you mean `reverberation`?"]),
        ("datasets", {1: {}}, ["datasets.1", "put it in quotes"]),
        ("datasets.digits.source", {"type": "synthetic", "corpus": "spoken_digits"}, ["splits.validation", "dev"]),
        ("datasets.digits.source", {"type": "librispeech"}, ["splits.train: the source librispeech", "dev-clean"]),
        ("training", [], ["training: expected an object, got []"]),
        ("training.seed", 2**32, ["training.seed: 4294967296 is greater than the maximum of 4294967295"]),
        ("evaluation.legs", 11, ["datasets.digits: 10 max_steps can't be cut into 11 evaluation.legs"]),
        ("wandb.project", "a/b", ['wandb.project: "a/b" does not fit', "none of `/`"]),
        ("wandb.project", 7, ["wandb.project: expected a string, got 7: put it in quotes"]),
        ("wandb.project", datetime.date(2021, 1, 1), ['wandb.project: expected a string, got "2021-01-01"']),
        ("wandb.project", "x" * 5000, ["wandb.project", "does not fit"]),
        ("wandb.project", "\ud800", ["wandb.project: '\\ud800' holds"]),
        ("publish.repository", "me/{x}-{dataset}", ["publish.repository", "does not fit: A repository"]),
        ("model.init_from", "../../x", ["digits: model.init_from: ../../x: neither the path of a file *.nemo nor"]),
        ("evaluation.beam.lm", "~nobody-here/x", ["evaluation.beam.lm: ~nobody-here/x: no such home"]),
        ("datasets.digits.source.path", "a\nb", ["datasets.digits.source.path: 'a\\nb' holds a line break"]),
        ("datasets.digits\n", {}, ["datasets.'digits\\n'", "line break"]),
        (f"datasets.{'d' * 101}", {}, ["up to 100 lower-case letters"]),
        ("datasets.digits.splits.test", False, ["splits.test", "false: put it in quotes (YAML reads yes, no, on"]),
        ("datasets.digits.splits.test", "", ["datasets.digits.splits.test"]),
        ("datasets.digits.splits.test", "-x", ["datasets.digits.splits.test: -x", "begin with a hyphen"]),
        ("datasets.digits.splits.train", ["a", "a"], ["datasets.digits.splits.train"]),
        ("datasets", None, ["datasets is missing"]),
        ("evaluation.transfer", True, ["datasets.digits: evaluation.transfer: there is no other data set"]),
        ("datasets.seed_2", VALID["datasets"]["digits"], ["datasets.seed_2: the folders of seeds are called so"]),
        ("text.language", "en_US", ["config: text.language: expected a BCP 47", '"en_US": did you mean `en-US`?']),
        ("datasets.digits.text", {"language": "Hindi!"}, ["datasets.digits.text.language: expected", '"Hindi!"']),
        ("text.language", "english", ['such as en, pt-BR or sr-Latn, got "english"']),
        ("text.language", "eng-GB", ['got "eng-GB": did you mean `en-GB`?']),
        ("text.language", "", ['got ""']),
        ("text.language", "en\n", ["text.language: 'en\\n' holds a line break"]),
        ("text.language", False, ["text.language: expected a string, got false", 'bare no as false, write "no"']),
        ("text.language", ["en", "fr"], ["text.language: expected a string"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_the_remedy(path, value, parts):
    with pytest.raises(UserError) as error:
        config.validate(changed(path, value), SCHEMA)
    message = str(error.value)
    assert "\n" not in message and len(message) < 1000
    for part in parts:
        assert part in message


def test_whole_numbers_may_be_written_with_a_point_and_null_takes_a_length_back():
    given = changed("evaluation.legs", 3.0)
    given["datasets"]["digits"] |= {"max_steps": None, "num_train_epochs": 2}
    checked = config.validate(given, SCHEMA)
    assert repr(checked["evaluation"]["legs"]) == "3"
    assert "max_steps" not in checked["datasets"]["digits"]


@pytest.mark.parametrize(
    "tag", ["en", "EN-gb", "pt-BR", "sr-Latn-RS", "es-419", "zh-yue", "yue", "de-CH-1996", "no", "en-a-bbb-x-a-ccc"]
)
def test_a_language_is_a_tag_of_bcp_47(tag):
    assert config.validate(changed("text.language", tag), SCHEMA)["text"]["language"] == tag


def test_a_path_is_your_home_s_where_it_begins_with_a_tilde_and_else_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = changed("model.init_from", "~/base.nemo")
    given["datasets"]["digits"] |= {
        "source": {"type": "switchboard", "path": "~/LDC", "hub5_audio": "~/hub5", "hub5_transcripts": "/a/~b"},
        "splits": {"train": "train", "validation": "validation", "test": "test_callhome"},
        "evaluation": {"beam": {"lm": "~/x.arpa"}},
    }
    checked = config.validate(given, SCHEMA)
    digits = checked["datasets"]["digits"]
    source = {key: value for key, value in digits["source"].items() if value and "/" in str(value)}
    assert source == {"path": "/home/me/LDC", "hub5_audio": "/home/me/hub5", "hub5_transcripts": "/a/~b"}
    assert digits["evaluation"]["beam"]["lm"] == "/home/me/x.arpa"
    assert checked["model"]["init_from"] == "/home/me/base.nemo"
    for kind, key in (("local", "path"), ("hub", "name"), ("switchboard", "transcripts")):
        own = {"type": kind, key: "~/x"}
        digits = changed("datasets.digits.source", own)["datasets"]["digits"]
        digits["splits"] = {"train": "train", "validation": "validation", "test": "test_callhome"}
        source = config.validate({"datasets": {"digits": digits}}, SCHEMA)["datasets"]["digits"]["source"]
        assert source[key] == "/home/me/x", kind
    for path in ("/corpora//x/", "./x", "x y/$HOME/*", "ü"):
        unchanged = config.validate(changed("datasets.digits.source.path", path), SCHEMA)
        assert unchanged["datasets"]["digits"]["source"]["path"] == path


def test_values_are_taken_as_they_stand():
    for project in ("asr-{dataset}", "$HOME 'q' \"d\" *", "<x>", "ü"):
        assert config.validate(changed("wandb.project", project), SCHEMA)["wandb"]["project"] == project


def test_fp16_on_a_cpu_is_refused():
    given = changed("training.precision", "fp16")
    given["device"] = "cpu"
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU"):
        config.validate(given, SCHEMA)


def test_a_bare_off_which_yaml_reads_as_false_turns_wandb_off():
    given = {**VALID, "wandb": yaml.safe_load("{mode: off}")}
    assert config.validate(given, SCHEMA)["wandb"]["mode"] == "off"


def test_every_key_has_a_description_and_every_option_a_default():
    def walk(node, path):
        node = SCHEMA["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node
        if path and path[-1] != "type":
            assert node.get("description"), path
        for child in node.get("anyOf", []):
            walk(child, [])
        for key, child in {**node.get("properties", {}), **node.get("patternProperties", {})}.items():
            walk(child, [*path, key])

    walk(SCHEMA, [])
    for name in (*config.SHARED_SECTIONS, "greedy", "beam"):
        for key, child in SCHEMA["$defs"][name]["properties"].items():
            child = SCHEMA["$defs"][child["$ref"].split("/")[-1]] if "$ref" in child else child
            assert "default" in child, f"{name}.{key}"


def test_the_readme_documents_every_key_of_the_schema():
    sys.path.insert(0, str(ROOT / "config"))
    import generate_readme

    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert text == generate_readme.render(text, SCHEMA), "run: python config/generate_readme.py"
    assert "`training.learning_rate`" in text


SEVERAL = {
    "sources": {
        "mine": {"type": "local", "path": "recordings", "rules": "ami"},
        "libri": {"type": "librispeech"},
    },
    "datasets": {
        "d": {
            "splits": {
                "train": ["mine/train", {"split": "libri/train-clean-100", "hours": 10}],
                "validation": {"split": "libri/dev-clean", "hours": 1},
                "test": "mine/sub/test",
            },
            "max_steps": 10,
        }
    },
}


def test_a_split_is_made_of_splits_of_named_sources():
    checked = config.validate(SEVERAL, SCHEMA)
    found = config.parts(checked, "d", "train")
    assert [(part["label"], part["split"], part["source"]["type"], part.get("hours")) for part in found] == [
        ("mine/train", "train", "local", None),
        ("libri/train-clean-100", "train-clean-100", "librispeech", 10),
    ]
    assert [part["split"] for part in config.parts(checked, "d", "test")] == ["sub/test"], "a folder in a folder"
    assert config.drawn(checked, "d")["validation"] == [{"source": found[1]["source"], "split": "dev-clean"}]


def test_a_source_is_told_by_all_but_its_cleaning_rules():
    mine = {"type": "local", "path": "a"}
    assert config.source_id(mine) == config.source_id({**mine, "rules": "ami"})
    assert config.source_id(mine) != config.source_id({**mine, "path": "b"})


@pytest.mark.parametrize(
    ("shared", "own", "seeds"),
    [
        ({}, {}, [1]),
        ({"seed": 4}, {}, [4]),
        ({"seeds": [3, 5]}, {}, [3, 5]),
        ({"seeds": [3, 5]}, {"seed": 7}, [7]),
        ({"seed": 4}, {"seeds": [2, 1]}, [2, 1]),
        ({"seeds": None, "seed": 4}, {}, [4]),
        ({"seeds": [3, 5]}, {"seeds": None}, [1]),
        ({"seeds": [3.0, 5.0]}, {}, [3, 5]),
    ],
)
def test_a_data_set_s_seed_or_seeds_replace_the_shared_ones(shared, own, seeds):
    given = changed("training", shared)
    given["datasets"]["digits"]["training"] = own
    checked = config.validate(given, SCHEMA)
    assert config.seeds(checked, "digits") == seeds and all(
        type(seed) is int for seed in config.seeds(checked, "digits")
    )
    training = config.dataset_config(checked, "digits", "training")["training"]
    assert ("seed" in training) != ("seeds" in training)
    assert config.validate(checked, SCHEMA) == checked


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": [{"split": "mine/a", "weight": 0.6}, {"split": "mine/b", "weight": 0.6}]},
            "add up to 1.2, expected 1",
        ),
        ({"train": ["mine/c", {"split": "mine/a", "weight": 0.6}, {"split": "mine/b", "weight": 0.5}]}, "less than 1"),
        ({"train": ["mine/a", {"split": "mine/a", "hours": 1}]}, "splits.train: mine/a is named twice"),
        ({"train": [3]}, "splits.train.0: expected a split's name, or {split: NAME, hours: 10}, got 3"),
        ({"train": []}, "splits.train: expected a split's name or a list of them, got []"),
        ({"train": {"split": "mine/a", "hours": "1e1"}}, "hours: expected a number above 0, got"),
        (
            {"train": {"split": "mine/a", "weigth": 0.1}},
            "unknown key datasets.d.splits.train.weigth: did you mean `weight`?",
        ),
        ({"test": {"split": "mine/a", "hours": 1}}, "splits.test: expected a"),
        ({"validation": ["mine/a"]}, "splits.validation: expected one split, by its name or as a share, got"),
        ({"validation": "mine/"}, "splits.validation: mine/: expected SOURCE/SPLIT: which split of mine?"),
        (
            {"validation": {"split": "mine/train", "hours": 1}},
            "mine/train is in validation and in train, one of them a s",
        ),
        ({"test": "libri/test-claen"}, "no split test-claen (it has train-clean-100"),
        ({"validation": "libri/dev-other", "test": "libri/dev-other"}, "is in validation too"),
    ],
)
def test_a_share_that_can_t_be_is_one_line(splits, message):
    given = copy.deepcopy(SEVERAL)
    given["datasets"]["d"]["splits"] |= splits
    with pytest.raises(UserError) as error:
        config.validate(given, SCHEMA)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_data_set_has_a_source_of_its_own_or_draws_on_named_ones():
    given = copy.deepcopy(SEVERAL)
    given["datasets"]["d"] |= {"source": {"type": "local", "path": "x"}}
    with pytest.raises(UserError, match=r"mine/train: the data set has a `source` of its own.*give that a name"):
        config.validate(given, SCHEMA)
    given["sources"]["Mine"] = {"type": "local", "path": "x"}
    with pytest.raises(UserError, match="sources.Mine: a source's name is up to 100 lower-case letters"):
        config.validate(given, SCHEMA)


def test_a_training_may_start_from_another_data_set_s_model_and_not_from_its_own():
    given = copy.deepcopy(SEVERAL)
    given["datasets"]["tuned"] = copy.deepcopy(given["datasets"]["d"])
    given["datasets"]["tuned"]["model"] = {"init_from": "results/d/model/model.nemo"}
    checked = config.validate(given, SCHEMA)
    assert config.trained_here(checked, "results/d/model/model.nemo") == "d"
    assert config.trained_here(checked, "results/other/model/model.nemo") is None
    given["datasets"]["d"]["model"] = {"init_from": "results/tuned/model/model.nemo"}
    with pytest.raises(UserError, match="datasets.d: model.init_from: starts from its own model: d from tuned from d"):
        config.validate(given, SCHEMA)
