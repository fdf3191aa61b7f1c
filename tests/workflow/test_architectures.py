"""Architectures of config/models/ that no file of config/ takes go through all rules: those very files, made small."""

import shutil

import pytest
import yaml

import experiments
from rnnt import files

SIZES = {
    ("encoder", "n_layers"): 2,
    ("encoder", "d_model"): 32,
    ("encoder", "n_heads"): 2,
    ("model_defaults", "pred_hidden"): 32,
    ("model_defaults", "joint_hidden"): 32,
}
ARCHITECTURES = [
    "conformer_large", "fastconformer_large", "fastconformer_tdt", "fastconformer_tdt_tiny", "fastconformer_tiny"
]  # fmt: skip
SPLITS = {"train": "train", "validation": "validation", "test": "test"}
CONFIG = {
    "datasets": {
        name: {
            "source": {"type": "local", "path": "recordings"},
            "splits": SPLITS,
            "max_steps": 4,
            "model": {"architecture": name},
        }
        for name in ARCHITECTURES
    },
    "tokenizer": {"vocab_size": 24},
    "training": {"batch_budget": 16, "warmup_steps": 1},
    "evaluation": {"legs": 2, "beam": {"beam_size": 2}, "suspects": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, speech, warm):
    """A checkout in which each of the architectures was trained, and tested with both searches."""
    folder = experiments.check_out(tmp_path_factory.mktemp("architectures") / "checkout")
    shutil.copytree(speech, folder / "recordings")
    for name in ARCHITECTURES:
        path = folder / f"config/models/{name}.yaml"
        content = yaml.safe_load(path.read_text())
        for (section, key), value in SIZES.items():
            assert content[section][key] > value
            content[section][key] = value
        path.write_text(yaml.safe_dump(content))
    (folder / "all.yaml").write_text(yaml.safe_dump(CONFIG))
    done = experiments.snakemake(folder, warm, "--cores", "2", "all", configfiles=["all.yaml"])
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_each_is_trained_in_legs_and_tested_with_both_searches(run):
    experiments.assert_complete(run, experiments.read(run, "all.yaml"))
    assert [(name, row["model"]) for (name, _), row in experiments.table(run).items()] == [
        (name, name) for name in ARCHITECTURES
    ]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fastconformer_has_a_form_for_transformers_beside(run, name):
    check = files.read_json(run / f"results/{name}/transformers/check.json")
    kind = "ParakeetForTDT" if "tdt" in name else "ParakeetForRNNT"
    assert check["class"] == (kind if name.startswith("fast") else None), check
    assert (run / f"results/{name}/model/transformers/model.safetensors").is_file() == name.startswith("fast")
