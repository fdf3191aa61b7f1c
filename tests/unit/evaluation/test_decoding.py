"""Decoding: every search of the schema runs, and each hypothesis belongs to its utterance."""

from types import SimpleNamespace

import pytest
import torch

from conftest import ROOT
from rnnt import config, files
from rnnt.data import manifests
from rnnt.errors import UserError
from rnnt.evaluation import decoding
from rnnt.training import models

BEAM = config.load_schema(ROOT / "config/schema.yaml")["$defs"]["beam"]["properties"]


@pytest.fixture(scope="module")
def model(prepared):
    """Random weights, which emit plenty."""
    torch.manual_seed(1)
    return models.build("contextnet_dummy", prepared / "tokenizer")


@pytest.mark.parametrize("strategy", [*decoding.GREEDY, *BEAM["strategy"]["enum"]])
def test_every_search_transcribes_every_utterance_and_prints_nothing(prepared, model, tmp_path, strategy, capfd):
    search = {"strategy": strategy} | ({} if strategy in decoding.GREEDY else {"beam_size": 2})
    assert decoding.set_search(model, search) == search
    texts, seconds = transcribe(model, prepared, prepared / "test.jsonl", tmp_path)
    assert len(texts) == len(manifests.read(prepared / "test.jsonl")) and seconds > 0
    assert all(isinstance(text, str) for text in texts)
    assert capfd.readouterr() == ("", "")


def transcribe(model, prepared, manifest, cache, **options):
    tokenizer = prepared / "tokenizer/tokenizer.model"
    options = {"batch_size": 3, "device": "cpu", "workers": 0, "label": "", **options}
    return decoding.transcribe(model, manifest, tokenizer, cache, **options)


class HearsDurations(torch.nn.Module):
    """Stands for a model: an utterance's transcript is its number of samples."""

    def __init__(self, fits=100, dies_after=1000):
        super().__init__()
        self.fits, self.left, self.batches = fits, dies_after, []
        self.cfg = SimpleNamespace(sample_rate=16000)
        self.decoding = SimpleNamespace(
            rnnt_decoder_predictions_tensor=lambda _, lengths: [SimpleNamespace(text=str(int(n))) for n in lengths]
        )

    def forward(self, input_signal, input_signal_length):
        if len(input_signal) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert input_signal.shape[1] == max(input_signal_length)
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.batches.append(len(input_signal))
        return input_signal, input_signal_length


def test_hypotheses_come_back_in_the_manifest_s_order_whatever_the_batches(prepared, tmp_path):
    rows = manifests.read(prepared / "train.jsonl")
    assert len({row["duration"] for row in rows}) > 20
    for name, order in (("forwards", rows), ("backwards", rows[::-1])):
        files.write_jsonl(tmp_path / f"{name}.jsonl", order)
        texts, _ = transcribe(HearsDurations(), prepared, tmp_path / f"{name}.jsonl", tmp_path)
        assert texts == [str(round(row["duration"] * 16000)) for row in order]


PARAMETERS = [
    ("greedy", "max_symbols", 1, 10, {}),
    ("greedy_batch", "max_symbols", 1, 10, {}),
    ("tsd", "max_symbols", 1, 10, {}),
    ("malsd_batch", "max_symbols", 1, 10, {}),
    ("alsd", "alsd_max_target_len", 0.3, 1.0, {}),
    ("alsd", "alsd_max_target_len", 2, 1, {}),
    ("maes", "maes_num_steps", 3, 2, {"beam_size": 2}),
    ("maes_batch", "maes_num_steps", 3, 2, {}),
    ("maes", "maes_expansion_beta", 0, 2, {"beam_size": 2}),
    ("maes", "maes_expansion_gamma", 0.01, 2.3, {}),
    ("maes_batch", "maes_expansion_gamma", 0.01, 2.3, {}),
    ("beam", "score_norm", False, True, {}),
    ("maes_batch", "score_norm", False, True, {"beam_size": 8}),
]


@pytest.mark.parametrize(("strategy", "parameter", "value", "default", "others"), PARAMETERS)
def test_every_parameter_of_a_search_changes_what_it_finds(
    prepared, model, tmp_path, strategy, parameter, value, default, others
):
    search = {"strategy": strategy} | ({} if strategy in decoding.GREEDY else {"beam_size": 3} | others)
    found = []
    for extra in ({parameter: value}, {parameter: default}, {}):
        decoding.set_search(model, search | extra)
        found.append(transcribe(model, prepared, prepared / "test.jsonl", tmp_path)[0])
    assert found[0] != found[1] == found[2], "the last is NeMo's default, as the schema tells"


def test_no_parameter_of_the_schema_is_left_out():
    tried = {parameter for _, parameter, *_ in PARAMETERS}
    assert tried == BEAM.keys() - {"strategy", "beam_size", "lm", "lm_text", "lm_order", "lm_weight"}
    for parameter, strategies in config.BEAM_PARAMETERS.items():
        if parameter != "lm":
            assert set(strategies) == {s for s, name, *_ in PARAMETERS if name == parameter} - set(decoding.GREEDY)


def test_a_beam_wider_than_the_vocabulary_is_refused(model):
    with pytest.raises(UserError, match="with beam_size 99 looks at 99 tokens at a time, the vocabulary has 24"):
        decoding.set_search(model, {"strategy": "malsd_batch", "beam_size": 99})


class Graphs:
    """Stands for NeMo's search with CUDA graphs that fail on this machine."""

    def __init__(self, works):
        self.works, self.on = works, True

    def disable_cuda_graphs(self):
        was, self.on = self.on, False
        return was


@pytest.mark.parametrize("works", [True, False])
def test_where_cuda_graphs_fail_the_search_goes_on_without_them_and_says_so(prepared, tmp_path, log, works):
    model = HearsDurations()
    model.decoding.decoding = Graphs(works)
    heard = model.decoding.rnnt_decoder_predictions_tensor

    def search(encoded, lengths):
        if model.decoding.decoding.on and not works:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")
        return heard(encoded, lengths)

    model.decoding.rnnt_decoder_predictions_tensor = search
    texts, _ = transcribe(model, prepared, prepared / "test.jsonl", tmp_path)
    assert len(texts) == len(manifests.read(prepared / "test.jsonl")) and model.decoding.decoding.on is works
    said = "CUDA graphs do not work here: decode without them (CUDA error: operation not permitted"
    assert (said in log.read_text()) is not works


def test_an_error_that_is_not_the_graphs_is_not_hidden(prepared, tmp_path):
    model = HearsDurations()
    model.decoding.decoding = SimpleNamespace()
    model.decoding.rnnt_decoder_predictions_tensor = lambda *_: [][0]
    with pytest.raises(IndexError):
        transcribe(model, prepared, prepared / "test.jsonl", tmp_path)


def test_a_batch_that_does_not_fit_is_decoded_in_halves(prepared, tmp_path):
    rows = manifests.read(prepared / "train.jsonl")
    model = HearsDurations(fits=2)
    texts, _ = transcribe(model, prepared, prepared / "train.jsonl", tmp_path, batch_size=7)
    assert texts == [str(round(row["duration"] * 16000)) for row in rows]
    assert max(model.batches) <= 2
    with pytest.raises(torch.OutOfMemoryError):
        transcribe(HearsDurations(fits=0), prepared, prepared / "train.jsonl", tmp_path)


def test_a_transcription_that_was_cut_off_goes_on_behind_the_last_whole_batch(prepared, tmp_path):
    manifest, progress = prepared / "train.jsonl", tmp_path / "progress.jsonl"
    rows = manifests.read(manifest)
    whole = HearsDurations()
    expected, _ = transcribe(whole, prepared, manifest, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        transcribe(HearsDurations(dies_after=6), prepared, manifest, tmp_path, progress=progress)
    assert len(progress.read_text().splitlines()) == 15, "five batches; the first call is the warm-up"
    progress.write_text(progress.read_text()[:-10])
    again = HearsDurations()
    texts, seconds = transcribe(again, prepared, manifest, tmp_path, progress=progress)
    assert texts == expected and seconds > 0
    assert sum(again.batches[1:]) == len(rows) - 12
    assert len(progress.read_text().splitlines()) == len(rows)
    finished = HearsDurations()
    assert transcribe(finished, prepared, manifest, tmp_path, progress=progress)[0] == expected
    assert finished.batches == []


@pytest.mark.parametrize(
    "line", ["[1]", "3", '{"id": "x"}', '{"id": 1, "pred_text": "x", "seconds": null}', "\udcff\udcfe"]
)
def test_a_progress_file_of_garbage_is_begun_anew(prepared, tmp_path, line):
    progress = tmp_path / "progress.jsonl"
    progress.write_text(f"{line}\n" * 6, encoding="utf-8", errors="surrogateescape")
    texts, _ = transcribe(HearsDurations(), prepared, prepared / "test.jsonl", tmp_path, progress=progress)
    assert "x" not in texts and len(progress.read_text().splitlines()) == len(texts)


def test_hypotheses_of_another_order_are_not_taken_over(prepared, tmp_path):
    progress = tmp_path / "progress.jsonl"
    files.write_jsonl(progress, [{"id": f"other{n}", "pred_text": "x", "seconds": 1e6} for n in range(6)])
    texts, seconds = transcribe(HearsDurations(), prepared, prepared / "test.jsonl", tmp_path, progress=progress)
    assert "x" not in texts and seconds < 1e6
