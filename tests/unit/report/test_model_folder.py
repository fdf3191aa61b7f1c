"""The model folder and its card: what the pipeline found, in a form that the Hub reads; and its upload, to a fake.

`ModelCard.validate()` asks the Hub, so the metadata are judged by huggingface_hub's own classes, loaded back.
"""

import csv
import json
import os
from types import SimpleNamespace

import httpx2
import huggingface_hub
import make_model_folder
import publish_model
import pytest
import yaml

from conftest import ROOT, nemo_archive
from rnnt import config, console, files
from rnnt.data import tokenizers
from rnnt.errors import UserError
from rnnt.report import model_card, table

SCHEMA = config.load_schema(ROOT / "config/schema.yaml")
LEG = {
    "model": "contextnet_tiny",
    "step": 1234,
    "total_steps": 1300,
    "leg": 3,
    "legs": 3,
    "utterances": 1995,
    "parameters": 451889,
    "device": "cpu",
    "batch_budget": 57.5,
    "fingerprint": "f00d",
    "code_version": "abc123",
}
SHARED = {
    "by_sound": True,
    "pairs": [{
        "splits": ["train", "test"],
        "recordings": [["a name", "another name", "file"]],
        "texts": {"utterances": 3, "share_of_utterances": 0.03, "share_of_words": 0.01, "ids": ["x", "y", "z"]},
        "speakers": {"names": ["ann", "bob"], "utterances": 9, "share_of_utterances": 0.09},
    }],
}  # fmt: skip
SUMMARY = {
    "train": {
        "utterances": 1995,
        "hours": 1.0845,
        "dropped": {
            "longer than 17 s": {"utterances": 5, "hours": 0.0345},
            "empty text": {"utterances": 2, "hours": 0},
        },
        "cleaning": {"fillers": {"utterances": 3, "examples": [["a private transcript", "a transcript"]]}},
    },
    "validation": {"utterances": 149, "hours": 0.0887, "dropped": {}, "cleaning": {}},
    "test": {"utterances": 200, "hours": 0.121, "dropped": {}, "cleaning": {}},
}
NO_FORM = {"class": None, "why_not": "Transformers has no class for it, as it is new", "compared": {}}
ROW = {
    "dataset": "speech",
    "split": "test",
    "utterances": "200",
    "hours": "0.12",
    "reference_words": "788",
    "wer_greedy": "3.05",
    "wer_beam": "2.92",
    "wer_beam_low": "2.11",
    "wer_beam_high": "3.80",
    "wer_beam_normalized": "11.00",
    "cer_beam": "2.83",
    "model": "contextnet_tiny",
    "train_steps": "1234",
    "beam_strategy": "malsd_batch",
    "beam_size": "4",
}


def sections(source, **others):
    """A data set's configuration as the rule passes it."""
    splits = {"train": "train", "validation": "dev", "test": "test", "test_other": "test-other"}
    if source["type"] in ("synthetic", "switchboard", "common_voice", "tedlium", "librispeech"):
        known = config.SPLITS[source["type"]].split()
        splits = {"train": known[0], "validation": known[1], "test": known[-1]}
    whole = config.validate(
        {"datasets": {"speech": {"source": source, "splits": splits, "max_steps": 1300}}, **others}, SCHEMA
    )
    found = config.dataset_config(whole, "speech", "model", "text", "filter", "training")
    return {**found, "splits": config.drawn(whole, "speech")}


LOCAL = {"type": "local", "path": "/home/somebody/recordings"}


FILES = ["README.md", "model.nemo", "tokenizer/tokenizer.model", "tokenizer/vocab.txt"]


def card_of(rows=(ROW,), source=LOCAL, leg=LEG, form=None, **others):
    return model_card.write("speech", leg, SUMMARY, SHARED, list(rows), sections(source, **others), form=form)


def test_the_card_says_what_kind_of_model_it_is_and_what_of_it_was_not_tried():
    plain = card_of()
    assert "An RNN-T (transducer) model of NVIDIA NeMo" in plain and "stream" not in plain and "CTC head" not in plain
    leg = {**LEG, "family": "cache-aware streaming TDT (transducer) model with a CTC head", "ctc_weight": 0.3}
    card = card_of(leg=leg)
    assert f"A {leg['family']} of NVIDIA NeMo" in card
    assert "trained and tested offline, each utterance as a whole" in card and "left untrained" not in card
    assert "Its CTC head was left untrained" in card_of(leg={**leg, "ctc_weight": 0.0})
    assert "| augmentation |" not in card
    assert "| augmentation | speed 0.9, 1 |" in card_of(leg={**leg, "augmentation": "speed 0.9, 1"})


def results(content):
    """The card's metadata loaded back by huggingface_hub, and its results by split."""
    card = huggingface_hub.ModelCard(content)
    assert str(card) == content
    return card.data, {result.dataset_split: result for result in card.data.eval_results}


def test_the_metadata_load_back_with_the_right_word_error_rates():
    other = {**ROW, "split": "test_other", "wer_beam": "12.50"}
    data, found = results(card_of([ROW, other, {**ROW, "dataset": "another", "wer_beam": "99.00"}]))
    assert {split: result.metric_value for split, result in found.items()} == {"test": 2.92, "test-other": 12.5}
    for result in found.values():
        assert (result.task_type, result.metric_type) == ("automatic-speech-recognition", "wer")
        assert result.dataset_type == "speech" and result.dataset_name.startswith("speech test")
    assert (data.language, data.library_name, data.model_name) == ("en", "nemo", "speech")
    assert data.pipeline_tag == "automatic-speech-recognition" in data.tags
    assert data.base_model is None and data.license is None and data.datasets is None
    index = huggingface_hub.repocard_data.eval_results_to_model_index("speech", data.eval_results)
    assert index == yaml.safe_load(card_of([ROW, other]).split("---\n")[1])["model-index"]


@pytest.mark.parametrize(
    ("init_from", "named", "base"),
    [
        ("nvidia/stt_en_fastconformer_transducer_large",) * 3,
        ("stt_en_contextnet_1024", "stt_en_contextnet_1024", None),
        ("/home/somebody/models/base.nemo", "base.nemo", None),
        ("somebody/base.nemo", "base.nemo", None),
    ],
)
def test_the_base_model_is_named_and_in_the_metadata_where_it_is_the_hub_s(init_from, named, base):
    leg = {**LEG, "model": init_from}
    content = card_of(leg=leg, model={"init_from": init_from, "reinitialize_decoder": True})
    assert results(content)[0].base_model == base
    assert named in content and "somebody" not in content and "scratch" not in content
    assert "prediction network and joint drawn anew" in content and "licence of the base model" in content


def test_the_card_is_of_the_language_of_the_transcripts():
    content = card_of()
    assert "writes down English speech" in content and "Normalised: after Whisper's English text" in content
    assert "another language\n  than English will give" in content and "`en`" not in content
    assert results(card_of(text={"language": "en-GB"}))[0].language == "en"
    content = card_of(text={"language": "hi-IN"})
    assert results(content)[0].language == "hi" and "English" not in content
    assert "speech in the language `hi-IN`, with" in content and "after Whisper's basic text normaliser" in content
    assert "without spaces" not in content
    content = card_of([{**ROW, "wer_beam_normalized": ""}], text={"language": "th"})
    assert "written without spaces between words" in content and "ormalised" not in content
    assert results(card_of(text={"language": "no"}))[0].language == "no"


def line_with(content, start):
    return next(line for line in content.splitlines() if line.startswith(start))


def test_the_text_says_what_the_pipeline_s_files_say():
    training = {"optimizer": "adamw_8bit", "precision": "bf16", "learning_rate": 0.0007, "seed": 41}
    content = card_of(training=training, filter={"min_duration": 0.3, "max_duration": 17})
    assert "| train | 1995 | 1.08 | 7 |" in content and "| validation | 149 | 0.09 | 0 |" in content
    assert "Dropped from train: 2 empty text (0.00 h); 5 longer than 17 s (0.03 h)." in content
    assert "What the splits share:\n\n- 1 recording of test is in train too\n- the text of 3 utterances" in content
    assert "- 2 speakers of test (9 utterances, 9.0 %) are in train too\n\nTranscripts were put" in content
    assert "Dropped from validation" not in content and "from 0.3 to 17 s were kept" in content
    assert line_with(content, "| steps") == "| steps | 1234 of 1300, in 3 legs |"
    assert line_with(content, "| optimizer").startswith("| optimizer | adamw_8bit, peak learning rate 0.0007, cosine")
    assert line_with(content, "| batch").startswith("| batch | 57.5 s of audio")
    assert "| precision | bf16 |" in content and "| seed | 41 |" in content and "`f00d`" in content
    assert "Trained from scratch (`contextnet_tiny`)" in content and "0.45\nmillion" in content
    assert "/home" not in content, "no path of the machine"
    assert "private" not in content, "no transcript"
    assert "\n\n\n" not in content


def cells(content):
    """The table of word error rates in a card, cell by cell, without the line under its heading."""
    lines = content.split("## Word error rate\n\n")[1].split("\n\n")[0].splitlines()
    heading, _, *rows = [line.strip("| ").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in (heading, *rows)]


def test_the_interval_stands_beside_the_word_error_rate_and_an_empty_one_is_left_out():
    heading = ["test split", "utterances", "hours", "words", "WER %"]
    others = ["WER % normalised", "WER % greedy", "CER %"]
    numbers = ["test", "200", "0.12", "788", "2.92", "2.11 to 3.80", "11.00", "3.05", "2.83"]
    assert cells(card_of()) == [[*heading, "95 % interval", *others], numbers]
    for missing in ({"wer_beam_low": ""}, {"wer_beam_high": ""}, {"wer_beam_low": "", "wer_beam_high": ""}):
        content = card_of([{**ROW, **missing}])
        assert cells(content) == [[*heading, *others], numbers[:5] + numbers[6:]] and "interval" not in content
    found = cells(card_of([{**ROW, "wer_beam_low": ""}, {**ROW, "split": "test_other"}]))
    assert [row[5] for row in found] == ["95 % interval", "", "2.11 to 3.80"]
    found = cells(card_of([{**ROW, "wer_beam_low": "", "wer_beam_high": "", "interval_by": "none: two speakers"}]))
    assert found[0][5:7] == ["95 % interval", "interval by"] and found[1][5:7] == ["–", "none: two speakers"]
    found = cells(card_of([{**ROW, "wer_zero_shot": "45.00"}]))
    assert (found[0][8], found[1][8]) == ("WER % before training", "45.00")


@pytest.mark.parametrize(
    ("source", "words", "dataset"),
    [
        ({"type": "librispeech"}, ["LibriSpeech", "CC BY 4.0"], "openslr/librispeech_asr"),
        ({"type": "common_voice"}, ["CC0", "do not identify speakers"], "mozilla-foundation/common_voice_9_0"),
        ({"type": "tedlium"}, ["TED-LIUM 3", "CC BY-NC-ND 3.0", "non-commercial"], "LIUM/tedlium"),
        ({"type": "switchboard"}, ["LDC97S62", "Linguistic Data Consortium"], "speech"),
        ({"type": "synthetic", "corpus": "spoken_digits"}, ["says nothing about real speech", "espeak-ng"], "speech"),
        (LOCAL, ["whoever publishes this model states here"], "speech"),
        ({"type": "hub", "name": "lab/talks", "revision": "v2"}, ["datasets/lab/talks", "`v2`"], "lab/talks"),
        ({"type": "hub", "name": "/home/somebody/parquet"}, ["own licence"], "speech"),
    ],
)  # fmt: skip
def test_every_source_has_its_description_and_its_licence_note(source, words, dataset):
    content = card_of(source=source)
    assert all(word in " ".join(content.split()) for word in words), content
    assert "somebody" not in content
    (result,) = results(content)[1].values()
    assert result.dataset_type == dataset and result.dataset_revision == source.get("revision")


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([], {}, "--label speech: the table has no row of this data set"),
        ([{**ROW, "train_steps": "999"}], {}, "row speech test is of a model of 999 steps, the checkpoint has 1234"),
        ([{**ROW, "wer_beam": ""}], {}, "row speech test has no WER: wer_beam is ''"),
        ([ROW], {"filter": None}, "--config: no `filter`"),
    ],
)
def test_what_does_not_belong_together_is_refused(rows, changes, message):
    given = {key: value for key, value in sections(LOCAL).items() if key not in changes}
    with pytest.raises(UserError, match=message):
        model_card.write("speech", LEG, SUMMARY, SHARED, rows, given)


def test_the_card_is_of_one_seed_s_model_and_tells_the_mean_and_what_got_worse():
    rows = [{**ROW, "seed": "1"}, {**ROW, "seed": "2", "wer_beam": "9.99"}]
    change = {"wer_before": 2.0, "difference": 1.5, "low": 0.7, "high": 2.2, "interval_by": "6 speakers and 2 seeds"}
    of_all = {"seeds": [1, 2], "wer": 6.455, "wer_sd": 4.999, "wer_low": None, "change": change}
    content = model_card.write("speech", LEG, SUMMARY, SHARED, rows, sections(LOCAL), {"test": of_all})
    _, found = results(content)
    assert found["test"].metric_value == 2.92, "and not that of another seed"
    assert (
        "test: the mean over the seeds 1, 2 is 6.46 % (standard deviation 5.00); the table is of this model" in content
    )
    told = "**Worse than before training:** test: 2.00 % before training, 6.46 % after, worse by 1.50 [0.70, 2.20]."
    assert told in content


def test_the_card_tells_what_the_language_model_changed():
    change = {"wer_before": 3.92, "difference": -1.0, "low": -1.5, "high": -0.5, "interval_by": "6 speakers"}
    of_all = {"seeds": [1], "wer": 2.92, "wer_sd": None, "wer_low": None, "change": None, "language_model": change}
    line = "test: 3.92 % without the language model, 2.92 % with it, better by 1.00 [0.50, 1.50]."
    for lm in ("", "ngram.arpa x 0.2"):
        content = model_card.write(
            "speech", LEG, SUMMARY, SHARED, [{**ROW, "beam_lm": lm}], sections(LOCAL), {"test": of_all} if lm else {}
        )
        assert (line in content) == bool(lm)


def test_the_card_names_all_that_was_trained_and_tested_on():
    sources = {"mine": LOCAL, "libri": {"type": "librispeech"}, "ted": {"type": "tedlium"}}
    splits = {"train": ["mine/train", {"split": "libri/train-clean-100", "weight": 0.1}], "validation": "mine/dev"}
    splits |= {"test": "mine/test", "test_ted": "ted/test"}
    whole = config.validate({"sources": sources, "datasets": {"speech": {"splits": splits, "max_steps": 1300}}}, SCHEMA)
    given = {**config.dataset_config(whole, "speech", "model", "text", "filter", "training")}
    rows = [ROW, {**ROW, "split": "test_ted", "wer_beam": "12.50"}]
    content = model_card.write("speech", LEG, SUMMARY, SHARED, rows, {**given, "splits": config.drawn(whole, "speech")})
    data, _ = results(content)
    assert data.datasets == ["openslr/librispeech_asr"]
    assert [result.dataset_type for result in data.eval_results] == ["speech", "LIUM/tedlium"]
    assert "which are not published with it; and on LibriSpeech (OpenSLR 12), read English audiobooks" in content
    assert "Tested on TED-LIUM 3 (OpenSLR 51)" in content
    assert model_card.LICENCES["local"] in content and model_card.LICENCES["librispeech"] in content


@pytest.fixture
def trained(tmp_path):
    """What the pipeline leaves of a data set; the weights are a stand-in."""
    texts = ["one two three", "four five six"]
    for folder in ("tokenizer", "other"):
        tokenizers.write(tmp_path / folder, tokenizers.train(texts, 20 if folder == "tokenizer" else 22))
    (tmp_path / "leg_3").mkdir()
    nemo_archive(tmp_path / "leg_3/model.nemo", (tmp_path / "tokenizer/tokenizer.model").read_bytes())
    files.write_json(tmp_path / "leg_3/leg.json", LEG)
    files.write_json(tmp_path / "manifests/summary.json", SUMMARY)
    files.write_json(tmp_path / "manifests/overlap.json", SHARED)
    files.write_text(tmp_path / "wer_table.csv", table.as_csv([ROW]))
    files.write_json(tmp_path / "form/check.json", NO_FORM)
    return tmp_path


def make(trained, **changes):
    options = {
        "checkpoint": trained / "leg_3",
        "tokenizer": trained / "tokenizer",
        "manifests": trained / "manifests",
        "table": trained / "wer_table.csv",
        "transformers": trained / "form",
        "config": json.dumps(sections(LOCAL)),
        "label": "speech",
        "output": trained / "model",
        **changes,
    }
    args = make_model_folder.parser().parse_args([part for k, v in options.items() for part in (f"--{k}", str(v))])
    console.start_logging(None, args.label)
    make_model_folder.main(args)


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_folder_holds_the_model_its_tokenizer_and_the_card(trained):
    make(trained)
    model = trained / "model"
    assert listing(model) == FILES
    for name, source in (("model.nemo", "leg_3"), ("tokenizer/tokenizer.model", ""), ("tokenizer/vocab.txt", "")):
        assert (model / name).read_bytes() == (trained / source / name).read_bytes()
    card = huggingface_hub.ModelCard.load(model / "README.md")
    assert card.data.eval_results[0].metric_value == 2.92
    with open(trained / "wer_table.csv", newline="") as file:
        assert (model / "README.md").read_text() == card_of(list(csv.DictReader(file)), form=NO_FORM)
    assert (
        "There is no form of it for Hugging Face Transformers: Transformers has no class for it, as it is new."
        in (model / "README.md").read_text()
    )


def test_the_form_for_transformers_is_in_it_where_there_is_one(trained, monkeypatch):
    compared = {"test": {"utterances": 200, "of": 2620}}
    form = {"class": "ParakeetForTDT", "why_not": None, "compared": compared, "transformers": "5.23.0"}
    files.write_json(trained / "form/check.json", form)
    for name in ("config.json", "model.safetensors"):
        files.write_text(trained / "form" / name, name)
    make(trained)
    beside = ["transformers/config.json", "transformers/model.safetensors"]
    assert listing(trained / "model") == sorted(FILES + beside)
    assert (trained / "model/transformers/config.json").read_text() == "config.json"
    text = " ".join((trained / "model/README.md").read_text().split())
    assert 'model = ParakeetForTDT.from_pretrained("transformers")' in text and "5.23.0 or later" in text
    assert "200 of 2620 utterances of test, all that were compared" in text and "no form" not in text
    hub = Hub(monkeypatch)
    publish(trained)
    assert hub.uploads == [("lab/speech", sorted(FILES + beside))]


def test_a_file_system_without_hard_links_gets_a_copy(trained, monkeypatch):
    def refuse(*args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    make(trained)
    assert (trained / "model/model.nemo").read_bytes() == (trained / "leg_3/model.nemo").read_bytes()


def test_the_folder_is_there_whole_or_not_at_all(trained, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            make(trained)
    assert not list(trained.glob("*model*"))
    make(trained)
    before = (trained / "model/README.md").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            make(trained)
    assert (trained / "model/README.md").read_text() == before and not list(trained.glob(".*"))
    files.write_json(trained / "leg_3/leg.json", {**LEG, "device": "cuda"})
    make(trained)
    assert "| device | cuda |" in (trained / "model/README.md").read_text()


def test_nothing_but_a_model_folder_is_replaced_and_wrong_inputs_are_one_line(trained):
    with pytest.raises(UserError, match="leg_3: is there and is not a model folder: not replaced"):
        make(trained, output=trained / "leg_3")
    with pytest.raises(UserError, match=r"other/tokenizer.model: not the tokenizer inside .*leg_3/model.nemo"):
        make(trained, tokenizer=trained / "other")
    with pytest.raises(UserError, match=r"leg_9/model.nemo: no such file"):
        make(trained, checkpoint=trained / "leg_9")
    assert (trained / "leg_3/leg.json").is_file() and not (trained / "model").exists()


class Hub:
    """Stands for the Hub behind HfApi: what it is told to be, and what was asked of it."""

    def __init__(self, monkeypatch, token="hf_secret", private=None, error=None):
        self.private, self.error, self.uploads = private, error, []
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)

    def create_repo(self, repo_id, *, private=None, exist_ok=False):
        if self.error:
            raise self.error
        assert exist_ok
        if self.private is None:
            self.private = bool(private)
        return f"https://huggingface.co/{repo_id}"

    def model_info(self, repo_id):
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        found = huggingface_hub.utils.filter_repo_objects(listing(folder_path), allow_patterns=allow_patterns)
        self.uploads.append((repo_id, sorted(found)))


def publish(trained, *options, repo="lab/speech"):
    publish_model.main(publish_model.parser().parse_args(["--model", str(trained / "model"), "--repo", repo, *options]))


def test_the_folder_and_nothing_else_in_it_is_uploaded_and_the_url_printed(trained, monkeypatch, capsys):
    make(trained)
    (trained / "model/notes.txt").write_text("mine")
    hub = Hub(monkeypatch)
    publish(trained)
    assert hub.uploads == [("lab/speech", FILES)]
    assert capsys.readouterr().out == "https://huggingface.co/lab/speech\n" and hub.private is False


def test_a_private_model_never_goes_to_a_public_repository(trained, monkeypatch):
    make(trained)
    hub = Hub(monkeypatch)
    publish(trained, "--private")
    assert hub.private is True and len(hub.uploads) == 1
    hub = Hub(monkeypatch, private=False)
    with pytest.raises(UserError, match="lab/speech exists and is public: nothing was uploaded"):
        publish(trained, "--private")
    assert not hub.uploads


def refused(status):
    response = httpx2.Response(status, request=httpx2.Request("POST", "https://huggingface.co/api/repos/create"))
    return huggingface_hub.errors.HfHubHTTPError(f"{status} from the Hub\nand more", response=response)


@pytest.mark.parametrize(
    ("hub", "message"),
    [
        ({"token": None}, "^no Hugging Face token here: log in with `hf auth login` .`huggingface-cli login`"),
        ({"error": refused(401)}, "the Hub refuses this token .401 from the Hub.: log in with"),
        ({"error": refused(409)}, "the Hub refuses .409 from the Hub."),
        ({"error": httpx2.ConnectError("Name or service not known")}, "no network. .ConnectError: Name or .*login"),
    ],
)
def test_no_token_and_no_network_are_one_line(trained, monkeypatch, hub, message):
    make(trained)
    hub = Hub(monkeypatch, **hub)
    with pytest.raises(UserError, match=message) as error:
        publish(trained)
    assert "\n" not in str(error.value) and "hf_secret" not in str(error.value) and not hub.uploads


def test_only_a_whole_model_folder_is_published_and_only_to_user_slash_name(trained, monkeypatch):
    hub = Hub(monkeypatch)
    with pytest.raises(UserError, match="model: no README.md: not a folder that make_model_folder.py wrote"):
        publish(trained)
    make(trained)
    with pytest.raises(UserError, match="--repo speech: expected USER/NAME"):
        publish(trained, repo="speech")
    (trained / "model/tokenizer/vocab.txt").unlink()
    with pytest.raises(UserError, match=r"no tokenizer/vocab.txt"):
        publish(trained)
    assert not hub.uploads
