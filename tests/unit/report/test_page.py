"""The page: one file with the numbers of the results, the worst utterances to listen to, and nothing from outside."""

import base64
import http.server
import io
import json
import queue
import re
import shutil
import subprocess
import threading

import make_report
import numpy as np
import pytest
import soundfile

from conftest import one_line_of_a_full_disk, run_script
from rnnt import files
from rnnt.errors import UserError
from rnnt.report import page, table

CHROMIUM = shutil.which("chromium")
TEXTS = [  # reference, hypothesis, speaker
    ("one two three four", "one two three four", "ann"),
    ("five six seven", "five nine seven", "ann"),
    ("one two three four five six", "three", "bob"),
    ("<b>bold</b> & co", "bold", "bob"),
    ("", "eight", "cyd"),
    ("größe", "", "cyd"),
]


def metrics(wer, rtfx, step=20):
    return {"wer": wer, "rtfx": rtfx, "checkpoint": {"step": step}}


@pytest.fixture
def results(tmp_path):
    """The folders of one data set, trained in two legs."""
    folder = tmp_path / "results/speech"
    rows = []
    for n, (text, hypothesis, speaker) in enumerate(TEXTS):
        path = tmp_path / f"audio/{n}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.sin(np.arange(8000 * (n + 1)) / 10).astype("float32") / 2, 8000)
        rows.append({
            "id": f"utt-{n}", "audio_filepath": str(path), "duration": 1.0 + n, "speaker": speaker,
            "text": text, "pred_text": hypothesis,
        })  # fmt: skip
    rows[3]["audio_filepath"] = str(tmp_path / "audio/lost.wav")
    for search in ("greedy", "beam"):
        files.write_jsonl(folder / f"evaluation/leg_2/{search}/test.jsonl", rows)
        files.write_sealed(folder / f"evaluation/leg_2/{search}/test.json", metrics(55.0, 100.0))
    for leg, wer in ((1, 90.0), (2, 60.0)):
        files.write_sealed(folder / f"evaluation/leg_{leg}/greedy/validation.json", metrics(wer, 100.0, 10 * leg))
    history = [{"step": step, "loss": 50.0 / step} for step in range(1, 21)] + [{"step": 7, "skipped": ["utt-x"]}]
    files.write_json(folder / "checkpoints/leg_2/trainer/trainer_state.json", {"log_history": history})
    cleaning = {"join split contractions": {"utterances": 77, "examples": [["it 's", "it's"]]}}
    summary = {"utterances": 1234, "hours": 5.0, "dropped": {"longer than 20 s": {"utterances": 56, "hours": 0.4}}}
    files.write_json(folder / "manifests/summary.json", {"train": {**summary, "cleaning": cleaning}})
    row = dict.fromkeys(table.COLUMNS, "") | {
        "dataset": "speech", "split": "test", "utterances": "6", "hours": "0.01", "reference_words": "17",
        "wer_zero_shot": "40.00", "wer_greedy": "58.82", "wer_beam": "52.94", "wer_beam_low": "31.00",
        "wer_beam_high": "71.00", "rtfx_greedy": "200.0", "rtfx_beam": "100.0", "train_steps": "20",
    }  # fmt: skip
    files.write_text(tmp_path / "results/wer_table.csv", table.as_csv([row]))
    return tmp_path / "results"


def make(results, *extra):
    """make_report.py in this process."""
    arguments = [
        "--table", results / "wer_table.csv", "--results", results, "--datasets", "speech", *extra,
        "--output", results / "report.html", "--figures", results / "figures",
    ]  # fmt: skip
    make_report.main(make_report.parser().parse_args([*map(str, arguments)]))
    return (results / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_file_that_asks_for_nothing_else(results):
    page = make(results)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "only what is inside the page"
    assert not re.search("https?://", page) and "default-src 'none'" in page
    assert "@import" not in page and "url(http" not in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page and 'name="viewport"' in page


def test_every_section_has_the_numbers_of_the_files(results):
    files.write_text(
        results / "comparisons.csv",
        "dataset,split,a,b,wer_a,wer_b,difference,low,high,p_value,interval_by\n"
        "speech,test,greedy,beam,58.82,52.94,-5.88,-9.10,-1.20,0.0123,6 speakers\n",
    )
    files.write_json(results / "provenance.json", {"code_version": "abc123", "config": {"seed": 98765}})
    extra = ("--comparisons", results / "comparisons.csv", "--provenance", results / "provenance.json")
    text = re.sub(r"<[^>]+>", " ", make(results, *extra))
    for part in ("52.94", "31.00", "71.00", "0.0123", "abc123", "98765", "1234", "56", "join split contractions", "77"):
        assert part in text, part


def test_a_column_without_a_value_is_not_shown(results):
    assert "WER as sclite" not in make(results) and "wer before" in make(results).lower()
    (row,) = table.load(results / "wer_table.csv")
    row |= {"wer_glm": "49.00", "interval_by": "none: two speakers"}
    files.write_text(results / "wer_table.csv", table.as_csv([row]))
    page = make(results)
    assert "WER as sclite %" in page and ">49.00<" in page and "language model" not in page
    assert ">none: two speakers<" in page


def test_what_splits_share_is_said(results):
    assert "What splits share" not in make(results)
    shared = {
        "splits": ["train", "test"],
        "recordings": [["a", "utt-1", "sound"], ["b", "utt-1", "file"]],
        "texts": {"utterances": 2, "share_of_utterances": 0.3333, "share_of_words": 0.25, "ids": ["utt-1", "utt-2"]},
        "speakers": {"names": [], "utterances": 0, "share_of_utterances": 0.0},
    }
    files.write_json(results / "speech/manifests/overlap.json", {"by_sound": True, "pairs": [shared]})
    page = make(results)
    assert "1 recording of test is in train too, such as utt-1, a there, the same by its sound" in page
    assert "the text of 2 utterances of test (33.3 %, with 25.0 % of the words) is in train too" in page
    shared = {**shared, "recordings": [], "texts": {**shared["texts"], "utterances": 0}}
    files.write_json(results / "speech/manifests/overlap.json", {"by_sound": False, "pairs": [shared]})
    page = make(results)
    assert "no recording, text or speaker is in two splits" in page and "by their files alone" in page


def test_training_that_made_it_worse_is_said(results):
    assert "worse" in re.sub(r"<style.*?</style>", "", make(results), flags=re.S).lower()


def test_what_training_cost_elsewhere_is_said_with_its_interval(results):
    change = {"wer_before": 40.0, "difference": 12.94, "low": 3.1, "high": 22.0, "interval_by": "6 speakers"}
    found = {"seeds": [1], "wer": 52.94, "change": change}
    files.write_json(results / "speech/evaluation/test.json", found)
    text = " ".join(re.sub(r"<[^>]+>", " ", make(results)).split())
    told = "Worse than before training: speech / test: 40.00 % before training, 52.94 % after, worse by 12.94 [3.10, 22"
    assert told in text


def test_of_several_seeds_each_is_drawn_and_has_its_curve(results):
    runs = [
        {**table.load(results / "wer_table.csv")[0], "seed": seed, "wer_beam": wer}
        for seed, wer in (("1", "51.11"), ("7", "54.77"))
    ]
    files.write_text(results / "runs.csv", table.as_csv(runs, table.RUN_COLUMNS))
    one = results / "speech/checkpoints/leg_2/trainer/trainer_state.json"
    files.write_json(results / "speech/seed_7/checkpoints/leg_2/trainer/trainer_state.json", files.read_json(one))
    page = make(results, "--runs", results / "runs.csv")
    assert "speech, seed 1" in page and "speech, seed 7" in page and "A row is the mean over seeds" in page
    assert "the model of the first seed" in page
    assert (results / "figures/training_speech_seed_7.png").is_file()
    alone = make(results)
    assert page.count("each seed<") == 1 and "each seed<" not in alone
    assert not (results / "figures/training_speech_seed_7.png").exists(), "of the page before"


def test_the_matrix_has_every_model_on_every_test_set_and_marks_the_best(results):
    assert "Every model on every test set" not in make(results)
    lines = [
        "trained_on,dataset,split,wer_beam,wer_beam_low,wer_beam_high,interval_by,seeds,wer_beam_sd,best,remark",
        "speech,speech,test,12.50,9.00,15.00,6 speakers,1,,yes,",
        "other,speech,test,47.25,40.00,55.00,6 speakers,1,,,",
        "speech,other,test_b,,,,,1,,,not scored: 3 of its recordings are in train of this model",
        "other,other,test_b,33.00,,,none: two speakers,1,,,",
    ]
    files.write_text(results / "transfer.csv", "\n".join(lines) + "\n")
    page = make(results, "--transfer", results / "transfer.csv")
    section = page[
        page.index('<section id="transfer"') : page.index("</section>", page.index('<section id="transfer"'))
    ]
    text = " ".join(re.sub(r"<[^>]+>", " ", section).split())
    assert "trained on speech / test other / test_b speech 12.50 ★ 9.00 to 15.00 – not scored: 3 of its" in text
    assert "other 47.25 40.00 to 55.00 33.00" in text
    assert section.count('class="n own"') == 2


def test_an_ablation_is_drawn_where_its_recipe_is_that_of_the_table(results):
    head = "dataset,name,split,search,wer,wer_without,difference,low,high,p_value,seeds,interval_by\n"
    path = results / "ablation.csv"
    row = "speech,ctc,test,beam,{},60.00,7.06,-1.00,9.00,0.5,1,4 speakers\n"
    validation = "speech,ctc,validation,greedy,20.00,20.00,0.00,,,1,1,none: two speakers\n"
    (wer,) = (row["wer_beam"] for row in table.load(results / "wer_table.csv") if row["dataset"] == "speech")
    path.write_text(head + row.format(wer) + validation)
    page = make(results, "--ablation", path)
    assert "without ctc: test, beam:  +7.06" in page and "without ctc: validation, greedy:  +0.00" in page
    assert "One seed each" in page and (results / "figures/ablation.svg").is_file()
    path.write_text(head + row.format("1.23") + validation)
    page = make(results, "--ablation", path)
    assert 'id="ablation"' not in page
    assert 'id="ablation"' not in make(results)


def test_differences_are_drawn_where_there_are_some(results):
    head = "dataset,split,a,b,wer_a,wer_b,difference,low,high,p_value,interval_by\n"
    files.write_text(
        results / "comparisons.csv", f"{head}speech,test,greedy,beam,58.82,52.94,-5.88,,,0.5,none: two speakers\n"
    )
    page = make(results, "--comparisons", results / "comparisons.csv")
    assert "speech / test: beam against greedy:  -5.88" in page and (results / "figures/differences.png").is_file()


def test_what_a_transcript_holds_is_text_and_not_markup(results):
    page = make(results)
    assert "<b>bold</b>" not in page and "&lt;b&gt;bold&lt;/b&gt;" in page


def test_the_worst_utterances_come_first_with_their_audio(results):
    page = make(results)
    order = re.findall(r"<audio[^>]*aria-label=\"(utt-\d)\"", page)
    assert order[0] == "utt-2" and "utt-0" not in order, "five errors first, none without"
    assert "utt-3" not in order and "lost.wav" in page, "without audio where there is none"
    data = re.search(r'src="data:audio/mpeg;base64,([^"]+)" aria-label="utt-2"', page)[1]
    read, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert len(read) / rate == pytest.approx(3.0, abs=0.15) and np.abs(read).max() > 0.3


def test_the_audio_is_the_utterance_s_part_of_its_channel(tmp_path):
    left, right = np.zeros((2, 16000 * 4), "float32")
    right[16000:40000] = 0.5 * np.sin(np.arange(24000) / 5)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16000)
    entry = {"id": "x", "audio_filepath": str(tmp_path / "two.wav"), "offset": 1.0, "duration": 1.5}
    for channel, loud in ((0, False), (1, True)):
        uri, note = page.embedded_audio({**entry, "channel": channel})
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert len(samples) / rate == pytest.approx(1.5, abs=0.05) and note == ""
        assert (np.abs(samples[800:-800]).mean() > 0.2) == loud
    assert page.embedded_audio({**entry, "channel": 2})[0] == ""


def test_a_long_recording_is_cut_and_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "AUDIO_SECONDS", 2)
    soundfile.write(tmp_path / "long.wav", np.zeros(16000 * 5), 16000)
    uri, note = page.embedded_audio({"id": "x", "audio_filepath": str(tmp_path / "long.wav"), "duration": 5.0})
    assert note == "the first 2 s" and soundfile.info(io.BytesIO(base64.b64decode(uri.split(",")[1]))).duration < 2.1


def test_one_utterance_and_nothing_but_the_obligatory_files_make_a_page(results):
    for part in ("checkpoints", "manifests", "evaluation/leg_1", "evaluation/leg_2/greedy"):
        shutil.rmtree(results / "speech" / part)
    row = {"id": "only", "audio_filepath": "none.wav", "duration": 1.0, "text": "東京 $x$", "pred_text": "東京 $y$"}
    files.write_jsonl(results / "speech/evaluation/leg_2/beam/test.jsonl", [row])
    page = make(results)
    assert "東京" in page and "$x$" in page and "By speaker" not in page
    assert [name for name in ("training", "data", "provenance") if f'id="{name}"' in page] == []
    assert re.findall(r'<section id="(\w+)"', page) == ["wer", "speed", "groups", "confusions", "worst"]
    assert {path.stem for path in (results / "figures").iterdir()} == {"wer", "wer_against_rtfx"}


def test_of_a_large_split_a_sample_is_aligned_and_the_page_says_so(results, monkeypatch):
    assert "drawn at random" not in make(results)
    monkeypatch.setattr(page, "ALIGNED", 4)
    made = make(results)
    assert made.count("Of 4 of its 6 utterances, drawn at random.") == 3 and "6 utterances.</p>" in made
    entries, count = page.sample(results / "speech/evaluation/leg_2/beam/test.jsonl")
    ids = [entry["id"] for entry in entries]
    assert (len(ids), count) == (4, 6) and ids == sorted(ids)


def test_of_thousands_of_speakers_the_worst_are_shown():
    rows = [
        {"id": str(n), "text": "a b c d", "pred_text": "a b c d" if n < 2900 else "a b", "duration": 1.0, "speaker": n}
        for n in range(3000)
    ]
    found = page.by_speaker(page.aligned(rows))
    assert (found["speakers"], found["speaker_median"], len(found["worst_speakers"])) == (3000, 0.0, page.SPEAKERS)
    assert all(speaker["wer"] == 50.0 and int(speaker["name"]) >= 2900 for speaker in found["worst_speakers"])


def test_groups_have_the_errors_of_their_members_and_add_up():
    rows = [{"id": str(n), "text": t, "pred_text": h, "duration": 0.5 * n} for n, (t, h, _) in enumerate(TEXTS)]
    found = page.aligned(rows)
    by_duration = page.in_ranges(found, [u["entry"]["duration"] for u in found], page.DURATIONS, " s")
    assert [(g["name"], g["utterances"], g["errors"]) for g in by_duration] == [
        ("0 to 1 s", 2, 1),
        ("1 to 2 s", 2, 8),
        ("2 to 5 s", 2, 2),
    ]
    by_length = page.in_ranges(found, [u["words"] for u in found], page.LENGTHS)
    assert [(g["name"], g["errors"], g["wer"]) for g in by_length] == [
        ("0", 1, None),
        ("1", 1, 100.0),
        ("2 to 5", 4, 40.0),
        ("6 to 10", 5, pytest.approx(500 / 6)),
    ]


def test_the_leg_is_the_table_s_and_not_one_that_an_earlier_run_left(results):
    shutil.copytree(results / "speech/evaluation/leg_2", results / "speech/evaluation/leg_10")
    files.write_sealed(results / "speech/evaluation/leg_10/beam/test.json", metrics(5.0, 100.0, step=100))
    assert page.last_leg(results / "speech", {"split": "test", "train_steps": "20"}) == 2
    assert page.last_leg(results / "speech", {"split": "test", "train_steps": "100"}) == 10
    with pytest.raises(UserError, match="after 30 steps"):
        page.last_leg(results / "speech", {"split": "test", "train_steps": "30"})


def test_what_validation_decided_of_the_weights_is_said_and_the_best_leg_s_evaluation_shown(results):
    assert "with its last weights" not in make(results) and "was taken" not in make(results)
    folder = results / "speech"
    mean = {"last": 60.0, "averaged": 58.5, "kept": "averaged"}
    files.write_json(folder / "checkpoints/leg_2/leg.json", {"leg": 2, "legs": 2, "averaging": mean})
    text = make(results)
    assert (
        "Leg 2: validation WER 60.00 % with its last weights, 58.50 % with their mean over its end; the mean was"
        in text
    )
    (folder / "evaluation/leg_2/beam").rename(folder / "evaluation/leg_2/of another run")
    (folder / "evaluation/leg_best").mkdir()
    shutil.copytree(folder / "evaluation/leg_2/of another run", folder / "evaluation/leg_best/beam")
    selected = {"split": "validation", "wer": {"1": 57.25, "2": 58.5}}
    files.write_json(folder / "checkpoints/best/leg.json", {"leg": 1, "legs": 2, "selected": selected})
    (row,) = table.load(results / "wer_table.csv")
    files.write_text(results / "wer_table.csv", table.as_csv([row | {"train_steps": "10", "leg": "best: 1"}]))
    text = make(results)
    assert "Leg 1 of 2 was taken: validation WER 57.25 %, 58.50 % after the legs" in text and "mean over" not in text
    assert '<td class="n" data-value="20">20</td>' in text, "the curve goes on to the last leg"


def test_errors_are_counted_by_kind_speaker_and_length():
    rows = [
        {"id": str(n), "text": t, "pred_text": h, "duration": 1.0, "speaker": s} for n, (t, h, s) in enumerate(TEXTS)
    ]
    found = page.aligned(rows)
    assert [(u["errors"], u["words"]) for u in found] == [(0, 4), (1, 3), (5, 6), (3, 3), (1, 0), (1, 1)]
    assert page.confusions(found)["substitute"][0] in [("six", "nine", 1), ("<b>bold</b>", "bold", 1)]
    speakers = page.by_speaker(found)
    assert speakers["speakers"] == 3 and speakers["worst_speakers"][0]["name"] == "cyd"
    assert [u["entry"]["id"] for u in page.worst(found)] == ["2", "3", "4", "5", "1"]


def test_the_figures_are_files_too(results):
    make(results)
    names = {path.name for path in (results / "figures").iterdir()}
    assert names == {f"{n}.{k}" for n in ("wer", "wer_against_rtfx", "training_speech") for k in ("png", "svg")}
    for path in (results / "figures").glob("*.png"):
        assert path.stat().st_size > 5000


def test_the_same_results_make_the_same_page(results):
    assert make(results) == make(results)


def test_a_table_without_the_data_set_or_a_column_is_one_line(results):
    lines = (results / "wer_table.csv").read_text()
    arguments = ("--results", results, "--datasets", "other", "--output", "x.html", "--figures", results / "f")
    done = run_script("make_report", "--table", results / "wer_table.csv", *arguments)
    assert done.returncode == 1 and "no row for other" in done.stderr
    (results / "wer_table.csv").write_text(lines.replace("wer_beam,", "wer_bean,"))
    done = run_script("make_report", "--table", results / "wer_table.csv", *arguments)
    assert done.returncode == 1 and "no column wer_beam" in done.stderr and "Traceback" not in done.stderr


def test_metrics_that_were_edited_do_not_get_onto_the_page(results):
    path = results / "speech/evaluation/leg_1/greedy/validation.json"
    path.write_text(path.read_text().replace("90.0", "9.0"))
    arguments = ("--results", results, "--datasets", "speech", "--output", "x.html", "--figures", results / "f")
    done = run_script("make_report", "--table", results / "wer_table.csv", *arguments)
    assert done.returncode == 1 and "validation.json: changed since it was computed" in done.stderr


def in_browser(page, script, folder):
    """Run `script`, of an async function, in the page with headless Chromium; what it returns."""
    tell = "told => fetch('/', {method: 'POST', body: JSON.stringify(told)})"
    page = page.replace("</body>", f"<script>(async () => {{{script}}})().catch(String).then({tell});</script></body>")
    page = page.replace("default-src 'none'", "default-src 'none'; connect-src 'self'").encode()
    told = queue.Queue()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page)

        def do_POST(self):
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_):
            pass

    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        f"--autoplay-policy=no-user-gesture-required --user-data-dir={folder}/profile"
    )
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        browser = subprocess.Popen([CHROMIUM, *options.split(), address], stderr=subprocess.DEVNULL)
        try:
            return told.get(timeout=60)
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()


SUSPECTS = (
    "rank\tsplit\tid\taudio_filepath\toffset\tduration\tchannel\tspeaker\ttext\thypothesis\tloss_per_token\tscore"
    "\tcharacters_per_second\ttokens_per_frame\treason\n"
)


@pytest.fixture
def suspects(results, tmp_path):
    """A list of 25 transcripts that may be wrong; every other has an offset."""
    lines = [
        f"{n}\ttrain\tsus-{n}\t{tmp_path}/audio/5.wav\t{'1.5' if n % 2 else ''}\t2.0\t\tann\tone two\tone <i>six</i>"
        "\t4.2\t9.9\t8\t0.5\tloss per token 4.2, the median is 0.1\n"
        for n in range(1, 26)
    ]
    files.write_text(results / "speech/suspects.tsv", SUSPECTS + "".join(lines))
    scored = {"train": {"utterances": 5000, "scored": 400}, "validation": {"utterances": 61, "scored": 61}}
    files.write_json(results / "speech/suspects.json", scored)
    return results / "speech/suspects.tsv"


def test_transcripts_that_may_be_wrong_are_listed_with_audio_and_reason_where_they_were_looked_for(results, suspects):
    whole = make(results, "--suspects", suspects)
    assert 'href="#suspects"' in whole and 'id="suspects"' not in make(results)
    section = whole[whole.index('<section id="suspects"') : whole.index("<script>")]
    text = " ".join(re.sub(r"<[^>]+>", " ", section).split())
    assert "25 are listed in results/speech/suspects.tsv , here the first 20." in text
    assert "train, 400 of 5000 utterances; validation, all 61 utterances." in text
    assert re.findall(r'<audio[^>]*aria-label="(sus-\d+)"', section) == [f"sus-{n}" for n in range(1, 21)]
    assert section.count("train: loss per token 4.2, the median is 0.1") == 20 and "&lt;i&gt;six" in section
    for uri in re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', section)[:2]:
        assert soundfile.info(io.BytesIO(base64.b64decode(uri))).duration == pytest.approx(2.0, abs=0.1)


def test_a_list_without_suspects_says_so(results, suspects):
    suspects.write_text(SUSPECTS)
    text = " ".join(re.sub(r"<[^>]+>", " ", make(results, "--suspects", suspects)).split())
    assert "0 are listed in results/speech/suspects.tsv . Looked at: train" in text


@pytest.mark.parametrize(
    "broken", ["rank\tid\n1\tx\n", SUSPECTS + "1\ttrain\tx\n", SUSPECTS.replace("\t", ",") + "1\n"]
)
def test_a_list_that_is_none_is_one_line(results, suspects, broken):
    suspects.write_text(broken)
    with pytest.raises(UserError, match="suspects.tsv: not as find_suspects wrote it: delete it"):
        make(results, "--suspects", suspects)


@pytest.fixture
def augmented(results):
    """What preview_augmentation.py wrote of four utterances, the second of which was left as it is."""
    folder = results / "speech/augmentation"
    folder.mkdir()
    lines = ["file\tid\tseconds\tdone\ttext\n"]
    for n in range(1, 5):
        soundfile.write(folder / f"{n:02d}.flac", np.zeros(16000 * n), 16000)
        done = "" if n == 2 else f"speed 0.9; <street>.wav at 1{n}.0 dB"
        lines.append(f"{n:02d}.flac\tutterance {n}\t{n}.00\t{done}\tone two\n")
    (folder / "list.tsv").write_text("".join(lines))
    return folder


def test_what_training_heard_is_said_and_three_utterances_play(results, augmented):
    plain = make(results)
    assert "Augmentation" not in plain and 'id="augmentation"' not in plain
    files.write_json(results / "speech/checkpoints/leg_2/leg.json", {"augmentation": "speed 0.9, 1; telephone (p 0.5)"})
    whole = make(results, "--augmented", augmented)
    assert "Augmentation: speed 0.9, 1; telephone (p 0.5)." in whole and 'href="#augmentation"' in whole
    section = whole[whole.index('<section id="augmentation"') : whole.index('<section id="speed"')]
    assert section.count("speed 0.9; &lt;street&gt;.wav at 1") == 4 and section.count("as it is") == 2
    uris = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', section)
    heard = [soundfile.info(io.BytesIO(base64.b64decode(uri))).duration for uri in uris]
    assert heard == pytest.approx([1, 2, 3], abs=0.1), "three are enough"


@pytest.mark.parametrize("broken", [None, "file\tid\n01.flac\tx\n"])
def test_a_list_of_what_training_heard_that_is_none_is_one_line(results, augmented, broken):
    (augmented / "list.tsv").unlink() if broken is None else (augmented / "list.tsv").write_text(broken)
    with pytest.raises(UserError, match="list.tsv: not as preview_augmentation wrote it: delete the folder"):
        make(results, "--augmented", augmented)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_sorting_filtering_and_playing_work_in_a_browser(results, tmp_path):
    found = in_browser(
        make(results),
        """
        const table = document.querySelector('table.bars');
        const button = [...table.querySelectorAll('th button')].find(b => b.textContent.includes('errors'));
        const column = button.closest('th').cellIndex;
        button.click();
        const sorted = [...table.tBodies[0].rows].map(row => Number(row.cells[column].textContent));
        const input = document.getElementById('filter');
        input.value = 'utt-2';
        input.dispatchEvent(new Event('input'));
        const left = [...document.querySelectorAll('.utterance')].filter(one => !one.hidden).length;
        const sound = document.querySelector('audio');
        const ended = new Promise((good, bad) => {sound.onended = good; sound.onerror = bad;});
        await sound.play();
        await ended;
        return {sorted, left, heard: sound.currentTime, seconds: sound.duration};
        """,
        tmp_path,
    )
    assert found["sorted"] == sorted(found["sorted"], reverse=True) and len(found["sorted"]) > 1
    assert found["left"] == 1
    assert found["heard"] == found["seconds"] > 0.9, "played to its end"


def test_where_the_disk_is_full_there_is_one_line_and_neither_page_nor_figures(results, small_disk):
    disk = small_disk(100_000)
    command = [
        "--table", results / "wer_table.csv", "--results", results, "--datasets", "speech",
        "--output", disk / "report.html", "--figures", disk / "figures", "--log", disk / "log",
    ]  # fmt: skip
    done = run_script("make_report", *command)
    assert done.returncode == 1
    one_line_of_a_full_disk(done.stderr, disk)
    assert {path.name for path in disk.iterdir()} == {"log", ".log.lock"}
    small_disk(10_000_000)
    done = run_script("make_report", *command)
    assert done.returncode == 0, done.stderr
    assert (disk / "report.html").is_file() and len(list((disk / "figures").iterdir())) > 3
