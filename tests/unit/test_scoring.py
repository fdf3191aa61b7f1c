"""Scores and the table: corpus level, from files alone."""

import csv
import io
import json
import random

import kaldialign
import pytest

from conftest import run_script
from rnnt import files, scoring, table
from rnnt.errors import UserError

DECODING = {
    "strategy": "malsd_batch",
    "beam_size": 4,
    "decoding_seconds": 2.0,
    "checkpoint": {"model": "m", "step": 7},
    "versions": {"code": "abc"},
}


def rows(*pairs):
    return [{"id": str(i), "text": r, "pred_text": h, "duration": 3.0} for i, (r, h) in enumerate(pairs)]


def test_wer_is_over_the_corpus_not_the_mean_of_utterances():
    found = scoring.score(rows(("a b c d e f g h i j", "a b c d e f g h i j"), ("k", "x")), DECODING)
    assert found["wer"] == pytest.approx(100 / 11, abs=1e-4)
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (1, 0, 0)
    assert (found["reference_words"], found["utterances"]) == (11, 2)
    assert found["rtfx"] == 3.0
    assert found["hours"] == round(6 / 3600, 4)


def test_every_kind_of_error_is_counted_and_wer_can_exceed_100():
    found = scoring.score(rows(("one two", "one"), ("three", "tree"), ("", "four five")), DECODING)
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (1, 1, 2)
    assert found["wer"] == pytest.approx(400 / 3, abs=1e-4)


def test_cer_counts_characters_with_spaces():
    found = scoring.score(rows(("abc def", "abd def")), DECODING)
    assert found["cer"] == pytest.approx(100 / 7, abs=1e-4)
    assert found["reference_characters"] == 7


def test_normalised_wer_stands_beside_the_orthographic_one():
    found = scoring.score(rows(("Mr. Brown's colour, okay?", "mister brown's color okay")), DECODING)
    assert found["wer"] == 100.0
    assert found["wer_normalized"] == 0.0


def test_the_counts_agree_with_kaldialign_on_awkward_pairs():
    draw = random.Random(3)
    words = ["a", "b", "ä", "it's", "東京", "b", "é"]
    pairs = [tuple(" ".join(draw.choices(words, k=draw.randint(0, 6))) for _ in range(2)) for _ in range(2000)]
    ours = scoring.error_counts(*map(list, zip(*pairs, strict=True)))
    theirs = [kaldialign.edit_distance(r.split(), h.split()) for r, h in pairs]
    errors = ours["substitutions"] + ours["deletions"] + ours["insertions"]
    assert errors == sum(found["total"] for found in theirs)
    assert ours["insertions"] - ours["deletions"] == sum(found["ins"] - found["del"] for found in theirs)
    assert ours["reference"] == sum(len(r.split()) for r, _ in pairs)


def test_hypotheses_without_text_or_references_without_words_are_errors():
    with pytest.raises(UserError, match="utterance 0: no `pred_text`"):
        scoring.score([{"id": "0", "text": "a", "duration": 1.0}], DECODING)
    with pytest.raises(UserError, match="not one reference word"):
        scoring.score(rows(("", "a")), DECODING)


def test_scoring_needs_files_alone_and_never_torch(tmp_path):
    files.write_jsonl(tmp_path / "test.jsonl", rows(("one two", "one too")))
    files.write_json(tmp_path / "test.decoding.json", DECODING)
    done = run_script(
        "score_hypotheses",
        "--hypotheses",
        tmp_path / "test.jsonl",
        "--decoding",
        tmp_path / "test.decoding.json",
        "--output",
        tmp_path / "test.json",
    )
    assert done.returncode == 0, done.stderr
    assert "WER 50.00 %" in done.stderr
    assert json.loads((tmp_path / "test.json").read_text())["wer"] == 50.0


def test_a_truncated_file_of_hypotheses_is_named_with_its_line(tmp_path):
    files.write_jsonl(tmp_path / "test.jsonl", rows(("one", "one"), ("two", "two")))
    whole = (tmp_path / "test.jsonl").read_text()
    (tmp_path / "test.jsonl").write_text(whole[:-20])
    files.write_json(tmp_path / "d.json", DECODING)
    done = run_script(
        "score_hypotheses", "--hypotheses", tmp_path / "test.jsonl", "--decoding", tmp_path / "d.json", "--output", "x"
    )
    assert done.returncode == 1
    assert "test.jsonl:2: expected one JSON object a line" in done.stderr and "Traceback" not in done.stderr


def metrics(wer):
    return {**scoring.score(rows(("a b c", "a b x")), DECODING), "wer": wer}


def test_the_table_is_sorted_with_two_decimals_and_empty_where_there_is_no_value():
    lines = [
        table.row("zoo", "test", metrics(12.345), metrics(10)),
        table.row("ant", "test_b", metrics(1), metrics(0.5)),
    ]
    text = table.as_csv(lines)
    found = list(csv.DictReader(io.StringIO(text)))
    assert text.startswith("dataset,split,utterances,hours,reference_words,wer_zero_shot,wer_greedy,wer_beam,")
    assert [row["dataset"] for row in found] == ["ant", "zoo"]
    assert found[1]["wer_greedy"] == "12.35" and found[1]["wer_beam"] == "10.00"
    assert found[1]["wer_zero_shot"] == "" and found[1]["beam_size"] == "4" and found[1]["train_steps"] == "7"


def test_the_markdown_table_holds_the_same_cells():
    lines = [table.row("ant", "test", metrics(1), metrics(0.5))]
    heading, rule, row = table.as_markdown(lines).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == next(csv.reader(io.StringIO(table.as_csv(lines).splitlines()[1])))
    assert heading.count("|") == rule.count("|") == row.count("|") == len(table.COLUMNS) + 1
