"""What splits share is found and named: recordings by file and by sound, texts, speakers."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import soundfile
import soxr

from conftest import SHARED_DATA, build_manifests
from rnnt import files
from rnnt.corpora import local
from rnnt.data import fingerprints, overlap


def entry(id, text="one", path=None, offset=0.0, duration=1.0, **more):
    return {
        "id": id,
        "audio_filepath": path or f"{id}.wav",
        "offset": offset,
        "duration": duration,
        "text": text,
        **more,
    }


def pair(train, test):
    (found,) = overlap.find({"train": train, "test": test})["pairs"]
    return found


def test_segments_of_one_file_are_shared_where_they_overlap(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "link.wav").symlink_to("a.wav")
    talk = str(tmp_path / "a.wav")
    train = [entry("t1", path=talk, duration=4.5), entry("t2", path=talk, offset=10, channel=0)]
    test = [
        entry("inside", "two", path=str(tmp_path / "link.wav"), offset=3.0),
        entry("next", "two", path=talk, offset=4.46),
        entry("other side", "two", path=talk, offset=10, channel=1),
        entry("same side", "two", path=talk, offset=10.5, channel=0),
        entry("mixed", "two", path=talk, offset=10.5),
        entry("elsewhere", "two"),
    ]
    found = pair(train, test)["recordings"]
    assert found == [["t1", "inside", "file"], ["t2", "same side", "file"], ["t2", "mixed", "file"]]


def test_texts_and_speakers_are_counted_in_shares_of_the_later_split():
    train = [entry("a", "one two", speaker="ann"), entry("b", "three", speaker="bob"), entry("c", "")]
    test = [
        entry("x", "one two", speaker="cyd"),
        entry("y", "four five six", speaker="bob"),
        entry("z", "seven"),
        entry("w", ""),
    ]
    found = pair(train, test)
    assert found["texts"] == {
        "utterances": 1, "share_of_utterances": 0.25, "share_of_words": round(2 / 6, 4), "ids": ["x"],
    }  # fmt: skip
    assert found["speakers"] == {"names": ["bob"], "utterances": 1, "share_of_utterances": 0.25}
    assert overlap.describe_pair(found) == [
        "the text of 1 utterance of test (25.0 %, with 33.3 % of the words) is in train too",
        "1 speaker of test (1 utterance, 25.0 %) is in train too",
    ]
    assert overlap.with_test({"pairs": [found]}) == []


def test_every_two_splits_are_compared_and_a_shared_recording_with_test_is_told_apart():
    same = [entry("a")]
    found = overlap.find({"test_b": same, "validation": same, "train": same, "test_a": [entry("b", "two")]})
    assert [pair["splits"] for pair in found["pairs"]] == [
        ["train", "validation"], ["train", "test_a"], ["train", "test_b"],
        ["validation", "test_a"], ["validation", "test_b"], ["test_a", "test_b"],
    ]  # fmt: skip
    assert [pair["splits"] for pair in overlap.with_test(found)] == [["train", "test_b"], ["validation", "test_b"]]


def coded(samples, rate, kind, subtype=None):
    """Samples after a codec."""
    packed = io.BytesIO()
    soundfile.write(packed, samples, rate, format=kind, subtype=subtype)
    packed.seek(0)
    return soundfile.read(packed, dtype="float32")


CHANGES = {
    "mp3": lambda samples, rate: coded(samples, rate, "MP3"),
    "ogg": lambda samples, rate: coded(samples, rate, "OGG", "VORBIS"),
    "telephone": lambda samples, rate: coded(soxr.resample(samples, rate, 8000), 8000, "WAV", "ULAW"),
    "resampled": lambda samples, rate: (soxr.resample(samples, rate, 11025), 11025),
    "mp3 at another rate": lambda samples, rate: coded(soxr.resample(samples, rate, 22050), 22050, "MP3"),
    "quiet, upside down": lambda samples, rate: (-0.05 * samples, rate),
    "silence before it": lambda samples, rate: (np.concatenate([np.zeros(rate // 8, np.float32), samples]), rate),
}


def copies(ours, theirs):
    """Places of the recordings, (samples, rate) each, that are the same."""
    ours, theirs = ([fingerprints.lower(*recording) for recording in side] for side in (ours, theirs))
    marks = [[fingerprints.fingerprint(samples) for samples in side] for side in (ours, theirs)]
    return [
        (i, j)
        for i, j in fingerprints.candidates(fingerprints.index(marks[0]), marks[1])
        if fingerprints.are_copies(ours[i], theirs[j])
    ]


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_by_its_sound_and_nothing_else_is(speech, change):
    """Digits of synthetic voices, many of which say the same words; each whole, and its first word."""
    recordings = [
        soundfile.read(utterance.audio_filepath, dtype="float32")
        for split in ("train", "test")
        for utterance in local.utterances({"path": str(speech)}, split, None)
    ]
    starts = [int(np.argmax(np.abs(samples) > 0.05)) for samples, _ in recordings]
    words = [(samples[at : at + rate // 2], rate) for at, (samples, rate) in zip(starts, recordings, strict=True)]
    for ours in (recordings, words):
        copied = ours[::5]
        found = copies(ours, [CHANGES[change](*recording) for recording in copied])
        assert set(found) >= {(5 * place, place) for place in range(len(copied))}
        assert all(np.array_equal(ours[i][0], copied[j][0]) for i, j in found)


def test_a_cut_copy_is_found_by_two_seconds_of_it(speech):
    samples, rate = next(
        (samples.astype(np.float32), rate)
        for samples, rate in map(soundfile.read, sorted(speech.glob("train/*.flac")))
        if len(samples) > 6 * rate
    )
    for start, end, found in ((1, 4, True), (1, 2, False)):
        assert bool(copies([(samples, rate)], [(samples[start * rate : end * rate], rate)])) == found


def test_the_waveform_decides_and_not_the_bits():
    """A voice that says a digit again has like bits, and another waveform; noise that a codec adds is little."""
    random = np.random.default_rng(2)
    sound, other = random.normal(0, 0.1, (2, 2 * fingerprints.RATE))
    for noise, copy in ((0.0, True), (0.2, True), (0.5, False), (2.0, False)):
        assert bool(fingerprints.are_copies(sound, sound + noise * other)) == copy


def test_an_index_in_parts_on_disk_finds_what_one_in_memory_finds(tmp_path, monkeypatch):
    random = np.random.default_rng(5)
    known = [random.integers(0, 2**32, length, dtype=np.uint32) for length in (30, 90, 150, 200, 400)]
    ours = [known[n % 5] ^ np.uint32(n > 20) for n in range(40)]
    theirs = [np.concatenate([known[n % 5][n:], known[0][:n]]) for n in range(15)]
    plain = list(fingerprints.candidates(fingerprints.index(ours), theirs))
    monkeypatch.setattr(fingerprints, "PART", 200)
    monkeypatch.setattr(fingerprints, "BLOCK", 50)
    index = fingerprints.index(ours, tmp_path)
    assert index.parts == 16 and sum(len(index.part(n).values) for n in range(16)) == sum(
        len(fingerprints._sketch(frames)) for frames in ours
    )
    assert list(fingerprints.candidates(index, theirs)) == plain and len(plain) > 50


def test_silence_noise_and_what_is_too_short_is_like_nothing():
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 32000)).astype(np.float32)
    silent, short = np.zeros(32000, np.float32), np.zeros(8, np.float32)
    sounds = [(samples, 16000) for samples in (silent, noise[0], short)]
    assert copies(sounds, [*sounds[::2], (noise[1], 16000)]) == []


@pytest.fixture
def build(tmp_path):
    """Build the manifests of a local corpus; returns the finished process and what it found of train and test."""

    def run(corpus, *options):
        files.write_json(tmp_path / "corpus.json", {"source": {"type": "local", "path": str(corpus)}, "folder": "x"})
        splits = {split: split for split in ("train", "test")}
        done = build_manifests(tmp_path, splits, "--log", tmp_path / "logs/build.log", *options)
        found = tmp_path / "manifests/overlap.json"
        return done, json.loads(found.read_text())["pairs"][0] if found.exists() else None

    return run


def test_a_recording_of_test_in_training_ends_the_run_unless_it_is_allowed(speech, tmp_path, build):
    for split in ("train", "test"):
        shutil.copytree(speech / split, tmp_path / "corpus" / split)
    test = tmp_path / "corpus/test"
    listed = [line.split(",") for line in (test / "metadata.csv").read_text().splitlines()[1:]]
    name, *rest = min(listed, key=lambda row: (test / row[0]).stat().st_size)
    samples, rate = soundfile.read(test / name, dtype="float32")
    soundfile.write(tmp_path / "corpus/train/again.mp3", soxr.resample(samples, rate, 24000), 24000)
    with (tmp_path / "corpus/train/metadata.csv").open("a") as listing:
        listing.write(",".join(["again.mp3", *rest]) + "\n")
    stem = name.removesuffix(".flac")
    told = f"1 recording of test is in train too, such as {stem}, again there, the same by its sound"
    for options, code in (((), 1), (("--allow-overlap",), 0), (("--headers-only",), 0)):
        done, found = build(tmp_path / "corpus", *options)
        assert done.returncode == code, done.stderr
        assert (told in done.stderr) == ("--headers-only" not in options)
        assert found["recordings"] == ([] if "--headers-only" in options else [["again", stem, "sound"]])
        assert stem in found["texts"]["ids"]
        assert ("compared by their files alone" in done.stderr) == ("--headers-only" in options)
        if code:
            last = done.stderr.splitlines()[-1]
            assert last.startswith(f"error: {told}: the score would be of what it has learned from: take them out")
            assert last.endswith("or accept it with filter.allow_overlap: true")
            assert json.loads((tmp_path / "logs/overlap.json").read_text())["pairs"] == [found]


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ../shared/data here")
def test_what_is_planted_in_real_digits_is_what_is_reported(digits, tmp_path, build):
    """20 recordings once more, 20 as mp3 at 16 kHz, 30 texts of other recordings, 2 speakers."""
    rows = {split: list(csv.DictReader((digits / split / "metadata.csv").open())) for split in ("train", "test")}
    train_texts = {row["transcription"] for row in rows["train"]}
    for row in rows["test"]:
        if row["transcription"] in train_texts:  # digits that also happen to be said in training
            row["transcription"] += " unlike any"
        row["speaker"] = f"test {row['speaker']}"
    for split in rows:
        shutil.copytree(digits / split, tmp_path / "corpus" / split)
    twice = "george-0089.flac"  # one recording of a digit, which is george-0190 of the same split too
    once = [row for row in rows["test"] if row["file_name"] != twice]
    same, encoded, alike = once[:20], once[20:40], once[40:70]
    planted = []
    for how, row in [("same", row) for row in same] + [("encoded", row) for row in encoded]:
        stem = row["file_name"].removesuffix(".flac")
        copy = tmp_path / "corpus/train" / (f"copy_{stem}.flac" if how == "same" else f"copy_{stem}.mp3")
        if how == "same":
            shutil.copyfile(digits / "test" / row["file_name"], copy)
        else:
            samples, rate = soundfile.read(digits / "test" / row["file_name"], dtype="float32")
            soundfile.write(copy, soxr.resample(samples, rate, 16000), 16000)
        planted.append([f"copy_{stem}", stem, "sound"])
        rows["train"].append({**rows["train"][0], "file_name": copy.name, "transcription": f"planted {stem}"})
    for row, text in zip(alike, sorted(train_texts)[::7], strict=False):
        row["transcription"] = text
    for row, speaker in zip(alike, ("two", "speakers"), strict=False):
        row["speaker"] = rows["train"][0 if speaker == "two" else 1]["speaker"] = speaker
    for split, listed in rows.items():
        with (tmp_path / "corpus" / split / "metadata.csv").open("w") as listing:
            writer = csv.DictWriter(listing, listed[0])
            writer.writeheader()
            writer.writerows(listed)
    done, found = build(tmp_path / "corpus")
    assert done.returncode == 1 and "40 recordings of test are in train too" in done.stderr, done.stderr
    assert sorted(found["recordings"]) == sorted(planted)
    assert found["texts"]["ids"] == sorted(row["file_name"].removesuffix(".flac") for row in alike)
    assert found["speakers"]["names"] == ["speakers", "two"]


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ../shared/data here")
def test_of_real_speakers_who_say_the_same_nothing_is_taken_for_a_copy(digits):
    sides = [
        [soundfile.read(path, dtype="float32") for path in sorted((digits / split).glob("*.flac"))[:100]]
        for split in ("validation", "test")
    ]
    assert copies(*sides) == []


def test_of_another_data_set_only_what_is_learned_is_compared_with_what_is_tested():
    same = [entry("a", "one")]
    found = overlap.find({"train": same, "test": same, "train_base/train": same, "test_other/test": same})
    assert [pair["splits"] for pair in found["pairs"]] == [
        ["train", "test"],
        ["train", "test_other/test"],
        ["train_base/train", "test"],
        ["train_base/train", "test_other/test"],
    ]
    assert overlap.seen_texts({"pairs": found["pairs"][2:3]}, "test") == {"a"}
    assert len(overlap.with_test(found)) == 4
