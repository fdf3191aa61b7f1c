"""Intervals and paired tests: against an independent implementation, and on cases where the truth is known."""

import csv
import random

import kaldialign
import numpy as np
import pytest

from conftest import run_script
from rnnt import files
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, significance


def hypotheses(rate, utterances=300, speakers=30, seed=0):
    """Utterances of 12 words with errors at this rate; some speakers are harder than others."""
    draw = random.Random(seed)
    words = [f"w{n}" for n in range(50)]
    rows = []
    for n in range(utterances):
        speaker = n % speakers
        reference = random.Random(n).choices(words, k=12)
        wrong = rate * (0.5 + speaker / speakers)
        rows.append({
            "id": str(n), "speaker": f"s{speaker}", "text": " ".join(reference),
            "pred_text": " ".join("x" if draw.random() < wrong else word for word in reference),
        })  # fmt: skip
    return rows


def errors(substitutions, words):
    return error_rate.ErrorRate(substitutions, 0 * words, 0 * words, words)


def test_the_interval_is_kaldialign_s():
    rows = hypotheses(0.2)
    found = significance.interval(error_rate.of(rows), np.arange(len(rows)), samples=5000)
    pairs = [[row[key].split() for row in rows] for key in ("text", "pred_text")]
    theirs = kaldialign.bootstrap_wer_ci(*pairs, replications=5000)
    assert found[0] == pytest.approx(100 * theirs["ci95min"], abs=0.25)
    assert found[1] == pytest.approx(100 * theirs["ci95max"], abs=0.25)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """200 test sets whose errors are independent, at a rate of 20 %."""
    random_ = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        words = np.full(100, 10)
        low, high = significance.interval(
            errors(random_.binomial(10, 0.2, 100), words), np.arange(100), 300
        )
        covered += low <= 20 <= high
    assert 180 <= covered <= 199


def test_speakers_widen_the_interval_where_they_differ():
    rows = hypotheses(0.3, speakers=10)
    found = error_rate.of(rows)
    block, kind = significance.blocks(error_rate.of(rows))
    assert kind == "speakers" and len(set(block)) == 10
    wide, narrow = (np.diff(significance.interval(found, b))[0] for b in (block, np.arange(len(rows))))
    assert wide > 1.3 * narrow


def test_few_or_unknown_speakers_leave_utterances():
    assert significance.blocks(error_rate.of(hypotheses(0.1, speakers=4)))[1] == "utterances"
    rows = hypotheses(0.1)
    del rows[7]["speaker"]
    assert significance.blocks(error_rate.of(rows))[1] == "utterances"


def test_a_real_difference_is_found_and_none_is_not():
    worse, better, same = hypotheses(0.3, seed=1), hypotheses(0.2, seed=2), hypotheses(0.3, seed=3)
    block = significance.blocks(error_rate.of(worse))[0]
    counts = [error_rate.of(rows) for rows in (worse, better, same)]
    found = significance.compare(counts[0], counts[1], block)
    assert found.difference < 0 and found.high < 0 and found.p_value < 0.01
    assert found.low < found.difference < found.high
    none = significance.compare(counts[0], counts[2], block)
    assert none.low < 0 < none.high and none.p_value > 0.05
    assert significance.compare(counts[0], counts[0], block) == (0.0, 0.0, 0.0, 1.0)


def test_the_same_seed_gives_the_same_figures():
    found, block = error_rate.of(hypotheses(0.2)), np.arange(300)
    assert significance.interval(found, block) == significance.interval(found, block)
    assert significance.interval(found, block) != significance.interval(found, block, seed=2)


def test_systems_with_other_references_are_not_compared():
    a, b = (errors(np.array([1, 0]), np.array(words)) for words in ([5, 5], [5, 6]))
    with pytest.raises(UserError, match="on the same references alone"):
        significance.compare(a, b, np.arange(2))


def test_every_pair_that_means_something_is_compared(tmp_path):
    """Two data sets that share a test set, one of them pretrained."""
    paths = []
    for name, rate in (("one/evaluation/leg_0/beam", 0.4), ("one/evaluation/leg_3/greedy", 0.25),
                       ("one/evaluation/leg_3/beam", 0.2), ("two/evaluation/leg_2/beam", 0.3)):  # fmt: skip
        paths.append(tmp_path / name / "test.jsonl")
        files.write_jsonl(paths[-1], hypotheses(rate, seed=len(paths)))
    done = run_script("make_comparisons", "--hypotheses", *paths, "--output", tmp_path / "c.csv")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "c.csv", newline="") as file:
        assert file.readline() == "dataset,split,a,b,wer_a,wer_b,difference,low,high,p_value,resampled,samples\n"
        assert file.readline().startswith("one,test,zero-shot,beam,39.31,18.83,-20.47,-")
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert [(row["a"], row["b"]) for row in rows] == [
        ("zero-shot", "beam"), ("greedy", "beam"), ("one test beam", "two test beam"),
    ]  # fmt: skip
    assert all(row["resampled"] == "speakers" and row["samples"] == "1000" for row in rows)
    for row in rows:
        assert float(row["wer_b"]) - float(row["wer_a"]) == pytest.approx(float(row["difference"]), abs=0.011)
    other = tmp_path / "old/one/evaluation/leg_1/beam/test.jsonl"
    files.write_jsonl(other, hypotheses(0.3, seed=9))
    done = run_script("make_comparisons", "--hypotheses", paths[2], other, "--output", tmp_path / "runs.csv")
    assert f"{tmp_path}/old/one test beam against {tmp_path}/one test beam: 1" in done.stderr, done.stderr
    files.write_jsonl(other, files.read_jsonl(other)[1:])
    done = run_script("make_comparisons", "--hypotheses", paths[2], other, "--output", tmp_path / "runs.csv")
    assert "no two of these files are of one test set and search" in done.stderr
    files.write_jsonl(other, [{"id": "a", "text": "one"}])
    for wrong, message in ((other, "utterance a: no `text` or `pred_text`: `snakemake --forcerun transcribe_split`"),
                           (tmp_path / "c.csv", "expected RUN/DATASET/evaluation/LEG")):  # fmt: skip
        done = run_script("make_comparisons", "--hypotheses", wrong, "--output", tmp_path / "runs.csv")
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert float(rows[0]["difference"]) < -15 and float(rows[0]["p_value"]) < 0.01
