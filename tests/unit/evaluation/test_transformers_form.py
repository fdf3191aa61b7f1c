"""The form for Hugging Face Transformers: the same transcripts as NeMo's, or none, and a reason why there is none."""

import json
import re
from types import SimpleNamespace

import make_transformers_form
import pytest
import soundfile
import torch
import yaml
from omegaconf import OmegaConf

import nemo_files
from conftest import ROOT, nemo_archive
from rnnt import console, files
from rnnt.data import audio, manifests
from rnnt.evaluation import decoding, transformers_form
from rnnt.report import model_card
from rnnt.training import batching, models
from speaking import made_to_speak

KINDS = {
    "fastconformer_tiny": "ParakeetForRNNT",
    "fastconformer_tdt_tiny": "ParakeetForTDT",
    "hybrid": "ParakeetForRNNT",
    "hybrid tdt": "ParakeetForTDT",
}


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, prepared, tmp_path_factory):
    """A model of random weights as a leg leaves it: built from a file of config/models/, or a published hybrid."""
    folder = tmp_path_factory.mktemp("checkpoint")
    if request.param in nemo_files.FAMILIES:
        texts = [row["text"] for row in manifests.read(prepared / "train.jsonl")]
        model = models.restore(nemo_files.family(folder, request.param, texts))
    else:
        torch.manual_seed(3)
        model = models.build(request.param, prepared / "tokenizer")
    made_to_speak(model, prepared).save_to(str(folder / "model.nemo"))
    return SimpleNamespace(folder=folder, model=model, kind=KINDS[request.param])


def make(prepared, checkpoint, output, **options):
    options = {
        "checkpoint": checkpoint,
        "tokenizer": prepared / "tokenizer",
        "manifests": prepared / "train.jsonl",
        "greedy": json.dumps({"strategy": "greedy_batch"}),
        "device": "cpu",
        "threads": 1,
        "output": output,
        **options,
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    args = make_transformers_form.parser().parse_args(arguments)
    console.start_logging(None, "")
    make_transformers_form.main(args)
    return files.read_json(output / "check.json")


@pytest.mark.parametrize("max_symbols", [None, 5])
def test_it_transcribes_every_utterance_as_nemo_does_whatever_the_batch(prepared, checkpoint, tmp_path, max_symbols):
    manifest, vocabulary = prepared / "train.jsonl", prepared / "tokenizer/tokenizer.model"
    search = {"strategy": "greedy_batch"} | ({"max_symbols": max_symbols} if max_symbols else {})
    decoding.set_search(checkpoint.model, search)
    form, processor = transformers_form.convert(checkpoint.model, max_symbols)
    assert type(form).__name__ == checkpoint.kind
    dataset = batching.load_dataset(manifest, vocabulary, 16000, tmp_path)
    found, _ = decoding.transcribe(checkpoint.model, manifest, vocabulary, tmp_path, 7, "cpu", workers=0, label="")
    assert len(set(found)) > 8
    for batch_size in (1, 7):
        assert transformers_form.transcribe(form, processor, dataset, batch_size) == found


def test_the_lines_of_the_card_load_it_and_print_what_it_hears(
    prepared, checkpoint, tmp_path, monkeypatch, capsys, card
):
    check = make(prepared, checkpoint.folder, tmp_path / "transformers")
    rows = manifests.read(prepared / "train.jsonl")
    assert check["class"] == checkpoint.kind and check["why_not"] is None
    assert check["compared"] == {"train": {"utterances": len(rows), "of": len(rows)}}
    assert {path.name for path in (tmp_path / "transformers").iterdir()} == {
        "check.json", "config.json", "generation_config.json", "model.safetensors", "processor_config.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    heard = audio.read(rows[0]["audio_filepath"], 16000, 0.0, rows[0]["duration"], None)
    soundfile.write(tmp_path / "speech.wav", heard, 16000, subtype="FLOAT")
    decoding.set_search(checkpoint.model, {"strategy": "greedy_batch"})
    expected, _ = decoding.transcribe(
        checkpoint.model, prepared / "train.jsonl", prepared / "tokenizer/tokenizer.model", tmp_path, 7, "cpu", 0, ""
    )
    monkeypatch.chdir(tmp_path)
    (lines,) = [code for code in python_of(card(check)) if "Parakeet" in code]
    capsys.readouterr()
    exec(lines, {})
    assert capsys.readouterr().out == f"{expected[0]}\n"


def python_of(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.fixture
def card(monkeypatch):
    """The section on use of the card of a model with this check.json."""
    monkeypatch.syspath_prepend(ROOT / "tests/unit/report")
    import test_model_folder as made

    def write(check):
        sections = made.sections(made.LOCAL)
        text = model_card.write("speech", made.LEG, made.SUMMARY, made.SHARED, [made.ROW], sections, form=check)
        return text.partition("## How to use it")[2].partition("## Limits")[0]

    return write


@pytest.mark.parametrize("what", ["transcribes", "spells"])
def test_one_that_does_otherwise_than_nemo_is_not_kept(prepared, checkpoint, tmp_path, monkeypatch, what, card):
    def another(*arguments):
        form, processor = convert(*arguments)
        if what == "spells":
            processor.tokenizer.add_tokens(["one two"])
        else:
            form.encoder.layers[0].conv.norm.running_mean += 1
        return form, processor

    convert = transformers_form.convert
    monkeypatch.setattr(transformers_form, "convert", another)
    check = make(prepared, checkpoint.folder, tmp_path / "form")
    assert check["class"] is None and re.fullmatch(
        rf"it {what} \d+ of \d+ utterances of train unlike NeMo", check["why_not"]
    )
    assert [path.name for path in (tmp_path / "form").iterdir()] == ["check.json"]
    text = card(check)
    assert check["why_not"] in text and "Parakeet" not in text


def config_of(architecture):
    """A model config as NeMo saves it."""
    content = OmegaConf.to_container(OmegaConf.load(models.architecture_file(architecture)), resolve=True)
    name = "EncDecRNNTBPEModel"
    return {**content, "target": f"nemo.collections.asr.models.rnnt_bpe_models.{name}", "tokenizer": {"type": "bpe"}}


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("contextnet_tiny", "its encoder._target_ is nemo.collections.asr.modules.ConvASREncoder"),
        ("conformer_large", "its encoder.subsampling is striding"),
        ("fastconformer_large", None),
        ("fastconformer_tdt", None),
    ],
)
def test_only_fastconformer_transducers_have_one(architecture, reason):
    assert transformers_form.why_not(config_of(architecture)) == reason


@pytest.mark.parametrize(("section", "key"), [*transformers_form.BUILT_IN, (None, "target")])
def test_what_the_classes_can_not_express_is_the_reason(section, key):
    config = config_of("fastconformer_tiny")
    place = config[section] if section else config
    *path, last = key.split(".")
    for part in path:
        place = place[part]
    place[last] = "another.Thing"
    reason = transformers_form.why_not(config)
    assert reason == (f"its {section}.{key} is another.Thing" if section else "it is a Thing")


def test_networks_of_two_widths_are_a_reason():
    config = config_of("fastconformer_tiny")
    config["decoder"]["prednet"]["pred_hidden"], config["joint"]["jointnet"]["joint_hidden"] = 64, 32
    assert transformers_form.why_not(config) == "its prediction network and its joint differ in width"


def test_another_model_has_a_reason_and_nothing_else(prepared, tmp_path, card):
    (tmp_path / "leg").mkdir()
    content = yaml.safe_dump(config_of("contextnet_tiny")).encode()
    tokenizer = (prepared / "tokenizer/tokenizer.model").read_bytes()
    nemo_archive(tmp_path / "leg/model.nemo", tokenizer, changes={"model_config.yaml": content})
    check = make(prepared, tmp_path / "leg", tmp_path / "form")
    assert "no class for it, as its encoder._target_ is nemo.collections.asr.modules.ConvASREncoder" in check["why_not"]
    assert [path.name for path in (tmp_path / "form").iterdir()] == ["check.json"]
    assert check["why_not"] in " ".join(card(check).split())
