"""N-gram language models for fusion with a beam search: ARPA files over the tokens of a tokenizer.

NeMo writes token n as the character with code point n + 100 (its `train_kenlm.py`), and reads ARPA files that way. The
format: SRILM, ngram-format(5).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

from rnnt.data import manifests
from rnnt.errors import UserError
from rnnt.evaluation.ngram import OFFSET

SPECIAL = ("<s>", "</s>", "<unk>")
SENTENCES = 200  # of the training text, to see whether the model speaks of the same tokens
HOW = f"write each token as the character with the code point of its number plus {OFFSET} (NeMo's train_kenlm.py)"


def check_file(path: Path, vocab_size: int) -> None:
    """Raises UserError naming the line of an ARPA file that is not of a vocabulary of `vocab_size`, or is cut off."""
    section = ""
    counts: dict[str, int] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            if number == 1 and line.rstrip() != "\\data\\":
                raise UserError(f"{path}:1: expected \\data\\ as the first line: not an ARPA file, or begun otherwise")
            if line.startswith("\\"):
                section = line.rstrip()
                if section == "\\end\\":
                    break
            elif line and section.endswith("-grams:"):
                counts[section] = counts.get(section, 0) + 1
                if section == "\\1-grams:":
                    _check_unigram(line, vocab_size, f"{path}:{number}")
            elif line.startswith("ngram "):
                order, _, count = line.removeprefix("ngram ").partition("=")
                counts[f"\\{order.strip()}-grams:"] = -int(count) if re.fullmatch(r"\s*\d{1,18}\s*", count) else 0
    if section != "\\end\\" or any(counts.values()):
        raise UserError(f"{path}: has not the n-grams that its header tells, or no \\end\\: cut off? copy it again")


def _check_unigram(line: str, vocab_size: int, where: str) -> None:
    fields = line.split("\t")
    try:
        token, finite = fields[1], math.isfinite(float(fields[0]))
    except (ValueError, IndexError):
        finite = False
    if not finite:
        raise UserError(f"{where}: expected a log-probability, a tab and a token: cut off? copy it again")
    if token in SPECIAL:
        return
    if len(token) != 1:
        raise UserError(f"{where}: `{token}` is not one character: the model is not of tokens: {HOW}")
    if not 0 <= ord(token) - OFFSET < vocab_size:
        raise UserError(
            f"{where}: token {ord(token) - OFFSET} is not in the vocabulary of {vocab_size}: the model is of another "
            f"tokenizer, or written otherwise: {HOW}"
        )


@contextlib.contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn what NeMo raises when it reads an ARPA file that it does not understand into a UserError."""
    try:
        yield
    except (AssertionError, ValueError, LookupError) as error:
        raise UserError(
            f"evaluation.beam.lm: {path}: NeMo can't read it ({type(error).__name__}: {error}): it needs two orders or "
            "more, <s>, an empty line after the header, tabs around each n-gram, and the context of every n-gram"
        ) from None


def check_tokens(lm, path: Path, tokenizer: sentencepiece.SentencePieceProcessor, manifest: Path) -> float:
    """Perplexity per token of the first texts of `manifest` under `lm` (NeMo's NGramGPULanguageModel).

    Raises UserError where it is no better than knowing nothing: a model of another tokenizer of the same size.
    """
    import torch

    texts = [row["text"] for row in itertools.islice(manifests.rows(manifest), SENTENCES)]
    sentences = [torch.tensor([tokenizer.encode(text)]) for text in texts if text]
    with torch.inference_mode():
        total = sum(float(lm.score_sentences(sentence).sum()) for sentence in sentences)
    perplexity = math.exp(-total / sum(sentence.shape[1] for sentence in sentences))
    if perplexity >= tokenizer.get_piece_size():
        raise UserError(
            f"evaluation.beam.lm: {path}: predicts the training text worse than chance (perplexity {perplexity:.0f} "
            f"with {tokenizer.get_piece_size()} tokens): is it of another tokenizer?"
        )
    return perplexity
