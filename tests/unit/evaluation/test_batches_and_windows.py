"""What a hypothesis must not depend on: the batch that an utterance is in, and that a long one is heard in windows."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import transcribe_split

import nemo_files
from rnnt import console, files
from rnnt.data import families, manifests
from rnnt.evaluation import decoding
from rnnt.training import memory, models
from speaking import made_to_speak

# Those with prompts are refused.
FAMILIES = sorted(nemo_files.FAMILIES.keys() - {"prompt", "prompt hybrid"})


def transcribe(model, manifest, prepared, cache, batch_size):
    tokenizer = prepared / "tokenizer/tokenizer.model"
    return decoding.transcribe(model, manifest, tokenizer, cache, batch_size, "cpu", workers=0, label="")[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_hypotheses_are_the_same_in_batches_of_1_5_and_16(prepared, bases, tmp_path, name):
    manifest = tmp_path / "some.jsonl"
    files.write_jsonl(manifest, manifests.read(prepared / "train.jsonl")[:17])
    model = made_to_speak(models.restore(bases(name)), prepared)
    alone = decoding.depends_on_batch(model)
    assert alone == ("a big blank is taken where all of a batch have one" if name == "multi-blank" else None)
    for strategy in ("greedy_batch", "malsd_batch"):
        if strategy in families.of_nemo(bases(name)).searches:
            beam = {} if strategy in decoding.GREEDY else {"beam_size": 2}
            decoding.set_search(model, {"strategy": strategy, "max_symbols": 2, **beam})
            one, *others = (transcribe(model, manifest, prepared, tmp_path, size) for size in (1, 5, 16))
            assert (others == [one, one]) == (not alone)
            assert len(set(one)) > 5
            decoding.set_search(model, {"strategy": "greedy", "max_symbols": 2})
            assert strategy != "greedy_batch" or transcribe(model, manifest, prepared, tmp_path, 1) == one


@pytest.fixture
def leg(prepared, bases, tmp_path):
    """A finished leg of a model that speaks."""
    folder = tmp_path / "leg"
    folder.mkdir()
    made_to_speak(models.restore(bases("fastconformer tdt")), prepared).save_to(str(folder / "model.nemo"))
    keys = ("model", "leg", "legs", "step", "fingerprint", "code_version")
    files.write_json(folder / "leg.json", dict.fromkeys(keys, "x"))
    return folder


def decode(prepared, checkpoint, manifest, folder, batch_size):
    """transcribe_split.py: its hypotheses and settings."""
    options = {
        "checkpoint": checkpoint, "manifest": manifest, "tokenizer": prepared / "tokenizer", "batch-size": batch_size,
        "search": json.dumps({"strategy": "greedy_batch"}), "device": "cpu", "threads": 1,
        "hypotheses": folder / f"{batch_size}.jsonl", "decoding": folder / f"{batch_size}.json",
    }  # fmt: skip
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    args = transcribe_split.parser().parse_args(arguments)
    console.start_logging(folder / "log", "")
    transcribe_split.main(args)
    found = [row["pred_text"] for row in files.read_jsonl(options["hypotheses"])]
    return found, files.read_json(options["decoding"])


def test_an_encoder_that_hears_the_padding_decodes_each_alone_and_the_metrics_say_so(
    prepared, leg, tmp_path, monkeypatch
):
    def averaging(path):
        """A model each frame of whose encoder hears the whole batch's length."""
        model = restore(path)
        average = lambda module, inputs, output: (output[0] + 3 * output[0].mean(2, keepdim=True), output[1])  # noqa: E731
        model.encoder.register_forward_hook(average)
        return model

    restore = models.restore
    monkeypatch.setattr(models, "restore", averaging)
    model = models.restore(leg / "model.nemo")
    assert decoding.depends_on_batch(model) == "its encoder hears the padding of a batch"
    decoding.set_search(model, {"strategy": "greedy_batch"})
    manifest = prepared / "train.jsonl"
    assert len({tuple(transcribe(model, manifest, prepared, tmp_path, size)) for size in (1, 5)}) == 2
    (found, settings), (other, _) = (decode(prepared, leg, manifest, tmp_path, size) for size in (16, 5))
    assert found == other and settings["batch_size"] == 1
    assert settings["decoded_alone"] == "its encoder hears the padding of a batch"
    assert "its encoder hears the padding of a batch: each utterance is decoded alone" in (tmp_path / "log").read_text()


class HearsFrames(torch.nn.Module):
    """Stands for an encoder of 80 ms a frame, whose output is the mean of a frame's samples."""

    def __init__(self):
        super().__init__()
        self.cfg = SimpleNamespace(sample_rate=16000, preprocessor=SimpleNamespace(window_stride=0.01))

    def forward(self, input_signal, input_signal_length):
        frames = input_signal[:, : input_signal.shape[1] // 1280 * 1280].unflatten(1, (-1, 1280)).mean(2)
        return frames[:, None], input_signal_length // 1280


@pytest.mark.parametrize("seconds", [60.01, 64.7, 75.08, 90, 600, 603.2])
def test_windows_are_put_together_to_each_frame_once(seconds):
    audio = torch.rand(1, int(seconds * 16000), generator=torch.Generator().manual_seed(1))
    length = torch.tensor([audio.shape[1]])
    whole, _ = HearsFrames()(audio, length)
    encoded, frames = decoding._encode(HearsFrames(), audio, length)
    assert frames == encoded.shape[2] == int(seconds / 0.08)
    assert torch.equal(encoded, whole[:, :, : int(frames)])


def test_windows_are_cut_where_both_hear_the_same():
    """At the ends of a window, where it does not know what follows, it hears something else."""
    torch.manual_seed(1)
    whole = torch.randn(4, 600)
    outputs = [whole[:, start : start + 250] + 0.1 * torch.randn(4, 250) for start in (0, 188, 350)]
    outputs[0][:, 215:218] = outputs[1][:, 27:30] = whole[:, 215:218]
    joined = decoding._join([0, 188, 350], outputs)
    assert torch.equal(joined[:, 215:218], whole[:, 215:218]) and joined.shape == whole.shape
    assert torch.equal(joined[:, :216], outputs[0][:, :216]) and torch.equal(joined[:, 217:300], outputs[1][:, 29:112])


def recording(folder, prepared, seconds):
    """A long utterance of those of the corpus one after the other: its manifest line."""
    heard, total = [], 0
    for row in itertools.cycle(manifests.read(prepared / "train.jsonl")):
        samples, rate = soundfile.read(row["audio_filepath"], dtype="float32")
        heard.append(samples)
        total += len(samples)
        if total >= seconds * rate:
            break
    soundfile.write(folder / f"{seconds}.wav", np.concatenate(heard)[: seconds * rate], rate)
    return {"id": f"{seconds} s", "audio_filepath": str(folder / f"{seconds}.wav"), "duration": seconds, "text": ""}


@pytest.mark.parametrize("name", ["contextnet", "conformer", "fastconformer", "streaming"])
def test_a_long_utterance_takes_the_memory_of_some_windows(prepared, bases, name):
    model = models.restore(bases(name)).eval()

    def peak(call, seconds):
        audio = 0.1 * torch.randn(1, seconds * 16000)
        with torch.inference_mode():
            return memory.of_call(model, lambda: call(model, audio, torch.tensor([audio.shape[1]])))

    few, many = (peak(decoding._encode, seconds) for seconds in (130, 390))
    assert many < 1.5 * few


def test_a_long_utterance_is_transcribed_beside_short_ones_and_the_metrics_say_how(prepared, leg, tmp_path):
    short = manifests.read(prepared / "test.jsonl")
    rows = [short[0], recording(tmp_path, prepared, 90), *short[1:], recording(tmp_path, prepared, 600)]
    files.write_jsonl(tmp_path / "test.jsonl", rows)
    (found, settings), (others, _) = (
        decode(prepared, leg, tmp_path / "test.jsonl", tmp_path, size) for size in (16, 3)
    )
    assert found == others and settings["batch_size"] == 16
    assert settings["windows"] == {"utterances": 2, "above_seconds": 60.0, "seconds": 20.0, "overlap_seconds": 5.0}
    alone, _ = decode(prepared, leg, prepared / "test.jsonl", tmp_path, 4)
    assert [found[0], *found[2:-1]] == alone
    words = [len(found[place]) / rows[place]["duration"] for place in (0, 1, -1)]
    assert max(words) < 1.5 * min(words), "as much a second in each"


def test_batches_are_as_large_as_fits_the_memory(prepared, bases, monkeypatch):
    model = models.restore(bases("conformer")).eval()
    durations = [300.0, 61.0, 59.0, *[50.0] * 20, *[2.0] * 30]
    assert decoding.batch_sizes(model, durations, 16, "cpu") == [1, 1, 16, 16, 16, 3]
    one = decoding.attention_bytes(model, 59.0) + 59 * decoding._bytes_a_second(model)
    monkeypatch.setattr(memory, "room", lambda *_: 5.1 * one / memory.HEADROOM["cpu"])
    sizes = decoding.batch_sizes(model, durations, 16, "cpu")
    assert sizes[:4] == [1, 1, 5, 6] and sum(sizes) == len(durations) and sizes[-1] > 3
    monkeypatch.setattr(memory, "room", lambda *_: 1.0)
    assert decoding.batch_sizes(model, [59.0] * 20, 16, "cpu")[:3] == [1, 1, 1], "it is tried"


@pytest.mark.parametrize("name", ["contextnet", "conformer", "fastconformer", "hybrid"])
def test_what_an_utterance_takes_is_predicted(bases, name):
    model = models.restore(bases(name)).eval()
    audio = 0.1 * torch.randn(1, 50 * 16000)
    with torch.inference_mode():
        taken = memory.of_call(
            model, lambda: model.forward(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))
        )
    predicted = 50 * decoding._bytes_a_second(model) + decoding.attention_bytes(model, 50)
    assert 0.8 * taken < predicted < 2.5 * taken
