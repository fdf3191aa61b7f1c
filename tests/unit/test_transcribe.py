"""transcribe.py: the hypotheses of the pipeline for any audio file, and nothing else on stdout."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
import torch
import transcribe

from conftest import ROOT
from rnnt import config, console
from rnnt.data import audio, manifests
from rnnt.evaluation import decoding
from rnnt.report import model_card
from rnnt.training import models

SECTIONS = config.load_schema(ROOT / "config/schema.yaml")["$defs"]


@pytest.fixture(scope="module")
def network(prepared):
    """Random weights, which emit plenty; dither would make every run another."""
    torch.manual_seed(1)
    model = models.build("contextnet_dummy", prepared / "tokenizer")
    model.preprocessor.featurizer.dither = 0.0
    model.cfg.preprocessor.dither = 0.0
    return model.eval()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """A model folder, as transcribe.py takes it."""
    path = tmp_path_factory.mktemp("model")
    network.save_to(str(path / "model.nemo"))
    return path


@pytest.fixture(scope="module")
def clips(prepared):
    return [row["audio_filepath"] for row in manifests.read(prepared / "test.jsonl")]


@pytest.fixture
def run(folder, capfd, monkeypatch):
    """The script in this process, as NeMo's import takes longer: exit code, stdout's lines, stderr's."""

    def call(*arguments, model=folder):
        command = ["transcribe.py", "--model", model, "--device", "cpu", "--threads", "1", *arguments]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        monkeypatch.setattr(console, "LINE_EVERY_SECONDS", 3600)  # no progress lines, however busy the machine
        code = 0
        try:
            console.run(transcribe.main, transcribe.parser())
        except SystemExit as stop:
            code = stop.code
        shown = capfd.readouterr()
        return code, shown.out.splitlines(), shown.err.splitlines()

    return call


def texts(lines):
    return [line.split("\t")[1] for line in lines]


@pytest.mark.parametrize("options", [(), ("--strategy", "greedy_batch"), ("--beam-size", "2", "--batch-size", "2")])
def test_the_transcripts_are_the_pipeline_s(prepared, network, clips, run, tmp_path, options):
    code, lines, problems = run(*clips, *options)
    strategy = "greedy_batch" if "greedy_batch" in options else "malsd_batch"
    beam = {} if strategy == "greedy_batch" else {"beam_size": 2 if "2" in options else 4}
    decoding.set_search(network, {"strategy": strategy, **beam})
    expected, _ = decoding.transcribe(
        network,
        prepared / "test.jsonl",
        prepared / "tokenizer/tokenizer.model",
        tmp_path,
        batch_size=2 if "2" in options else 8,
        device="cpu",
        workers=0,
        label="",
    )
    assert (code, problems) == (0, [])
    assert lines == [f"{clip}\t{text}" for clip, text in zip(clips, expected, strict=True)]
    assert len(set(expected)) > 1


def test_a_nemo_file_and_json_lines(folder, clips, run):
    _, plain, _ = run(*clips[:2])
    code, lines, _ = run(*clips[:2], "--format", "jsonl", model=folder / "model.nemo")
    rows = [json.loads(line) for line in lines]
    assert code == 0 and [list(row) for row in rows] == [["file", "duration", "text"]] * 2
    assert [f"{row['file']}\t{row['text']}" for row in rows] == plain
    assert [row["duration"] for row in rows] == [round(soundfile.info(clip).duration, 3) for clip in clips[:2]]


def test_any_rate_number_of_channels_and_format(clips, run, tmp_path):
    """A copy at another rate has not the very samples: its transcript is that of what is read from it."""
    samples, rate = soundfile.read(clips[0])
    two = np.stack([samples * 1.5, samples * 0.5], axis=1)
    soundfile.write(tmp_path / "stereo.wav", two, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "cd.flac", soxr.resample(two, rate, 44100), 44100)
    soundfile.write(tmp_path / "clip.mp3", samples, rate, format="MP3")
    soundfile.write(tmp_path / "clip.ogg", samples, rate)
    names = ["stereo.wav", "cd.flac", "clip.mp3", "clip.ogg"]
    for name in names:
        soundfile.write(tmp_path / f"{name}.16k.wav", audio.read(tmp_path / name, 16000), 16000, subtype="FLOAT")
    paths = [tmp_path / name for name in names]
    code, lines, problems = run(clips[0], *paths, *(f"{path}.16k.wav" for path in paths), "--batch-size", "1")
    found = texts(lines)
    assert code == 0 and all(found)
    assert not [line for line in problems if "libmpg123" not in line], "which complains where a read starts in between"
    assert found[1] == found[0], "the mean of the channels"
    assert found[1:5] == found[5:]
    assert [line.split("\t")[0] for line in lines[1:5]] == [str(path) for path in paths]


def test_a_file_that_can_t_be_read_is_one_line_and_the_others_go_on(clips, run, tmp_path):
    content = Path(clips[1]).read_bytes()
    (tmp_path / "damaged.flac").write_bytes(content[: len(content) // 3] + bytes(2000) + content[len(content) // 2 :])
    (tmp_path / "notes.wav").write_text("not audio")
    soundfile.write(tmp_path / "click.wav", np.zeros(80), 16000)
    (tmp_path / "empty").mkdir()
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.wav")
    shutil.copy(clips[0], name)
    broken = [tmp_path / "damaged.flac", tmp_path / "notes.wav", tmp_path / "gone.wav", tmp_path / "click.wav"]
    code, lines, problems = run(clips[0], *broken, tmp_path / "empty", name, clips[2])
    good = run(clips[0], clips[2])
    assert code == 1 and lines == good[1]
    assert len(problems) == 7 and problems[-1] == "error: 6 of 8 can't be transcribed, see above"
    for path in [*broken, tmp_path / "empty"]:
        assert sum(line.startswith(f"{path}: ") for line in problems) == 1, path
    assert f"{tmp_path}/gone.wav: No such file or directory" in problems
    assert any(line.endswith("the name is not UTF-8: rename the file") for line in problems)


def test_nothing_readable_is_told_before_nemo_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "restore", None)
    code, lines, problems = run(tmp_path / "gone.wav")
    assert (code, lines) == (1, []) and len(problems) == 2


def test_a_folder_gives_its_audio_files_sorted(clips, run, tmp_path):
    for name in ("b.FLAC", "a.flac", "inner/c.flac", ".hidden.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clips[0], tmp_path / name)
    code, lines, problems = run(clips[1], tmp_path)
    found = [line.split("\t")[0] for line in lines]
    assert (code, problems) == (0, [])
    assert found == [clips[1], *(f"{tmp_path}/{name}" for name in ("a.flac", "b.FLAC", "inner/c.flac"))]


def test_what_a_folder_has_beside_audio_is_counted_by_suffix(tmp_path, capfd):
    for name in ("a.m4a", "b.MP2", "c.webm", "d.wma", "e.amr", "f.jpg", "g.JPG", "sub/metadata.csv", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    console.start_logging(None, "")
    found, empty = transcribe.find([str(tmp_path), str(tmp_path / "sub")])
    assert [Path(path).name for path in found] == ["a.m4a", "b.MP2", "c.webm", "d.wma", "e.amr"] and empty == 1
    assert capfd.readouterr().err.splitlines() == [
        f"{tmp_path}: left out, as not audio by their names: 1 .csv, 2 .jpg, 1 without suffix "
        "(a file that is named itself is tried)",
        f"{tmp_path}/sub: left out, as not audio by their names: 1 .csv (a file that is named itself is tried)",
        f"{tmp_path}/sub: no audio files in this folder",
    ]


def test_what_only_ffmpeg_reads_is_transcribed_and_what_sounds_wrong_is_told(clips, run, tmp_path):
    samples, rate = soundfile.read(clips[0], dtype="float32")
    with av.open(str(tmp_path / "clip.m4a"), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    soundfile.write(tmp_path / "silent.wav", np.zeros(rate), rate)
    soundfile.write(tmp_path / "nan.wav", np.where(samples == 0, np.nan, samples), rate, subtype="FLOAT")
    code, lines, problems = run(tmp_path / "clip.m4a", tmp_path / "silent.wav", tmp_path / "nan.wav")
    assert code == 1 and [line.split("\t")[0] for line in lines] == [
        f"{tmp_path}/{name}" for name in ("clip.m4a", "silent.wav")
    ]
    assert texts(lines)[0], "of random weights, but for every sound some"
    assert problems == [
        f"{tmp_path}/silent.wav: silent: what is transcribed here is no speech, or poor",
        f"{tmp_path}/nan.wav: has samples that are no numbers (NaN or infinite): write it again from its source",
        "error: 1 of 3 can't be transcribed, see above",
    ]


def test_a_long_file_is_transcribed_with_a_warning(clips, run, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(transcribe, "LONG", 30)
    samples, rate = soundfile.read(clips[0])
    for name, seconds in (("long", 36), ("shorter", 29)):
        soundfile.write(tmp_path / f"{name}.wav", np.resize(samples, seconds * rate), rate)
    code, lines, problems = run(tmp_path / "long.wav", "--strategy", "greedy_batch")
    assert code == 0 and len(texts(lines)[0]) > 300
    (warned,) = [line for line in problems if "minutes in one piece" in line]
    assert warned.startswith(f"{tmp_path}/long.wav: 0.6 minutes")
    rows, unreadable = transcribe.check([str(tmp_path / "shorter.wav")])
    assert len(rows) == 1 and unreadable == 0 and capfd.readouterr().err == ""


def test_what_others_print_does_not_reach_stdout(clips, run, monkeypatch):
    restore = models.restore

    def noisy(path):
        print("a notice of a library")
        os.write(1, b"a notice of C code\n")
        return restore(path)

    _, quiet, _ = run(clips[0])
    monkeypatch.setattr(models, "restore", noisy)
    code, lines, problems = run(clips[0])
    assert code == 0 and lines == quiet and len(lines) == 1
    assert {"a notice of a library", "a notice of C code"} <= set(problems)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (None, r"error: .*/m: no such file: --model takes a folder with model.nemo, or a .nemo file"),
        ("m/", r"error: .*/m/model.nemo: no such file: --model takes a folder .*"),
        ("m", r"error: \S*/m: not a NeMo model, or a damaged one .*"),
    ],
)
def test_a_model_that_is_none_is_one_line(clips, run, tmp_path, make, line):
    if make == "m/":
        (tmp_path / "m").mkdir()
    elif make:
        (tmp_path / make).write_text("garbage")
    code, lines, problems = run(clips[0], model=tmp_path / "m")
    assert (code, lines) == (1, []) and len(problems) == 1
    assert re.fullmatch(line, problems[0]), problems


def test_wrong_options_name_themselves(clips, run):
    code, _, problems = run(clips[0], "--beam-size", "99")
    assert code == 1 and problems == [
        "error: malsd_batch with beam_size 99 looks at 99 tokens at a time, the vocabulary has 24: lower beam_size"
    ]
    code, _, problems = run(clips[0], "--batch-size", "0")
    assert code == 2 and problems[-1].endswith("--batch-size: expected a whole number above 0, got 0")
    assert transcribe.GREEDY == list(decoding.GREEDY) == SECTIONS["greedy"]["properties"]["strategy"]["enum"]
    assert [*transcribe.GREEDY, *SECTIONS["beam"]["properties"]["strategy"]["enum"]] == transcribe.STRATEGIES


def test_the_card_s_python_code_runs(folder, network, clips, run, tmp_path, monkeypatch):
    template = model_card.TEMPLATE.read_text()
    code = re.search(r"```python\n(.*?)```", template, re.DOTALL)[1]
    shutil.copy(folder / "model.nemo", tmp_path)
    samples, rate = soundfile.read(clips[0])
    soundfile.write(tmp_path / "speech.wav", samples, rate)
    assert rate == network.cfg.sample_rate
    monkeypatch.chdir(tmp_path)
    said = []
    exec(code, {"print": said.append, "__name__": "card"})
    assert said == texts(run("speech.wav", "--strategy", "greedy_batch")[1])


def test_the_line_of_a_file(tmp_path):
    row = {"audio_filepath": "über.wav", "duration": 1.23456}
    assert transcribe.line(row, "eins", "text") == "über.wav\teins"
    assert transcribe.line(row, "eins", "jsonl") == '{"file": "über.wav", "duration": 1.235, "text": "eins"}'
