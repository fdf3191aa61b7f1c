"""Count errors as NIST's hubscr.pl does for Hub5 English: a global mapping file (GLM), then sclite with -F and -D.

The reference (STM) and the hypothesis (CTM) go through the rules of the GLM (corpora/glm.py), words are split at
hyphens and every word of `( A B )` is optional; sclite then aligns. In a hypothesis a rule sees one word at a time, for
a CTM has one a line. https://github.com/usnistgov/SCTK documents the options of sclite (doc/options.htm).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from operator import add, itemgetter

import numpy as np

from rnnt.corpora.glm import Glm, Rules
from rnnt.errors import UserError
from rnnt.evaluation.error_rate import ErrorRate

HYPHEN = re.compile(r"([^( ])-(?=[^) ])")
DEEPEST = 50  # alternations within one another
SECOND_OPTIONAL = re.compile(r"(\(\s+[^()\s]+\s+)([^()\s]+)")

# Steps of an alignment: cost, substitutions, deletions, insertions and reference words. The costs are those of sclite
# (wwd_WORD in its word.c) in thousandths; to skip `@`, the word of an empty alternative, costs 0.001.
START = (0, 0, 0, 0, 0)
SAME = (0, 0, 0, 0, 1)
SUBSTITUTION = (4000, 1, 0, 0, 1)
DELETION = (3000, 0, 1, 0, 1)
INSERTION = (3000, 0, 0, 1, 0)
OPTIONAL = (2000, 0, 0, 0, 1)
NULL = (1, 0, 0, 0, 0)


def count(references: list[str], hypotheses: list[str], glm: Glm, speakers: tuple[str, ...] = ()) -> ErrorRate:
    """Word errors of each utterance, and its reference words (sclite's `# Wrd`).

    `references` are the texts of STM lines, `hypotheses` plain words in either case, one of each per utterance. As in
    sclite an optional word that was not said is a reference word and correct, and so is one that only the hypothesis
    has. Raises UserError for a reference whose parentheses or braces do not match.
    """

    @functools.cache
    def said(word: str) -> list:
        text = _filter(f" {word} ", glm.hypothesis)
        if len(text.split()) == 1:
            return text.split()
        # csrfilt.sh drops the braces: all of a word with a slash in it is one alternation.
        alternatives = [option.split() for option in re.sub("[{}]", " ", text).split("/") if option.split()]
        return [alternatives] if len(alternatives) > 1 else [word for words in alternatives for word in words]

    found = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        # Kaldi (egs/swbd/s5c/local/score.sh) mends these in the STM of Hub5'00 too.
        text = re.sub("<[BE]_ASIDE>", " ", reference.upper()).replace("((", "(")
        if re.search("[()]", re.sub(r"\([^()]*\)", "", text)):
            raise UserError(f"reference {reference.strip()!r}: its parentheses do not match")
        items = _items(_filter(f" {' '.join(text.split())} ", glm.reference), reference)
        words = [item for word in hypothesis.split() for item in said(word)]
        found.append(_align(*_network(items), *_network(words)))
    _, *counts = np.array(found, dtype=np.int64).T
    return ErrorRate(*counts, speakers)


def _filter(text: str, rules: Rules) -> str:
    """What csrfilt.sh makes of a text between spaces."""
    text = rules.apply(f" {text.upper().replace('(', '( ').replace(')', ' )')} ")
    text, again = HYPHEN.sub(r"\1 ", text), True
    while again:
        text, again = SECOND_OPTIONAL.subn(r"\1) ( \2", text)
    return re.sub(r"\s+\)", ")", re.sub(r"\(\s+", "(", text)).upper()


def _items(text: str, reference: str) -> list:
    """Words and alternations `{A / B C}`: a word is a string, an alternation a list of such lists as this one."""
    if re.search(r"\([^()]*[{}]", text):  # sclite crashes
        raise UserError(f"reference {reference.strip()!r}: the GLM puts an alternation in parentheses")
    stack = [[[]]]
    for token in re.findall(r"[{}]|[^\s{}]+", text):
        if token == "{" and len(stack) > DEEPEST:
            raise UserError(f"reference {reference.strip()!r}: its braces are nested deeper than {DEEPEST} levels")
        elif token == "{":
            stack.append([[]])
        elif token == "}" and len(stack) > 1:
            alternatives = [option for option in stack.pop() if option]
            stack[-1][-1] += [alternatives] if alternatives else []
        elif len(stack) == 1:
            stack[-1][-1].append(token)
        else:
            for number, word in enumerate(token.split("/")):
                stack[-1] += [[]] if number else []
                stack[-1][-1] += [word] if word else []
    if len(stack) > 1 or "}" in stack[0][0]:
        raise UserError(f"reference {reference.strip()!r}: its braces do not match after the GLM")
    return stack[0][0]


@dataclass(frozen=True)
class Word:
    """A word as sclite compares it, and the steps for it when it has no partner."""

    text: str
    fragment: bool
    deletion: tuple[int, ...]
    insertion: tuple[int, ...]


@functools.lru_cache(100_000)
def _word(token: str) -> Word:
    if token == "@":
        return Word("@", False, NULL, NULL)
    if token[0] == "(" and token[-1] == ")":
        return Word(token[1:-1], token[-2] == "-", OPTIONAL, OPTIONAL)
    return Word(token, "-" in (token[0], token[-1]), DELETION, INSERTION)


def _same(one: Word, two: Word) -> bool:
    """Whether sclite takes one word for the other: a fragment, `I-` or `-ING`, stands for any word it may be of."""
    if one.fragment or two.fragment:
        for part, whole in ((one.text, two.text), (two.text, one.text)):
            if part[:1] == "-" and len(part) > 1:
                return whole.endswith(part[1:])
            if part[-1:] == "-" and len(part) > 1:
                return whole.startswith(part[:-1])
    return one.text == two.text != "@"


def _network(items: list) -> tuple[list[tuple[Word | None, list[int]]], list[int]]:
    """Arcs in topological order, each a word and the arcs before it, from an empty one on; and the last arcs."""
    arcs = [(None, [])]

    def extend(items: list, ends: list[int]) -> list[int]:
        for item in items:
            if isinstance(item, str):
                arcs.append((_word(item), ends))
                ends = [len(arcs) - 1]
            else:
                ends = [end for option in item for end in extend(option, ends)]
        return ends

    return arcs, extend(items, [0])


def _align(reference: list, reference_ends: list[int], hypothesis: list, hypothesis_ends: list[int]) -> tuple[int, ...]:
    """Sum of the steps of the alignment that sclite takes of two networks (net_dp.c).

    `min` keeps the first of equals, so the order counts: substitution, insertion, deletion; alternatives as written.
    """
    cost, cells = itemgetter(0), []
    for spoken, rows in reference:
        row = []
        for heard, columns in hypothesis:
            ways = []
            if spoken and heard:  # never two null words: to skip both is cheaper
                before = min((cells[i][j] for i in rows for j in columns), key=cost)
                ways.append(tuple(map(add, before, SAME if _same(spoken, heard) else SUBSTITUTION)))
            if heard:
                ways.append(tuple(map(add, min((row[j] for j in columns), key=cost), heard.insertion)))
            if spoken:
                ways.append(tuple(map(add, min((cells[i][len(row)] for i in rows), key=cost), spoken.deletion)))
            row.append(min(ways, key=cost, default=START))
        cells.append(row)
    return min((cells[i][j] for i in reference_ends for j in hypothesis_ends), key=cost)
