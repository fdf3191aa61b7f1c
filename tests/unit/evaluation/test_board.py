"""The Open ASR board's scoring: errors counted by hand, its normal forms, and where it has no figure."""

import random

import pytest

from conftest import run_script
from rnnt import files
from rnnt.evaluation import board, scoring
from rnnt.report import page, table

DECODING = {
    "strategy": "malsd_batch",
    "beam_size": 4,
    "decoding_seconds": 2.0,
    "checkpoint": {"model": "m", "step": 7, "code_version": "abc"},
    "versions": {"code": "abc"},
}


def score(*pairs, language="en"):
    made = [{"id": str(i), "text": r, "pred_text": h, "duration": 3.0} for i, (r, h) in enumerate(pairs)]
    return scoring.score(made, DECODING, language=language)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "words"),
    [
        ("the white paper is good", "the whitepaper is good", 0, 5),
        ("the whitepaper is good", "the white paper is good", 0, 4),
        ("a brother in law came", "a brotherinlaw came", 0, 5),
        ("a brotherinlaw came", "a brother in law came", 0, 3),
        ("black bird white paper", "blackbird whitepaper", 0, 4),
        ("the white paper burns", "the whitepaper turns", 1, 4),
        ("the white paper burns", "the whitepaper", 1, 4),
        ("the whitepaper", "the very white paper", 1, 2),
        ("some white papers", "some whitepaper", 2, 3),
        ("white paper", "whi tepaper", 2, 2),
        ("twenty one dollars", "$21", 0, 1),
        ("the second of may nineteen ninety", "the 2nd of may 1990", 0, 5),
        ("five percent", "5 %", 1, 1),
        ("the colour of archaeology", "the color of archeology", 0, 4),
        ("pummelled by a flyer", "pummeled by a flier", 0, 4),
        ("it's what he'd won't", "it is what he would will not", 0, 7),
        ("john's house", "john is house", 1, 3),
        ("kinda nice", "kind of nice", 2, 2),
        ("um ah the huh cat uhm", "the cat", 0, 2),
        ("all right, e-mail me at ten a.m. okay", "alright email me at 10 am o k", 0, 7),
        ("the wi-fi et cetera", "the wifi etcetera", 0, 3),
        ("the b b c on five g", "the bbc on 5g", 0, 4),
        ("Mr. Brown", "mister brown", 0, 2),
        ("yes <unk> (noise) [laughter]", "yes", 0, 1),
    ],
)
def test_errors_are_those_counted_by_hand(reference, hypothesis, errors, words):
    found = score((reference, hypothesis))
    assert found["wer_board"] == pytest.approx(100 * errors / words, abs=1e-4) and "no_board" not in found


def test_the_corpus_is_one_and_its_reference_words_are_those_before_words_are_merged():
    assert score(("white paper", "whitepaper"), ("black cat", "black hat"))["wer_board"] == 25.0


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Um, the colour isn't Anne's", "the color is not anne s"),
        ("uh-huh, ah, aha, ehehe: em", ""),
        ("'cause it's sorta here, I dunno", "cause it is sorta here i dunno"),
        ("how ever al right all right", "however alright alright"),
        ("how um ever", "however"),
        ("hi-fi lo-fi sci-fi x-ray t-shirt e-book e-commerce p.m.", "hifi lofi scifi xray tshirt ebook ecommerce pm"),
        ("ok, kay, o.k.", "okay okay okay"),
        ("x y cat, a b cat, i a cat, a b c cat", "xy cat a b cat i a cat abc cat"),
        ("two b cat 1 2 b", "2b cat one 2b"),
        ("a five g phone", "a5g phone"),
        ("snowploughs pummelling 5mm", "snowplows pummeling 5 hmm"),
        ("flÿer", "flier"),
        ("how_ever 2ok o'k", "however 2 okay okay"),
    ],
)
def test_texts_have_the_board_s_normal_form(text, normal):
    assert scoring.normalize_english(text)[1] == normal
    assert " ".join(board.normalizer()(text).split()) == normal


def test_a_text_has_the_board_s_words_whether_it_is_normalised_whole_or_in_pieces():
    numbers = sorted(scoring.normalizer().standardize_numbers.words)
    plain = (
        "the house went all right how ever green al many mail asked her colour ok right flyer i a b c t shirt".split()
    )
    awkward = (
        "um uh hmm ah huh em 's 'd 'll 'm been kinda cause half a and let's she's john's it's how's i'd i'm won't mr "
        "st . , - % $ £ ¢ $5 5% 3.14 1,000 20th 1960s ¢7 ' '' café wí fi <unk> ( ) [ ] grey o'k e'mail d'em how_ever 0 "
        "1 1s 5mm 2ok 5g a.m. p m. b.b.c. u.s x-ray e- -book et cetera wi-fi sci k m s x y ½ right's ever's kay, jr ok."
    ).split(" ")
    whole = board.normalizer()
    for seed in range(6000):
        draw = random.Random(seed)
        share = draw.choice([0.2, 0.5, 0.8])
        words = [
            draw.choice(plain if draw.random() < share else numbers if draw.random() < 0.3 else awkward)
            for _ in range(draw.randint(0, 14))
        ]
        text = " ".join(words)
        assert scoring.normalize_english(text)[1].split(" ") == (whole(text).split() or [""]), text


def test_an_utterance_without_a_reference_word_is_left_out_with_what_was_inserted():
    pairs = [("um", "yes no"), ("[noise]", "no"), ("ignore_time_segment_in_scoring", "yes"), ("black cat", "black cat")]
    found = score(*pairs)
    assert found["wer_board"] == 0 < found["wer_normalized"]


@pytest.mark.parametrize(
    ("pairs", "language", "reason"),
    [
        ([("ja um", "ja um")], "de", "it is the Open ASR board's English scoring, and text.language is de"),
        ([("東京 空", "東京 空")], "ja", "it is the Open ASR board's English scoring, and text.language is ja"),
        ([("東京 空", "東京 空")], "en-GB", "text.language is en-GB, and most letters of the references are not Latin"),
        (
            [("ah", "um"), ("ignore time segment in scoring", "a")],
            "en",
            "the Open ASR board's English normaliser leaves not one word of the references",
        ),
    ],
)
def test_where_there_is_none_the_column_is_empty_and_a_note_says_why(tmp_path, pairs, language, reason):
    found = score(*pairs, language=language)
    assert found["wer_board"] is None and found["no_board"].startswith(reason)
    paths = [tmp_path / f"results/d/evaluation/leg_1/{search}/test.json" for search in ("greedy", "beam")]
    for path in paths:
        files.write_sealed(path, found)
    done = run_script(
        "make_wer_table", "--greedy", paths[0], "--beam", paths[1],
        "--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    note = f"d test: wer_board is empty: {found['no_board']}"
    assert f"\n- {note}\n" in (tmp_path / "t.md").read_text() and note in " ".join(done.stderr.split())
    assert table.load(tmp_path / "t.csv")[0]["wer_board"] == ""


def test_the_table_the_terminal_and_the_page_have_the_column(tmp_path):
    found = score(("black cat a b", "black hat a b"))
    row = table.row("d", "test", found, found, None)
    assert "wer_board" in table.COLUMNS and row["wer_board"] == "25.00"
    assert "board %" in table.excerpt([row], table.ON_THE_TERMINAL)
    assert page.HEADINGS["wer_board"] == "WER as the Open ASR board %"
    assert table.final_values(row)["test/wer_board"] == 25.0


def test_metrics_of_an_earlier_version_leave_it_empty_with_a_note(tmp_path):
    found = score(("black cat", "black cat"))
    del found["wer_board"]
    path = tmp_path / "d/evaluation/leg_1/beam/test.json"
    files.write_sealed(path, found)
    read = table.read([path], [path], [])
    (row,), (_, *remarks) = table.rows(read), table.notes(read)
    assert row["wer_board"] == "" and remarks == [f"d test: wer_board is empty: {table.EARLIER}"]


def test_the_scorer_names_the_board_s_version_and_what_merges_words():
    assert score(("a", "a"))["scorer"].endswith(", kaldialign 0.12.0, Open ASR board d1e99b2")
