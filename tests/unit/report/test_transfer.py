"""Every model on every test set: the rows, who is best, and what is not scored."""

import csv
import random

from conftest import run_script
from rnnt import files

WORDS = [f"w{n}" for n in range(40)]


def decoded(path, rate, seed, speakers=8, utterances=80):
    """Hypotheses with about so many errors, and their metrics beside."""
    draw, rows = random.Random(seed), []
    for n in range(utterances):
        reference = random.Random(n).choices(WORDS, k=10)
        rows.append({
            "id": f"{n:02}", "text": " ".join(reference), "speaker": f"s{n % speakers}",
            "pred_text": " ".join("x" if draw.random() < rate else word for word in reference),
        })  # fmt: skip
    files.write_jsonl(path, rows)
    files.write_sealed(path.with_suffix(".json"), {"wer": 1.0, "wer_normalized": 100 * rate})
    return path


def transfer(folder, rates, *options):
    """Run make_transfer.py on two models, `ant` of two seeds, each on both test sets; returns the rows by both."""
    own, foreign = [], []
    for (model, tested), rate in rates.items():
        for n, seed in enumerate(["", "seed_2/"] if model == "ant" else [""]):
            if model == tested:
                own.append(decoded(folder / f"{model}/{seed}evaluation/leg_3/beam/test.jsonl", rate, n))
            else:
                foreign.append(decoded(folder / f"{model}/{seed}transfer/{tested}/test.jsonl", rate, 5 + n))
    overlaps = ("--overlap", folder / "ant/transfer/overlap.json", folder / "bee/transfer/overlap.json")
    arguments = ("--own", *own, "--foreign", *foreign, *overlaps, "--output", folder / "transfer.csv", *options)
    done = run_script("make_transfer", *arguments)
    assert done.returncode == 0, done.stderr
    with open(folder / "transfer.csv", newline="") as file:
        return {(row["trained_on"], row["dataset"]): row for row in csv.DictReader(file)}, done.stderr


def test_a_model_that_is_better_than_all_others_by_more_than_the_interval_is_marked(tmp_path):
    nothing = {"by_sound": True, "pairs": []}
    for name in ("ant", "bee"):
        files.write_json(tmp_path / f"{name}/transfer/overlap.json", nothing)
    rates = {("ant", "ant"): 0.1, ("bee", "ant"): 0.5, ("ant", "bee"): 0.3, ("bee", "bee"): 0.3}
    rows, _ = transfer(tmp_path, rates)
    assert list(rows) == [("ant", "ant"), ("bee", "ant"), ("ant", "bee"), ("bee", "bee")]
    assert [row["best"] for row in rows.values()] == ["yes", "", "", ""], "and of two that are alike none"
    assert [row["seeds"] for row in rows.values()] == ["2", "1", "2", "1"]
    for (model, tested), row in rows.items():
        assert abs(float(row["wer_beam"]) - 100 * rates[model, tested]) < 6
        assert float(row["wer_beam_low"]) < float(row["wer_beam"]) < float(row["wer_beam_high"])
        assert float(row["wer_beam_normalized"]) == 100 * rates[model, tested]


def test_a_model_that_has_learned_from_a_test_set_is_not_scored_on_it_unless_that_is_allowed(tmp_path):
    nobody = {"names": [], "utterances": 0, "share_of_utterances": 0.0}
    texts = {"utterances": 0, "share_of_utterances": 0.0, "share_of_words": 0.0, "ids": []}
    pair = {
        "splits": ["train_bee/train", "test_ant/test"],
        "recordings": [["a", "b", "file"]],
        "texts": texts,
        "speakers": nobody,
    }
    files.write_json(tmp_path / "ant/transfer/overlap.json", {"by_sound": True, "pairs": []})
    files.write_json(tmp_path / "bee/transfer/overlap.json", {"by_sound": True, "pairs": [pair]})
    rates = {("ant", "ant"): 0.5, ("bee", "ant"): 0.1, ("ant", "bee"): 0.5, ("bee", "bee"): 0.3}
    rows, said = transfer(tmp_path, rates)
    told = "not scored: 1 of its recordings is in train_bee/train"
    assert rows["bee", "ant"]["remark"] == told and rows["bee", "ant"]["wer_beam"] == "" and told in said
    rows, _ = transfer(tmp_path, rates, "--allow-overlap", "bee")
    assert rows["bee", "ant"]["remark"] == "" and rows["bee", "ant"]["best"] == "yes"
