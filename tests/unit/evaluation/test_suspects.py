"""Suspects: the loss is training's own, what stands out says why, and transcripts that were made wrong come first."""

import csv
import io
import json
import math

import find_suspects
import numpy as np
import pytest
import torch

from legs import train
from rnnt import files
from rnnt.data import manifests
from rnnt.evaluation import suspects
from rnnt.report import page
from rnnt.training import batching, legs

GREEDY = {"strategy": "greedy_batch", "max_symbols": 10}


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """A model that has learnt most of its training split, and its leg's folder."""
    return train(prepared, tmp_path_factory.mktemp("trained") / "run", steps=400, learning_rate=0.02, dropout=False)


@pytest.fixture
def planted(prepared, tmp_path):
    """The folder of a training split in which three transcripts went to other utterances, and those utterances."""
    rows = manifests.read(prepared / "train.jsonl")
    chosen = [row for row in rows if len(row["text"].split()) == 5][:3]
    texts = [row["text"] for row in chosen]
    assert len(set(texts)) == 3
    for row, text in zip(chosen, texts[1:] + texts[:1], strict=True):
        row["text"] = text
    files.write_jsonl(tmp_path / "train.jsonl", rows)
    return tmp_path, {row["id"] for row in chosen}


def find(model, prepared, folder, **options):
    options = {"transducer": "fused", "greedy": GREEDY, "batch_size": 4, "device": "cpu", "workers": 0, **options}
    tokenizer = prepared / "tokenizer/tokenizer.model"
    return suspects.find(model, {"train": folder / "train.jsonl"}, tokenizer, folder / "cache", **options)


def measure(step, prepared, cache, hours=None):
    tokenizer = prepared / "tokenizer/tokenizer.model"
    return suspects.measure(step, prepared / "train.jsonl", tokenizer, cache, 4, "cpu", 0, hours, "train")


@pytest.mark.parametrize("transducer", ["fused", "nemo"])
def test_the_loss_is_what_training_computes_and_is_told_per_token(trained, prepared, tmp_path, transducer):
    step = legs.Transducer(trained[0], transducer).eval()
    rows, total = measure(step, prepared, tmp_path)
    assert [row["id"] for row in rows] == [row["id"] for row in manifests.read(prepared / "train.jsonl")]
    assert total["utterances"] == len(rows) and total["hours"] == pytest.approx(
        sum(r["duration"] for r in rows) / 3600, abs=1e-4
    )
    step.model.loss.reduction = "mean_batch"
    dataset = batching.load_dataset(
        prepared / "train.jsonl", prepared / "tokenizer/tokenizer.model", step.model.cfg.sample_rate, tmp_path
    )
    for index in (0, 7, len(rows) - 1):
        batch = batching.collate([dataset[index]])
        batch.pop("ids")
        tokens = batch["tokens"].shape[1]
        with torch.no_grad():
            loss, frames = step(**batch)["loss"].item(), int(step.encode(**batch)[1])
        assert rows[index]["loss_per_token"] == pytest.approx(loss / (tokens + 1), rel=1e-3)
        assert rows[index]["tokens_per_frame"] == pytest.approx(tokens / frames)
        assert rows[index]["characters_per_second"] == pytest.approx(len(rows[index]["text"]) / rows[index]["duration"])


def test_a_batch_that_does_not_fit_is_scored_in_halves(trained, prepared, tmp_path, log, monkeypatch):
    step = legs.Transducer(trained[0], "fused").eval()
    whole, _ = measure(step, prepared, tmp_path)
    encode = step.encode

    def small(audio, **others):
        if len(audio) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(audio, **others)

    monkeypatch.setattr(step, "encode", small)
    halves, _ = measure(step, prepared, tmp_path)
    assert "score them in halves" in log.read_text()
    found, expected = ([row["loss_per_token"] for row in rows] for rows in (halves, whole))
    assert found == pytest.approx(expected, rel=1e-3)


def test_transcripts_that_were_made_wrong_come_first_and_say_why(trained, prepared, planted):
    folder, wrong = planted
    trained[0].train()  # as training leaves it
    found, scored = find(trained[0], prepared, folder)
    assert [row["rank"] for row in found] == [*range(1, len(found) + 1)]
    assert {row["id"] for row in found[:3]} == wrong and len(found) < 8
    for row in found[:3]:
        assert row["reason"].startswith(f"loss per token {row['loss_per_token']:.3g}, the median is ")
        assert row["hypothesis"] != row["text"] and row["split"] == "train"
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert scored["train"]["scored"] == scored["train"]["utterances"] == 38
    assert find(trained[0], prepared, folder) == (found, scored), "the same again"


def test_what_greedy_search_finds_itself_is_no_suspect_and_no_more_than_a_listener_has_time_for(
    trained, prepared, monkeypatch
):
    monkeypatch.setattr(suspects, "OUTLIER", -math.inf)
    rows = manifests.read(prepared / "train.jsonl")
    texts = suspects.transcribe(trained[0], rows, prepared / "tokenizer/tokenizer.model", 4, "cpu", 0)
    differ = {row["id"] for row, text in zip(rows, texts, strict=True) if row["text"] != text}
    assert 0 < len(differ) < len(rows)
    found, _ = find(trained[0], prepared, prepared)
    assert {row["id"] for row in found} == differ
    monkeypatch.setattr(suspects, "MOST", 2)
    assert len(find(trained[0], prepared, prepared)[0]) <= 2


def test_a_sample_has_so_many_hours_and_is_the_same_each_time(trained, prepared, tmp_path):
    durations = np.full(1000, 3.6)
    chosen = suspects.sample(durations, 0.5)
    assert len(chosen) == len(set(chosen)) == 500 and (np.diff(chosen) > 0).all() and chosen[-1] > 900
    assert (chosen == suspects.sample(durations, 0.5)).all()
    assert len(suspects.sample(durations, None)) == len(suspects.sample(durations, 1)) == 1000
    assert len(suspects.sample(durations, 1e-9)) == 1
    step = legs.Transducer(trained[0], "fused").eval()
    (rows, total), (every, _) = (measure(step, prepared, tmp_path, hours) for hours in (0.01, None))
    assert 0.008 < sum(row["duration"] for row in rows) / 3600 <= 0.01 and total["utterances"] == len(every)
    losses = {row["id"]: row["loss_per_token"] for row in every}
    assert all(row["loss_per_token"] == pytest.approx(losses[row["id"]], rel=1e-3) for row in rows)


def judged(**changed):
    """The score and reason of one utterance that differs so from fifty ordinary ones."""
    ordinary = [
        {
            "loss": 2 * math.exp(deviation),
            "loss_per_token": 0.1 * math.exp(deviation),
            "characters_per_second": 12 * math.exp(deviation / 5),
            "tokens_per_frame": 0.5,
        }
        for deviation in (*np.linspace(-1.6, 1.6, 49), 0, 0, 0)
    ]
    one = {"loss": 2.0, "loss_per_token": 0.1, "characters_per_second": 12.0, "tokens_per_frame": 0.5, **changed}
    *others, found = suspects.judge([*ordinary, one], 10)
    assert not any(row["reason"] for row in others)
    return found["score"], found["reason"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"loss_per_token": 0.3}, ""),
        ({"loss_per_token": 1e-6}, ""),
        ({"loss": 18.0, "loss_per_token": 9.0}, "loss per token 9, the median is 0.1"),
        ({"loss": 2.3, "loss_per_token": 9.0}, ""),  # a probability of a bit more than 10 %
        ({"loss": math.inf, "loss_per_token": math.inf}, "the loss is not finite"),
        ({"characters_per_second": 60.0}, "much text for its length: 60 characters a second, the median is 12"),
        ({"characters_per_second": 1.0}, "little text for its length: 1 characters a second, the median is 12"),
        ({"tokens_per_frame": 10.0}, ""),
        ({"tokens_per_frame": 12.5}, "12.5 tokens a frame, of which greedy search finds at most 10"),
    ],
)
def test_a_reason_tells_the_value_and_what_is_ordinary(changed, reason):
    score, found = judged(**changed)
    assert found == reason
    assert (score > suspects.OUTLIER) == (changed.get("loss_per_token", 0) > 1)


def test_all_reasons_are_told():
    assert judged(loss=20.0, loss_per_token=9.0, characters_per_second=1e3, tokens_per_frame=11.0)[1].count("; ") == 2


def test_losses_that_are_all_alike_are_no_reason():
    assert (abs(suspects.deviations(np.array([0.5, 0.5, 0.5, 0.52]))) < 1).all()
    assert suspects.deviations(np.array([math.inf, 0.0, 0.0, 0.0])).tolist() == [math.inf, 0, 0, 0]
    assert suspects.deviations(np.array([math.inf, math.inf])).tolist() == [math.inf, math.inf]


def test_the_script_writes_a_list_that_the_page_reads(trained, prepared, planted, tmp_path):
    folder, wrong = planted
    arguments = {
        "checkpoint": trained[1], "manifests": folder, "splits": "train", "tokenizer": prepared / "tokenizer",
        "transducer": "nemo_fused_batch", "greedy": json.dumps(GREEDY), "device": "cpu", "threads": 1,
        "output": tmp_path / "suspects.tsv", "summary": tmp_path / "suspects.json",
    }  # fmt: skip
    given = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    find_suspects.main(find_suspects.parser().parse_args(given))
    rows = list(csv.DictReader((tmp_path / "suspects.tsv").open(newline=""), delimiter="\t"))
    assert list(rows[0]) == suspects.COLUMNS and {row["id"] for row in rows[:3]} == wrong
    shown = page.suspects(tmp_path / "suspects.tsv")
    assert shown["listed"] == len(rows) and shown["scored"]["train"]["scored"] == 38
    assert shown["first"][0]["entry"]["reason"] == rows[0]["reason"] and shown["first"][0]["audio"]


def test_texts_and_paths_keep_their_signs_in_the_list():
    row = dict.fromkeys(suspects.COLUMNS, 1.0) | {"text": 'a\t"b"', "audio_filepath": "my\ttapes/é.wav", "extra": 1}
    del row["speaker"]
    (read,) = csv.DictReader(io.StringIO(suspects.as_tsv([row])), delimiter="\t")
    assert (read["text"], read["audio_filepath"], read["speaker"]) == (row["text"], row["audio_filepath"], "")
    assert read["score"] == "1" and list(read) == suspects.COLUMNS
