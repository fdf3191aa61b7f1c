"""Scores and the table: corpus level, from files alone."""

import csv
import io
import random
import re
import subprocess
from pathlib import Path

import kaldialign
import pytest

from conftest import run_script
from rnnt import files
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, over_seeds, scoring
from rnnt.report import table

DECODING = {
    "strategy": "malsd_batch",
    "beam_size": 4,
    "decoding_seconds": 2.0,
    "checkpoint": {"model": "m", "step": 7, "code_version": "abc"},
    "versions": {"code": "abc"},
}


def rows(*pairs):
    made = {"duration": 3.0, "audio_filepath": "x.wav"}
    return [{"id": str(i), "text": r, "pred_text": h, **made} for i, (r, h) in enumerate(pairs)]


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


def test_the_table_rounds_once():
    """5 of 565 words are 0.88496 %: rounded to four decimals and then to two it would be 0.89."""
    found = scoring.score(rows((" ".join(["a"] * 565), " ".join(["a"] * 560))), DECODING)
    assert table.row("d", "test", found, found, None)["wer_beam"] == "0.88"


def test_cer_counts_characters_with_spaces():
    found = scoring.score(rows(("abc def", "abd def")), DECODING)
    assert found["cer"] == pytest.approx(100 / 7, abs=1e-4)
    assert found["reference_characters"] == 7


def test_normalised_wer_stands_beside_the_orthographic_one():
    found = scoring.score(rows(("Mr. Brown's colour, okay?", "mister brown's color okay")), DECODING)
    assert found["wer"] == 100.0
    assert found["wer_normalized"] == 0.0


def test_a_text_has_the_same_words_whether_it_is_normalised_whole_or_in_pieces():
    numbers = sorted(scoring.normalizer().standardize_numbers.words)
    plain = "the house went over green hill with many people asked her colour why not really".split()
    awkward = (
        "um uh hmm 's 'd 'll been gone done got half a and let's let she's i'd won't y'all gonna mr dr st . , - % $ £ "
        "¢ $5 5% 3.14 1,000 20th 1960s $2 ¢7 ' '' café naïve x-ray (noise) <unk> ( ) [ ] grey organise 0 00 1 1s "
        "a.b.c o'clock 'twas ½ ² ℃ \u00a0 jr half"
    ).split(" ")
    awkward += ["and a half", "two and a half", "she's got"]
    whole = scoring.normalizer()
    for seed in range(3000):
        draw = random.Random(seed)
        share = draw.choice([0.2, 0.5, 0.8])
        words = [
            draw.choice(plain if draw.random() < share else numbers if draw.random() < 0.5 else awkward)
            for _ in range(draw.randint(0, 14))
        ]
        text = " ".join(words)
        assert scoring.normalize(text).split(" ") == (whole(text).split() or [""]), text


HINDI = rows(("मैं किताब पढ़ता हूँ", "मं कताब पढत ह"), ("वह कल आएगी", "वह कल आएग"), ("पानी दो", "पन द"))


def test_the_vowel_signs_of_hindi_count_after_the_normaliser_too():
    found = scoring.score(HINDI, DECODING, language="hi-IN")
    assert found["wer"] == found["wer_normalized"] == pytest.approx(700 / 9, abs=1e-4)
    assert "not_normalized" not in found


@pytest.mark.parametrize(
    ("language", "text", "normal"),
    [
        ("hi", "शब्द (शोर) है। [noise]", "शब्द है"),
        ("he", "שָׁלוֹם, עולם", "שָׁלוֹם עולם"),
        ("fa", "می\u200cخواهم؟", "می\u200cخواهم"),
        ("vi", "Tie\u0302\u0301ng Việt!", "tiếng việt"),
        ("tr", "İSTANBUL, IŞIK.", "istanbul ışık"),
        ("fr", "L’homme, d'État", "l homme d état"),
        ("de", "Um, äh: Straße", "um äh straße"),
        ("ko", "한국, 말", "한국 말"),
        ("EN-gb", "Um, the colour isn't", "the color is not"),
    ],
)
def test_the_normaliser_is_that_of_the_language(language, text, normal):
    assert scoring.normalize(text, language) == normal


@pytest.mark.parametrize(
    ("pairs", "language", "reason"),
    [
        (
            [("um", "um"), ("uh mhm", "uh")],
            "en",
            "Whisper's English text normaliser leaves not one word of the references",
        ),
        ([("...", "a")], "fr", "Whisper's basic text normaliser leaves not one word of the references"),
        ([("東京の空。青い", "東京の空。青い")], "ja", "ja is written without spaces between words"),
        ([("ประเทศไทย", "ประเทศ")], "th-TH", "two spaces: read cer_beam"),
        ([("你好 世界", "你好 世界")], "zh-Hans", "zh-Hans is written without spaces"),
        ([(row["text"], row["pred_text"]) for row in HINDI], "en", "text.language is en, and most letters"),
    ],
)
def test_where_no_normaliser_is_right_the_column_is_empty_and_a_note_says_why(tmp_path, pairs, language, reason):
    found = scoring.score(rows(*pairs), DECODING, language=language)
    assert found["wer_normalized"] is None and found["wer"] is not None and reason in found["not_normalized"]
    for search in ("greedy", "beam"):
        files.write_sealed(tmp_path / f"results/d/evaluation/leg_1/{search}/test.json", found)
    paths = [tmp_path / f"results/d/evaluation/leg_1/{search}/test.json" for search in ("greedy", "beam")]
    done = run_script(
        "make_wer_table", "--greedy", paths[0], "--beam", paths[1],
        "--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    note = f"d test: wer_beam_normalized is empty: {found['not_normalized']}"
    assert f"\n- {note}\n" in (tmp_path / "t.md").read_text() and note in " ".join(done.stderr.split())
    assert table.load(tmp_path / "t.csv")[0]["wer_beam_normalized"] == ""


def test_pinyin_has_words_and_an_utterance_of_fillers_alone_counts_what_was_inserted():
    assert scoring.score(rows(("ni hao", "ni hao")), DECODING, language="zh-Latn-pinyin")["wer_normalized"] == 0
    assert scoring.score(rows(("um", "yes no"), ("black cat", "black cat")), DECODING)["wer_normalized"] == 100


def test_switchboard_is_also_scored_as_sclite_does_it(tmp_path):
    (tmp_path / "hub5.glm").write_text(";; a\nUM => %HESITATION / [ ] __ [ ]\nI'M => {I'M / I AM} / [ ] __ [ ]\n")
    found = rows(("i'm here", "i am here um"))
    for row in found:
        row["stm"] = "I'M (%HESITATION) (WH-) HERE (%HESITATION)"
    scored = scoring.score(found, DECODING, mapping=tmp_path / "hub5.glm")
    assert scored["wer"] == 150.0 and scored["wer_glm"] == 0.0
    assert (scored["wer_glm_low"], scored["wer_glm_high"]) == (None, None), "one utterance"
    several = scoring.score(found * 4, DECODING, mapping=tmp_path / "hub5.glm")
    assert several["wer_glm_low"] == 0 < several["wer_glm_high"] < 100
    assert scored["glm_sha256"] == files.sha256(tmp_path / "hub5.glm")
    assert "wer_glm" not in scoring.score(found, DECODING)
    del found[0]["stm"]
    assert "wer_glm" not in scoring.score(found, DECODING, mapping=tmp_path / "hub5.glm")


def test_the_script_takes_a_mapping_file_and_a_language(tmp_path):
    (tmp_path / "hub5.glm").write_text(";; a\nUM => %HESITATION / [ ] __ [ ]\n")
    found = [{**row, "stm": "(%HESITATION) ONE"} for row in rows(("one", "um one"))]
    files.write_jsonl(tmp_path / "h.jsonl", found)
    files.write_jsonl(tmp_path / "m.jsonl", [{k: v for k, v in row.items() if k != "pred_text"} for row in found])
    files.write_json(tmp_path / "d.json", {**DECODING, "hypotheses_sha256": files.sha256(tmp_path / "h.jsonl")})
    done = run_script(
        "score_hypotheses", "--hypotheses", tmp_path / "h.jsonl", "--manifest", tmp_path / "m.jsonl",
        "--decoding", tmp_path / "d.json", "--output", tmp_path / "s.json", "--glm", tmp_path / "hub5.glm",
        "--language", "zh",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scored = files.read_sealed(tmp_path / "s.json")
    assert (scored["wer"], scored["wer_glm"]) == (100.0, 0.0)
    assert scored["wer_normalized"] is None
    assert table.row("d", "test", scored, scored, None)["wer_glm"] == "0.00"


def test_texts_that_were_trained_on_are_left_out_of_a_second_word_error_rate():
    pairs = rows(("one two", "one too"), ("three", "three"), ("four five six", "six"))
    found = scoring.score(pairs, DECODING, seen={"1"})
    assert (found["wer"], found["wer_unseen_text"], found["utterances_unseen_text"]) == (50.0, 60.0, 2)
    assert table.row("d", "test", found, found, None)["wer_unseen_text"] == "60.00"
    for seen in (set(), {"0", "1", "2"}):
        found = scoring.score(pairs, DECODING, seen=seen)
        assert "wer_unseen_text" not in found and table.row("d", "test", found, found, None)["wer_unseen_text"] == ""


def test_the_script_takes_what_the_splits_share_into_the_metrics_and_the_table(tmp_path):
    folder = tmp_path / "speech/evaluation/leg_1/beam"
    found = rows(("one two", "one too"), ("three", "three"))
    files.write_jsonl(folder / "test.jsonl", found)
    files.write_json(folder / "d.json", {**DECODING, "hypotheses_sha256": files.sha256(folder / "test.jsonl")})
    nothing = {"names": [], "utterances": 0, "share_of_utterances": 0.0}
    texts = {"utterances": 1, "share_of_utterances": 0.5, "share_of_words": 0.3333}
    pairs = [
        {"splits": [one, other], "recordings": [], "texts": {**texts, "ids": [name]}, "speakers": nothing}
        for one, other, name in (("train", "test", "1"), ("validation", "test", "0"), ("test", "test_b", "0"))
    ]
    files.write_json(tmp_path / "overlap.json", {"by_sound": True, "pairs": pairs})
    done = run_script(
        "score_hypotheses", "--hypotheses", folder / "test.jsonl", "--manifest", folder / "test.jsonl",
        "--decoding", folder / "d.json", "--output", folder / "test.json", "--overlap", tmp_path / "overlap.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = table.read([folder / "test.json"], [folder / "test.json"], [])
    (row,), (_, *remarks) = table.rows(read), table.notes(read)
    assert row["wer_unseen_text"] == "50.00"
    told = "the text of 1 utterance of test (50.0 %, with 33.3 % of the words) is in {} too"
    assert remarks == [f"speech test: {told.format(split)}" for split in ("train", "validation")]


def test_the_counts_agree_with_kaldialign_on_awkward_pairs():
    draw = random.Random(3)
    words = ["a", "b", "ä", "it's", "東京", "b", "é"]
    pairs = [tuple(" ".join(draw.choices(words, k=draw.randint(0, 6))) for _ in range(2)) for _ in range(2000)]
    ours = error_rate.count(*map(list, zip(*pairs, strict=True)))
    theirs = [kaldialign.edit_distance(r.split(), h.split()) for r, h in pairs]
    assert ours.errors.tolist() == [found["total"] for found in theirs]
    assert (ours.insertions - ours.deletions).tolist() == [found["ins"] - found["del"] for found in theirs]
    assert ours.words.tolist() == [len(r.split()) for r, _ in pairs]


def test_hypotheses_without_text_or_references_without_words_are_errors(tmp_path):
    files.write_jsonl(tmp_path / "h.jsonl", [*rows(("a", "a")), {"id": "1", "text": "b", "duration": 1.0}])
    with pytest.raises(UserError, match=r"h.jsonl: utterance 1: no `text` or `pred_text`: `snakemake --forcerun"):
        scoring.read(tmp_path / "h.jsonl")
    with pytest.raises(UserError, match="not one reference word"):
        scoring.score(rows(("", "a")), DECODING)


def test_scoring_needs_files_alone_and_never_torch(tmp_path):
    files.write_jsonl(tmp_path / "test.jsonl", rows(("one two", "one too")))
    hash = files.sha256(tmp_path / "test.jsonl")
    files.write_json(tmp_path / "test.decoding.json", {**DECODING, "hypotheses_sha256": hash})
    command = [
        "score_hypotheses", "--hypotheses", tmp_path / "test.jsonl", "--manifest", tmp_path / "test.jsonl",
        "--decoding", tmp_path / "test.decoding.json", "--output", tmp_path / "test.json",
    ]  # fmt: skip
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    files.write_jsonl(tmp_path / "test.jsonl", rows(("one two", "one two")))
    edited = run_script(*command)
    assert edited.returncode == 1 and "test.jsonl: changed since it was decoded" in edited.stderr
    assert "WER 50.00 % (none: one utterance)" in done.stderr
    assert files.read_sealed(tmp_path / "test.json")["wer"] == 50.0


def test_a_truncated_file_of_hypotheses_is_named_with_its_line(tmp_path):
    files.write_jsonl(tmp_path / "test.jsonl", rows(("one", "one"), ("two", "two")))
    whole = (tmp_path / "test.jsonl").read_text()
    (tmp_path / "test.jsonl").write_text(whole[:-20])
    files.write_json(tmp_path / "d.json", DECODING)
    done = run_script(
        "score_hypotheses", "--hypotheses", tmp_path / "test.jsonl", "--decoding", tmp_path / "d.json", "--output", "x",
        "--manifest", tmp_path / "test.jsonl",
    )  # fmt: skip
    assert done.returncode == 1
    assert "test.jsonl:2: expected one JSON object a line" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"x: 1 utterances of the manifest are missing, such as 2"),
        (lambda rows: [*rows, rows[0]], r"x: utterance 0 is there twice"),
        (lambda rows: [*rows, {**rows[0], "id": "9"}], r"x: utterance 9 is not in the manifest"),
        (lambda rows: [{**rows[0], "text": "other"}, *rows[1:]], r"x: utterance 0 has another reference"),
    ],
)
def test_hypotheses_must_be_those_of_the_manifest(change, message):
    manifest = rows(("a", "a"), ("b", "b"), ("c", "c"))
    scoring.check_complete(manifest, manifest, "x")
    with pytest.raises(UserError, match=message):
        scoring.check_complete(change(manifest), manifest, "x")


def test_several_processes_score_alike():
    draw = random.Random(4)
    pairs = [tuple(" ".join(draw.choices(["twenty", "one", "Mr.", "b"], k=4)) for _ in range(2)) for _ in range(2100)]
    assert scoring.score(rows(*pairs), DECODING, workers=2) == scoring.score(rows(*pairs), DECODING)


def test_a_sealed_file_notices_an_edit(tmp_path):
    files.write_sealed(tmp_path / "m.json", {"wer": 5.0, "name": "ä"})
    assert files.read_sealed(tmp_path / "m.json") == {"wer": 5.0, "name": "ä"}
    (tmp_path / "m.json").write_text((tmp_path / "m.json").read_text().replace("5.0", "4.0"))
    with pytest.raises(UserError, match="m.json: changed since it was computed"):
        files.read_sealed(tmp_path / "m.json")
    (tmp_path / "m.json").write_text("[5.0]")
    with pytest.raises(UserError, match=r"m.json: not a readable JSON file \(expected an object, not \[5.0\]\)"):
        files.read_sealed(tmp_path / "m.json")


def of_table(zero_shot=(), code="abc", **wers):
    """What the table is made of: the beam search's WER of each seed of a data set's test split."""
    keys = [(name, "test") for name in wers]
    beam = {key: [metrics(wer) | {"versions": {"code": code}} for wer in wers[key[0]]] for key in keys}
    return table.Metrics(beam, beam, {key: metrics(wer) for key, wer in zip(keys, zero_shot, strict=False)}, {})


ONE_SEED = "One seed alone was trained of {}: how far another seed would lie from it is not in the interval"


def test_the_table_says_what_training_made_worse_which_code_made_it_and_that_there_was_one_seed():
    made = of_table(ant=[8], bee=[8], zero_shot=(7.5, 8.5))
    worse, single = table.notes(made)
    assert worse == "ant test: 7.50 % before training, 8.00 % after"
    assert single.startswith(ONE_SEED.format("ant, bee"))
    assert [row["wer_zero_shot"] for row in table.rows(made)] == ["7.50", "8.50"]
    made = of_table(bee=[8, 9], code="abd-dirty")
    found = table.notes(made)
    assert "different versions of the code: abc, abd-dirty" in found[0] and "in no commit: abd-dirty" in found[1]
    assert table.as_markdown(table.rows(made), found).endswith(f"- {found[0]}\n- {found[1]}\n")


def test_what_training_made_worse_is_told_with_its_interval():
    change = {"wer_before": 2.2, "difference": 1.4, "low": 1.1, "high": 1.8, "interval_by": "6 speakers"}
    split = {"wer": 3.6, "change": change}
    assert over_seeds.describe_change("libri", split) == (
        "libri: 2.20 % before training, 3.60 % after, worse by 1.40 [1.10, 1.80]"
    )
    split["change"] = {**change, "low": -0.1}
    assert over_seeds.describe_change("libri", split).endswith("worse by 1.40 [-0.10, 1.80], which may be chance")
    split["change"] = {**change, "low": None, "interval_by": "none: two speakers"}
    assert over_seeds.describe_change("libri", split).endswith("worse by 1.40 (no interval: two speakers)")
    split["change"] = {**change, "difference": 0.0}
    assert over_seeds.describe_change("libri", split) is None


def test_what_the_language_model_changed_is_a_paired_difference_that_is_told_in_either_direction():
    without = [rows(*[("a b c d", hypothesis) for hypothesis in ("a b c d", "a b x d", "a x x d") * 10])] * 2
    fused = [rows(*[("a b c d", hypothesis) for hypothesis in ("a b c d", "a b c d", "a x x d") * 10]), without[1]]
    found = over_seeds.score(fused, [1, 2], None, None, without)
    change = found["language_model"]
    assert (change["wer_before"], found["wer"]) == (25, pytest.approx(20.8333, abs=1e-3))
    expected = error_rate.Seeds(tuple(map(error_rate.of, fused))).minus(
        error_rate.Seeds(tuple(map(error_rate.of, without))), paired=True
    )
    assert change["difference"] == expected.difference < 0
    assert (change["low"], change["high"]) == (expected.interval.low, expected.interval.high)
    assert "language_model" not in over_seeds.score(fused, [1, 2], None, None)

    given = {"wer_before": 12.1, "difference": -1.2, "low": -2.0, "high": -0.3, "interval_by": "6 speakers"}
    split = {"wer": 10.9, "change": None, "language_model": given}
    start = "libri: 12.10 % without the language model, 10.90 % with it"
    for change, end in (
        ({}, ", better by 1.20 [0.30, 2.00]"),
        ({"high": 0.1}, ", better by 1.20 [-0.10, 2.00], which may be chance"),
        ({"difference": 1.2, "low": 0.3, "high": 2.0}, ", worse by 1.20 [0.30, 2.00]"),
        (
            {"low": None, "high": None, "interval_by": "none: one speaker"},
            ", better by 1.20 (no interval: one speaker)",
        ),
        ({"difference": 0.0}, ""),
    ):
        split["language_model"] = given | change
        assert over_seeds.describe_language_model("libri", split) == start + end
    assert over_seeds.describe_language_model("libri", {"wer": 10.9, "change": None}) is None

    made = of_table(libri=[10, 11.8])
    ends = {"wer_sd": 1.0, "wer_low": 1.0, "wer_high": 22.0, "interval_by": "6 speakers"}
    made.splits["libri", "test"] = split | {"seeds": [1, 2], "language_model": given, **ends}
    for beam, weight in zip(made.beam["libri", "test"], (0.2, 0.5), strict=True):
        beam |= {"lm": "ngram.arpa", "lm_weight": weight}
    (row,) = table.rows(made)
    assert (row["wer_beam_without_lm"], row["beam_lm"]) == ("12.10", "ngram.arpa x 0.35")
    assert f"libri test{start.removeprefix('libri')}, better by 1.20 [0.30, 2.00]" in table.notes(made)
    assert [run["beam_lm"] for run in table.runs(made)] == ["ngram.arpa x 0.2", "ngram.arpa x 0.5"]


def test_a_row_is_the_mean_over_seeds_and_each_seed_has_a_row_of_its_own():
    made = of_table(ant=[8, 9.005])
    of_all = {"seeds": [3, 7], "wer": 8.5025, "wer_sd": 0.7106, "wer_low": 1.0, "wer_high": 22.0, "change": None}
    made.splits["ant", "test"] = {**of_all, "interval_by": "6 speakers and 2 seeds"}
    made.beam["ant", "test"][1]["insertions"] += 3
    (row,) = table.rows(made)
    assert (row["wer_beam"], row["wer_beam_sd"], row["seeds"], row["insertions"]) == ("8.50", "0.71", "2", "1.5")
    assert (row["wer_beam_low"], row["wer_beam_high"]) == ("1.00", "22.00")
    assert row["interval_by"] == "6 speakers and 2 seeds"
    runs = list(csv.DictReader(io.StringIO(table.as_csv(table.runs(made), table.RUN_COLUMNS))))
    assert [(run["seed"], run["wer_beam"], run["insertions"]) for run in runs] == [
        ("3", "8.00", "0"),
        ("7", "9.01", "3"),
    ]
    assert not any(ONE_SEED.format("ant") in note for note in table.notes(made))


def test_a_training_s_folder_tells_its_data_set(tmp_path):
    for folder, dataset in (("digits", "digits"), ("digits/seed_12", "digits"), ("seed_x", "seed_x")):
        path = tmp_path / folder / "evaluation/leg_1/beam/test.json"
        files.write_sealed(path, metrics(3))
        assert list(table.read([path], [path], []).beam) == [(dataset, "test")]


def metrics(wer):
    ends = {"wer_low": wer / 2, "wer_high": 2 * wer, "interval_by": "6 speakers"}
    return {**scoring.score(rows(("a b c", "a b x")), DECODING), "wer": wer, **ends}


def test_without_an_interval_there_is_a_dash_and_the_reason(tmp_path):
    found = metrics(1) | {"wer_low": None, "wer_high": None, "interval_by": "none: two speakers"}
    row = table.row("ant", "test", metrics(1), found, None)
    assert (row["wer_beam_low"], row["wer_beam_high"], row["interval_by"]) == ("", "", "none: two speakers")
    assert "|      – | none: two speakers |" in table.excerpt([row], table.ON_THE_TERMINAL)
    assert table.final_values(row).keys() == {
        "test/wer_greedy",
        "test/wer_beam",
        "test/wer_beam_normalized",
        "test/cer_beam",
        "test/wer_board",
    }
    path = tmp_path / "d/evaluation/leg_1/beam/test.json"
    files.write_sealed(path, {key: value for key, value in found.items() if key != "interval_by"})
    with pytest.raises(UserError, match=r"test.json: scored by an earlier version: `snakemake --forcerun score_hyp"):
        table.read([path], [path], [])


def test_the_table_says_which_leg_was_decoded_and_whether_validation_chose_it():
    def leg_of(*checkpoints):
        seeds = [
            {**metrics(5.0), "checkpoint": {"model": "m", "step": 1, "code_version": "a", **c}} for c in checkpoints
        ]
        (row,) = table.rows(table.Metrics({("d", "test"): seeds}, {("d", "test"): seeds}, {}, {}))
        return row["leg"]

    assert (leg_of({"leg": 3}), leg_of({"leg": 3}, {"leg": 3}), leg_of({})) == ("3", "3", "")
    chosen = [{"leg": leg, "selected": {"split": "validation", "wer": {}}} for leg in (2, 3, 2)]
    assert (leg_of(chosen[0]), leg_of(*chosen)) == ("best: 2", "best: 2, 3")


def test_the_table_is_sorted_with_two_decimals_and_empty_where_there_is_no_value():
    lines = [
        table.row("zoo", "test", metrics(12.345), metrics(10), None),
        table.row("ant", "test_b", metrics(1), metrics(0.5), None),
    ]
    text = table.as_csv(lines)
    found = list(csv.DictReader(io.StringIO(text)))
    assert text.startswith("dataset,split,utterances,hours,reference_words,wer_zero_shot,wer_greedy,wer_beam,")
    assert [row["dataset"] for row in found] == ["ant", "zoo"]
    assert found[1]["wer_greedy"] == "12.35" and found[1]["wer_beam"] == "10.00"
    assert found[1]["wer_zero_shot"] == "" and found[1]["beam_size"] == "4" and found[1]["train_steps"] == "7"


@pytest.mark.parametrize(
    ("init_from", "shown"),
    [
        ("/somewhere/x/my model.nemo", "my model"),
        ("models/base.v2.nemo", "base.v2"),
        ("base.nemo", "base"),
        ("results/digits/model/model.nemo", "digits"),
        ("stt_en_contextnet_1024", "stt_en_contextnet_1024"),
        ("nvidia/parakeet-rnnt-1.1b", "nvidia/parakeet-rnnt-1.1b"),
    ],
)
def test_the_model_is_named_and_not_where_it_lies(init_from, shown):
    beam = metrics(1) | {"checkpoint": {"model": init_from, "step": 7}}
    assert table.row("ant", "test", metrics(1), beam, None)["model"] == shown


def test_the_csv_file_is_the_same_to_the_byte():
    """Cells with commas and quotes in quotes, all others as they are; other programs read this file."""
    fused = {**metrics(10), "lm": "corpus, old.arpa", "lm_weight": 0.3}
    lines = [
        table.row("zoo", "test", metrics(12.345), fused, metrics(9.5)),
        table.row("ant", "test_b", metrics(1), metrics(0.5), None) | {"model": 'a "big" model'},
    ]
    assert table.as_csv(lines).splitlines(keepends=True)[1:] == [
        "ant,test_b,1,0.00,3,,1.00,0.50,0.25,1.00,33.33,1,0,0,20.00,1.5,1.5,"
        '"a ""big"" model",7,malsd_batch,4,abc,,,,6 speakers,,,100.00,,,,\n',
        "zoo,test,1,0.00,3,9.50,12.35,10.00,5.00,20.00,33.33,1,0,0,20.00,1.5,1.5,"
        'm,7,malsd_batch,4,abc,"corpus, old.arpa x 0.3, not for zero-shot",,,6 speakers,,,100.00,,,,\n',
    ]


def test_a_table_is_read_as_it_was_written(tmp_path):
    lines = [table.row("null", "test", metrics(1), metrics(0.5), None) | {"model": "NA"}]
    lines[0] |= {"seeds": "1", "wer_beam_sd": "", "wer_beam_without_lm": ""}
    files.write_text(tmp_path / "table.csv", table.as_csv(lines))
    assert table.load(tmp_path / "table.csv") == lines
    for broken in (b"", b"dataset,split\na,b\nc,d,e\n", b"dataset,split\n\xff,b\n"):
        (tmp_path / "table.csv").write_bytes(broken)
        with pytest.raises(UserError, match=r"table.csv: not a readable CSV file \(.*\)$"):
            table.load(tmp_path / "table.csv")


def test_the_markdown_table_holds_the_same_cells_and_numbers_stand_to_the_right():
    lines = [table.row("ant", "test", metrics(1), metrics(0.5), None)]
    heading, rule, row = table.as_markdown(lines, []).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == next(csv.reader(io.StringIO(table.as_csv(lines).splitlines()[1])))
    assert heading.count("|") == rule.count("|") == row.count("|") == len(table.COLUMNS) + 1
    sides = dict(zip(table.COLUMNS, rule.strip("|").split("|"), strict=True))
    assert {column for column, side in sides.items() if not side.endswith("-:")} == table.TEXT


def test_the_terminal_gets_the_columns_that_have_a_value():
    heading, _, *rows = table.excerpt(
        [table.row(name, "test", metrics(1), metrics(0.5), None) for name in ("bee", "ant")], table.ON_THE_TERMINAL
    ).splitlines()
    assert [row.split()[1] for row in rows] == ["ant", "bee"] and all(
        "|" in row and "| 0.25 to 1.00 | 6 speakers |" in row for row in rows
    )
    assert "95 %" in heading and "zero-shot" not in heading and "GLM" not in heading


SCLITE = Path("/usr/lib/sctk/bin/sclite")


@pytest.mark.skipif(not SCLITE.is_file(), reason="needs sclite, of Debian's package sctk")
def test_the_counts_are_sclite_s(tmp_path):
    """Errors and reference words; of several alignments with as few errors sclite may choose another mix of kinds."""
    draw = random.Random(5)
    words = ["one", "two", "it's", "three", "four", "a", "b", "c"]
    pairs = []
    for _ in range(500):
        reference = draw.choices(words, k=draw.randint(1, 9))
        hypothesis = [w if draw.random() > 0.2 else draw.choice(words) for w in reference if draw.random() > 0.1]
        pairs.append((" ".join(reference), " ".join(hypothesis + draw.choices(words, k=draw.random() < 0.2))))
    for name, index in (("ref", 0), ("hyp", 1)):
        lines = [f"{pair[index]} (spk_{number:04d})\n" for number, pair in enumerate(pairs)]
        (tmp_path / name).write_text("".join(lines))
    command = [SCLITE, "-r", "ref", "trn", "-h", "hyp", "trn", "-i", "rm", "-o", "rsum", "stdout"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if line.strip().startswith("| Sum"))
    sentences, count, _, _, _, _, errors, _ = map(int, re.findall(r"\d+", line))
    ours = error_rate.count(*map(list, zip(*pairs, strict=True)))
    assert (sentences, count) == (500, ours.words.sum())
    assert errors == ours.errors.sum()
