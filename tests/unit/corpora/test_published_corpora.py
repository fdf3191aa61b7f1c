"""The corpora with published archives: what is listed, sample by sample, and one line for each thing that is wrong."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import trees
from conftest import SHARED_DATA, build_manifests, entries
from rnnt import corpora
from rnnt.corpora import common_voice, glm, librispeech, published, switchboard, tedlium
from rnnt.data import audio, manifests
from rnnt.errors import UserError

SWITCHBOARD = {
    **trees.SOURCE,
    "type": "switchboard",
    "transcripts": None,
    "hub5_audio": None,
    "hub5_transcripts": None,
    "validation_utterances": 3,
    "max_copies": 300,
}


def listed(module, source, split, folder=Path("nowhere")):
    """Prepare a source and list a split, as the rules do: the manifest's entries by id."""
    source = {**source, "splits": [split]}
    module.prepare(source, folder, 1, None)
    found, _ = entries(module.utterances(source, split, folder), "lower", 1, split)
    return {entry["id"]: entry for entry in found}


def samples(entry, rate):
    read = audio.read(entry["audio_filepath"], rate, entry.get("offset", 0.0), entry["duration"], entry.get("channel"))
    return np.round(read * 32768).astype(int)


# --- LibriSpeech


@pytest.mark.parametrize("below", ["", "LibriSpeech"])
def test_librispeech_is_read_in_place(tmp_path, below):
    made = trees.librispeech(tmp_path)
    found = listed(librispeech, {**trees.SOURCE, "path": str(tmp_path / below)}, "test-other")
    assert sorted(found) == sorted(made)
    for name, entry in found.items():
        assert np.array_equal(samples(entry, 16000), made[name][:, 0])
    assert found["14-100-0001"]["speaker"] == "14"
    assert found["14-100-0001"]["text"] == "it's utterance b"


def break_librispeech(kind, chapter):
    table = chapter / "14-100.trans.txt"
    if kind == "transcript":
        table.unlink()
    elif kind == "audio":
        (chapter / "14-100-0001.flac").unlink()
    elif kind == "line":
        table.write_text("14-100-0000 ONE\n")
    elif kind == "text":
        table.write_text("14-100-0000 ONE\n14-100-0001\n")
    elif kind == "bytes":
        table.write_bytes(b"14-100-0000 ONE\n14-100-0001 CAF\xe9\n")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("transcript", r"14-100.trans.txt: missing, with 2 recordings beside it"),
        ("audio", r"14-100.trans.txt:2: no such file: .*14-100-0001.flac"),
        ("line", r"14-100-0001.flac: has no line in 14-100.trans.txt"),
        ("text", r"14-100.trans.txt:2: expected an id, a space and the text"),
        ("bytes", r"14-100.trans.txt:2: not UTF-8"),
    ],
)
def test_a_chapter_that_is_not_whole_is_one_line(tmp_path, kind, message):
    trees.librispeech(tmp_path)
    break_librispeech(kind, tmp_path / "LibriSpeech/test-other/14/100")
    with pytest.raises(UserError, match=message):
        listed(librispeech, {**trees.SOURCE, "path": str(tmp_path)}, "test-other")


def test_a_path_without_the_split_says_what_is_wanted(tmp_path):
    trees.librispeech(tmp_path)
    with pytest.raises(UserError, match=r"holds neither dev-clean nor dev-clean.tar.gz"):
        listed(librispeech, {**trees.SOURCE, "path": str(tmp_path)}, "dev-clean")


# --- Common Voice


def test_common_voice_takes_quotes_for_what_they_are(tmp_path):
    made = trees.voice(tmp_path)
    for split in ("train", "dev", "test"):
        found = listed(common_voice, {**trees.SOURCE, "path": str(tmp_path)}, split)
        assert [entry["text"] for entry in found.values()] == ['"good-bye," said the boy.', 'don\'t go, "ann".']
        for name, entry in found.items():
            assert entry["duration"] == pytest.approx(1, abs=0.06)
            assert len(samples(entry, 48000)) == pytest.approx(len(made[name]), abs=2400)
            assert len(samples(entry, 16000)) == pytest.approx(16000, abs=800)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("release 13", r"train.tsv:1: not the columns of cv-corpus-9.0-2022-04-27 \(variant differ\)"),
        ("column", r"train.tsv:3: expected 10 columns"),
        ("clip", r"train.tsv:2: no such file: .*common_voice_en_0.mp3"),
        ("table", r"train.tsv: missing: is the archive extracted to its end"),
        ("bytes", r"train.tsv:2: not UTF-8"),
        ("/", r"train.tsv:2: expected the name of a file in clips/ as `path`, got /"),
        ("../a.mp3", r"train.tsv:2: expected the name of a file"),
        ("a\u2028.mp3", r"train.tsv:2: expected the name of a file in clips/ as `path`, got a\\u2028.mp3"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(tmp_path, kind, message):
    trees.voice(tmp_path)
    folder = tmp_path / "cv-corpus-9.0-2022-04-27/en"
    table = folder / "train.tsv"
    lines = table.read_text().splitlines()
    if kind == "release 13":
        table.write_text("\n".join(line + "\tvariant" for line in lines) + "\n")
    elif kind == "column":
        table.write_text("\n".join([*lines[:2], lines[2].rsplit("\t", 1)[0]]) + "\n")
    elif kind == "clip":
        (folder / "clips/common_voice_en_0.mp3").unlink()
    elif kind == "table":
        table.unlink()
    elif kind.endswith(("/", ".mp3")):
        table.write_text(table.read_text().replace("common_voice_en_0.mp3", kind))
    else:
        table.write_bytes(table.read_bytes().replace(b"Good", b"G\xf6d"))
    with pytest.raises(UserError, match=message):
        listed(common_voice, {**trees.SOURCE, "path": str(tmp_path)}, "train")


def test_common_voice_without_a_path_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"needs an account: get cv-corpus-9.0-2022-04-27-en.tar.gz .* set source.path"):
        listed(common_voice, trees.SOURCE, "train", tmp_path)


def test_a_clip_of_no_bytes_is_dropped_from_training_and_an_error_in_a_test(tmp_path):
    trees.voice(tmp_path)
    clip = tmp_path / "cv-corpus-9.0-2022-04-27/en/clips/common_voice_en_0.mp3"
    clip.write_bytes(b"")
    found = listed(common_voice, {**trees.SOURCE, "path": str(tmp_path)}, "train")
    assert "common_voice_en_0.mp3: not readable as audio" in found["common_voice_en_0"]["unreadable"]
    assert found["common_voice_en_0"]["origin"].endswith("train.tsv:2")


def test_a_speaker_of_spaces_is_none(tmp_path):
    trees.voice(tmp_path)
    table = tmp_path / "cv-corpus-9.0-2022-04-27/en/train.tsv"
    table.write_text(table.read_text().replace("speaker0", " "))
    found = listed(common_voice, {**trees.SOURCE, "path": str(tmp_path)}, "train")
    assert [entry.get("speaker") for entry in found.values()] == [None, "speaker1"]


# --- TED-LIUM


def test_tedlium_is_cut_by_offset_and_gaps_are_left_out(tmp_path):
    made = trees.tedlium(tmp_path)
    for split, name in (("train", "Ann_2009"), ("dev", "Bob_2010"), ("test", "Cyd_2011")):
        found = listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, split)
        assert [(e["offset"], e["duration"], e["text"]) for e in found.values()] == [
            (1.0, 3.5, "it's fine"),
            (4.4, 4.85, "so we don't"),
        ]
        for entry in found.values():
            start = round(entry["offset"] * 16000)
            cut = made[name][start : start + round(entry["duration"] * 16000), 0]
            assert np.array_equal(samples(entry, 16000), cut)
            assert entry["speaker"] == name


def test_tedlium_without_its_links_takes_the_talks_of_data(tmp_path):
    trees.tedlium(tmp_path)
    shutil.rmtree(tmp_path / "TEDLIUM_release-3/legacy/train")
    assert len(listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, "train")) == 2


def test_a_talk_whose_files_have_two_names_is_found_by_either(tmp_path):
    trees.tedlium(tmp_path)
    folder = tmp_path / "TEDLIUM_release-3/legacy/test"
    (folder / "sph/Cyd_2011.sph").rename(folder / "sph/Cyd_2011x.sph")
    (folder / "stm/Cyd_2011.stm").rename(folder / "stm/Cyd_2011x.stm")
    found = listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, "test")
    assert len(found) == 2 and all(e["audio_filepath"].endswith("Cyd_2011x.sph") for e in found.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Cyd_2011 1 Cyd_2011 9.00 8.00 <NA> words", r"Cyd_2011.stm:1: the segment ends at 8.00 s, before or where"),
        ("Cyd_2011 1 Cyd_2011 9,0 9.5 <NA> words", r"Cyd_2011.stm:1: expected start and end in seconds, got 9,0"),
        ("Cyd_2011 1 Cyd_2011 0.00 1e308 <NA> words", r"Cyd_2011.stm:1: expected start and end in seconds, got 0.00"),
        ("Cyd_2011 1 Cyd_2011 1.00 1.0000001 <NA> words", r"Cyd_2011.stm:1: the segment ends at 1.0000001 s, before"),
        ("Cyd_2011 1 Cyd_2011 9.00", r"Cyd_2011.stm:1: expected talk, channel, speaker, start, end, label and text"),
        ("Dan_2012 1 Dan_2012 1.00 2.00 <NA> words", None),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, message):
    trees.tedlium(tmp_path)
    folder = tmp_path / "TEDLIUM_release-3/legacy/test"
    (folder / "stm/Cyd_2011.stm").write_text(line + "\n")
    if message is None:  # a talk of another name: its file is the table's
        assert len(listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, "test")) == 1
        (folder / "sph/Cyd_2011.sph").unlink()
        message = r"Cyd_2011.stm:1: no such file: .*Dan_2012.sph"
    with pytest.raises(UserError, match=message):
        listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, "test")


def test_a_segment_past_the_end_of_its_talk_is_dropped_or_an_error(tmp_path):
    trees.tedlium(tmp_path)
    table = tmp_path / "TEDLIUM_release-3/legacy/test/stm/Cyd_2011.stm"
    table.write_text(table.read_text() + "Cyd_2011 1 Cyd_2011 9.50 12.00 <NA> words\n")
    found = listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, "test")
    late = found["Cyd_2011-0000950-0001200"]
    assert "ends 0.50 s after the offset, 2.50 s wanted" in late["unreadable"] and late["origin"] == f"{table}:4"
    with pytest.raises(UserError, match="Cyd_2011.stm:4"):
        manifests.keep_all(list(found.values()), "test")


def test_release_2_is_refused(tmp_path):
    trees.talk(tmp_path / "TEDLIUM_release2/train", "Ann_2009")
    with pytest.raises(UserError, match=r"holds neither legacy nor TEDLIUM_release-3.tgz"):
        listed(tedlium, {**trees.SOURCE, "path": str(tmp_path / "TEDLIUM_release2")}, "train")


def test_a_talk_without_segments_is_named(tmp_path):
    trees.tedlium(tmp_path)
    trees.write(tmp_path / "TEDLIUM_release-3/legacy/dev/sph/Eve.sph", trees.noise(1, 16000), 16000, format="NIST")
    with pytest.raises(UserError, match=r"Eve.sph: has no segments"):
        listed(tedlium, {**trees.SOURCE, "path": str(tmp_path)}, "dev")


# --- Switchboard and Hub5'00


def switchboard_source(root, **changes):
    return {
        **SWITCHBOARD,
        "path": str(root / "LDC97S62"),
        "transcripts": str(root),
        "hub5_audio": str(root / "eval2000"),
        **changes,
    }


def test_switchboard_is_cut_by_channel_and_offset(tmp_path):
    made = trees.switchboard(tmp_path)
    source = switchboard_source(tmp_path)
    validation, train = (listed(switchboard, source, split) for split in ("validation", "train"))
    assert sorted(validation) == sorted([*validation, *train])[:3], "the first, as in Kaldi"
    found = validation | train
    assert len(found) == 12
    assert found["sw02001-A_000098-000456"]["text"] == "hi yeah i'd"
    assert found["sw02001-B_000600-001125"]["text"] == "westmin- them"
    assert "sw02001-A_000456-000600" in found and found["sw02001-A_000456-000600"]["text"] == "uh-huh"
    assert {entry["speaker"] for entry in found.values()} == {"1020", "1044", "1033"}, "a caller calls more than once"
    for name, entry in found.items():
        start = round(entry["offset"] * 8000)
        stop = round((entry["offset"] + entry["duration"]) * 8000)
        assert np.array_equal(samples(entry, 8000), made[name[:7]][start:stop, "AB".index(name[8])])


def test_a_transcript_occurs_only_so_often_in_training(tmp_path):
    trees.switchboard(tmp_path)
    train = listed(switchboard, switchboard_source(tmp_path, max_copies=2), "train")
    texts = [entry["text"] for entry in train.values()]
    assert len(texts) == 6 and all(texts.count(text) == 2 for text in texts)


def test_without_the_table_of_speakers_a_side_is_a_speaker(tmp_path):
    trees.switchboard(tmp_path)
    (tmp_path / "LDC97S62/conv_tab.csv").unlink()
    found = listed(switchboard, switchboard_source(tmp_path), "validation")
    assert {entry["speaker"] for entry in found.values()} == {"sw02001-A"}


@pytest.mark.parametrize(("split", "name"), [("test_switchboard", "sw_4390"), ("test_callhome", "en_4156")])
def test_hub5_has_two_tests(tmp_path, split, name):
    made = trees.switchboard(tmp_path)
    found = listed(switchboard, switchboard_source(tmp_path), split)
    assert sorted(found) == [f"{name}-A_000040-000347", f"{name}-B_000350-000725"]
    assert {e["text"] for e in found.values()} == {"uh-huh and he" if name == "sw_4390" else "replied he"}
    assert {e["stm"] for e in found.values()} == {
        "UH-HUH (I-) AND HE" if name == "sw_4390" else "(%HESITATION) REPLIED HE"
    }
    assert glm.find(switchboard_source(tmp_path)).name == "en20000405_hub5.glm"
    assert np.array_equal(samples(found[f"{name}-B_000350-000725"], 8000), made[name][28000:58000, 1])


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        ({"path": None}, "train", r"needs a licence of the LDC .*get LDC97S62 and set source.path"),
        ({"hub5_audio": None}, "test_callhome", r"get LDC2002S09 and LDC2002T43 and set source.hub5_audio"),
        ({"hub5_transcripts": "LDC97S62"}, "test_callhome", r"no hub5e00.english.\*.stm below it"),
        ({"allow_subset": False}, "train", r"conversations \(sw0\*.sph\): 2 utterances, the published split has 2438"),
        ({"transcripts": "LDC97S62"}, "train", r"holds neither swb_ms98_transcriptions nor switchboard_word_align"),
    ],
)
def test_what_is_missing_says_what_to_get_and_which_key_to_set(tmp_path, change, split, message):
    trees.switchboard(tmp_path)
    change = {key: str(tmp_path / value) if isinstance(value, str) else value for key, value in change.items()}
    with pytest.raises(UserError, match=message):
        listed(switchboard, switchboard_source(tmp_path, **change), split)


def test_audio_without_a_transcript_and_the_reverse_are_named(tmp_path):
    trees.switchboard(tmp_path)
    telephone = tmp_path / "LDC97S62/swb1_d1/data"
    (telephone / "sw02001.sph").rename(telephone / "sw02009.sph")
    with pytest.raises(UserError, match=r"sw2001A-ms98-a-trans.text:1: no such file: sw02001.sph below"):
        listed(switchboard, switchboard_source(tmp_path), "train")
    shutil.copy(telephone / "sw02009.sph", telephone / "sw02001.sph")
    with pytest.raises(UserError, match=r"sw02009.sph: has no transcript"):
        listed(switchboard, switchboard_source(tmp_path), "train")


def test_a_conversation_or_reference_that_is_there_twice_is_a_choice_left_open(tmp_path):
    trees.switchboard(tmp_path)
    (tmp_path / "LDC97S62/again").mkdir()
    (tmp_path / "LDC97S62/again/SW02001.sph").symlink_to("../swb1_d1/data/sw02001.sph")
    assert listed(switchboard, switchboard_source(tmp_path), "train")
    (tmp_path / "LDC97S62/again/SW02001.sph").unlink()
    trees.telephone(tmp_path / "LDC97S62/again/SW02001.sph", 12, 1)
    with pytest.raises(UserError, match=r"SW02001.sph and .*sw02001.sph: two recordings of one conversation: keep one"):
        listed(switchboard, switchboard_source(tmp_path), "train")
    (stm,) = (tmp_path / "eval2000").rglob("hub5e00.english.*.stm")
    (stm.parent / "hub5e00.english.later.stm").write_text(stm.read_text() + ";; another\n")
    with pytest.raises(UserError, match="two references that differ: keep one"):
        listed(switchboard, switchboard_source(tmp_path), "test_callhome")


def test_a_table_of_speakers_with_a_quote_left_open_names_its_line_and_no_name_is_none(tmp_path):
    trees.switchboard(tmp_path)
    table = tmp_path / "LDC97S62/conv_tab.csv"
    table.write_text('\n2001,"Y,1020,1044,303,0,910304\n2005,"Y",1033,1020,303,0,910304\n')
    with pytest.raises(UserError, match=r"conv_tab.csv:2: unexpected end of data: is a quote left open"):
        listed(switchboard, switchboard_source(tmp_path), "train")
    table.write_text('2001,"Y", ,1044,303,0,910304\n2005,"Y",1033,1020,303,0,910304\n')
    found = listed(switchboard, {**switchboard_source(tmp_path), "validation_utterances": 0}, "train")
    assert {entry["speaker"] for entry in found.values()} == {"sw02001-A", "1044", "1033", "1020"}


@pytest.mark.parametrize(
    ("start", "end"),
    [("nan", "1"), ("0", "nan"), ("0", "inf"), ("0", "1e999"), ("1_0", "2_0"), ("a", "1"), ("-inf", "1")],
)
def test_times_that_are_no_numbers_are_refused(start, end):
    with pytest.raises(UserError, match="x:1: expected start and end in seconds, got "):
        published.seconds(start, end, "x:1")


def test_a_byte_order_mark_is_no_text_and_a_nul_is_named(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffone\n\ntwo\0\n".encode())
    lines = published.lines(tmp_path / "x")
    assert next(lines) == (1, "one")
    with pytest.raises(UserError, match="x:3: holds a NUL character"):
        next(lines)


def test_a_sphere_header_that_lies_is_noticed(tmp_path):
    trees.switchboard(tmp_path)
    path = tmp_path / "LDC97S62/swb1_d1/data/sw02001.sph"
    header, rest = path.read_bytes()[:1024], path.read_bytes()[1024:]
    path.write_bytes(header + rest[: len(rest) // 2])
    found = listed(switchboard, switchboard_source(tmp_path), "train")
    cut = [entry for entry in found.values() if "sw02001" in entry["audio_filepath"]]
    assert cut and all("header promises 96000 samples, it has 48000" in entry["unreadable"] for entry in cut)


def test_a_shorten_compressed_file_says_how_to_decompress_it(tmp_path):
    trees.switchboard(tmp_path)
    path = tmp_path / "LDC97S62/swb1_d1/data/sw02001.sph"
    data = path.read_bytes()
    path.write_bytes(data[:1024].replace(b"-s4 ulaw\n", b"-s27 ulaw,embedded-shorten-v2.00\n")[:1024] + data[1024:])
    with pytest.raises(UserError, match="compressed with shorten: decompress it, sph2pipe -f sph IN OUT"):
        audio.inspect(str(path))


# --- archives, counts, the manifest of it all


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as file:
        for path in sorted(folder.iterdir()):
            file.add(path, path.name)
    return archive


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_archive_is_extracted_once(tmp_path, kind):
    trees.tedlium(tmp_path / "tree")
    archive = pack(tmp_path / "tree", tmp_path / "TEDLIUM_release-3.tgz")
    source = {**trees.SOURCE, "path": str(archive if kind == "file" else tmp_path)}
    if kind == "folder":
        shutil.rmtree(tmp_path / "tree")
    for _ in range(2):
        assert len(listed(tedlium, source, "train", tmp_path / "data")) == 2
    assert (tmp_path / "data/TEDLIUM_release-3/TEDLIUM_release-3/legacy/train/sph/Ann_2009.sph").is_symlink()
    assert archive.is_file(), "the user's own archive stays"


def test_an_archive_with_another_hash_is_refused(tmp_path):
    trees.librispeech(tmp_path / "tree")
    archive = pack(tmp_path / "tree", tmp_path / "test-other.tar.gz")
    with pytest.raises(UserError, match=librispeech.SHA256["test-other"]):
        listed(librispeech, {**trees.SOURCE, "path": str(archive), "allow_subset": False}, "test-other", tmp_path / "d")
    assert not (tmp_path / "d/test-other").exists()


def test_an_archive_of_another_corpus_is_refused(tmp_path):
    trees.librispeech(tmp_path / "tree")
    archive = pack(tmp_path / "tree", tmp_path / "TEDLIUM_release-3.tgz")
    with pytest.raises(UserError, match="holds no legacy: is it another corpus or release"):
        listed(tedlium, {**trees.SOURCE, "path": str(archive)}, "train", tmp_path / "d")


@pytest.mark.parametrize("module", [librispeech, common_voice, tedlium, switchboard])
def test_every_published_split_has_its_size(module):
    assert all(counts.utterances > 0 for counts in module.EXPECTED.values())


def test_the_room_for_all_archives_is_looked_at_before_the_first_is_downloaded(tmp_path, small_disk):
    """One after the other: what is extracted stays, an archive goes when it is, unless it is kept."""
    disk = small_disk(1 << 20)
    source = {**trees.SOURCE, "path": None, "allow_subset": False, "url": "http://localhost:1", "keep_archives": False}
    source["splits"] = ["dev-clean", "test-clean"]
    with pytest.raises(
        UserError, match=rf"^disk full: {disk}, 1169 MB are needed, 1.05 MB are free \(for dev-clean.tar.gz"
    ):
        librispeech.prepare(source, disk, 1, None)
    with pytest.raises(UserError, match=r"1507 MB are needed"):
        librispeech.prepare({**source, "keep_archives": True}, disk, 1, None)


def test_sizes_may_differ_by_half_a_percent():
    expected = published.Counts(1000, 100.0)
    published.check_counts(1005, 99.5, expected, "x")
    with pytest.raises(UserError, match=r"x train: 994 utterances, the published split has 1000.*allow_subset: true"):
        published.check_counts(994, 100, expected, "x train")
    with pytest.raises(UserError, match=r"x: 101 hours, the published split has 100.0"):
        published.check_counts(1000, 101, expected, "x")


def test_a_split_of_another_size_stops_the_manifests_and_cleaning_is_reported(tmp_path):
    trees.tedlium(tmp_path)
    source = {"type": "tedlium", **trees.SOURCE, "path": str(tmp_path), "splits": ["train", "dev"]}

    def build():
        (tmp_path / "corpus.json").write_text(json.dumps({"source": source, "folder": str(tmp_path / "data")}))
        return build_manifests(tmp_path, {"train": ["train", "dev"], "test": "dev"}, "--allow-overlap")

    assert build().returncode == 0
    summary = json.loads((tmp_path / "manifests/summary.json").read_text())
    assert summary["train"]["cleaning"] == {
        "join split contractions": {
            "utterances": 4,
            "examples": [["it 's <unk> fine", "it's fine"], ["so we don 't", "so we don't"]] * 1
            + [["it 's <unk> fine", "it's fine"]],
        },
        "drop unknown words": {"utterances": 2, "examples": [["it 's <unk> fine", "it's fine"]] * 2},
    }
    source["allow_subset"] = False
    done = build()
    assert done.returncode == 1 and "tedlium train: 2 utterances, the published split has 268263" in done.stderr


def test_the_folder_of_a_download_does_not_depend_on_what_does_not_change_it():
    for module in (librispeech, tedlium):
        assert "url" not in module.FOLDER_KEYS and "allow_subset" not in module.FOLDER_KEYS


# --- the trees beside the project, with real speech


SHARED = SHARED_DATA / "corpora"
REAL = {
    "librispeech": {"path": SHARED},
    "common_voice": {"path": SHARED},
    "tedlium": {"path": SHARED},
    "switchboard": {"path": SHARED / "LDC97S62", "transcripts": SHARED, "hub5_audio": SHARED / "eval2000"},
}


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data/corpora here")
@pytest.mark.parametrize(
    ("kind", "split", "utterances", "seconds", "first"),
    [
        ("librispeech", "train-clean-100", 12, 141.3, "chapter one missus rachel lynde is surprised"),
        ("librispeech", "test-other", 20, 139.6, "there's iron they say in all our blood"),
        ("common_voice", "train", 4, 26.4, "printing, in the only sense"),
        ("common_voice", "dev", 2, 13.8, '"the invention of movable metal letters'),
        ("common_voice", "test", 4, 17.1, "no"),
        ("tedlium", "train", 12, 96.7, "there's iron they say in all our blood"),
        ("tedlium", "dev", 6, 37.2, "replied he of a truth i heard him not"),
        ("tedlium", "test", 6, 53.2, "what hath happened unto me"),
        ("switchboard", "validation", 3, 36.6, "hi chapter one missus rachel lynde"),
        ("switchboard", "train", 21, 144.2, "um-hum u m n y h six westmin-"),
        ("switchboard", "test_switchboard", 5, 48.6, "what ails thee then that thou must"),
        ("switchboard", "test_callhome", 5, 33.7, "replied he of a truth i heard him not"),
    ],
)
def test_real_trees_are_listed_and_read(kind, split, utterances, seconds, first, tmp_path):
    module = corpora.module({"type": kind})
    base = SWITCHBOARD if kind == "switchboard" else trees.SOURCE
    source = {**base, **{key: str(value) for key, value in REAL[kind].items()}}
    found = listed(module, source, split, tmp_path)
    assert not [entry["unreadable"] for entry in found.values() if "unreadable" in entry]
    assert len(found) == utterances
    assert sum(entry["duration"] for entry in found.values()) == pytest.approx(seconds, abs=0.1)
    assert next(iter(found.values()))["text"].startswith(first)
    for entry in found.values():
        read = audio.read(
            entry["audio_filepath"], 16000, entry.get("offset", 0.0), entry["duration"], entry.get("channel")
        )
        assert len(read) == pytest.approx(entry["duration"] * 16000, abs=2)
        assert np.abs(read).max() > 0.01, "there is speech in it"


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data/corpora here")
def test_the_same_speech_is_cut_from_talks_and_calls_as_stands_in_librispeech(tmp_path):
    """The talks and calls of the trees are LibriSpeech utterances put in a row: each must come out as it went in."""
    utterances = listed(librispeech, {**trees.SOURCE, "path": str(SHARED)}, "test-other", tmp_path)
    by_text = {entry["text"]: entry for entry in utterances.values()}
    cut = listed(tedlium, {**trees.SOURCE, "path": str(SHARED)}, "train", tmp_path)
    same = [(by_text[entry["text"]], entry) for entry in cut.values() if entry["text"] in by_text]
    assert len(same) >= 5
    for original, entry in same:
        one, two = samples(original, 16000), samples(entry, 16000)
        # The segments' times are published to a hundredth of a second.
        size = min(len(one), len(two)) - 160
        best = max(np.corrcoef(one[lag : lag + size], two[:size])[0, 1] for lag in range(160))
        assert max(best, max(np.corrcoef(two[lag : lag + size], one[:size])[0, 1] for lag in range(160))) > 0.99
