"""Decoding: every search of the schema runs, and each hypothesis belongs to its utterance."""

from types import SimpleNamespace

import pytest
import torch

from conftest import ROOT
from rnnt import config, decoding, files, manifests, models
from rnnt.errors import UserError

SEARCHES = config.load_schema(ROOT / "config/schema.yaml")["$defs"]["evaluation"]["properties"]["beam_strategy"]["enum"]


@pytest.fixture(scope="module")
def model(prepared):
    """Random weights, which emit plenty."""
    torch.manual_seed(1)
    return models.build("contextnet_dummy", prepared / "tokenizer")


@pytest.mark.parametrize("strategy", [*decoding.GREEDY, *SEARCHES])
def test_every_search_transcribes_every_utterance(prepared, model, tmp_path, strategy):
    settings = decoding.set_search(model, strategy, 2)
    assert settings == {"strategy": strategy} | ({} if strategy in decoding.GREEDY else {"beam_size": 2})
    texts, seconds = transcribe(model, prepared, prepared / "test.jsonl", tmp_path)
    assert len(texts) == len(manifests.read(prepared / "test.jsonl")) and seconds > 0
    assert all(isinstance(text, str) for text in texts)


def transcribe(model, prepared, manifest, cache):
    tokenizer = prepared / "tokenizer/tokenizer.model"
    return decoding.transcribe(model, manifest, tokenizer, cache, batch_size=3, device="cpu", workers=0, label="")


class HearsDurations(torch.nn.Module):
    """Stands for a model: an utterance's transcript is its number of samples."""

    def __init__(self):
        super().__init__()
        self.cfg = SimpleNamespace(sample_rate=16000)
        self.decoding = SimpleNamespace(
            rnnt_decoder_predictions_tensor=lambda _, lengths: [SimpleNamespace(text=str(int(n))) for n in lengths]
        )

    def forward(self, input_signal, input_signal_length):
        return input_signal, input_signal_length


def test_hypotheses_come_back_in_the_manifest_s_order_whatever_the_batches(prepared, tmp_path):
    rows = manifests.read(prepared / "train.jsonl")
    assert len({row["duration"] for row in rows}) > 20
    for name, order in (("forwards", rows), ("backwards", rows[::-1])):
        files.write_jsonl(tmp_path / f"{name}.jsonl", order)
        texts, _ = transcribe(HearsDurations(), prepared, tmp_path / f"{name}.jsonl", tmp_path)
        assert texts == [str(round(row["duration"] * 16000)) for row in order]


def test_a_beam_wider_than_the_vocabulary_is_refused(model):
    with pytest.raises(UserError, match="evaluation.beam_size 99 exceeds the vocabulary of 24"):
        decoding.set_search(model, "malsd_batch", 99)
