"""Write a language model as KenLM's lmplz would: `python tests/arpa.py < TEXT > FILE` stands in for it."""

import itertools
import math
import sys
from collections import Counter
from pathlib import Path

OFFSET = 100  # of the character that a token is written as


def arpa(path, sentences, vocab_size):
    """Write a bigram model with additive smoothing, as NeMo wants it, of sentences of token ids; returns its path."""
    names = ["<s>", "</s>", *(chr(token + OFFSET) for token in range(vocab_size))]
    padded = [["<s>", *(chr(token + OFFSET) for token in ids), "</s>"] for ids in sentences]
    single = Counter(name for names_ in padded for name in names_[1:])
    pairs = Counter(pair for names_ in padded for pair in itertools.pairwise(names_))
    total = sum(single.values()) + len(names)
    lines = ["\\data\\", f"ngram 1={len(names)}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    lines += [f"{math.log10((single[name] + 1) / total):.5f}\t{name}\t-0.5" for name in names]
    lines += ["", "\\2-grams:"]
    begin = Counter(first for first, _ in pairs.elements())
    lines += [f"{math.log10(0.7 * n / begin[a]):.5f}\t{a} {b}" for (a, b), n in sorted(pairs.items())]
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
    return path


if __name__ == "__main__":
    sentences = [[ord(name) - OFFSET for name in line.split()] for line in sys.stdin]
    arpa(Path("/dev/stdout"), sentences, 1 + max(itertools.chain(*sentences)))
