"""An n-gram of the training text, from the transcripts to the table: the real rules on a tiny configuration."""

import experiments
from rnnt import files

CONFIG = """
datasets:
  digits:
    source: {type: local, path: recordings}
    splits: {train: train, validation: validation, test: test}
    max_steps: 4
  own:
    source: {type: local, path: recordings}
    splits: {train: train, validation: validation, test: test}
    max_steps: 4
    training: {seeds: [1, 2]}
    evaluation: {transfer: true, beam: {lm: auto, lm_text: words.txt, lm_order: 3}}
model: {architecture: contextnet_dummy}
tokenizer: {vocab_size: 24}
training: {batch_budget: 16, warmup_steps: 1}
evaluation: {legs: 1, suspects: false, beam: {beam_size: 2}}
"""


def test_it_is_made_weighed_on_validation_and_searched_with(tmp_path, speech, warm):
    folder = experiments.check_out(tmp_path / "checkout")
    (folder / "recordings").symlink_to(speech)
    (folder / "words.txt").write_text("ONE two\nthree four five\n" * 20)
    (folder / "small.yaml").write_text(CONFIG)

    def run(*more, target="results/wer_table.csv"):
        names = [f"more_{number}.yaml" for number, _ in enumerate(more)]
        for name, text in zip(names, more, strict=True):
            (folder / name).write_text(text)
        configfiles = ["small.yaml", *names]
        done = experiments.snakemake(folder, warm, "--cores", "2", target, "results/own/model", configfiles=configfiles)
        assert done.returncode == 0, done.stdout + done.stderr
        experiments.assert_complete(folder, experiments.read(folder, *configfiles))
        return done.stdout + done.stderr

    run(target="all")
    own = folder / "results/own"
    about = files.read_json(own / "language_model/ngram.json")
    assert (about["text"], about["sentences"], about["order"]) == ("words.txt", 40, 3)
    weights = []
    for place in (own, own / "seed_2"):
        found = files.read_json(place / "language_model/weight.json")
        assert found["split"] == "validation" and len(found["curve"]) == 13
        weights.append(found["lm_weight"])
        for path in ("evaluation/leg_1/beam/test", "transfer/digits/test"):
            decoding = files.read_json(place / f"{path}.decoding.json")
            assert (decoding["lm"], decoding["lm_weight"]) == ("ngram.arpa", found["lm_weight"])
            assert decoding["lm_sha256"] == files.sha256(own / "language_model/ngram.arpa")
        assert "lm" not in files.read_json(place / "evaluation/leg_1/beam_without_lm/test.decoding.json")
    rows = experiments.table(folder)
    assert rows["own", "test"]["beam_lm"] == f"ngram.arpa x {sum(weights) / 2:g}"
    assert rows["own", "test"]["wer_beam_without_lm"] and not rows["digits", "test"]["wer_beam_without_lm"]
    compared = [(row["dataset"], row["a"]) for row in experiments.of_csv(folder / "results/comparisons.csv")]
    assert ("own", "beam_without_lm") in compared and ("digits", "beam_without_lm") not in compared
    assert "% without the language model" in (folder / "results/wer_table.md").read_text()
    assert "% without the language model" in (own / "model/README.md").read_text()
    assert not (folder / "results/digits/language_model").exists()

    weighted = run("datasets: {own: {evaluation: {beam: {lm_weight: 1.5}}}}")
    assert "rule train" not in weighted and "build_language_model" not in weighted
    assert experiments.table(folder)["own", "test"]["beam_lm"] == "ngram.arpa x 1.5"
