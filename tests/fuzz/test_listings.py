"""Whatever a listing of recordings holds: well-formed utterances, or one line that names the file."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trees
from mutations import ODD, check_message, check_utterance, damaged, never_worse
from rnnt import console, files
from rnnt.corpora import common_voice, hub, librispeech, local, switchboard, tedlium
from rnnt.data import fingerprints, manifests
from rnnt.errors import UserError

CSV = ('file_name,transcription,speaker\na.wav,one two,ann\nb.wav,"three, ""four""",bob\nsub/c.wav,\'five\',\n',)
JSONL = (
    '{"file_name": "a.wav", "text": "one two", "speaker": "ann"}\n{"file_name": "b.wav", "text": 1.10, "speaker": 7}\n',
    '{"file_name": "a.wav", "transcription": "eins \\u00e4"}\n\n{"file_name": "sub/c.wav", "transcription": ""}\n',
)
MANIFEST = (
    '{"audio_filepath": "a.wav", "text": "one", "offset": 0.25, "duration": 0.5, "channel": 0, "speaker": "ann"}\n'
    '{"audio_filepath": "b.wav", "text": "two", "duration": null, "id": "b-1"}\n{"audio_filepath": "b.wav", "text":""}',
    '{"audio_filepath": "a.wav", "text": "one", "offset": -0.01}\n{"audio_filepath": "sub/c.wav", "text": 2}\n',
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A local corpus of three recordings of a second, without a listing."""
    folder = tmp_path_factory.mktemp("local")
    for n, name in enumerate(("a.wav", "b.wav", "sub/c.wav")):
        trees.write(folder / "train" / name, trees.noise(1, 8000, seed=n), 8000)
        trees.write(folder / name, trees.noise(1, 8000, seed=n), 8000)
    return folder


def check(module, source, split, table, data, names=()):
    """Put `data` in the place of a table, list the split, measure and write what is listed."""
    names, before = [table, *names], table.read_bytes() if table.exists() else None
    table.write_bytes(data)
    try:
        found = never_worse(lambda: list(module.utterances(source, split, Path("nowhere"))), names=names)
        for utterance in found or ():
            check_utterance(utterance)
            assert Path(utterance.origin.rpartition(":")[0]).is_file()
        if found:
            check_entries(found, table.with_name("written.jsonl"), names)
    finally:
        table.unlink() if before is None else table.write_bytes(before)


def check_entries(found, path, names):
    """What can be read has a length and comes back from a manifest as it went in; of the rest it is said why."""
    prints = fingerprints.Prints(None)
    measured = never_worse(lambda: [e for e, _ in manifests.listing(found, 1, "split", None, prints)], names=names)
    readable = [entry for entry in measured or () if "unreadable" not in entry]
    for entry in measured or ():
        if "unreadable" in entry:
            check_message(entry["unreadable"], [entry["audio_filepath"]])
    manifests.write(path, readable)
    assert manifests.read(path) == [
        {key: entry[key] for key in entry if key not in manifests.NOT_WRITTEN} for entry in readable
    ]


@given(data=damaged(*CSV))
def test_metadata_csv(recordings, data):
    check(local, {"path": str(recordings)}, "train", recordings / "train/metadata.csv", data)


@given(data=damaged(*JSONL))
def test_metadata_jsonl(recordings, data):
    check(local, {"path": str(recordings)}, "train", recordings / "train/metadata.jsonl", data)


@given(data=damaged(*MANIFEST))
def test_nemo_manifests(recordings, data):
    check(local, {"path": str(recordings)}, "train.json", recordings / "train.json", data)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(ODD), st.text(max_size=8)),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=4), below, max_size=2),
    max_leaves=4,
)
COLUMNS = st.sampled_from([*local.MANIFEST_COLUMNS, *local.METADATA_COLUMNS, "Text", " text", ""])


@given(rows=st.lists(st.dictionaries(COLUMNS, VALUES | st.sampled_from(["a.wav", "b.wav"])), min_size=1, max_size=3))
def test_nemo_manifests_with_any_values(recordings, rows):
    rows = [{"audio_filepath": "a.wav", "text": "one", **row} for row in rows]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    check(local, {"path": str(recordings)}, "train.json", recordings / "train.json", data)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The corpora with archives, as they are extracted."""
    folder = tmp_path_factory.mktemp("published")
    trees.librispeech(folder, speakers=("14",))
    trees.voice(folder, splits=("dev",))
    trees.tedlium(folder)
    trees.switchboard(folder)
    return folder


TRANS = ("14-100-0000 IT'S UTTERANCE A\n14-100-0001 AND B\n",)
TSV = (
    "\t".join(common_voice.COLUMNS) + '\nspeaker0\tcommon_voice_en_0.mp3\t"""Good-bye,"" said."\t2\t0\t\t\t\ten\t\n'
    "speaker1\tcommon_voice_en_1.mp3\tDon’t go, “Ann”.\t2\t0\t\t\t\ten\t\n",
)
STM = (
    "Bob_2010 1 inter_segment_gap 0.00 1.00 <o,,unknown> ignore_time_segment_in_scoring\n"
    "Bob_2010 1 Bob_2010 1.00 4.50 <o,f0,male> it 's <unk> fine\nBob_2010 1 Bob_2010 4.40 9.25 <o,f0,male> so don 't\n",
)
ISIP = (
    "sw2001A-ms98-a-0001 0.000000 0.977625 [silence]\nsw2001A-ms98-a-0002 0.977625 4.561375 hi um [laughter-yeah] i'd\n"
    "sw2001A-ms98-a-0003 4.561375 6.000000 [lem[guini]-/linguini] westmin[ster]- them_1 t.v.\n",
)
CALLERS = ('2001,"Y",1020,1044,303,0,910304\n2005,"Y",1033,"10,20",303,0,910304\n',)
HUB5 = (
    ";; header\nen_4156 A en_4156_A 0.40 3.47 <O,en,F,en-F>  (%HESITATION) REPLIED HE\n"
    "en_4156 B en_4156_B 3.50 7.25 <O,en,F,en-F>  {UH / UM} ((I-) YEAH\n"
    "en_4156 B en_4156_B 7.25 7.50 <O,en,M,en-M>  IGNORE_TIME_SEGMENT_IN_SCORING\n",
)


@given(data=damaged(*TRANS))
def test_librispeech_transcripts(published, data):
    chapter = published / "LibriSpeech/test-other/14/100"
    source = {**trees.SOURCE, "path": str(published)}
    check(librispeech, source, "test-other", chapter / "14-100.trans.txt", data, names=[chapter])


@given(data=damaged(*TSV))
def test_common_voice_tables(published, data):
    table = published / "cv-corpus-9.0-2022-04-27/en/dev.tsv"
    check(common_voice, {**trees.SOURCE, "path": str(published)}, "dev", table, data)


@given(data=damaged(*STM))
def test_tedlium_stm(published, data):
    folder = published / "TEDLIUM_release-3/legacy/dev"
    source = {**trees.SOURCE, "path": str(published)}
    check(tedlium, source, "dev", folder / "stm/Bob_2010.stm", data, names=[folder / "sph/Bob_2010.sph"])


def telephone(published):
    return {
        **trees.SOURCE,
        "path": str(published / "LDC97S62"),
        "transcripts": str(published),
        "hub5_audio": str(published / "eval2000"),
        "hub5_transcripts": None,
        "validation_utterances": 0,
        "max_copies": 300,
    }


@given(data=damaged(*ISIP))
def test_switchboard_transcripts(published, data):
    root = published / "swb_ms98_transcriptions/20"
    check(switchboard, telephone(published), "train", root / "2001/sw2001A-ms98-a-trans.text", data, names=[root])


@given(data=damaged(*CALLERS))
def test_switchboard_callers(published, data):
    table = published / "LDC97S62/conv_tab.csv"
    check(switchboard, telephone(published), "train", table, data)


@given(data=damaged(*HUB5))
def test_hub5_stm(published, data):
    table = published / "eval2000/LDC2002T43/reference/hub5e00.english.000405.stm"
    check(switchboard, telephone(published), "test_callhome", table, data)


CELLS = {
    "text": [st.text(max_size=8), st.none() | st.text(max_size=4), st.integers(-(2**63), 2**63 - 1), st.floats()],
    "speaker": [st.text(max_size=4), st.none() | st.integers(0, 9), st.booleans(), st.lists(st.text(max_size=2))],
    "audio": [
        st.fixed_dictionaries(
            {"bytes": st.none() | st.binary(max_size=8), "path": st.none() | st.sampled_from(ODD[:40])}
        )
    ],
}


@settings(max_examples=max(3, settings.default.max_examples // 10))
@given(data=st.data())
def test_hub_rows(tmp_path_factory, data):
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("hub")
    columns = {
        name: data.draw(st.lists(data.draw(st.sampled_from(kinds)), min_size=2, max_size=2))
        for name, kinds in CELLS.items()
    }
    parquet.write_table(pyarrow.table(columns), folder / "test-00000-of-00001.parquet")
    source = {"type": "hub", "name": str(folder), "config": None, "revision": None, "splits": ["test"]}
    source |= {f"{name}_column": name for name in CELLS}
    never_worse(hub.prepare, source, folder / "out", 1, console.progress, names=[folder])
    if (folder / "out/test" / hub.LISTING).is_file():
        for utterance in hub.utterances(source, "test", folder / "out"):
            check_utterance(utterance)


ROWS = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1),
        "audio_filepath": st.text(min_size=1),
        "duration": st.floats(0, 1e6, exclude_min=True),
        "text": st.text(),
    },
    optional={"speaker": st.text(), "stm": st.text(), "channel": st.integers(0), "offset": st.floats(0, 1e9)},
)


@given(rows=st.lists(ROWS, max_size=3))
def test_what_was_written_is_read_back(recordings, rows):
    try:
        json.dumps(rows, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    manifests.write(recordings / "rows.jsonl", rows)
    assert manifests.read(recordings / "rows.jsonl") == rows


@given(data=damaged('{"id": "a", "audio_filepath": "a.wav", "duration": 1.5, "text": "one", "offset": 2.0}\n' * 2))
def test_manifests_of_this_pipeline(recordings, data):
    (recordings / "rows.jsonl").write_bytes(data)
    for row in never_worse(manifests.read, recordings / "rows.jsonl", names=[recordings / "rows.jsonl"]) or ():
        assert isinstance(row["id"], str) and isinstance(row["audio_filepath"], str) and isinstance(row["text"], str)
        assert 0 < row["duration"] < float("inf")
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()


@given(data=damaged('{\n  "a": [1, 2.5, "x"],\n  "seal": "0123456789abcdef"\n}\n'))
def test_sealed_files(recordings, data):
    (recordings / "x.json").write_bytes(data)
    with pytest.raises(UserError) as error:
        files.read_sealed(recordings / "x.json")
    check_message(str(error.value), [recordings / "x.json"])
