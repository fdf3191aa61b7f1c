"""N-gram models of tokens from text: interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, TR-10-98, 4.1.6).

In numpy, as no wheel has KenLM's `lmplz`. What it leaves open is as KenLM has it (Heafield et al. 2013, ACL, 3):
n-grams that begin a sentence keep their counts, unigrams are interpolated with the uniform distribution, and an n-gram
that is pruned leaves its mass to the backoff.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnt import files
from rnnt.errors import UserError

OFFSET = 100  # of the character that NeMo writes a token as, in its train_kenlm.py
MOST = 1_000_000  # n-grams: NeMo reads 50,000 a second, one by one, in each job that searches
FALLBACK = (0.5, 1.0, 1.5)  # discounts where the counts give none, as of a few sentences: KenLM's
BEGIN = -99.0  # log10 of <s>, which is never predicted: SRILM's


class Model(NamedTuple):
    """N-grams of each order, the first the unigrams: symbols are tokens, then </s>, then <s>.

    An n-gram is a row of its order; its key is `(row of its first n - 1 symbols) * (vocab_size + 2) + last symbol`, and
    the keys of an order ascend. `log_probs` and `backoffs` are log10.
    """

    vocab_size: int
    keys: list[np.ndarray]
    log_probs: list[np.ndarray]
    backoffs: list[np.ndarray]


def estimate(sentences: list[list[int]], order: int, vocab_size: int, most: int = MOST) -> Model:
    """The model of sentences of token ids, of `order` (2 or more) or of what the longest sentence has.

    It has every token, those that the sentences lack too. Where it has more than `most` n-grams of three symbols and
    more, the rarest of those are pruned; their counts stay in the discounts.
    """
    base = vocab_size + 2
    symbols, places = _joined(sentences, vocab_size, end=True)
    rows, keys, suffixes, raw, begins = [symbols], [np.arange(base)], [], [np.bincount(symbols, minlength=base)], []
    for n in range(2, order + 1):
        ends = np.flatnonzero(places >= n - 1)
        if not len(ends):
            break
        found, first, inverse, counts = np.unique(
            rows[-1][ends - 1] * base + symbols[ends], return_index=True, return_inverse=True, return_counts=True
        )
        row = np.full(len(symbols), -1)
        row[ends] = inverse
        suffixes.append(rows[-1][ends[first]])
        begins.append(places[ends[first]] == n - 1)
        rows, keys, raw = [row], [*keys, found], [*raw, counts]
    counts = [np.bincount(suffix, minlength=len(below)) for suffix, below in zip(suffixes, raw, strict=False)]
    for own, begin, count in zip(counts[1:], begins, raw[1:], strict=False):
        own[begin] = count[begin]
    counts.append(raw[-1])
    counts[0][vocab_size + 1] = 0
    at_least = 1
    while sum(int((count >= at_least).sum()) for count in raw[2:]) > most:
        at_least += 1
    return _smoothed(vocab_size, keys, suffixes, counts, [count >= at_least for count in raw])


def _joined(sentences: list[list[int]], vocab_size: int, end: bool) -> tuple[np.ndarray, np.ndarray]:
    """The symbols of all sentences, each behind its <s>, and the place of each in its sentence, <s> at 0."""
    tail = [vocab_size] if end else []
    padded = [[vocab_size + 1, *sentence, *tail] for sentence in sentences]
    places = np.concatenate([np.arange(len(sentence)) for sentence in padded])
    return np.concatenate([np.asarray(sentence, dtype=np.int64) for sentence in padded]), places


def _smoothed(vocab_size: int, keys: list, suffixes: list, counts: list, kept: list) -> Model:
    """The model of adjusted counts: by order the keys, the rows of the suffixes (from 2), counts, and what is kept."""
    base = vocab_size + 2
    discount = discounts(counts[0])[np.minimum(counts[0], 3)]
    total = counts[0].sum()
    probs = (counts[0] - discount + discount.sum() / (vocab_size + 1)) / total
    model = Model(vocab_size, [keys[0]], [np.log10(probs)], [])
    model.log_probs[0][vocab_size + 1] = BEGIN
    number = np.arange(base)  # of a row among those that are kept
    for n in range(1, len(keys)):
        context, symbol = np.divmod(keys[n], base)
        keep = kept[n] if n > 1 else np.full(len(keys[n]), True)
        discount = discounts(counts[n])[np.minimum(counts[n], 3)]
        total = np.bincount(context, counts[n], minlength=len(keys[n - 1]))
        left = np.bincount(context, np.where(keep, discount, counts[n]), minlength=len(keys[n - 1]))
        backoff = np.divide(left, total, out=np.ones_like(total), where=total > 0)
        probs = (counts[n] - discount) / total[context] + backoff[context] * probs[suffixes[n - 1]]
        model.backoffs.append(np.log10(backoff[number >= 0]))
        if not keep.any():
            return model
        model.keys.append(number[context[keep]] * base + symbol[keep])
        model.log_probs.append(np.log10(probs[keep]))
        number = np.where(keep, np.cumsum(keep) - 1, -1)
    model.backoffs.append(np.zeros(len(model.keys[-1])))
    return model


def discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off a count of 0, 1, 2, and 3 or more, from how many n-grams of an order have which count."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(float)
    if n.all():
        share = n[0] / (n[0] + 2 * n[1])
        found = [k - (k + 1) * share * n[k] / n[k - 1] for k in (1, 2, 3)]
        if all(0 < amount <= k for k, amount in enumerate(found, 1)):
            return np.array([0.0, *found])
    return np.array([0.0, *FALLBACK])


def log_probs(model: Model, sentences: list[list[int]]) -> np.ndarray:
    """The natural log-probability of each token of the sentences, one behind the other, ends not predicted."""
    base = model.vocab_size + 2
    symbols, places = _joined(sentences, model.vocab_size, end=False)
    found, row = model.log_probs[0][symbols], symbols
    for n in range(1, len(model.keys)):
        context = np.concatenate([[-1], row[:-1]])
        has = (places >= n) & (context >= 0)
        key = np.where(has, context * base + symbols, -1)
        place = np.minimum(np.searchsorted(model.keys[n], key), len(model.keys[n]) - 1)
        hit = has & (model.keys[n][place] == key)
        found = np.where(hit, model.log_probs[n][place], found + np.where(has, model.backoffs[n - 1][context], 0.0))
        row = np.where(hit, place, -1)
    return found[places > 0] * math.log(10)


def perplexity(model: Model, sentences: list[list[int]]) -> float:
    """Per token, as the search sees them: without the ends of the sentences."""
    return float(np.exp(-log_probs(model, sentences).mean()))


def write(path: Path, model: Model) -> None:
    """The model as an ARPA file that NeMo reads. Raises UserError where a token is no character."""
    if model.vocab_size > 0xD800 - OFFSET:
        raise UserError(f"evaluation.beam.lm: NeMo can't write more than {0xD800 - OFFSET} tokens as characters")
    with files.whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(_lines(model))


def _lines(model: Model) -> Iterator[str]:
    base, order = model.vocab_size + 2, len(model.keys)
    symbols = [*(chr(token + OFFSET) for token in range(model.vocab_size)), "</s>", "<s>"]
    yield "\\data\\\n"
    for n, keys in enumerate(model.keys, 1):
        yield f"ngram {n}={len(keys)}\n"
    names = symbols
    for n, (keys, probs, backoffs) in enumerate(zip(*model[1:], strict=True), 1):
        if n > 1:
            contexts, last = np.divmod(keys, base)
            pairs = zip(contexts.tolist(), last.tolist(), strict=True)
            names = [f"{names[context]} {symbols[symbol]}" for context, symbol in pairs]
        yield f"\n\\{n}-grams:\n"
        rows = zip(probs.tolist(), names, backoffs.tolist(), strict=True)
        if n < order:
            yield from (f"{prob:.6f}\t{name}\t{backoff:.6f}\n" for prob, name, backoff in rows)
        else:
            yield from (f"{prob:.6f}\t{name}\n" for prob, name, _ in rows)
    yield "\n\\end\\\n"
