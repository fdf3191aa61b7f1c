"""What splits share is found and named: recordings by file and by sound, texts, speakers."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from conftest import SHARED_DATA
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


def pair(train, test, **more):
    (found,) = overlap.find({"train": train, "test": test}, **more)
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
    assert overlap.describe(found) == [
        "1 utterances of test (25.0 %) have a text that train has too",
        "1 speakers of test (1 utterances) are in train too",
    ]
    assert overlap.with_test([found]) == []


def test_every_two_splits_are_compared_and_a_shared_recording_with_test_is_told_apart():
    same = [entry("a")]
    found = overlap.find({"test_b": same, "validation": same, "train": same, "test_a": [entry("b", "two")]})
    assert [pair["splits"] for pair in found] == [
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
    "quiet": lambda samples, rate: (0.05 * samples, rate),
    "silence before it": lambda samples, rate: (np.concatenate([np.zeros(rate // 8, np.float32), samples]), rate),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_by_its_sound_and_nothing_else_is(speech, change):
    """Digits of synthetic voices, many of which say the same words."""
    recordings = [
        soundfile.read(utterance.audio_filepath, dtype="float32")
        for split in ("train", "test")
        for utterance in local.utterances({"path": str(speech)}, split, None)
    ]
    ours = [fingerprints.fingerprint(*recording) for recording in recordings]
    copied = recordings[::5]
    theirs = [fingerprints.fingerprint(*CHANGES[change](*recording)) for recording in copied]
    assert list(fingerprints.copies(ours, theirs)) == [(5 * place, place) for place in range(len(copied))]


def test_a_cut_copy_is_found_by_two_seconds_of_it(speech):
    samples, rate = next(
        (samples, rate) for samples, rate in (soundfile.read(path) for path in sorted(speech.glob("train/*.flac")))
        if len(samples) > 6 * rate
    )  # fmt: skip
    whole = fingerprints.fingerprint(samples.astype(np.float32), rate)
    for start, end, found in ((1, 4, True), (1, 2, False)):
        cut = fingerprints.fingerprint(samples[start * rate : end * rate].astype(np.float32), rate)
        assert bool(list(fingerprints.copies([whole], [cut]))) == found


def test_silence_and_what_is_shorter_than_a_window_is_like_nothing():
    silent, short = np.zeros(32000, np.float32), np.ones(800, np.float32)
    marks = [fingerprints.fingerprint(samples, 16000) for samples in (silent, short)]
    assert len(marks[1]) == 0
    assert list(fingerprints.copies(marks, marks)) == []


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ../shared/data here")
def test_of_real_speakers_who_say_the_same_nothing_is_taken_for_a_copy(digits):
    found = {}
    for split in ("validation", "test"):
        paths = sorted((digits / split).glob("*.flac"))[:100]
        found[split] = [fingerprints.fingerprint(*soundfile.read(path, dtype="float32")) for path in paths]
    assert list(fingerprints.copies(found["validation"], found["test"])) == []
