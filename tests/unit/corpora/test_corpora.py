"""The sources: what a user's folder, manifest or Hub data set becomes, and what is said when it is wrong."""

import json
import shutil
import unicodedata
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
        ("metadata.csv", ["file_name,words", "x.flac,one"], r"metadata.csv:1: no column `transcription` or `text`"),
        ("metadata.csv", ["file,text", "x.flac,one"], r"metadata.csv:1: no column `file_name` \(found: file, text\)"),
        ("metadata.csv", ["file_name,text", "x.flac,one", "y.flac,one,two"], r"metadata.csv:3: expected 2 fields"),
        ("metadata.csv", ["file_name,text", "x.flac"], r"metadata.csv:2: expected 2 fields"),
        ("metadata.jsonl", ['{"file_name": "x.flac", "text": "one"}', "{oops"], r"metadata.jsonl:2: expected one JSON"),
        ("metadata.csv", ["file_name,text", 'x.flac,"one', "y.flac,two"], r"metadata.csv:2: .*is a quote left open"),
        ("metadata.csv", ["file_name;text", "x.flac;one"], r"metadata.csv:1: .*fields are separated by ';'"),
        ("metadata.csv", ["file_name\ttext", "x.flac\tone"], r"metadata.csv:1: .*fields are separated by '\\t'"),
        ("metadata.csv", ["x.flac,one", "y.flac,two"], r"metadata.csv:1: .*expected a first line of column names"),
        ("metadata.csv", ["file_name,text", "x.flac,a\0b"], r"metadata.csv:2: holds a NUL character: is it UTF-16"),
        ("metadata.csv", ["file_name,text", '"x\n.flac",one'], r"metadata.csv:2: a file name with a line break"),
        ("metadata.csv", ["file_name,text", "x.flac\u2028,one"], r"metadata.csv:2: a file name with a line break"),
        (
            "metadata.csv",
            ["file_name,text", 'x.flac,"a\nb"', "", "y.flac"],
            r"metadata.csv:5: expected 2 fields, not 1",
        ),
        ("metadata.csv", ["file_name,text,text", "x.flac,a,b"], r"csv:1: columns `text` and `text`: which is it"),
        ("metadata.csv", ["file_name,text,Transcription", "x,a,b"], r"columns `text` and `Transcription`: which is it"),
        (
            "metadata.csv",
            ["file_name,text,speaker,Speaker", "x,a,b,c"],
            r"columns `speaker` and `Speaker`: which is it",
        ),
        ("metadata.jsonl", ['{"file_name": "x", "text": "a", "Text": "b"}'], r"jsonl:1: columns `text` and `Text`"),
        ("metadata.jsonl", ['{"file_name": "x", "text": "a", "text": "b"}'], r"jsonl:1: .*key 'text' is given twice"),
        ("metadata.csv", ["file_name,text", ",one"], r"metadata.csv:2: no file name"),
        (
            "metadata.jsonl",
            ['{"file_name": "x", "text": ["a"]}'],
            r"metadata.jsonl:1: `text` must be text",
        ),
        (
            "metadata.jsonl",
            ['{"file_name": "x", "text": null}'],
            r"metadata.jsonl:1: `text` must be text or a number, not None",
        ),
        ("other.csv", ["file_name,text"], r"train: holds no metadata.csv or metadata.jsonl"),
    ],
)
def test_a_wrong_metadata_file_is_one_line_with_file_and_line(tmp_path, name, lines, message):
    source = write_split(tmp_path / "train", lines, name)
    with pytest.raises(UserError, match=message):
        listed(source)


METADATA_TEXT = '{"file_name": "x.flac", "text": %s}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (METADATA_TEXT % "NaN", r":3: .*NaN is no number of JSON"),
        (METADATA_TEXT % "-Infinity", r":3: .*-Infinity is no number of JSON"),
        (METADATA_TEXT % "true", r":3: `text` must be text or a number, not True"),
        (METADATA_TEXT % r'"eight \ud83d four"', r":3: half a character \(a lone surrogate\)"),
        (METADATA_TEXT % r'"a\u0000"', r":3: `text` holds a NUL character"),
        (METADATA_TEXT % '"a", "speaker": false', r":3: `speaker` must be text or a number, not False"),
        (METADATA_TEXT % '"a", "speaker": [1]', r":3: `speaker` must be text or a number, not \['1'\]"),
        (
            METADATA_TEXT % ("[" * 100_000 + "]" * 100_000),
            r":3: expected one JSON object a line, not one nested so deep",
        ),
        ("null", r":3: expected one JSON object a line, not None"),
        ('{"file_name": "x\\u0000", "text": "a"}', r":3: `file_name` holds a NUL character"),
    ],
)
def test_json_that_is_no_utterance_is_one_line_and_blank_lines_are_counted(tmp_path, line, message):
    source = write_split(tmp_path / "train", [METADATA_TEXT % '"one"', " ", line], "metadata.jsonl")
    with pytest.raises(UserError, match="metadata.jsonl" + message) as error:
        listed(source)
    assert "\n" not in str(error.value)


def test_utf16_is_named(tmp_path):
    source = write_split(tmp_path / "train", [])
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / "train/metadata.csv").unlink(missing_ok=True)
        (tmp_path / "train" / name).write_bytes("file_name,text\nx.flac,one\n".encode("utf-16"))
        with pytest.raises(UserError, match=rf"{name}.*UTF-8"):
            listed(source)


def test_nothing_that_is_falsy_is_lost_and_a_number_is_the_text_that_stands_there(tmp_path):
    lines = [
        '{"file_name": "a.flac", "text": 0, "speaker": 0}',
        '{"file_name": "b.flac", "text": 1.10, "speaker": null}',
    ]
    source = write_split(tmp_path / "train", lines, "metadata.jsonl")
    assert [(u.text, u.speaker) for u in listed(source)] == [("0", "0"), ("1.10", None)]
    (tmp_path / "train/metadata.jsonl").unlink()
    source = write_split(
        tmp_path / "train", ["file_name,text,speaker", "a.flac,007,0", "b.flac,,", "c.flac,2021-01-01, "]
    )
    assert [(u.text, u.speaker) for u in listed(source)] == [("007", "0"), ("", None), ("2021-01-01", None)]
    row = '{"audio_filepath": "x.wav", "text": 0, "speaker": 0, "id": 0, "offset": 0, "channel": 0}'
    (tmp_path / "dev.json").write_text(row)
    (found,) = listed({"path": str(tmp_path)}, "dev.json")
    assert (found.id, found.text, found.speaker, found.channel) == ("0", "0", "0", 0)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ('"duration": NaN', "NaN is no number"),
        ('"duration": 1e999', "duration must be a number, in seconds, not '1e999'"),
        ('"offset": 1e308', "offset must be a number, in seconds, not '1e308'"),
        ('"duration": -1', "duration must be above 0 s, not -1"),
        ('"duration": 0', "duration must be above 0 s, not 0"),
        ('"duration": "1_0"', "duration must be a number"),
        ('"duration": true', "duration must be a number, in seconds, not True"),
        (f'"duration": {"9" * 5000}', "duration must be a number"),
        ('"offset": -0.06', "offset must not be below 0 s, as -0.06 is"),
        ('"offset": false', "offset must be a number"),
        ('"channel": true', "channel must be a number from 0, not True"),
        ('"channel": 1.5', "channel must be a number from 0, not '1.5'"),
        ('"id": ["a"]', "`id` must be text or a number"),
        ('"id": "a\\u2028"', "an id with a line break"),
    ],
)
def test_a_manifest_with_a_number_that_can_not_be_names_its_line(tmp_path, pair, message):
    (tmp_path / "dev.json").write_text(f'\n{{"audio_filepath": "x.wav", "text": "a", {pair}}}\n')
    with pytest.raises(UserError, match=f"dev.json:2: .*{message}"):
        listed({"path": str(tmp_path)}, "dev.json")


def test_an_offset_that_rounding_put_below_zero_is_zero(tmp_path):
    rows = ['{"audio_filepath": "x.wav", "text": "a", "offset": -0.02, "duration": "1.5"}']
    (tmp_path / "dev.json").write_text("\n".join(rows))
    (found,) = listed({"path": str(tmp_path)}, "dev.json")
    assert (found.offset, found.duration, found.id) == (0.0, 1.5, "x-0.000")


@pytest.mark.parametrize(
    "lines",
    [
        [
            "file_name,text,speaker",
            'x1.flac,"i will go said he,anna',
            'x2.flac,and so he went",anna',
            "x3.flac,last,anna",
        ],
        ["file_name,text,speaker", 'x1.flac,one,"anna', 'x2.flac,two,anna"', "x3.flac,last,anna"],
        ["text,file_name", '"i will go said he,x1.flac', 'and so he went",x2.flac', "last,x3.flac"],
        ["file_name,text", 'x1,"i will go', 'x2,and so he went"', "x3,last"],
    ],
)
def test_a_quote_left_open_that_swallows_a_row_is_an_error(tmp_path, lines):
    source = write_split(tmp_path / "train", lines)
    (tmp_path / "train/x2").touch()  # a name without a suffix is one of audio where the file is there
    with pytest.raises(
        UserError, match=r"metadata.csv:2: a field goes on over x.* in the lines after: is a quote left"
    ):
        listed(source)


def test_a_text_of_several_lines_is_none(tmp_path):
    source = write_split(tmp_path / "train", ["file_name,text", 'x.flac,"one,', 'two"', "y.flac,three"])
    assert [(u.text, u.origin[-1]) for u in listed(source)] == [("one,\ntwo", "2"), ("three", "4")]


def test_spaces_after_commas_are_no_part_of_a_field(tmp_path, log):
    source = write_split(tmp_path / "train", ["file_name, text, speaker", 'x.flac, "one, two", ann'])
    assert [(u.text, u.speaker) for u in listed(source)] == [("one, two", "ann")]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("metadata.csv", ["File_Name,TEXT,Speaker", "x.flac,one,ann", "y.flac,two,bob"]),
        (
            "metadata.jsonl",
            [
                '{"File_Name": "x.flac", "TEXT": "one", "Speaker": "ann"}',
                '{"File_Name": "y.flac", "TEXT": "two", "Speaker": "bob", "age": 3}',
            ],
        ),
    ],
)
def test_columns_in_capitals_are_taken_and_told_once(tmp_path, log, name, lines):
    source = write_split(tmp_path / "train", lines, name)
    assert [(u.id, u.text, u.speaker) for u in listed(source)] == [("x", "one", "ann"), ("y", "two", "bob")]
    (told,) = log.read_text().splitlines()
    assert told.endswith(
        f"{name}:1: takes column `File_Name` for `file_name`, `TEXT` for `text`, `Speaker` for `speaker`"
    )


def test_two_listings_of_one_split_are_refused(tmp_path):
    source = write_split(tmp_path / "train", ["file_name,text", "x.flac,one"])
    write_split(tmp_path / "train", [METADATA_TEXT % '"two"'], "metadata.jsonl")
    with pytest.raises(UserError, match=r"train: listed by .*metadata.csv and by .*metadata.jsonl: which is it"):
        listed(source)
    (tmp_path / "train/metadata.jsonl").rename(tmp_path / "train.jsonl")
    with pytest.raises(UserError, match=r"metadata.csv and by .*train.jsonl: .*name train.jsonl .* folder as train/"):
        listed(source)
    assert [u.text for u in listed(source, "train/")] == ["one"]
    (tmp_path / "train/metadata.csv").unlink()
    with pytest.raises(UserError, match=r"holds no metadata.csv or metadata.jsonl: is train.jsonl the listing\?"):
        listed(source)


def test_a_manifest_s_path_that_names_two_recordings_is_refused(tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        (folder / "x.wav").write_text(str(folder))
    (tmp_path / "dev.json").write_text('{"audio_filepath": "x.wav", "text": "a"}')
    monkeypatch.chdir(tmp_path)
    assert [u.audio_filepath for u in listed({"path": str(tmp_path)}, "dev.json")] == ["x.wav"]
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="dev.json:1: x.wav is both in the working directory and in .*write its whole"):
        listed({"path": str(tmp_path)}, "dev.json")


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/x.wav", "b/x.wav", "rec.1.wav", "rec.2.wav"], ["a/x", "b/x", "rec.1", "rec.2"]),
        (["rec.1", "rec.2", "y.wav"], ["rec.1", "rec.2", "y"]),
        (["x.ogg", "x.opus", "y.wav"], ["x.ogg", "x.opus", "y"]),
        (["x.ogg", "x.opus", "x.ogg.wav"], ["x.ogg", "x.opus", "x.ogg.wav"]),
    ],
)
def test_an_id_has_the_suffix_only_where_it_tells_two_files_apart(tmp_path, names, ids):
    source = write_split(tmp_path / "train", ["file_name,text", *(f"{name},one" for name in names)])
    assert [u.id for u in listed(source)] == ids


def test_segments_that_begin_together_are_told_apart_by_their_end(tmp_path):
    rows = [
        {"duration": 0.5}, {"duration": 0.75}, {"duration": 0.75, "channel": 1}, {}, {"offset": 0.5}, {"id": "own"},
    ]  # fmt: skip
    lines = [json.dumps({"audio_filepath": "c/x.wav", "text": "a", **row}) for row in rows]
    (tmp_path / "dev.json").write_text("\n".join(lines))
    found = [u.id for u in listed({"path": str(tmp_path)}, "dev.json")]
    assert found == [
        "c/x.wav-0.0-0.5", "c/x.wav-0.0-0.75", "c/x-0.000-ch1", "c/x.wav-0.0-end", "c/x-0.500", "own",
    ]  # fmt: skip


def test_audio_beside_a_listing_that_is_none_of_its_rows_is_found(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "übung.wav") for form in ("NFC", "NFD"))
    names = ["x.wav", nfd, "sub/left.MP3", "sub/listed.flac", "notes.txt", "._x.wav", ".cache/y.wav", "own/z.wav"]
    for name in (*names, "own/metadata.csv"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    (tmp_path / "train/link.wav").symlink_to("x.wav")
    listed_there = [str(tmp_path / "train" / name) for name in ("./x.wav", nfc, "sub/../sub/listed.flac")]
    left = local.unlisted({"path": str(tmp_path)}, "train", listed_there)
    assert left == [str(tmp_path / "train/sub/left.MP3")]
    (tmp_path / "train.json").touch()
    assert local.unlisted({"path": str(tmp_path)}, "train.json", []) == []


def test_metadata_that_is_not_utf8_is_named(tmp_path):
    source = write_split(tmp_path / "train", ["file_name,text"])
    (tmp_path / "train/metadata.csv").write_bytes("file_name,text\nx.flac,naïve\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"metadata.csv:2: not UTF-8"):
        listed(source)


def test_a_missing_folder_or_split_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder: set source.path"):
        local.prepare({"path": str(tmp_path / "nowhere")}, Path(), 1, console.progress)
    with pytest.raises(UserError, match="dev: neither a folder"):
        listed({"path": str(tmp_path)}, "dev")
    (tmp_path / "validation").mkdir()
    with pytest.raises(UserError, match=r"validatoin: neither a folder .* manifest: did you mean validation\?$"):
        listed({"path": str(tmp_path)}, "validatoin")


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


def hub_source(parquet, tmp_path, folder="hub", **columns):
    """A local Hub data set of two rows: the columns of `parquet`, and what each row has instead."""
    import datasets

    source, _ = parquet
    table = datasets.load_dataset(source["name"], split="test", cache_dir=str(tmp_path / "cache")).select(range(2))
    for name, column in columns.items():
        table = table.remove_columns(name).add_column(name, column) if isinstance(column, list) else column(table)
    table.to_parquet(tmp_path / "made.parquet")
    (tmp_path / folder / "data").mkdir(parents=True)
    shutil.move(tmp_path / "made.parquet", tmp_path / folder / "data/test-00000-of-00001.parquet")
    return {**source, "name": str(tmp_path / folder)}


def test_class_labels_of_a_hub_data_set_are_their_names_and_numbers_are_kept(parquet, tmp_path):
    import datasets

    digits = datasets.ClassLabel(names=["zero", "one"])
    labels = {"text": [0, 1], "speaker_id": lambda table: table.cast_column("text", digits)}
    source = hub_source(parquet, tmp_path, **labels)
    hub.prepare(source, tmp_path / "out", 1, console.progress)
    assert [(u.text, u.speaker) for u in hub.utterances(source, "test", tmp_path / "out")] == [
        ("zero", "0"),
        ("one", "1"),
    ]
    source = hub_source(parquet, tmp_path, "numbers", text=[0, 7])
    hub.prepare(source, tmp_path / "out2", 1, console.progress)
    assert [u.text for u in hub.utterances(source, "test", tmp_path / "out2")] == ["0", "7"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["one", None]}, r"split test, row 1 \(from 0\): `text` is null"),
        ({"speaker_id": ["ann", None]}, r"split test, row 1 \(from 0\): `speaker_id` is null"),
        ({"audio": [{"bytes": b"x", "path": "x.wav"}, None]}, r"split test, row 1 \(from 0\): `audio` is null"),
        (
            {"audio": [{"bytes": b"", "path": None}] * 2, "text": [True, False]},
            r"row 0 .*`text` must be text or a number",
        ),
        ({"text": [["one"], ["two"]]}, r"row 0 \(from 0\): `text` must be text or a number, not \['one'\]"),
        ({"text": [1.5, float("nan")]}, r"row 1 \(from 0\): `text` must be text or a number, not nan"),
        ({"audio": [1, 2]}, r"column `audio` is no audio but .*int64.*set source.audio_column"),
        ({"audio": ["nowhere.wav"] * 2}, r"row 0 \(from 0\): `audio`: can't read 'nowhere.wav'"),
    ],
)
def test_a_hub_row_that_is_no_utterance_is_named(parquet, tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        hub.prepare(hub_source(parquet, tmp_path, **columns), tmp_path / "out", 1, console.progress)


@pytest.mark.parametrize("folder", ["x [v2]", "a?b", "a*b", "g::h", "$HOME", "brace{x}"])
def test_the_path_of_a_local_hub_data_set_is_no_pattern(parquet, tmp_path, monkeypatch, folder):
    hub_source(parquet, tmp_path, "aXb", text=["another", "data set"])
    source = hub_source(parquet, tmp_path, folder, text=["one", "two"])
    monkeypatch.chdir(source["name"])
    for name in (source["name"], "."):
        out = tmp_path / "out" / f"{len(name)}"
        hub.prepare({**source, "name": name}, out, 1, console.progress)
        assert [u.text for u in hub.utterances(source, "test", out)] == ["one", "two"]
        assert [path.name for path in out.iterdir()] == ["test"]


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
