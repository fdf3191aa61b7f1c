"""The n-gram of the training text: its probabilities by hand, by a second way, and as NeMo reads them."""

import itertools
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from rnnt.errors import UserError
from rnnt.evaluation import language_model, ngram

V = 7  # token 6 never occurs


def text(seed, sentences=200):
    """Sentences in which a token depends on the two before it."""
    draw = random.Random(seed)
    found = []
    for _ in range(sentences):
        tokens = [draw.randrange(6)]
        while len(tokens) < 3 or draw.random() < 0.85:
            near = (3 * tokens[-1] + sum(tokens[-2:-1])) % 6
            tokens.append(near if draw.random() < 0.6 else draw.randrange(6))
        found.append(tokens)
    return found


def prob(model, history, token):
    return float(np.exp(ngram.log_probs(model, [[*history, token]])[-1]))


def test_two_sentences_by_hand():
    """<s> 0 1 </s>, <s> 0 </s>: the counts give no discounts, so that they are 0.5, 1 and 1.5."""
    model = ngram.estimate([[0, 1], [0]], 2, 3)
    unigrams = 10 ** model.log_probs[0][:4]
    assert unigrams == pytest.approx([0.25, 0.25, 0.125, 0.375])  # 0, 1, 2, </s>: of 1, 1, 0 and 2 contexts
    assert prob(model, [], 0) == pytest.approx((2 - 1) / 2 + 0.5 * 0.25)
    assert prob(model, [0], 1) == pytest.approx((1 - 0.5) / 2 + 0.5 * 0.25)
    assert [prob(model, [0], token) for token in (0, 2)] == pytest.approx([0.5 * 0.25, 0.5 * 0.125])


def test_the_discounts_are_those_of_chen_and_goodman():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [50, 10, 5, 3, 2, 1])
    assert ngram.discounts(counts) == pytest.approx([0, 0.5, 2 - 1.5 * 3 / 5, 3 - 2 * 2 / 3])
    assert ngram.discounts(counts[counts != 4]) == pytest.approx([0, 0.5, 1, 1.5])


def second_way(sentences, order, at_least):
    """p(token | history) by dictionaries, as the paper writes it."""
    padded = [["<s>", *sentence, "</s>"] for sentence in sentences]
    raw = {n: Counter(tuple(s[i : i + n]) for s in padded for i in range(len(s) - n + 1)) for n in range(1, order + 1)}
    counts = {order: raw[order]}
    for n in range(1, order):
        left = Counter(gram[1:] for gram in raw[n + 1])
        counts[n] = {gram: raw[n][gram] if gram[0] == "<s>" else left[gram] for gram in raw[n]}
    del counts[1]["<s>",]
    taken = {n: ngram.discounts(np.array(list(counts[n].values()))) for n in counts}
    following = defaultdict(list)
    for n in counts:
        for gram, count in counts[n].items():
            following[gram[:-1]].append((gram, count))

    def p(token, history):
        if not history and not following[()]:
            return 0
        n = len(history) + 1
        lower = p(token, history[1:]) if history else 1 / (V + 1)
        if not (found := following[history]):
            return lower
        total = sum(count for _, count in found)
        kept = [(gram, count) for gram, count in found if n < 3 or raw[n][gram] >= at_least]
        own = sum(count - taken[n][min(count, 3)] for gram, count in kept if gram[-1] == token)
        return (own + (total - sum(count - taken[n][min(count, 3)] for _, count in kept)) * lower) / total

    return p


@pytest.mark.parametrize("most", [10_000, 150])
@pytest.mark.parametrize("order", [2, 3, 5])
def test_a_second_way_finds_the_same(order, most):
    sentences = [*text(1), [0, 6]]  # a pair that occurs once is not pruned
    model = ngram.estimate(sentences, order, V, most)
    size = {n: len(keys) for n, keys in enumerate(model.keys, 1)}
    assert sum(size[n] for n in size if n > 2) <= most
    padded = [("<s>", *s, "</s>") for s in sentences]
    raw = Counter(s[i : i + n] for s in padded for n in range(3, order + 1) for i in range(len(s) - n + 1))
    at_least = next(k for k in itertools.count(1) if sum(count >= k for count in raw.values()) <= most)
    assert (at_least > 1) == (most == 150 and order > 2)
    p = second_way(sentences, order, at_least)
    for sentence in [*text(2, 20), [6, 6, 0], [0]]:
        expected = [p(token, ("<s>", *sentence[:i])[-order + 1 :]) for i, token in enumerate(sentence)]
        assert np.exp(ngram.log_probs(model, [sentence])) == pytest.approx(expected)


@pytest.mark.parametrize("most", [10_000, 150])
def test_what_may_follow_any_history_adds_up_to_one(most):
    model = ngram.estimate(text(1), 4, V, most)
    for history in [[], [6], [6, 6, 6], *(sentence[:5] for sentence in text(3, 30))]:
        together = sum(prob(model, history, token) for token in range(V))
        # </s> is a symbol as the others are; a token that is spelt so can be asked for.
        assert together + prob(model, history, V) == pytest.approx(1, abs=1e-9)


def test_the_order_is_that_of_the_longest_sentence_at_most():
    assert len(ngram.estimate([[0, 1], [2]], 9, V).keys) == 4
    assert len(ngram.estimate([[]], 9, V).keys) == 2


def test_longer_histories_predict_better_what_depends_on_them():
    train, other = text(1, 2000), text(2)
    found = [ngram.perplexity(ngram.estimate(train, order, V), other) for order in (2, 3, 6)]
    assert found[1] < 0.9 * found[0] < V and found[2] < 1.1 * found[1]


@pytest.mark.parametrize("most", [10_000, 150])
def test_nemo_reads_the_file_and_finds_the_same(tmp_path, most):
    import torch
    from nemo.collections.asr.parts.submodules.ngram_lm import NGramGPULanguageModel

    model = ngram.estimate(text(1), 4, 80, most)  # tokens that are a control character and white space, 33 and 60
    ngram.write(tmp_path / "x.arpa", model)
    language_model.check_file(tmp_path / "x.arpa", 80)
    theirs = NGramGPULanguageModel.from_file(tmp_path / "x.arpa", vocab_size=80)
    for sentence in [*text(2, 20), [33, 60, 0, 79]]:
        expected = theirs.score_sentences(torch.tensor([sentence]))[0].tolist()
        assert ngram.log_probs(model, [sentence]) == pytest.approx(expected, abs=1e-4)


def test_more_tokens_than_nemo_can_write_are_refused(tmp_path):
    with pytest.raises(UserError, match="more than 55196 tokens"):
        ngram.write(tmp_path / "x.arpa", ngram.estimate([[0, 1]], 2, 60_000))
