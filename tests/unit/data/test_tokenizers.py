"""The tokenizer and the checks that stop a training that would be in vain."""

import io
import json
import random
import re
import tarfile

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from conftest import nemo_archive, run_script
from rnnt import files
from rnnt.data import tokenizers
from rnnt.errors import UserError

WORDS = "zero one two three four five six seven eight nine".split()
TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]
TOKENIZER, CONFIG, WEIGHTS = "0a1b_tokenizer.model", "model_config.yaml", "model_weights.ckpt"


def rows(*texts):
    return [{"id": str(i), "audio_filepath": "x", "duration": 1.0, "text": text} for i, text in enumerate(texts)]


def build(folder, train, validation, *options):
    """Build the tokenizer and, where that went well, check it; returns the last that was done, with all messages."""
    texts = {"train": train, "validation": validation, "test": ["one ω"]}
    for split, lines in texts.items():
        files.write_jsonl(folder / f"manifests/{split}.jsonl", rows(*lines))
    output = folder / "tokenizer"
    done = run_script("build_tokenizer", "--manifest", folder / "manifests/train.jsonl", "--output", output, *options)
    if done.returncode:
        return done
    base = [
        part for key in ("--base-model", "--language") if key in options for part in options[options.index(key) :][:2]
    ]
    listed = [folder / f"manifests/{split}.jsonl" for split in texts]
    paths = ("--tokenizer", output / "tokenizer.model", "--output", output / "check.json")
    checked = run_script("check_tokenizer", "--manifests", *listed, *paths, *base)
    checked.stderr = done.stderr + checked.stderr
    return checked


def test_a_tokenizer_is_written_with_its_vocabulary_and_figures(tmp_path):
    done = build(tmp_path, TEXTS, ["nine eight"], "--vocab-size", 32)
    assert done.returncode == 0, done.stderr
    vocabulary = (tmp_path / "tokenizer/vocab.txt").read_text().splitlines()
    assert len(vocabulary) == 32 and vocabulary[0] == "<unk>"
    report = json.loads((tmp_path / "tokenizer/check.json").read_text())
    assert report["vocab_size"] == 32
    train = report["splits"]["train"]
    assert (train["utterances"], train["unknown_tokens"], train["not_restored"]) == (100, 0, 0)
    assert train["tokens_per_second"] == train["tokens"] / 100
    # The test split is reported on, and never decides.
    assert report["splits"]["test"]["characters_not_covered"] == "ω"


def test_the_same_text_gives_the_same_tokenizer():
    assert tokenizers.train(TEXTS, 40) == tokenizers.train(TEXTS, 40)


def test_every_text_comes_back_exactly():
    texts = ["it's 5€ — naïve", "ﬁne ½ Ⅷ ＡＢ", "a…b"]
    processor = tokenizers.load(tokenizers.train(texts, 40))
    assert [processor.decode(processor.encode(text)) for text in texts] == texts


@pytest.mark.parametrize(("size", "message"), [(5000, "larger than the text allows: at most"), (6, "at least")])
def test_a_vocab_size_that_the_text_does_not_allow_names_the_limit(tmp_path, size, message):
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", size)
    assert done.returncode == 1
    assert f"tokenizer.vocab_size {size} is" in done.stderr and message in done.stderr
    assert "Traceback" not in done.stderr
    limit = int(done.stderr.split()[-1])
    assert build(tmp_path, TEXTS, ["one"], "--vocab-size", limit).returncode == 0


def test_validation_text_that_cannot_be_spelt_is_a_warning_with_the_characters(tmp_path):
    done = build(tmp_path, TEXTS, ["one", "größe"], "--vocab-size", 32)
    assert done.returncode == 0, done.stderr
    assert "validation: characters 'ßö' in no token, 1 times: the model can't write them" in done.stderr


def test_training_text_that_a_model_s_tokenizer_cannot_spell_stops_with_the_characters(tmp_path):
    base = nemo_archive(tmp_path / "base.nemo", tokenizers.train(TEXTS, 32))
    done = build(tmp_path, [*TEXTS, "größe"], ["one"], "--vocab-size", 32, "--base-model", base, "--take-from", base)
    assert done.returncode == 1
    assert "can't spell train: " in done.stderr and "'ßö'" in done.stderr
    assert not any((tmp_path / "tokenizer").glob("*"))


def test_another_tokenizer_on_old_decoder_weights_is_refused(tmp_path):
    other = nemo_archive(tmp_path / "base.nemo", tokenizers.train([text[::-1] for text in TEXTS], 32))
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", 32, "--base-model", other)
    assert done.returncode == 1
    assert "tokenizer.source: model or extend, or model.reinitialize_decoder: true" in done.stderr
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", 32, "--base-model", other, "--reinitialize-decoder")
    assert done.returncode == 0, done.stderr


def test_a_tokenizer_of_a_sample_is_the_same_each_time_and_knows_every_character(tmp_path):
    texts = [*TEXTS, "größe", *TEXTS, "größe"]
    assert list(tokenizers.sample(rows(*texts), len(texts))) == texts
    drawn = list(tokenizers.sample(rows(*texts), 30))
    assert drawn == list(tokenizers.sample(rows(*texts), 30)) and drawn.count("größe") == 1
    assert 31 <= len(drawn) <= 31 + 15 and all(any(c in text for text in drawn) for c in set("".join(texts)))
    place = iter(texts)
    assert all(text in place for text in drawn), "in their order"
    done = build(tmp_path, texts, ["one"], "--vocab-size", 32, "--sample", 30)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tokenizer/tokenizer.model").read_bytes() == tokenizers.train(drawn, 32)
    report = json.loads((tmp_path / "tokenizer/check.json").read_text())["splits"]["train"]
    assert (report["utterances"], report["unknown_tokens"]) == (len(texts), 0), "all of them are checked"


def test_a_pretrained_model_s_own_tokenizer_is_taken_byte_for_byte(tmp_path):
    own = tokenizers.train(TEXTS, 50)
    base = nemo_archive(tmp_path / "base.nemo", own)
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", 32, "--base-model", base, "--take-from", base)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tokenizer/tokenizer.model").read_bytes() == own
    assert json.loads((tmp_path / "tokenizer/check.json").read_text())["same_tokens_as_base"] is True


def test_a_joint_of_another_size_is_refused(tmp_path):
    own = tokenizers.train(TEXTS, 50)
    base = nemo_archive(tmp_path / "base.nemo", own, outputs=129)
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", 32, "--base-model", base, "--take-from", base)
    assert done.returncode == 1
    assert "needs a joint network of 51 outputs, the blank among them" in done.stderr and "has 129" in done.stderr


@pytest.fixture(scope="module")
def own():
    return tokenizers.train(TEXTS, 32)


@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_a_nemo_file_is_read_as_nemo_reads_it_packed_by_an_old_version_too(tmp_path, own, kind):
    path = nemo_archive(tmp_path / "base.nemo", own, kind=kind)
    tokenizers.check_nemo(path)
    assert (tokenizers.from_nemo(path), tokenizers.joint_outputs(path)) == (own, 33)


FOLDER, LINK, HARD_LINK = tarfile.DIRTYPE.decode(), tarfile.SYMTYPE.decode(), tarfile.LNKTYPE.decode()
NO_MODEL, NO_CONFIG, NO_TOKENIZER = "not a NeMo model: ", "is no YAML mapping", "tokenizer.model in it is no Sentence"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({CONFIG: FOLDER}, NO_MODEL),
        ({CONFIG: LINK}, NO_MODEL),
        ({CONFIG: HARD_LINK}, NO_MODEL),
        ({CONFIG: None}, NO_MODEL),
        ({WEIGHTS: None}, NO_MODEL),
        ({CONFIG: b""}, NO_CONFIG),
        ({CONFIG: b"\xff\xfe\x00"}, NO_CONFIG),
        ({CONFIG: b"joint: [1"}, NO_CONFIG),
        ({CONFIG: b"made: 2026-02-30"}, NO_CONFIG),
        ({CONFIG: b"made: !!timestamp today"}, NO_CONFIG),
        ({CONFIG: b"made: !!bool x"}, NO_CONFIG),
        ({CONFIG: b"[" * 5000}, NO_CONFIG),
        ({CONFIG: b"- joint"}, NO_CONFIG),
        ({CONFIG: b"encoder: {}"}, "has no number joint.num_classes"),
        ({CONFIG: b"joint:\n  num_classes: ???"}, "has no number joint.num_classes"),
        ({CONFIG: b"joint: [32]"}, "has no number joint.num_classes"),
        ({TOKENIZER: FOLDER}, "holds no tokenizer.model"),
        ({TOKENIZER: LINK}, "holds no tokenizer.model"),
        ({TOKENIZER: None}, "holds no tokenizer.model"),
        ({TOKENIZER: b""}, NO_TOKENIZER),
        ({TOKENIZER: b"garbage"}, NO_TOKENIZER),
    ],
)
def test_a_nemo_file_with_a_wrong_member_is_one_line(tmp_path, own, changes, message):
    path = nemo_archive(tmp_path / "base.nemo", own, changes=changes)
    with pytest.raises(UserError) as error:
        tokenizers.joint_outputs(path)
        tokenizers.from_nemo(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_a_nemo_file_that_is_cut_off_or_garbled_is_one_line(tmp_path, own, kind):
    path = nemo_archive(tmp_path / "base.nemo", own, kind=kind)
    whole = path.read_bytes()
    middle = len(whole) // 2  # in the weights
    damaged = [b"", whole[:300], whole[:middle], b"garbage" * 5 + whole[35:]]
    if kind == "w:gz":  # of a plain archive NeMo alone notices that the weights are others
        damaged.append(whole[:middle] + b"\xff" * 70_000 + whole[middle + 70_000 :])  # the start of a block with them
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"^{path}: not a NeMo model.*[^\n]$"):
            tokenizers.check_nemo(path)


def test_what_is_no_tar_archive_or_packed_as_nemo_does_not_read_it_is_named(tmp_path, own):
    path = nemo_archive(tmp_path / "base.nemo", own, kind="w:bz2")
    with pytest.raises(UserError, match=rf"^{path}: not a NeMo model"):
        tokenizers.from_nemo(path)
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(UserError, match=rf"^{path}: not a NeMo model"):
        tokenizers.from_nemo(path)
    with pytest.raises(UserError, match="missing.nemo: no such file"):
        tokenizers.from_nemo(tmp_path / "missing.nemo")


def test_building_a_tokenizer_on_a_damaged_nemo_file_ends_with_one_line(tmp_path, own):
    base = nemo_archive(tmp_path / "base.nemo", own, changes={TOKENIZER: b""})
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", 32, "--base-model", base, "--take-from", base)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {base}: tokenizer.model in it is no SentencePiece model: copy or download the file again"
    ]


def other(model_type, texts, size, normalization="nmt_nfkc"):
    """A tokenizer as NVIDIA's models have them: of this type, normalising what it reads."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type=model_type, vocab_size=size, minloglevel=2,
        normalization_rule_name=normalization, bos_id=-1, eos_id=-1, character_coverage=1.0,
    )  # fmt: skip
    return model.getvalue()


@pytest.mark.parametrize(("kind", "size"), [("bpe", 40), ("unigram", 26)])
def test_an_extended_tokenizer_spells_what_was_missing_and_all_else_as_before(tmp_path, kind, size):
    own = other(kind, TEXTS, size)
    base = nemo_archive(tmp_path / "base.nemo", own)
    added = ["größe", "Ｆｏｕｒ zero", "it's ½ 四", "öö ß", "one"]
    done = build(tmp_path, [*TEXTS, *added], ["one"], "--vocab-size", 9, "--base-model", base, "--take-from", base)
    assert done.returncode == 1 and "tokenizer.source: extend adds" in done.stderr
    model, characters = tokenizers.extend(own, [*TEXTS, *added])
    before, after = tokenizers.load(own), tokenizers.load(model)
    assert tokenizers.tokens(after)[:size] == tokenizers.tokens(before)
    assert tokenizers.tokens(after)[size:] == list(characters) and set("öß'四") < set(characters)
    # SentencePiece's own reader finds a model in it, of the numbers that are written for its library.
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    assert len(proto.pieces) == size + len(characters) and {piece.type for piece in proto.pieces[size:]} == {1}
    for text in added:
        assert after.unk_id() not in after.encode(text), text
    random_texts = random.Random(3).choices(sorted(set("".join(TEXTS))), k=20_000)
    for text in [*TEXTS, *"".join(random_texts).split(), "".join(random_texts), "ｆｏｕｒ"]:
        if before.unk_id() not in (ids := before.encode(text)):
            assert after.encode(text) == ids


def test_a_character_that_old_tokens_have_only_within_others_takes_nothing_from_them():
    """`q` is in `qu` alone: with a token of its own, the text that begins so must not be cut elsewhere."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(other("unigram", TEXTS, 26, "identity"))
    for piece, score in (("qu", -14.0), ("uone", -1.0)):
        proto.pieces.add(piece=piece, score=score)
    own = proto.SerializeToString()
    model, characters = tokenizers.extend(own, ["q"])
    assert "q" in characters
    before, after = tokenizers.load(own), tokenizers.load(model)
    assert before.unk_id() not in before.encode("quone")
    assert after.encode("quone") == before.encode("quone") and after.unk_id() not in after.encode("q")


def test_extending_by_the_command_says_what_was_added_or_that_nothing_was(tmp_path):
    own = tokenizers.train(TEXTS, 50)
    base = nemo_archive(tmp_path / "base.nemo", own)
    options = ("--vocab-size", 9, "--base-model", base, "--take-from", base, "--extend")
    done = build(tmp_path, [*TEXTS, "größe"], ["one"], *options)
    assert done.returncode == 0, done.stderr
    assert "2 tokens added behind those of the model, for 'ßö'" in done.stderr
    report = json.loads((tmp_path / "tokenizer/check.json").read_text())
    assert report["tokens_behind_base"] == 2 and report["splits"]["train"]["unknown_tokens"] == 0
    done = build(tmp_path, TEXTS, ["one"], *options)
    assert "nothing to add, as tokenizer.source: model" in done.stderr
    assert (tmp_path / "tokenizer/tokenizer.model").read_bytes() == own


CASED = ["Zero one. Two", "Three four, five?", "Six Seven", *TEXTS]


@pytest.mark.parametrize(
    ("case", "texts", "warned"), [("lower", CASED, True), ("keep", CASED, False), ("lower", TEXTS, False)]
)
def test_a_cased_model_for_text_in_lower_case_is_a_warning_with_the_key(tmp_path, case, texts, warned):
    base = nemo_archive(tmp_path / "base.nemo", tokenizers.train(texts, 50))
    options = ("--vocab-size", 9, "--base-model", base, "--take-from", base)
    done = build(tmp_path, TEXTS, ["one"], *options, "--case", case)
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"(\S+)% of the tokens of the model in .* have upper case, (\S+)% punct.*set text.case: keep", done.stderr
    )
    assert bool(found) is warned and all(float(upper) > 1 and float(marks) > 1 for upper, marks in found)


def aggregate(folder, parts):
    """A `.nemo` archive with an aggregate tokenizer of the given languages."""
    langs = "".join(f"    {name}: {{model_path: 'nemo:{name}1_tokenizer.model'}}\n" for name in parts)
    size = sum(tokenizers.load(model).get_piece_size() for model in parts.values())
    config = f"tokenizer:\n  type: agg\n  langs:\n{langs}joint: {{num_classes: {size}}}\n"
    members = {f"{name}1_tokenizer.model": model for name, model in parts.items()}
    first = next(iter(parts.values()))
    return nemo_archive(folder / "base.nemo", first, changes={TOKENIZER: None, CONFIG: config.encode(), **members})


def test_an_aggregate_tokenizer_spells_in_the_language_of_the_text_with_the_model_s_ids(tmp_path):
    parts = {
        "es": tokenizers.train(["de la que el en y", "los se del las un por"], 22),
        "en": tokenizers.train(TEXTS, 40),
        "pt-BR": other("unigram", ["um dois três quatro cinco", "seis sete oito nove dez"] * 9, 22),
    }
    base = aggregate(tmp_path, parts)
    offset = 0
    for name, text in (("es", "de la los"), ("en", "nine two"), ("pt-BR", "nove três")):
        part, whole = tokenizers.load(parts[name]), tokenizers.load(tokenizers.from_nemo(base, name))
        assert whole.get_piece_size() == 84 == tokenizers.joint_outputs(base) - 1
        assert whole.encode(text) == [offset + id for id in part.encode(text)]
        assert whole.decode(whole.encode(text)) == text and whole.unk_id() == offset + part.unk_id()
        offset += part.get_piece_size()
    options = ("--vocab-size", 9, "--base-model", base, "--take-from", base)
    assert tokenizers.from_nemo(base, "en-GB") == tokenizers.from_nemo(base, "en") != tokenizers.from_nemo(base)
    done = build(tmp_path, TEXTS, ["one"], *options, "--language", "fr")
    assert done.returncode == 1 and "its tokenizer has no text.language fr: it has es, en, pt-BR" in done.stderr
    done = build(tmp_path, TEXTS, ["one"], "--vocab-size", 32, "--base-model", base, "--reinitialize-decoder")
    assert done.returncode == 0, "a new tokenizer of whatever language"
    with pytest.raises(UserError, match="aggregate tokenizer, which can't be extended"):
        tokenizers.check_extensible(base)
