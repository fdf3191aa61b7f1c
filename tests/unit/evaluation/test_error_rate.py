"""What is counted: errors and reference words of each utterance."""

import numpy as np
import pytest

from rnnt.errors import UserError
from rnnt.evaluation import error_rate


def test_every_utterance_has_its_errors_and_words():
    rows = [
        {"text": "one two three", "pred_text": "one too", "speaker": "ann"},
        {"text": "", "pred_text": "four", "speaker": "bob"},
        {"text": "five", "pred_text": "five", "speaker": "ann"},
    ]
    found = error_rate.of(rows)
    counts = (found.substitutions, found.deletions, found.insertions, found.errors, found.words)
    assert [each.tolist() for each in counts] == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [2, 1, 0], [3, 0, 1]]
    assert found.percent == 75.0 and found.speakers == ("ann", "bob", "ann")
    some = found[np.array([0, 2])]
    assert (some.percent, some.speakers, some.words.tolist()) == (50.0, ("ann", "ann"), [3, 1])
    assert error_rate.of([*rows, {"text": "six", "pred_text": "six"}]).speakers == (), "one is not known"


def test_a_rate_of_no_words_is_refused():
    with pytest.raises(UserError, match="not one reference word"):
        _ = error_rate.count(["", ""], ["a", ""]).percent


def test_only_the_same_words_of_the_same_speakers_are_compared():
    def rate(text, speaker):
        return error_rate.count([text, "three"], ["one", "three"], (speaker, "bob"))

    assert rate("one two", "ann").minus(rate("one two", "ann")).difference == 0
    for other in (rate("one two three", "ann"), rate("one two", "cyd")):
        with pytest.raises(UserError, match="on the same references alone"):
            rate("one two", "ann").minus(other)
