"""Transcript cleaning: the examples that stand beside the rules, and what holds for every text."""

import pytest

from rnnt import transcripts


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [(rule, *example) for rule in transcripts.RULES for example in rule.examples.items()],
    ids=lambda value: value.name if isinstance(value, transcripts.Rule) else None,
)
def test_a_rule_does_what_its_examples_say(rule, before, after):
    assert rule.apply(before) == after


def test_case_is_lowered_or_kept():
    assert transcripts.clean("  The Café\n", "lower") == "the café"
    assert transcripts.clean("The Café", "keep") == "The Café"


def test_composed_and_decomposed_letters_become_the_same_text():
    assert transcripts.clean("cafe\u0301", "keep") == transcripts.clean("caf\u00e9", "keep")


def test_cleaning_twice_changes_nothing_more():
    text = transcripts.clean("\ufeff It 's\u200b  A\u00a0Test — of “things” ", "lower")
    assert transcripts.clean(text, "lower") == text
