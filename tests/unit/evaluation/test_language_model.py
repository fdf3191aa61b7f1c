"""N-gram fusion: what a language model does to the hypotheses, and which files are refused."""

import itertools

import pytest
import torch

from arpa import arpa
from rnnt import files
from rnnt.data import manifests, tokenizers
from rnnt.errors import UserError
from rnnt.evaluation import decoding, language_model
from rnnt.training import models


@pytest.fixture(scope="module")
def tokenizer(prepared):
    return tokenizers.load((prepared / "tokenizer/tokenizer.model").read_bytes())


@pytest.fixture(scope="module")
def lm(prepared, tokenizer, tmp_path_factory):
    sentences = [tokenizer.encode(row["text"]) for row in manifests.read(prepared / "train.jsonl")]
    return arpa(tmp_path_factory.mktemp("lm") / "digits.arpa", sentences, 24)


@pytest.fixture(scope="module")
def model(prepared):
    """Random weights: what the language model wants is soon heard."""
    torch.manual_seed(1)
    return models.build("contextnet_dummy", prepared / "tokenizer")


@pytest.mark.parametrize("strategy", ["malsd_batch", "maes_batch"])
def test_the_language_model_pulls_the_hypotheses_towards_its_spelling(prepared, model, lm, tmp_path, strategy, log):
    known = {pair for row in manifests.read(prepared / "train.jsonl") for pair in itertools.pairwise(row["text"])}
    shares = {}
    for weight in (None, 0.0, 2.0):
        search = {"strategy": strategy, "beam_size": 4, "lm_weight": weight}
        tokens = prepared / "tokenizer/tokenizer.model"
        given = (lm, prepared / "train.jsonl", tokens) if weight is not None else ()
        settings = decoding.set_search(model, search, *given)
        texts, _ = decoding.transcribe(model, prepared / "test.jsonl", tokens, tmp_path, 3, "cpu", 0, "")
        said = [pair for text in texts for pair in itertools.pairwise(text)]
        shares[weight] = texts, sum(pair in known for pair in said) / len(said)
    assert settings == search | {"lm": "digits.arpa", "lm_sha256": files.sha256(lm)}
    assert shares[0.0] == shares[None]
    assert shares[2.0][0] != shares[None][0] and shares[2.0][1] > shares[None][1]
    assert "digits.arpa: perplexity" in log.read_text()


@pytest.mark.parametrize("strategy", ["malsd_batch", "maes_batch"])
def test_searched_with_many_weights_it_finds_what_each_search_would_and_encodes_once(
    prepared, model, lm, tmp_path, strategy, monkeypatch
):
    tokens, manifest = prepared / "tokenizer/tokenizer.model", prepared / "test.jsonl"
    search, weights = {"strategy": strategy, "beam_size": 4}, (0.5, 0.0, 2.0)
    apart = []
    for weight in weights:
        decoding.set_search(model, search | {"lm_weight": weight}, lm)
        apart.append(decoding.transcribe(model, manifest, tokens, tmp_path, 3, "cpu", 0, "")[0])
    decoding.set_search(model, search | {"lm_weight": 1.0}, lm)
    heard = []
    encode = decoding._encode_each
    monkeypatch.setattr(decoding, "_encode_each", lambda *given: heard.append(len(given[1])) or encode(*given))
    found = list(decoding.search_with_weights(model, weights, manifest, tokens, tmp_path, 3, "cpu", 0, ""))
    assert found == apart and apart[0] != apart[1] != apart[2]
    assert sum(heard) == len(manifests.read(manifest))


def test_searched_with_many_weights_a_batch_that_does_not_fit_is_halved(prepared, model, lm, tmp_path, monkeypatch):
    tokens, manifest = prepared / "tokenizer/tokenizer.model", prepared / "test.jsonl"
    decoding.set_search(model, {"strategy": "malsd_batch", "beam_size": 2, "lm_weight": 1.0}, lm)
    whole = list(decoding.search_with_weights(model, [0.7], manifest, tokens, tmp_path, 4, "cpu", 0, ""))

    def of_two(find):
        def fits(model, inputs, lengths):
            if len(inputs) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return find(model, inputs, lengths)

        return fits

    for name in ("_encode_each", "_decode"):
        monkeypatch.setattr(decoding, name, of_two(getattr(decoding, name)))
    assert list(decoding.search_with_weights(model, [0.7], manifest, tokens, tmp_path, 4, "cpu", 0, "")) == whole


def test_the_perplexity_is_that_of_the_file(prepared, tokenizer, tmp_path):
    from nemo.collections.asr.parts.submodules.ngram_lm import NGramGPULanguageModel

    row = manifests.read(prepared / "train.jsonl")[0]
    files.write_jsonl(tmp_path / "one.jsonl", [row])
    path = arpa(tmp_path / "one.arpa", [tokenizer.encode(row["text"])], 24)
    log10 = {}
    for line in path.read_text().splitlines():
        fields = line.split("\t")
        if len(fields) > 1 and " " in fields[1]:
            log10[tuple(fields[1].split(" "))] = float(fields[0])
    names = ["<s>", *(chr(token + 100) for token in tokenizer.encode(row["text"]))]
    expected = 10 ** (-sum(log10[pair] for pair in itertools.pairwise(names)) / (len(names) - 1))
    found = NGramGPULanguageModel.from_file(path, vocab_size=24)
    got = language_model.check_tokens(found, path, tokenizer, tmp_path / "one.jsonl")
    assert got == pytest.approx(expected, rel=1e-3)


def test_a_model_of_another_tokenizer_of_the_same_size_is_refused(prepared, model, tmp_path):
    rows = manifests.read(prepared / "train.jsonl")
    other = tokenizers.load(tokenizers.train([row["text"][::-1] for row in rows], 24))
    path = arpa(tmp_path / "other.arpa", [other.encode(row["text"][::-1]) for row in rows], 24)
    search = {"strategy": "malsd_batch", "beam_size": 2, "lm_weight": 0.3}
    with pytest.raises(UserError, match="worse than chance .* is it of another tokenizer"):
        decoding.set_search(model, search, path, prepared / "train.jsonl", prepared / "tokenizer/tokenizer.model")


@pytest.mark.parametrize(
    ("old", "new"),
    [("\n\n\\1-grams", "\n\\1-grams"), ("\t<s>\t", "\t<unk>\t"), ("\t-0.5\n", "\t-0.5\t\n"), ("-0.5", "half")],
)
def test_what_nemo_cannot_read_is_one_line(prepared, model, lm, tmp_path, old, new):
    (tmp_path / "bad.arpa").write_text(lm.read_text().replace(old, new, 1))
    search = {"strategy": "malsd_batch", "beam_size": 2, "lm_weight": 0.3}
    with pytest.raises(UserError, match=r"evaluation.beam.lm: .*bad.arpa: NeMo can't read it"):
        decoding.set_search(model, search, tmp_path / "bad.arpa")


def test_trailing_spaces_and_text_behind_the_end_are_no_mistake(lm, tmp_path):
    (tmp_path / "good.arpa").write_text(lm.read_text().replace("\\1-grams:", "\\1-grams: ") + "\nmade today\n")
    language_model.check_file(tmp_path / "good.arpa", 24)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\\n", "", ":1: expected .*not an ARPA file"),
        ("\tf\t", "\tseven\t", r":\d+: `seven` is not one character: the model is not of tokens"),
        ("\tf\t", "\tõ\t", r":\d+: token 145 is not in the vocabulary of 24"),
        ("\\end\\", "", "no .end.: cut off"),
        ("\t<s>\t-0.5", "", r":\d+: expected a log-probability, a tab and a token: cut off"),
        ("ngram 2=", "ngram 2=1", "has not the n-grams that its header tells"),
        ("ngram 2=", f"ngram 2={'9' * 5000}", "has not the n-grams that its header tells"),
    ],
)
def test_a_file_that_is_not_of_the_vocabulary_is_refused_by_its_line(lm, tmp_path, old, new, message):
    text = lm.read_text()
    assert text.count(old) == 1
    (tmp_path / "bad.arpa").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        language_model.check_file(tmp_path / "bad.arpa", 24)
    language_model.check_file(lm, 24)
