"""Intervals and paired tests: against all outcomes counted, and on cases where the truth is known."""

import csv
import dataclasses
import importlib.util
import itertools
import random

import numpy as np
import pytest
from scipy import stats

from conftest import ROOT, run_script
from rnnt import files
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, significance
from rnnt.evaluation.error_rate import ErrorRate, Seeds


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


def of_speakers(errors, words):
    """One utterance a speaker."""
    errors, words = np.array(errors), np.array(words)
    return ErrorRate(errors, 0 * words, 0 * words, words, tuple(f"s{n}" for n in range(len(words))))


def test_the_interval_is_by_speakers_where_all_are_known_and_else_by_utterances():
    rows = hypotheses(0.3, speakers=10)
    found = error_rate.of(rows).interval()
    assert found.by == "10 speakers" and found.low < error_rate.of(rows).percent < found.high
    del rows[7]["speaker"]
    narrow = error_rate.of(rows).interval()
    assert narrow.by == "300 utterances: other speakers not covered"
    assert narrow.high - narrow.low < (found.high - found.low) / 1.3
    assert str(narrow) == f"{narrow.low:.2f} to {narrow.high:.2f} by {narrow.by}"


@pytest.mark.parametrize(
    ("words", "by"),
    [
        ([100], "none: one speaker"),
        ([100, 100], "none: two speakers"),
        ([300, 100, 100, 100], "none: one speaker has 50 % of the words"),
        ([900, 50, 50], "none: one speaker has 90 % of the words"),
    ],
)
def test_two_speakers_and_one_that_outweighs_the_others_have_no_interval(words, by):
    for errors in ([n + 3 for n in range(len(words))], [0] * len(words)):
        found = of_speakers(errors, words)
        assert found.interval() == (None, None, by) and str(found.interval()) == by
        assert found.minus(found) == (0.0, (None, None, by), 1.0)
    rows = hypotheses(0.3, utterances=2)
    assert error_rate.of([{**row, "speaker": None} for row in rows]).interval().by == "none: two utterances"


def of_seeds(*errors, words):
    return Seeds(tuple(of_speakers(each, words) for each in errors))


def the_benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "tests/benchmarks/coverage.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark


def test_intervals_cover_as_often_as_they_say():
    """1,500 test sets a case, as tests/benchmarks/coverage.py has many: few speakers, whose WERs differ much."""
    benchmark = the_benchmark()
    for speakers, sigma in ((3, 0.3), (6, 0.6), (20, 1.0)):
        draw = np.random.default_rng(speakers)
        words = np.full((1500, speakers), 2000)
        *held, alarms = benchmark.simulate(draw, 1500, words, 0.05, sigma)
        assert all(0.91 <= share <= 0.985 for share in held), (speakers, held)
        assert alarms <= 0.06


def test_intervals_of_three_seeds_hold_one_more_seed_and_the_difference_of_means():
    """1,000 test sets a case: seeds that differ less than speakers, as much, and more."""
    benchmark = the_benchmark()
    for speakers, sigma, spread in ((3, 0.6, 0.03), (6, 0.3, 0.1), (20, 0, 0.2)):
        draw = np.random.default_rng(speakers)
        words = np.full((1000, speakers), 1000)
        *held, zero_shot, recipes = benchmark.simulate_seeds(draw, 1000, words, 0.05, sigma, spread, (3, 3))
        assert all(0.92 <= share <= 0.99 for share in held), (speakers, held)
        assert spread < 0.2 or max(zero_shot, recipes) <= 0.06, (speakers, zero_shot, recipes)


def test_one_seed_is_that_model_alone():
    a, b = of_speakers([5, 9, 4, 7], [100] * 4), of_speakers([3, 8, 1, 9], [100] * 4)
    one, other = Seeds((a,)), Seeds((b,))
    assert (one.percent, one.sd, one.interval()) == (a.percent, None, a.interval())
    for paired in (True, False):
        assert one.minus(other, paired=paired) == a.minus(b)
    assert a.interval().by == a.minus(b).interval.by == "4 speakers"


def test_seeds_that_differ_widen_the_interval_and_alike_ones_do_not():
    errors, words = np.array([50, 90, 40, 70]), [1000] * 4
    alike, apart = (of_seeds(errors - by, errors, errors + by, words=words) for by in (0, 10))
    assert (alike.percent, alike.sd) == (apart.percent, 0.0) and apart.sd == pytest.approx(1.0)
    alone, same, wide = of_speakers(errors, words).interval(), alike.interval(), apart.interval()
    assert same[:2] == alone[:2] and wide.low < alone.low and wide.high > alone.high
    assert wide.by == "4 speakers and 3 seeds"
    # By seeds alone, of speakers that are alike: Student's t of 2 degrees of freedom, for one seed more.
    many = of_seeds(*(np.full(400, each) for each in (90, 100, 110)), words=[1000] * 400).interval()
    half = 4.303 * 0.1 * (1 + 1 / 3) ** 0.5
    assert np.log([many.low / 10, many.high / 10]) == pytest.approx([-half, half], rel=0.01)
    unknown = Seeds(tuple(dataclasses.replace(rate, speakers=()) for rate in apart.rates))
    assert unknown.interval().by == "4 utterances and 3 seeds: other speakers not covered"
    few = of_seeds([5, 9], [4, 8], words=[100, 100]).interval()
    assert few == (None, None, "none: two speakers")


def test_without_an_error_of_any_seed_the_limit_is_that_of_one():
    """The utterances are the same: three seeds are no three times as many."""
    words = [40] * 30
    none, one = of_seeds([0] * 30, [0] * 30, [0] * 30, words=words), of_speakers([0] * 30, words)
    assert none.interval()[:2] == one.interval()[:2] and none.sd == 0
    same = none.minus(none, paired=False)
    assert (same.difference, same.p_value) == (0.0, 1.0) and same.interval[:2] == one.minus(one).interval[:2]
    none, hardly = (of_seeds(*[[0] * 3] * 9, [each, 0, 0], words=[400] * 3).interval() for each in (0, 1))
    assert hardly.high >= none.high, "never less for more errors"


def test_a_difference_is_no_more_certain_than_the_seeds_agree():
    words, base = [1000] * 10, np.array([50, 90, 40, 70, 60, 55, 80, 45, 65, 75])
    tuned = of_seeds(base - 25, base - 10, base + 5, words=words)
    pretrained = Seeds((of_speakers(base, words),))
    alike = of_seeds(base - 10, base - 10, base - 10, words=words)
    agreed, doubtful = (each.minus(pretrained, paired=True) for each in (alike, tuned))
    assert agreed.difference == doubtful.difference == -1.0
    assert agreed.p_value == pytest.approx(2**-9) and agreed.interval.high < 0
    # By seeds alone: t = 10 / (15 / 3 ** 0.5) of 2 degrees of freedom.
    assert doubtful.p_value == pytest.approx(0.3675, abs=0.001) and doubtful.interval.high > 0
    assert doubtful.interval.by == "10 speakers and the mean of 3 seeds"
    assert pretrained.minus(tuned, paired=True).p_value == pytest.approx(doubtful.p_value)
    # One of many models is less certain than all there is: t = 25 / 3 by the root of 1 / 3, of 4 / 3.
    better = of_seeds(base - 28, base - 25, base - 22, words=words)
    all_there_is, one_of_many = (better.minus(pretrained, paired=each).p_value for each in (True, False))
    assert all_there_is == pytest.approx(0.00477, rel=0.01) and one_of_many == pytest.approx(0.0187, rel=0.01)
    mostly = np.array([10, 10, 10, 10, 10, 10, -1])
    worse = of_seeds(*[base[:7] + mostly] * 3, words=words[:7])
    assert worse.minus(Seeds((of_speakers(base[:7], words[:7]),)), paired=True).p_value == pytest.approx(4 / 2**7)
    searched = Seeds(tuple(of_speakers(rate.errors - 4, words) for rate in tuned.rates))
    paired, own = (searched.minus(tuned, paired=each) for each in (True, False))
    assert paired.p_value == pytest.approx(2**-9) and own.p_value > 0.5, "the same models, or others"
    assert paired.interval.high < 0 < own.interval.high


def test_the_interval_of_a_difference_is_of_means_as_its_p_value_is():
    """By seeds alone, of speakers that are alike: Student's t of the means."""
    words, both = [1000] * 400, np.ones(400, dtype=int)
    recipe, other = (of_seeds(*(by * both for by in each), words=words) for each in ((90, 100, 110), (78, 80, 82)))
    pretrained = Seeds((of_speakers(120 * both, words),))
    for a, b, paired, variance, freedom in (
        (recipe, pretrained, True, 1 / 3, 2),
        (recipe, other, True, 0.64 / 3, 2),
        (recipe, other, False, 1 / 3 + 0.04 / 3, 1.04**2 / (1 / 2 + 0.04**2 / 2)),
        (recipe, pretrained, False, 1 + 1 / 3, 2),
    ):
        difference, (low, high, _), p = a.minus(b, paired=paired)
        error = variance**0.5
        assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=0.01)
        assert p == pytest.approx(2 * stats.t.sf(abs(difference) / error, freedom), rel=0.03)
    draw, agreed, certain = np.random.default_rng(5), 0, 0
    for n in range(300):
        rates = 50 * draw.lognormal(0, 0.3, 20) * draw.lognormal(0, 0.1, (2, 3, 1))
        a, b = (of_seeds(*draw.poisson(each), words=[1000] * 20) for each in (rates[0], 0.8 * rates[1]))
        _, interval, p = b.minus(a, paired=n % 2 == 0)
        certain += p <= 0.05
        agreed += (p <= 0.05) == (interval.high < 0 or interval.low > 0)
    assert 60 < certain < 240 and agreed >= 285


def test_seeds_no_further_apart_than_their_noise_add_nothing():
    """Speakers that exchange 12 errors: noise of variance 16. By it alone 44 % of variances are less than 0.580 times
    as much, and 75 % than 1.386 times, of two degrees of freedom."""
    words, errors, shift = [1000] * 10, np.array([50, 90, 40, 70, 60, 55, 80, 45, 65, 75]), 12 * (-1) ** np.arange(10)
    alone = of_speakers(errors, words)

    def wider(half, seeds):
        """Student's t of ten speakers, and of three seeds: 2.262 and 4.303, where a normal distribution has 1.960."""
        speakers = (half / 2.2622) ** 2
        excess = np.hypot(speakers * (2.2622**2 - 1.96**2), seeds * (4.3027**2 - 1.96**2))
        return (1.96**2 * (speakers + seeds) + excess) ** 0.5

    for by in (2, 3, 4, 20):
        recipe = of_seeds(errors - shift - by, errors, errors + shift + by, words=words)
        center = 100 * (errors.sum() + 0.5) / 10000
        widths = [np.log(center / each.interval().low) * center for each in (Seeds((alone,)), recipe)]
        widths += [-each.minus(Seeds((alone,)), paired=True).interval.low for each in (Seeds((alone,)), recipe)]
        left = [max(by**3 - (16 * share) ** 1.5, 0) ** (2 / 3) / 100 for share in (0.5798, 1.3863)]
        assert widths[1] == pytest.approx(wider(widths[0], 4 / 3 * left[0]), rel=1e-3)
        assert widths[3] == pytest.approx(wider(widths[2], left[1] / 3), rel=1e-3)


def test_the_interval_says_whose_seeds_it_covers():
    words = [100] * 5
    three, two = (of_seeds(*([5 + n, 9, 4, 7, 6] for n in range(count)), words=words) for count in (3, 2))
    one = Seeds(three.rates[:1])
    for a, b, paired, by in (
        (three, three, True, "5 speakers and the mean of 3 seeds"),
        (three, one, True, "5 speakers and the mean of 3 seeds"),
        (three, two, False, "5 speakers, mean of 3 seeds against mean of 2 seeds"),
        (three, one, False, "5 speakers, mean of 3 seeds against one seed: its spread is taken as theirs"),
        (one, two, False, "5 speakers, one seed against mean of 2 seeds: its spread is taken as theirs"),
    ):
        assert a.minus(b, paired=paired).interval.by == by
    unknown = [Seeds(tuple(dataclasses.replace(rate, speakers=()) for rate in each.rates)) for each in (one, two)]
    assert unknown[0].minus(unknown[1], paired=False).interval.by == (
        "5 utterances, one seed against mean of 2 seeds: its spread is taken as theirs, other speakers not covered"
    )
    with pytest.raises(UserError, match="3 and 2 seeds: these are not the same models"):
        three.minus(two, paired=True)


def test_blocks_that_are_alike_give_the_interval_of_a_mean():
    """Student's t on the mean of log-like changes: at small relative differences the textbook interval."""
    errors, words = np.array([990, 1010, 1005, 995, 1000]), np.full(5, 10000)
    low, high = significance.interval(errors[None], words)
    half = 2.776 * (errors / words).std(ddof=1) / 5**0.5
    at_least = (1 / 5000.5) ** 0.5 * 0.1
    assert (high - low) / 2 == pytest.approx(max(half, at_least), rel=0.01)
    spread = np.array([900, 1100, 1050, 950, 1000])
    low, high = significance.interval_of_difference(np.full((1, 5), 1000), spread[None], words, paired=True)
    assert (high - low) / 2 == pytest.approx(2.776 * (spread / words).std(ddof=1) / 5**0.5, rel=0.01)


def test_without_an_error_the_limit_is_exact_times_what_speakers_differ_by():
    assert of_speakers([0] * 1000, [10] * 1000).interval()[:2] == (0.0, pytest.approx(100 * 3.689 / 10000, rel=0.01))
    few, many = (of_speakers([0] * n, [1200 // n] * n).interval().high for n in (3, 40))
    assert few > 1.25 * many > 1.25 * 100 * 3.689 / 1200
    same = of_speakers([1, 2, 3], [100] * 3)
    difference, interval, p = same.minus(same)
    assert (difference, p) == (0.0, 1.0) and interval.low == -interval.high < 0


def test_where_one_speaker_has_all_errors_the_interval_says_nothing_but_no_nonsense():
    worse, better = of_speakers([400, 0, 0], [1000] * 3), of_speakers([300, 1, 0], [1000] * 3)
    low, high, by = worse.interval()
    assert low < 0.1 and (high, by) == (100.0, "3 speakers")
    assert of_speakers([4000, 0, 0], [1000] * 3).interval().high == pytest.approx(800 / 3)
    found = better.minus(worse)
    assert (found.interval.low, found.p_value) == (-100.0, 1.0) and 0 < found.interval.high < 100


def test_the_p_value_is_that_of_all_signs():
    draw = np.random.default_rng(2)
    for blocks in (1, 2, 5, 9):
        for _ in range(20):
            d = draw.integers(-4, 6, blocks)
            signs = itertools.product((1, -1), repeat=blocks)
            share = np.mean([abs(np.dot(d, s)) >= abs(d.sum()) for s in signs])
            assert significance.signs(d) == pytest.approx(share, abs=1e-9)
    assert significance.signs(np.full(6, 40)) == pytest.approx(1 / 32), "no less, however great the difference"
    assert significance.signs(np.full(4000, 1)) <= 1e-11


def test_a_real_difference_is_found_and_none_is_not():
    worse, better, same = (error_rate.of(hypotheses(rate, seed=n)) for n, rate in ((1, 0.3), (2, 0.2), (3, 0.3)))
    found = better.minus(worse)
    assert found.difference < 0 and found.interval.high < 0 and found.p_value < 0.01
    assert found.interval.low < found.difference < found.interval.high and found.interval.by == "30 speakers"
    none = same.minus(worse)
    assert none.interval.low < 0 < none.interval.high and none.p_value > 0.05


def test_what_is_not_of_the_same_utterances_is_not_compared():
    a = of_speakers([1, 0, 0], [5, 5, 5])
    for other in (of_speakers([1, 0, 0], [5, 6, 5]), dataclasses.replace(a, speakers=("s0", "s0", "s1"))):
        for refused in (
            lambda other=other: a.minus(other),
            lambda other=other: Seeds((a, a, other)),
            lambda other=other: Seeds((a, a)).minus(Seeds((other, other)), paired=False),
        ):
            with pytest.raises(UserError, match="on the same references alone"):
                refused()


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
        assert file.readline() == "dataset,split,a,b,wer_a,wer_b,difference,low,high,p_value,interval_by\n"
        assert file.readline().startswith("one,test,zero-shot,beam,39.31,18.83,-20.47,-")
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert [(row["a"], row["b"]) for row in rows] == [
        ("zero-shot", "beam"), ("greedy", "beam"), ("one test beam", "two test beam"),
    ]  # fmt: skip
    assert all(row["interval_by"] == "30 speakers" for row in rows)
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


def test_a_recipe_s_seeds_are_one_system_and_no_seed_is_compared_with_another(tmp_path):
    """Tuned with two seeds from one model; another recipe has one seed."""
    paths = []
    for name, rate in (("one/evaluation/leg_0/beam", 0.4), ("one/evaluation/leg_3/beam", 0.2),
                       ("one/seed_5/evaluation/leg_3/beam", 0.22), ("two/evaluation/leg_3/beam", 0.3)):  # fmt: skip
        paths.append(tmp_path / name / "test.jsonl")
        files.write_jsonl(paths[-1], hypotheses(rate, seed=len(paths)))
    done = run_script("make_comparisons", "--hypotheses", *paths, "--output", tmp_path / "c.csv")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["a"], row["b"]) for row in rows] == [("zero-shot", "beam"), ("one test beam", "two test beam")]
    means = [np.mean([error_rate.of(files.read_jsonl(path)).percent for path in paths[n : n + 2]]) for n in (1,)]
    assert float(rows[0]["wer_b"]) == pytest.approx(means[0], abs=0.006)
    assert "2 seeds" in rows[0]["interval_by"] and "one" in rows[1]["interval_by"]
