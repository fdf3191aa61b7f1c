"""The scripts that make a language model of a text and find its weight."""

import argparse
import gzip
import json

import build_language_model
import pytest
import tune_language_model

from conftest import run_script
from rnnt import files
from rnnt.data import manifests
from rnnt.errors import UserError
from rnnt.evaluation import language_model


def build(prepared, folder, *options):
    done = run_script(
        "build_language_model",
        *("--manifest", prepared / "train.jsonl", "--validation", prepared / "test.jsonl"),
        *("--tokenizer", prepared / "tokenizer/tokenizer.model", "--workers", 1),
        *("--output", folder / "x.arpa", "--about", folder / "x.json", *options),
    )
    return done, files.read_json(folder / "x.json") if done.returncode == 0 else done.stderr


def test_it_is_of_the_training_transcripts_and_its_order_changes_its_perplexity(prepared, tmp_path):
    found = {order: build(prepared, tmp_path, "--order", order)[1] for order in (2, 4)}
    language_model.check_file(tmp_path / "x.arpa", 24)
    train = manifests.read(prepared / "train.jsonl")
    assert found[4]["text"] == "training transcripts" and found[4]["sentences"] == len(train)
    assert (len(found[2]["ngrams"]), len(found[4]["ngrams"])) == (2, 4)
    assert found[4]["validation_perplexity"] < 0.9 * found[2]["validation_perplexity"] < 24


@pytest.mark.parametrize("name", ["words.txt", "words.txt.gz"])
def test_it_is_of_a_text_that_is_cleaned_as_the_transcripts_are(prepared, tmp_path, name, monkeypatch):
    text = "SEVEN <unk> two\n\neight nine\nzero für\n"
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    options = ("--order", 3, "--text", tmp_path / name)
    done, about = build(prepared, tmp_path, *options, "--kinds", "tedlium")
    assert (about["text"], about["sentences"], about["sentences_left_out"]) == (name, 2, 1)
    assert "1 sentences are left out: the tokenizer has not all their characters" in done.stderr
    by_kind = (tmp_path / "x.arpa").read_bytes()
    for others, same in (
        (("--kinds", "local", "--rules", "tedlium"), True),
        (("--kinds", "tedlium", "local"), False),
        (("--kinds", "tedlium", "--rules", "none"), False),
        (("--kinds", "tedlium", "--case", "keep"), False),
    ):
        build(prepared, tmp_path, *options, *others)
        assert ((tmp_path / "x.arpa").read_bytes() == by_kind) == same, others


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "x.txt", "x.txt: no sentence that the tokenizer can spell"),
        ("für\n".encode(), "x.txt", "x.txt: no sentence that the tokenizer can spell"),
        ("für\n".encode("latin-1"), "x.txt", "x.txt: expected text in UTF-8"),
        (b"one\n", "x.txt.gz", "x.txt.gz: expected text in UTF-8, gzipped where its name ends in .gz"),
        (gzip.compress(b"one two three\n" * 50)[:-12], "x.txt.gz", "x.txt.gz: expected text in UTF-8"),
    ],
)
def test_a_text_that_nothing_can_be_learned_from_is_one_line(prepared, tmp_path, data, name, message):
    (tmp_path / name).write_bytes(data)
    tokenizer = prepared / "tokenizer/tokenizer.model"
    args = argparse.Namespace(tokenizer=tokenizer, text=tmp_path / name, case="lower", rules="none", kinds=["none"])
    args.language, args.workers = "en", 1
    with pytest.raises(UserError, match=message) as error:
        build_language_model.main(args)
    assert "\n" not in str(error.value)


def test_the_weight_that_makes_the_fewest_errors_is_taken_and_of_several_the_smallest():
    curve = [{"lm_weight": weight, "wer": wer} for weight, wer in ((0.0, 9.0), (0.4, 7.0), (0.2, 7.0), (0.8, 8.0))]
    assert tune_language_model.pick(curve)["lm_weight"] == 0.2


def test_it_writes_the_weight_that_was_planted(prepared, tmp_path, monkeypatch):
    """References that are what a search with a weight of 0.5 finds, of a model with random weights."""
    import torch

    from rnnt.evaluation import decoding
    from rnnt.training import models

    build(prepared, tmp_path, "--order", 3)
    torch.manual_seed(1)
    model = models.build("contextnet_dummy", prepared / "tokenizer")
    model.save_to(str(tmp_path / "model.nemo"))
    search = {"strategy": "malsd_batch", "beam_size": 2}
    decoding.set_search(model, search | {"lm_weight": 0.5}, tmp_path / "x.arpa")
    tokens = prepared / "tokenizer/tokenizer.model"
    texts, _ = decoding.transcribe(model, prepared / "test.jsonl", tokens, tmp_path, 2, "cpu", 0, "")
    rows = manifests.read(prepared / "test.jsonl")
    files.write_jsonl(tmp_path / "dev.jsonl", [{**row, "text": text} for row, text in zip(rows, texts, strict=True)])
    arguments = ["--checkpoint", tmp_path, "--manifest", tmp_path / "dev.jsonl", "--tokenizer", prepared / "tokenizer"]
    arguments += ["--search", json.dumps(search), "--lm", tmp_path / "x.arpa", "--device", "cpu", "--threads", 1]
    arguments += ["--training-texts", prepared / "train.jsonl", "--output", tmp_path / "weight.json"]
    tune_language_model.main(tune_language_model.parser().parse_args([str(one) for one in arguments]))
    found = files.read_json(tmp_path / "weight.json")
    curve = {one["lm_weight"]: one["wer"] for one in found["curve"]}
    assert list(curve) == tune_language_model.WEIGHTS
    assert curve[0.5] == 0 and found["wer"] == 0 and curve[0.0] > 0
    assert found["lm_weight"] == min(weight for weight, wer in curve.items() if wer == 0)
