import csv
import itertools
import re

import pytest
import soundfile

from rnnt.corpora import synthetic
from rnnt.errors import UserError

CORPORA = ["spoken_digits", "spoken_commands"]
COUNTS = {"train": 12, "validation": 4, "test": 4}


def silent(iterable, total, label):
    return iterable


def source(corpus, **changes):
    return {"type": "synthetic", "corpus": corpus, "seed": 1, "utterances": COUNTS} | changes


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def metadata(folder, split):
    with open(folder / split / "metadata.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=CORPORA)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    synthetic.prepare(source(request.param), folder, 2, silent)
    return request.param, folder


def test_files_do_not_depend_on_the_number_of_workers(made, tmp_path):
    corpus, folder = made
    synthetic.prepare(source(corpus), tmp_path, 1, silent)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_gives_other_texts(made, tmp_path):
    corpus, folder = made
    synthetic.prepare(source(corpus, seed=2, utterances={"test": 4}), tmp_path, 1, silent)
    assert metadata(tmp_path, "test") != metadata(folder, "test")


def test_no_voice_occurs_in_two_splits(made):
    heard = {s: {row["speaker"].split("_")[1] for row in metadata(made[1], s)} for s in COUNTS}
    for one, other in itertools.combinations(COUNTS, 2):
        assert not heard[one] & heard[other]
        assert not set(synthetic.VARIANTS[one]) & set(synthetic.VARIANTS[other])


def test_audio(made):
    for split, count in COUNTS.items():
        rows = metadata(made[1], split)
        assert len(rows) == count
        seconds = []
        for row in rows:
            info = soundfile.info(made[1] / split / row["file_name"])
            assert (info.format, info.subtype) == ("FLAC", "PCM_16")
            assert (info.samplerate, info.channels) == (16000, 1)
            seconds.append(info.duration)
        assert sum(s > 20 for s in seconds) == 2
        assert sum(s < 10 for s in seconds) == count - 2


def test_only_missing_files_are_made_again(made):
    corpus, folder = made
    before = contents(folder)
    lost = sorted((folder / "train").glob("*.flac"))[3]
    lost.unlink()
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}
    progressed = []

    def record(iterable, total, label):
        progressed.append((total, label))
        return iterable

    synthetic.prepare(source(corpus), folder, 2, record)
    assert contents(folder) == before
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert progressed == [(1, f"{corpus} train")]


def test_the_file_being_written_never_has_the_final_name(tmp_path, monkeypatch):
    def die(file, *args, **kwargs):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(synthetic.soundfile, "write", die)
    with pytest.raises(OSError):
        synthetic.prepare(source("spoken_digits"), tmp_path, 1, silent)
    assert not list(tmp_path.rglob(".*.tmp"))
    assert not list(tmp_path.rglob("*/[!.]*.flac")) and not list(tmp_path.rglob("metadata.csv"))


def test_utterances_read_the_metadata_back(made):
    rows = metadata(made[1], "test")
    listed = list(synthetic.utterances(source(made[0]), "test", made[1]))
    assert [(u.text, u.speaker) for u in listed] == [(row["transcription"], row["speaker"]) for row in rows]
    assert len({u.id for u in listed}) == len(rows)


def test_vocabulary_of_the_commands():
    text = " ".join(itertools.chain.from_iterable(synthetic.GRAMMAR.values()))
    assert set(re.findall(r"{(\w+)}", text)) == set(synthetic.GRAMMAR) - {"command"}
    words = set(re.sub(r"{\w+}", "", text).split())
    assert 50 <= len(words) <= 80
    recipes = synthetic._recipes(source("spoken_commands"), "train", 2000, synthetic.Path())
    assert words == {word for recipe in recipes for p in recipe.phrases for word in p.split()}


def test_without_espeak_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("espeakng_loader.get_library_path", lambda: str(tmp_path / "none.so"))
    with pytest.raises(UserError, match=r"^espeak-ng can't be loaded .*$"):
        synthetic.prepare(source("spoken_digits"), tmp_path, 2, silent)
