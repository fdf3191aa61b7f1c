"""What each part of a recipe brings: rows, signs, seeds and the figure."""

import csv
import random

import pytest

from conftest import run_script
from rnnt import files

WORDS = [f"w{n}" for n in range(40)]


def decoded(folder, place, rates, split="test", search="beam"):
    """Hypotheses of a data set with about so many errors, of a seed for each rate, in folders as results/ has them."""
    paths = []
    for n, rate in enumerate(rates):
        draw, rows = random.Random(f"{place} {n}"), []
        for number in range(120):
            reference = random.Random(number).choices(WORDS, k=10)
            rows.append({
                "id": f"{number:03}", "text": " ".join(reference), "speaker": f"s{number % 12}",
                "pred_text": " ".join("x" if draw.random() < rate else word for word in reference),
            })  # fmt: skip
        seed = f"seed_{n + 1}/" if n else ""
        paths.append(folder / f"{place}/{seed}evaluation/leg_3/{search}/{split}.jsonl")
        files.write_jsonl(paths[-1], draw.sample(rows, len(rows)))
    return paths


def ablation(folder, recipe, without):
    """The rows of make_ablation.py by name, split and search, and what it says."""
    output = folder / "ablation.csv"
    done = run_script("make_ablation", "--recipe", *recipe, "--without", *without, "--output", output)
    assert done.returncode == 0, done.stderr
    with open(output, newline="") as file:
        return {(row["name"], row["split"], row["search"]): row for row in csv.DictReader(file)}, done.stderr


def test_what_a_part_brings_is_the_wer_without_it_minus_that_with_it_over_all_seeds(tmp_path):
    recipe = decoded(tmp_path, "digits", [0.1, 0.12]) + decoded(tmp_path, "digits", [0.3, 0.3], "validation", "greedy")
    without = decoded(tmp_path, "digits-without-ctc", [0.28, 0.3]) + decoded(
        tmp_path, "digits-without-gain", [0.1, 0.12]
    )
    without += decoded(tmp_path, "digits-without-ctc", [0.1, 0.1], "validation", "greedy")
    rows, said = ablation(tmp_path, recipe, without)
    assert list(rows) == [("ctc", "test", "beam"), ("gain", "test", "beam"), ("ctc", "validation", "greedy")]
    for row in rows.values():
        assert (row["dataset"], row["seeds"]) == ("digits", "2")
        assert float(row["wer_without"]) - float(row["wer"]) == pytest.approx(float(row["difference"]), abs=0.011)
        assert "12 speakers, mean of 2 seeds against mean of 2 seeds" in row["interval_by"]
    ctc, gain, validation = rows.values()
    assert abs(float(ctc["wer"]) - 11) < 2 and abs(float(ctc["wer_without"]) - 29) < 3
    assert float(ctc["low"]) > 0 and float(ctc["p_value"]) < 0.05
    assert float(gain["low"]) < 0 < float(gain["high"]) and float(gain["p_value"]) > 0.05
    assert float(validation["difference"]) < -15 and float(validation["high"]) < 0
    assert "one seed each" not in said and "test, beam: " in said
    svg = (tmp_path / "ablation.svg").read_text()
    assert f"without ctc: test, beam:  +{ctc['difference']}" in svg and (tmp_path / "ablation.png").stat().st_size


def test_one_seed_is_told_and_other_references_are_no_comparison(tmp_path):
    recipe = decoded(tmp_path, "digits", [0.1])
    without = decoded(tmp_path, "digits-without-ctc", [0.2])
    rows, said = ablation(tmp_path, recipe, without)
    assert rows["ctc", "test", "beam"]["interval_by"] == "12 speakers" and "one seed each" in said
    files.write_jsonl(without[0], files.read_jsonl(without[0])[1:])
    output = ("--output", tmp_path / "a.csv")
    done = run_script("make_ablation", "--recipe", *recipe, "--without", *without, *output)
    assert done.returncode == 1 and "the same references alone" in done.stderr and "Traceback" not in done.stderr
