"""The sources: what a user's folder, manifest or Hub data set becomes, and what is said when it is wrong."""

import json
from pathlib import Path

import pytest
import soundfile

from rnnt import console
from rnnt.corpora import hub, local
from rnnt.errors import UserError


def write_split(folder, lines, name="metadata.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"type": "local", "path": str(folder.parent)}


def listed(source, split="train"):
    return list(local.utterances(source, split, Path()))


def test_metadata_csv_with_quotes_speaker_and_byte_order_mark(tmp_path):
    source = write_split(
        tmp_path / "train", ["\ufefffile_name,transcription,speaker", 'a/x.flac,"one, two",ann', "y.wav,three,"]
    )
    first, second = listed(source)
    assert (first.id, first.text, first.speaker) == ("a/x", "one, two", "ann")
    assert first.audio_filepath == str(tmp_path / "train/a/x.flac")
    assert (second.text, second.speaker, second.origin) == ("three", None, f"{tmp_path}/train/metadata.csv:3")


def test_metadata_jsonl_with_text_for_transcription(tmp_path):
    source = write_split(tmp_path / "train", ['{"file_name": "x.mp3", "text": "ünïcode"}'], "metadata.jsonl")
    assert [u.text for u in listed(source)] == ["ünïcode"]


def test_a_nemo_manifest_is_a_split(tmp_path):
    row = {"audio_filepath": "clips/x.wav", "offset": 1.5, "duration": 2.25, "text": "one", "channel": 1}
    (tmp_path / "dev.json").write_text(json.dumps(row) + "\n")
    (found,) = listed({"path": str(tmp_path)}, "dev.json")
    assert found.audio_filepath == str(tmp_path / "clips/x.wav")
    assert (found.offset, found.duration, found.channel, found.id) == (1.5, 2.25, 1, "clips/x-1.500-ch1")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("metadata.csv", ["file_name,words", "x.flac,one"], r"metadata.csv:2: no column `transcription` or `text`"),
        ("metadata.csv", ["file,text", "x.flac,one"], r"metadata.csv:2: no column `file_name` \(found: file, text\)"),
        ("metadata.csv", ["file_name,text", "x.flac,one", "y.flac,one,two"], r"metadata.csv:3: expected 2 fields"),
        ("metadata.csv", ["file_name,text", "x.flac"], r"metadata.csv:2: expected 2 fields"),
        ("metadata.jsonl", ['{"file_name": "x.flac", "text": "one"}', "{oops"], r"metadata.jsonl:2: expected one JSON"),
        ("metadata.csv", ["file_name,text", 'x.flac,"one', "y.flac,two"], r"metadata.csv:\d: .*is a quote left open"),
        ("metadata.csv", ["file_name,text", ",one"], r"metadata.csv:2: no file name"),
        (
            "metadata.jsonl",
            ['{"file_name": "x", "text": ["a"]}'],
            r"metadata.jsonl:1: `text` must be text",
        ),
        ("metadata.jsonl", ['{"file_name": "x", "text": null}'], r"metadata.jsonl:1: `text` must be text, not None"),
        ("other.csv", ["file_name,text"], r"train: holds no metadata.csv or metadata.jsonl"),
    ],
)
def test_a_wrong_metadata_file_is_one_line_with_file_and_line(tmp_path, name, lines, message):
    source = write_split(tmp_path / "train", lines, name)
    with pytest.raises(UserError, match=message):
        listed(source)


def test_metadata_that_is_not_utf8_is_named(tmp_path):
    source = write_split(tmp_path / "train", ["file_name,text"])
    (tmp_path / "train/metadata.csv").write_bytes("file_name,text\nx.flac,naïve\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"metadata.csv: not UTF-8"):
        listed(source)


def test_a_missing_folder_or_split_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder: set source.path"):
        local.prepare({"path": str(tmp_path / "nowhere")}, Path(), 1, console.progress)
    with pytest.raises(UserError, match="dev: neither a folder"):
        listed({"path": str(tmp_path)}, "dev")


@pytest.fixture
def parquet(tmp_path, speech):
    """A local Hub data set: Parquet shards with encoded audio, as the Hub's own converter writes them."""
    import datasets

    rows = list(local.utterances({"path": str(speech)}, "test", Path()))
    table = datasets.Dataset.from_dict(
        {
            "audio": [{"bytes": Path(u.audio_filepath).read_bytes(), "path": f"{i}.flac"} for i, u in enumerate(rows)],
            "text": [u.text for u in rows],
            "speaker_id": list(range(len(rows))),
        }
    ).cast_column("audio", datasets.Audio(decode=False))
    (tmp_path / "data").mkdir()
    for shard in range(2):
        table.shard(2, shard, contiguous=True).to_parquet(tmp_path / f"data/test-{shard:05d}-of-00002.parquet")
    source = {
        "type": "hub",
        "name": str(tmp_path),
        "config": None,
        "revision": None,
        "audio_column": "audio",
        "text_column": "text",
        "speaker_column": "speaker_id",
        "splits": ["test"],
    }
    return source, rows


def test_a_hub_data_set_is_written_out_byte_for_byte(parquet, tmp_path):
    source, rows = parquet
    folder = tmp_path / "out"
    hub.prepare(source, folder, 1, console.progress)
    found = list(hub.utterances(source, "test", folder))
    assert [u.text for u in found] == [u.text for u in rows]
    assert [u.speaker for u in found] == [str(i) for i in range(len(rows))]
    for ours, theirs in zip(found, rows, strict=True):
        assert Path(ours.audio_filepath).read_bytes() == Path(theirs.audio_filepath).read_bytes()
        assert soundfile.info(ours.audio_filepath).samplerate == 16000


def test_a_complete_hub_split_is_not_loaded_again(parquet, tmp_path):
    source, _ = parquet
    hub.prepare(source, tmp_path / "out", 1, console.progress)
    source["name"] = "gone/away"
    hub.prepare(source, tmp_path / "out", 1, console.progress)


def test_a_hub_data_set_with_a_wrong_column_or_split_says_so(parquet, tmp_path):
    source, _ = parquet
    with pytest.raises(UserError, match=r"no column `sentence` \(found: audio, text, speaker_id\)"):
        hub.prepare({**source, "text_column": "sentence"}, tmp_path / "out", 1, console.progress)
    with pytest.raises(UserError, match="split `dev` can't be loaded"):
        hub.prepare({**source, "splits": ["dev"]}, tmp_path / "out", 1, console.progress)


@pytest.mark.parametrize(
    ("revision", "wanted"),
    [
        (None, {"name": "en", "revision": None}),
        ("refs/convert/parquet", {"name": None, "revision": "refs/convert/parquet", "data_dir": "en"}),
    ],
)
def test_the_hub_s_own_conversion_has_a_folder_for_each_configuration(tmp_path, monkeypatch, revision, wanted):
    import datasets

    asked = {}

    def load_dataset(path, split, **options):
        asked.update(options)
        raise ValueError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = {"name": "some/corpus", "config": "en", "revision": revision, "splits": ["train"]}
    with pytest.raises(UserError, match="some/corpus: split `train` can't be loaded"):
        hub.prepare(source, tmp_path, 1, console.progress)
    assert asked == wanted
