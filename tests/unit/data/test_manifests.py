"""Manifests: the filter, what is dropped and why, and test splits that stay whole."""

import json
import os
import re
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import build_manifests, entries, run_script
from rnnt import streams
from rnnt.corpora import Utterance
from rnnt.data import audio, fingerprints, listings, manifests
from rnnt.errors import UserError


def tone(path, seconds, rate=16000):
    soundfile.write(path, np.full(round(seconds * rate), 0.1, dtype="float32"), rate)
    return str(path)


@pytest.fixture
def corpus(tmp_path):
    """A local split with something wrong in every way that training tolerates."""
    folder = tmp_path / "corpus/all"
    folder.mkdir(parents=True)
    tone(folder / "good.flac", 2)
    tone(folder / "limit.flac", 20)
    tone(folder / "long.flac", 20.5)
    tone(folder / "short.flac", 0.05)
    tone(folder / "silent_text.flac", 1)
    (folder / "broken.flac").write_bytes(b"fLaC but not really")
    tone(folder / "empty.wav", 0)
    names = ["good.flac", "limit.flac", "long.flac", "short.flac", "broken.flac", "empty.wav"]
    rows = [f"{name},One  Two" for name in names] + ["silent_text.flac,  "]
    (folder / "metadata.csv").write_text("\n".join(["file_name,transcription", *rows]) + "\n")
    (tmp_path / "corpus.json").write_text(
        json.dumps({"source": {"type": "local", "path": str(tmp_path / "corpus")}, "folder": str(tmp_path)})
    )
    return tmp_path


def test_texts_are_cleaned_by_their_language_and_what_was_dropped_is_counted(corpus):
    listing = corpus / "corpus/all/metadata.csv"
    listing.write_text("file_name,transcription\ngood.flac,ILIK İ\u00adZMİR\nlimit.flac,می\u200cخواهم\n", "utf-8")
    done = build_manifests(corpus, {"train": "all"}, "--language", "tr")
    assert done.returncode == 0, done.stderr
    assert [row["text"] for row in manifests.read(corpus / "manifests/train.jsonl")] == ["ılık izmir", "می\u200cخواهم"]
    cleaning = json.loads((corpus / "manifests/summary.json").read_text())["train"]["cleaning"]
    assert {rule: done["utterances"] for rule, done in cleaning.items()} == {"drop invisible characters": 1}


@pytest.fixture
def unheard(tmp_path):
    """A local split with audio whose headers lie, or whose samples are no speech."""
    folder = tmp_path / "corpus/all"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 16000).astype("float32")
    silence, broken = np.zeros(16000, "float32"), noise.copy()
    broken[5000] = np.nan
    for name, samples in {
        "good.wav": noise,
        "silent.flac": silence,
        "antiphase.wav": np.stack([noise, -noise], axis=1),
        "clipped.wav": np.clip(noise * 3, -1, 1),
        "nan.wav": broken,
    }.items():
        soundfile.write(folder / name, samples, 16000, subtype="FLOAT" if name.endswith("wav") else None)
    content = (folder / "good.wav").read_bytes()
    (folder / "half.wav").write_bytes(content[: len(content) // 2])
    (folder / "twice.wav").write_bytes(content + content)
    (folder / "piped.wav").write_bytes(content.replace(b"data" + struct.pack("<I", 64000), b"data" + b"\xff" * 4))
    soundfile.write(folder / "damaged.flac", noise, 16000)
    content = bytearray((folder / "damaged.flac").read_bytes())
    content[len(content) // 2] ^= 85
    (folder / "damaged.flac").write_bytes(content)
    names = sorted(path.name for path in folder.iterdir())
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{name},one\n" for name in names))
    (tmp_path / "corpus.json").write_text(
        json.dumps({"source": {"type": "local", "path": str(tmp_path / "corpus")}, "folder": str(tmp_path)})
    )
    return tmp_path


def test_training_drops_what_is_damaged_by_reason_and_lists_what_sounds_wrong(unheard):
    done = build_manifests(unheard, {"train": "all"})
    assert done.returncode == 0, done.stderr
    summary = json.loads((unheard / "manifests/summary.json").read_text())["train"]
    assert {reason: size["utterances"] for reason, size in summary["dropped"].items()} == {
        "cut off": 1,
        "length wrong": 1,
        "unreadable audio": 2,
    }
    assert {problem: found["examples"] for problem, found in summary["sound"].items()} == {
        "channels cancel each other": ["antiphase"],
        "clipped": ["clipped"],
        "length not stated": ["piped"],
        "silent": ["silent"],
    }
    kept = manifests.read(unheard / "manifests/train.jsonl")
    assert [row["id"] for row in kept] == ["antiphase", "clipped", "good", "piped", "silent"]
    assert all(row.keys() == {"id", "audio_filepath", "duration", "text"} for row in kept)
    for line in (
        "damaged.flac: is damaged: ",
        "half.wav: is cut off: its header promises 64000 bytes of audio, it has ",
        "nan.wav: has samples that are no numbers",
        "twice.wav: is several files put together",
        "train: 1 of 5 utterances: silence, every sample the same: silent",
        "train: 1 of 5 utterances: clipped, more than 0.1% of the samples at full scale: clipped",
        "takes the first: antiphase",
        "`ffmpeg -i IN OUT.flac` makes one that does: piped",
    ):
        assert line in done.stderr, line


def test_headers_alone_are_read_where_asked(unheard):
    assert build_manifests(unheard, {"train": "all"}, "--headers-only").returncode == 0
    summary = json.loads((unheard / "manifests/summary.json").read_text())["train"]
    assert summary["sound"].keys() == {"length not stated"} and summary["dropped"].keys() == {"cut off", "length wrong"}


@pytest.mark.parametrize("name", ["damaged.flac", "half.wav", "nan.wav", "twice.wav"])
def test_a_test_split_refuses_what_training_drops(unheard, name):
    (unheard / "corpus/all/metadata.csv").write_text(f"file_name,text\ngood.wav,one\n{name},one\n")
    for path in (unheard / "corpus/all").iterdir():
        if path.name not in ("metadata.csv", "good.wav", name):
            path.unlink()  # audio that no row lists ends the run too
    done = build_manifests(unheard, {"test": "all"})
    assert done.returncode == 1 and "metadata.csv:3: " in done.stderr and f"{name}: " in done.stderr
    assert "1 of 2 utterances of test would be missing from the score" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_recording_that_utterances_share_is_read_once_for_all(tmp_path, monkeypatch):
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 16000 * 10).astype("float32")
    samples[16000 * 4 : 16000 * 6] = 0
    soundfile.write(tmp_path / "talk.flac", samples, 16000)
    read, listen = [], audio.listen
    monkeypatch.setattr(audio, "listen", lambda path, stretches: read.append(path) or listen(path, stretches))
    talk = str(tmp_path / "talk.flac")
    segments = [Utterance(f"{n}", talk, "t", offset=float(n), duration=1.0) for n in range(10)]
    found, _ = entries(segments[::-1], "keep", 1, "", read_samples=True)
    assert read == [talk] and [entry["id"] for entry in found if "problems" in entry] == ["4", "5"]


def test_a_process_that_dies_is_one_line_and_no_wait_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "inspect", lambda path: os._exit(1))
    utterances = [Utterance(str(n), tone(tmp_path / f"{n}.wav", 0.1), "t") for n in range(40)]
    with pytest.raises(UserError, match="read x: a process was killed"):
        entries(utterances, "keep", 2, "read x")


def test_training_keeps_up_to_20_s_and_counts_what_it_drops_by_reason(corpus):
    done = build_manifests(corpus, {"train": "all"})
    assert done.returncode == 0, done.stderr
    kept = manifests.read(corpus / "manifests/train.jsonl")
    assert [row["id"] for row in kept] == ["good", "limit"]
    assert kept[0] == {
        "id": "good",
        "audio_filepath": str(corpus / "corpus/all/good.flac"),
        "duration": 2.0,
        "text": "one two",
    }
    summary = json.loads((corpus / "manifests/summary.json").read_text())["train"]
    assert summary["utterances"] == 2
    assert {reason: size["utterances"] for reason, size in summary["dropped"].items()} == {
        "empty text": 1,
        "longer than 20 s": 1,
        "shorter than 0.1 s": 1,
        "unreadable audio": 2,
    }
    assert summary["dropped"]["longer than 20 s"]["hours"] == pytest.approx(20.5 / 3600, abs=1e-4)


def test_a_test_split_is_whole_and_an_unreadable_utterance_in_it_is_an_error(corpus):
    listing = corpus / "corpus/all/metadata.csv"
    done = build_manifests(corpus, {"train": "all", "test": "all"})
    assert done.returncode == 1
    assert "metadata.csv:6" in done.stderr and "broken.flac" in done.stderr and "Traceback" not in done.stderr
    for name in ("broken.flac", "empty.wav"):
        (listing.parent / name).unlink()
        listing.write_text("\n".join(line for line in listing.read_text().splitlines() if name not in line))
    done = build_manifests(corpus, {"train": "all", "test": "all"}, "--allow-overlap")
    assert done.returncode == 0, done.stderr
    ids = [row["id"] for row in manifests.read(corpus / "manifests/test.jsonl")]
    assert ids == ["good", "limit", "long", "short", "silent_text"]


def test_a_row_that_names_a_missing_file_is_an_error_with_its_line(corpus):
    (corpus / "corpus/all/long.flac").unlink()
    done = build_manifests(corpus, {"train": "all"})
    assert done.returncode == 1
    assert "metadata.csv:4: no such file" in done.stderr


def test_audio_that_no_row_lists_is_counted_and_an_error_in_a_test_split(corpus):
    (corpus / "corpus/all/metadata.csv").write_text("file_name,text\ngood.flac,one\n")
    told = r"split {}: 6 audio files are in no row of the listing, such as \S+/all/broken.flac"
    done = build_manifests(corpus, {"train": "all"})
    assert done.returncode == 0 and re.search(told.format("train"), done.stderr)
    done = build_manifests(corpus, {"test_all": "all"})
    assert done.returncode == 1 and re.search(told.format("test_all") + ".*source.allow_unlisted: true", done.stderr)
    description = json.loads((corpus / "corpus.json").read_text())
    description["source"]["allow_unlisted"] = True
    (corpus / "corpus.json").write_text(json.dumps(description))
    done = build_manifests(corpus, {"test_all": "all"})
    assert done.returncode == 0 and re.search(told.format("test_all"), done.stderr)


@pytest.mark.parametrize(("listed", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_the_other_normal_form_is_found(tmp_path, listed, there):
    listed, there = (unicodedata.normalize(form, "übung/é.wav") for form in (listed, there))
    (tmp_path / there).parent.mkdir()
    path = tone(tmp_path / there, 1)
    ((found,), _) = entries([Utterance("a", str(tmp_path / listed), "t")], "keep", 1, "")
    assert (found["audio_filepath"], found["duration"]) == (path, 1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ü" * 150 + ".wav", "list:7: File name too long: "),
        ("folder", "list:7: not a file: "),
        ("x.wav/y.wav", "list:7: Not a directory: "),
        ("x.wav ", r"list:7: no such file: .*x.wav  \(its name ends with a space\)"),
    ],
)
def test_a_name_that_can_be_no_file_is_one_line(tmp_path, name, message):
    tone(tmp_path / "x.wav", 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        entries([Utterance("a", str(tmp_path / name), "t", origin="list:7")], "keep", 1, "")


def test_a_manifest_is_read_with_the_numbers_of_its_lines(tmp_path):
    (tmp_path / "train.jsonl").write_text('\n\n{"id": "a", "audio_filepath": "x", "duration": 1}\n')
    with pytest.raises(UserError, match="train.jsonl:3: no `text`"):
        manifests.read(tmp_path / "train.jsonl")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("duration", "1e999", "'1e999' is too large for a number"),
        ("duration", "0", "`duration` is 0: not a manifest of this pipeline"),
        ("duration", '"1"', "`duration` is '1': not a manifest"),
        ("text", "null", "`text` is None: not a manifest"),
        ("id", "7", "`id` is 7: not a manifest"),
    ],
)
def test_a_manifest_with_a_value_of_another_kind_is_none(tmp_path, key, value, message):
    row = {"id": '"a"', "audio_filepath": '"x"', "duration": "1.5", "text": '"t"', key: value}
    line = ", ".join(f'"{name}": {written}' for name, written in row.items())
    (tmp_path / "train.jsonl").write_text(f"\n{{{line}}}\n")
    with pytest.raises(UserError, match=f"train.jsonl:2: .*{message}"):
        manifests.read(tmp_path / "train.jsonl")


def test_a_split_with_nothing_left_says_why(corpus):
    (corpus / "corpus/all/metadata.csv").write_text("file_name,text\nlong.flac,one\nshort.flac,two\n")
    done = build_manifests(corpus, {"train": "all"})
    assert done.returncode == 1
    assert "nothing is left of 2 utterances" in done.stderr and "1 longer than 20 s" in done.stderr


def test_a_test_split_without_a_word_is_refused_before_anything_is_trained(corpus):
    (corpus / "corpus/mute").mkdir()
    tone(corpus / "corpus/mute/x.flac", 1)
    (corpus / "corpus/mute/metadata.csv").write_text("file_name,text\nx.flac,\n")
    done = build_manifests(corpus, {"test": "mute"})
    assert done.returncode == 1 and "split test: none of its 1 references has a word" in done.stderr


def test_the_same_input_gives_the_same_bytes_on_any_number_of_cores(speech):
    from rnnt.corpora import local

    utterances = list(local.utterances({"path": str(speech)}, "train", Path()))
    utterances = [Utterance(**{**u.__dict__, "id": f"{n}-{u.id}"}) for n in range(6) for u in utterances]
    assert len(utterances) > 200
    (one, _), (two, _) = (entries(order, "lower", w, "") for w, order in ((1, utterances), (2, utterances[::-1])))
    assert one == two
    assert [row["id"] for row in one] == sorted(row["id"] for row in one)


@pytest.fixture
def in_runs(monkeypatch):
    """What is more than 7 rows is sorted on disk."""
    monkeypatch.setattr(streams, "RUN", 7)


def test_an_id_that_occurs_twice_is_an_error(tmp_path, in_runs):
    path = tone(tmp_path / "x.wav", 1)
    listed = [Utterance(f"é{n % 40}", path, "t", origin=f"list:{n}") for n in range(60)]
    with pytest.raises(UserError, match="^list:40: id é0 occurs before, in list:0$"):
        entries(listed, "keep", 1, "")
    assert len(entries(listed[:40], "keep", 1, "")[0]) == 40


@pytest.mark.parametrize("samples", [False, True])
def test_what_is_sorted_on_disk_is_written_as_what_is_sorted_in_memory(tmp_path, in_runs, samples):
    """Against json and numpy alone: no id in order, many segments of a file, some that can't be read, or nothing."""
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 16000 * 3).astype("float32")
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.flac", noise[n * 4000 :], 16000)
    (tmp_path / "broken.flac").write_bytes(b"fLaC")
    names = [*(f"{n % 3}.flac" for n in range(40)), "broken.flac"]
    listed = [
        Utterance("zéaÄ😀"[n * 7 % 5] + str(n * 37 % 41), str(tmp_path / name), "t", offset=n / 20, duration=0.5)
        for n, name in enumerate(names)
    ]
    for count in (41, 0):
        folder, utterances = tmp_path / f"listing{count}", listed[:count]
        folder.mkdir()
        prints = fingerprints.Prints(folder) if samples else None
        listings.write(folder, manifests.listing(utterances, 1, "", folder, prints), prints, lambda paths: [], False)
        plain = [manifests._of_file([utterance], samples)[0] for utterance in sorted(utterances, key=lambda u: u.id)]
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry, _ in plain]
        assert (folder / "utterances.jsonl").read_text() == "".join(lines)
        marks = [np.zeros(0, np.uint32) if mark is None else mark for _, mark in plain] if samples else []
        frames = np.concatenate([np.zeros(0, np.uint32), *marks])
        np.savez(tmp_path / "plain.npz", lengths=np.array([len(mark) for mark in marks], np.int64), frames=frames)
        assert (folder / "fingerprints.npz").read_bytes() == (tmp_path / "plain.npz").read_bytes()
        found = [(id, frames.tolist()) for id, frames in listings.fingerprints(folder)]
        ids = [entry["id"] for entry, _ in plain] if samples else []
        assert found == list(zip(ids, (mark.tolist() for mark in marks), strict=True))
        assert sorted(path.name for path in folder.iterdir()) == ["about.json", "fingerprints.npz", "utterances.jsonl"]


def test_a_listing_that_ends_in_an_error_leaves_no_file(tmp_path, in_runs):
    path = tone(tmp_path / "x.wav", 1)
    listed = [Utterance(f"{n:02}", path if n != 20 else "lost.wav", "t", origin=f"list:{n}") for n in range(40)]
    (tmp_path / "listing").mkdir()
    with pytest.raises(UserError, match="list:20: no such file: lost.wav"):
        listings.write(tmp_path / "listing", manifests.listing(listed, 1, ""), None, lambda paths: [], False)
    assert not list((tmp_path / "listing").iterdir())


def test_several_source_splits_make_one_training_split(corpus):
    done = build_manifests(corpus, {"train": ["all", "all"]})
    assert "id all/good occurs before, in" in done.stderr
    (corpus / "corpus/more").mkdir()
    tone(corpus / "corpus/more/good.flac", 3)
    (corpus / "corpus/more/metadata.csv").write_text("file_name,text\ngood.flac,three\n")
    assert build_manifests(corpus, {"train": ["all", "more"]}).returncode == 0
    ids = [row["id"] for row in manifests.read(corpus / "manifests/train.jsonl")]
    assert ids == ["all/good", "all/limit", "more/good"]


def test_a_segment_past_the_end_of_its_file_is_unreadable(tmp_path):
    path = tone(tmp_path / "talk.wav", 10)
    (inside, outside), _ = entries(
        [Utterance("a", path, "t", offset=4, duration=6.04), Utterance("b", path, "t", offset=8, duration=5)],
        "keep",
        1,
        "",
    )
    assert inside["duration"] == 6.0
    assert "2.00 s after the offset, 5.00 s wanted" in outside["unreadable"]
    (moment,), _ = entries([Utterance("a", path, "t", duration=1e-7)], "keep", 1, "")
    assert "10.00 s after the offset, 0.00 s wanted" in moment["unreadable"]  # a duration of 0 is none


@pytest.mark.parametrize("kind", ["flac", "wav", "mp3", "ogg"])
def test_audio_is_read_mono_at_the_wanted_rate(tmp_path, kind):
    rate, seconds = 44100, 1.0
    t = np.arange(round(rate * seconds)) / rate
    left, right = np.sin(2 * np.pi * 440 * t) * 0.5, np.zeros_like(t)
    path = str(tmp_path / f"x.{kind}")
    soundfile.write(path, np.stack([left, right], axis=1), rate)
    mixed = audio.read(path, 16000)
    only_left = audio.read(path, 16000, channel=0)
    assert mixed.dtype == np.float32 and abs(len(mixed) - 16000) < 1200
    assert np.sqrt((mixed**2).mean()) == pytest.approx(0.177, abs=0.02)
    assert np.sqrt((only_left**2).mean()) == pytest.approx(0.354, abs=0.03)
    peak = np.abs(np.fft.rfft(only_left[:16000])).argmax()
    assert peak == pytest.approx(440, abs=2)


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW", "ALAW"])
def test_sphere_is_read_by_channel_and_offset_to_the_sample(tmp_path, subtype):
    rate = 8000
    ramp = np.linspace(-0.5, 0.5, 4 * rate)
    path = str(tmp_path / "call.sph")
    soundfile.write(path, np.stack([ramp, -ramp], axis=1), rate, subtype=subtype, format="NIST")
    whole, _ = soundfile.read(path, dtype="float32")
    part = audio.read(path, rate, offset=1.25, seconds=0.5, channel=1)
    assert np.array_equal(part, whole[10000:14000, 1])


def test_reading_past_the_end_or_a_missing_channel_is_an_error(tmp_path):
    path = tone(tmp_path / "x.wav", 1)
    with pytest.raises(UserError, match="ends before 2 s"):
        audio.read(path, 16000, offset=2)
    with pytest.raises(UserError, match="has no channel 1, only 1"):
        audio.read(path, 16000, channel=1)
    with pytest.raises(UserError, match="not readable as audio"):
        audio.inspect(__file__)


@pytest.mark.parametrize("kind", ["flac", "mp3", "wav"])
def test_a_file_that_is_cut_off_behind_a_good_header_is_noticed(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 16000 * 10).astype("float32")
    soundfile.write(path, noise, 16000)
    assert audio.inspect(str(path))[0] == pytest.approx(10, abs=0.2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ((found,), _) = entries([Utterance("a", str(path), "t")], "keep", 1, "")
    assert found["reason"] == "cut off" and "is cut off" in found["unreadable"]
    if kind != "wav":  # of which libsndfile takes the length from what is there
        with pytest.raises(UserError):
            audio.read(str(path), 16000, seconds=10.0)


def test_a_channel_that_the_file_lacks_is_unreadable(tmp_path):
    path = tone(tmp_path / "x.wav", 1)
    ((found,), _) = entries([Utterance("a", path, "t", channel=1)], "keep", 1, "")
    assert "has no channel 1, only 1" in found["unreadable"]


def spoken(count, speakers=("ann",), seconds=36.0):
    """Entries of so many utterances, the first speaker's ten times as many as another's."""
    names = [speakers[0] if n % 11 or len(speakers) == 1 else speakers[1] for n in range(count)]
    return [
        {"id": f"{n:03}", "audio_filepath": "x", "duration": seconds, "speaker": name, "text": "one"}
        for n, name in enumerate(names)
    ]


def test_a_share_in_hours_is_balanced_over_speakers_and_the_same_each_time():
    kept = spoken(220, ("ann", "bob"))
    drawn, others = map(list, manifests.draw(kept, 0.3, "a/train"))
    assert sum(entry["duration"] for entry in drawn) == 0.3 * 3600
    assert sorted(e["id"] for e in drawn + others) == [e["id"] for e in kept], "each once, in one of the two"
    by_speaker = [sum(entry["speaker"] == name for entry in drawn) for name in ("ann", "bob")]
    assert by_speaker == [15, 15], "ann has ten times as many"
    assert list(manifests.draw(kept, 0.3, "a/train")[0]) == drawn != list(manifests.draw(kept, 0.3, "b/train")[0])
    drawn, _ = manifests.draw(kept, 1.0, "a/train")
    assert sum(entry["speaker"] == "bob" for entry in drawn) == 20, "all that there is of bob"
    with pytest.raises(
        UserError, match=r"a/train: 3 hours are asked for, and it has 2.20 \(after the filter\): ask for l"
    ):
        manifests.draw(kept, 3, "a/train")


def test_a_weight_is_a_share_of_the_audio():
    long, short = spoken(90), spoken(100, seconds=3.6)
    assert manifests.weigh([(long, None), (short, 0.1)]) == pytest.approx([1, 1])
    assert manifests.weigh([(long, None), (short, 0.5)]) == pytest.approx([1, 9])
    assert manifests.weigh([(long, 0.5), (short, 0.5)]) == pytest.approx([5 / 9, 5])


def draw(corpus, parts, *options):
    """build_manifest.py on parts of listings that are there; returns what it said and what it kept."""
    listed = corpus / "listings"
    for part in parts:
        if not (listed / part["label"]).exists():
            split = ("--split", part["label"], "--output", listed / part["label"])
            done = run_script("list_split", "--corpus", corpus / "corpus.json", *split)
            assert done.returncode == 0, done.stderr
    parts = json.dumps(
        [{"listing": str(listed / part["label"]), "prefix": f"{part['label']}/", **part} for part in parts]
    )
    paths = ("--output", corpus / "train.jsonl", "--summary", corpus / "summary.json")
    done = run_script("build_manifest", "--split", "train", "--parts", parts, *paths, *options)
    return done, manifests.read(corpus / "train.jsonl") if done.returncode == 0 else []


def test_a_split_is_drawn_from_several_in_hours_and_by_weight(corpus):
    (corpus / "corpus/more").mkdir()
    tone(corpus / "corpus/more/other.flac", 4)
    (corpus / "corpus/more/metadata.csv").write_text("file_name,text\nother.flac,THREE\n")
    done, rows = draw(corpus, [{"label": "all"}, {"label": "more", "weight": 0.25}])
    assert done.returncode == 0, done.stderr
    assert [(row["id"], row["part"], row["times"]) for row in rows] == [
        ("all/good", "all", 1.0),
        ("all/limit", "all", 1.0),
        ("more/other", "more", pytest.approx(22 / 3 / 4, abs=1e-5)),
    ]
    assert "more: an epoch has each utterance 1.83 times, for its weight" in done.stderr
    done, rows = draw(corpus, [{"label": "all", "hours": 0.006}, {"label": "more"}])
    assert done.returncode == 0, done.stderr
    assert {row["id"] for row in rows} >= {"more/other"} and not any("times" in row for row in rows)
    dropped = json.loads((corpus / "summary.json").read_text())["dropped"]
    assert dropped["not drawn, 0.006 hours of all"]["utterances"] == 1
    done, _ = draw(corpus, [{"label": "all", "hours": 1}])
    assert done.returncode == 1 and "all: 1 hours are asked for, and it has 0.01 (after the filter)" in done.stderr
    done, _ = draw(corpus, [{"label": "all", "hours": 0.0001}])
    assert done.returncode == 1 and "splits.train: all: nothing is left of it to draw from" in done.stderr


def test_two_utterances_of_one_id_are_an_error_with_both_lines(corpus):
    done, _ = draw(corpus, [{"label": "all", "prefix": ""}, {"label": "all", "prefix": "", "hours": 0.006}])
    assert done.returncode == 1 and done.stderr.count("metadata.csv:") >= 2
    assert re.search(r"metadata.csv:\d: id \w+ occurs before, in \S+metadata.csv:\d: rename a split", done.stderr)


def test_splits_of_other_case_are_told_where_the_case_is_kept(corpus):
    (corpus / "corpus/more").mkdir()
    tone(corpus / "corpus/more/other.flac", 4)
    (corpus / "corpus/more/metadata.csv").write_text("file_name,text\nother.flac,THREE\n")
    for options, told in ((("--case", "keep"), True), (("--case", "lower"), False)):
        done = build_manifests(corpus, {"train": "all", "test": "more"}, *options)
        assert done.returncode == 0, done.stderr
        line = (
            "transcripts differ in case, which counts as errors: both cases: train (all); capitals alone: test (more)"
        )
        assert (line in done.stderr) == told


def test_a_listing_that_is_not_whole_is_named(corpus):
    draw(corpus, [{"label": "all"}])
    folder = corpus / "listings/all"
    assert [id for id, _ in listings.fingerprints(folder)] == [entry["id"] for entry in listings.read(folder).entries]
    data = (folder / "fingerprints.npz").read_bytes()
    for broken in (b"", data[:50]):
        (folder / "fingerprints.npz").write_bytes(broken)
        with pytest.raises(UserError, match=r"fingerprints.npz: not readable .*delete its folder"):
            list(listings.fingerprints(folder))
    (folder / "fingerprints.npz").write_bytes(data)
    lines = (folder / "utterances.jsonl").read_text().splitlines(keepends=True)
    (folder / "utterances.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(UserError, match=r"fingerprints.npz: not of the utterances beside it"):
        list(listings.fingerprints(folder))
