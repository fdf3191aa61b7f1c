"""From scratch to a model of one's own, and on from it: with its tokenizer and a new one, in legs that are killed."""

import shutil

import pytest
import yaml

import experiments
from rnnt.data import tokenizers

LOCAL = {
    "source": {"type": "local", "path": "recordings"},
    "splits": {"train": "train", "validation": "validation", "test": "test"},
}
SMALL = {
    "model": {"architecture": "contextnet_dummy"},
    "tokenizer": {"vocab_size": 24},
    "training": {"batch_budget": 16, "warmup_steps": 1, "checkpoint_every_steps": 1},
}
BASE = "results/first/model/model.nemo"
FIRST = {**SMALL, "datasets": {"first": {**LOCAL, "max_steps": 3}}, "evaluation": {"legs": 1}}
TUNED = {
    **SMALL,
    "datasets": {
        "own": {**LOCAL, "model": {"init_from": BASE}, "tokenizer": {"source": "model"}, "max_steps": 6},
        "new": {
            **LOCAL,
            "model": {"init_from": BASE, "reinitialize_decoder": True},
            "tokenizer": {"vocab_size": 28},
            "training": {"optimizer": "adamw_8bit", "seeds": [1, 4]},
            "max_steps": 6,
        },
    },
    "evaluation": {"legs": 3},
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, speech, warm):
    """A checkout in which a model was trained from scratch and exported, and two were tuned from it undisturbed."""
    folder = experiments.check_out(tmp_path_factory.mktemp("route") / "checkout")
    shutil.copytree(speech, folder / "recordings")
    for name, config, target in (("first", FIRST, "results/first/model"), ("tuned", TUNED, "all")):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        done = experiments.snakemake(folder, warm, "--cores", "2", target, configfiles=[f"{name}.yaml"])
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_both_are_trained_and_compared_with_the_untouched_model(checkout):
    experiments.assert_complete(checkout, experiments.read(checkout, "tuned.yaml"))
    assert {row["model"] for row in experiments.table(checkout).values()} == {"first"}, "a name, not a path"
    pieces = {
        name: tokenizers.tokens(tokenizers.load(tokenizers.from_nemo(checkout / f"results/{name}/model/model.nemo")))
        for name in ("first", "own", "new")
    }
    assert pieces["own"] == pieces["first"] and len(pieces["new"]) == 28


@pytest.mark.parametrize(("place", "target"), [("own", "own"), ("new/seed_4", "results/new/seed_4/checkpoints/leg_3")])
def test_killed_in_every_leg_it_ends_with_the_same_weights(checkout, warm, place, target):
    place = checkout / "results" / place
    calm = place.rename(checkout / f"calm_{place.name}")
    for leg in (1, 2, 3):
        experiments.kill_training(checkout, warm, place, leg, "--cores", "1", target, configfiles=["tuned.yaml"])
    done = experiments.snakemake(checkout, warm, "--cores", "1", target, configfiles=["tuned.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert experiments.difference(place, calm, 3) <= 1e-6


def test_another_seed_is_another_training(checkout):
    own, other = (checkout / f"results/new{place}" for place in ("", "/seed_4"))
    assert experiments.difference(own, other, 3) > 1e-3
