"""Batches: every utterance once an epoch, within the budget, little padding, the same again after a restart."""

import csv

import accelerate
import numpy as np
import pytest
import soundfile

from conftest import SHARED_DATA
from rnnt import files
from rnnt.data import manifests, tokenizers
from rnnt.errors import UserError
from rnnt.training import batching

FRAMES_PER_SECOND = 12.5
OPTIONS = {"batching": "duration", "batch_size": 16, "batch_cells": None}


@pytest.fixture(scope="module")
def corpus():
    """Durations (s) and token counts of 3,000 utterances, most of them short, a few of up to 20 s."""
    random = np.random.default_rng(0)
    durations = np.clip(random.lognormal(1.2, 0.8, 3000), 0.2, 20).round(3)
    return durations, (durations * random.uniform(2, 6, 3000)).astype(int)


def sampler(corpus, budget=100, seed=1, **options):
    buckets = batching.plan(*corpus, {**OPTIONS, **options}, budget, FRAMES_PER_SECOND)
    return batching.BatchSampler(buckets, seed)


@pytest.mark.parametrize("options", [{}, {"batch_cells": 20000}, {"batching": "fixed"}])
def test_an_epoch_has_every_utterance_once_and_as_many_batches_as_the_others(corpus, options):
    made = sampler(corpus, **options)
    for epoch in range(3):
        made.epoch = epoch
        batches = list(made)
        assert sorted(index for batch in batches for index in batch) == list(range(3000))
        assert len(batches) == len(made)


def test_no_batch_is_over_the_budget(corpus):
    durations, tokens = corpus
    padded = [len(batch) * durations[batch].max() for batch in sampler(corpus, 100)]
    assert max(padded) <= 100
    assert np.mean(padded) > 80, "and the budget is used"
    cells = [
        len(batch) * np.ceil(durations[batch].max() * FRAMES_PER_SECOND) * (tokens[batch].max() + 1)
        for batch in sampler(corpus, 100, batch_cells=40000)
    ]
    assert 30000 < max(cells) <= 40000


def test_an_utterance_over_the_budget_is_a_batch_of_its_own(corpus):
    durations, _ = corpus
    batches = list(sampler(corpus, 10))
    assert all(len(batch) == 1 for batch in batches if durations[batch].max() > 10)


def test_fixed_batches_have_their_size(corpus):
    assert {len(batch) for batch in sampler(corpus, batching="fixed", batch_size=16)} <= {15, 16}


def test_batches_are_drawn_anew_every_epoch_and_alike_from_the_same_seed(corpus):
    made = sampler(corpus)
    first = list(made)
    assert list(made) == first == list(sampler(corpus))
    assert list(sampler(corpus, seed=2)) != first
    made.epoch = 1
    together = {frozenset(batch) for batch in first}
    again = sum(frozenset(batch) in together for batch in made)
    assert again < 0.2 * len(first), "batches are mixed, not only reordered"


def test_processes_share_out_the_batches_of_one_and_the_first_has_a_share_of_each(corpus):
    made = sampler(corpus, budget=25)
    shares = [list(batching.BatchSampler(made.buckets, 1, None, index, 3)) for index in range(3)]
    for whole, parts in zip(made, zip(*shares, strict=True), strict=True):
        assert sorted(index for part in parts for index in part) == sorted(whole) and parts[0]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert min(map(len, shares[1])) == 0, "of a batch of one utterance"
    assert batching.collate([]) == {"ids": []}


def test_padding_is_a_few_percent_where_random_batches_pad_a_third_and_more(corpus):
    assert batching.padding(sampler(corpus), corpus[0]) <= 0.05
    assert batching.padding(sampler(corpus, batching="fixed"), corpus[0]) >= 0.33


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ../shared/data here")
@pytest.mark.parametrize("budget", [40, 160, 640])
def test_padding_on_librispeech_is_at_most_five_percent(budget):
    with open(SHARED_DATA / "librispeech_train_clean_100.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    durations = np.array([float(row["seconds"]) for row in rows])
    assert len(durations) == 28539
    made = sampler((durations, np.array([len(row["text"]) // 4 for row in rows])), budget)
    assert batching.padding(made, durations) <= 0.05


@pytest.mark.shared_data
def test_padding_on_real_digits_is_at_most_five_percent(digits):
    durations = np.array([soundfile.info(path).duration for path in (digits / "train").glob("*.flac")])
    made = sampler((durations, (5 * durations).astype(int)), 40)
    assert batching.padding(made, durations) <= 0.05


def test_a_resumed_epoch_skips_batches_without_reading_them(corpus):
    made = sampler(corpus)
    loader = accelerate.skip_first_batches(
        accelerate.Accelerator(cpu=True).prepare(
            batching.torch.utils.data.DataLoader(range(3000), batch_sampler=made, collate_fn=list)
        ),
        5,
    )
    assert list(loader) == list(made)[5:]


def test_batches_hold_audio_and_tokens_with_their_lengths(prepared, tmp_path):
    tokenizer = prepared / "tokenizer/tokenizer.model"
    dataset = batching.load_dataset(prepared / "train.jsonl", tokenizer, 16000, tmp_path)
    rows = manifests.read(prepared / "train.jsonl")
    batch = batching.collate([dataset[i] for i in range(4)])
    assert batch["ids"] == [row["id"] for row in rows[:4]]
    assert batch["audio"].shape == (4, max(batch["audio_lengths"]))
    processor = tokenizers.load(tokenizer.read_bytes())
    for i in range(4):
        assert batch["audio_lengths"][i] == round(rows[i]["duration"] * 16000)
        assert (batch["audio"][i, batch["audio_lengths"][i] :] == 0).all()
        assert processor.decode(batch["tokens"][i, : batch["token_lengths"][i]].tolist()) == rows[i]["text"]
    durations, tokens = batching.sizes(dataset, tokenizer)
    assert durations.tolist() == [row["duration"] for row in rows]
    assert tokens[:4].tolist() == batch["token_lengths"].tolist()


def dataset_of(manifest, tokenizer, cache):
    return batching.load_dataset(manifest, tokenizer, 16000, cache).with_format(None)


@pytest.mark.parametrize("folder", ["plain", "x [v2]", "a*b", "a?b", "g::h", "$HOME", "brace{x}"])
def test_a_manifest_s_path_is_no_pattern_and_its_texts_no_dates(prepared, tmp_path, folder):
    tokenizer = prepared / "tokenizer/tokenizer.model"
    rows = [
        {"id": "2021-01-01", "audio_filepath": "2021-01-02", "duration": 1, "text": "2021-02-02", "speaker": "0"},
        {"id": "7", "audio_filepath": "x [v2]/y.flac", "offset": 0.1, "duration": 2.5, "channel": 0, "text": "é\u2028"},
        {"id": "long", "audio_filepath": "z", "duration": 3.25, "text": "so " * 1_000_000, "other": [{"a": 1}]},
    ]
    columns = ("id", "audio_filepath", "offset", "duration", "channel", "speaker", "stm", "text", "part", "times")
    for place in (tmp_path / folder, tmp_path / "aXb"):
        files.write_jsonl(place / "train.jsonl", rows if place.name == folder else rows[:1])
    found = dataset_of(tmp_path / folder / "train.jsonl", tokenizer, tmp_path / folder / "cache")
    assert list(found) == [{name: row.get(name) for name in columns} for row in rows]
    assert found.cache_files, "mapped, not in memory"
    # Edited within the same second, of the same length.
    files.write_jsonl(tmp_path / folder / "train.jsonl", [{**row, "id": row["id"][::-1]} for row in rows])
    found = dataset_of(tmp_path / folder / "train.jsonl", tokenizer, tmp_path / folder / "cache")
    assert found["id"][:] == ["10-10-1202", "7", "gnol"]


@pytest.mark.parametrize("line", ["", '{"id": 7, "text": "a"}', "[1]", '{"id": "a", "id": "b"}', '{"id": "a"'])
def test_what_is_no_manifest_is_one_line(prepared, tmp_path, line):
    (tmp_path / "train.jsonl").write_text(line)
    with pytest.raises(UserError, match="train.jsonl: not a manifest of this pipeline") as error:
        dataset_of(tmp_path / "train.jsonl", prepared / "tokenizer/tokenizer.model", tmp_path / "cache")
    assert "\n" not in str(error.value) and not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(("weight", "batching_kind"), [(0.05, "duration"), (0.4, "duration"), (0.2, "fixed")])
def test_a_weighted_part_has_its_share_of_the_audio_of_every_epoch(corpus, weight, batching_kind):
    durations, _ = corpus
    parts = np.where(np.arange(3000) % 3 == 0, "old", "new")
    entries = [[{"duration": d} for d in durations[parts == name]] for name in ("new", "old")]
    new, old = manifests.weigh(list(zip(entries, (None, weight), strict=True)))
    times = np.where(parts == "old", old, new)
    options = {**OPTIONS, "batching": batching_kind}
    made = batching.BatchSampler(batching.plan(*corpus, options, 100, FRAMES_PER_SECOND, times), 1)
    taken, shares = np.zeros(3000, int), []
    for epoch in range(8):
        made.epoch = epoch
        batches = list(made)
        assert len(batches) == len(made)
        drawn = np.bincount(np.concatenate(batches), minlength=3000)
        assert (drawn[parts == "new"] == 1).all(), "what has no weight is there once"
        share, least, most = batching.shares(made, durations, parts)["old"]
        assert share == pytest.approx(weight, rel=0.15) and least <= share <= most
        shares.append(share)
        taken += drawn
        if batching_kind == "duration":
            assert max(len(batch) * durations[batch].max() for batch in batches) <= 100
    assert np.mean(shares) == pytest.approx(weight, rel=0.03)
    for bucket in made.buckets:
        for indices, *_ in bucket.parts:
            assert np.ptp(taken[indices]) <= 1, "each epoch takes others, until all were taken"
    made.epoch = 3
    first = list(made)
    assert list(made) == first, "and the same again after a restart"


def test_what_an_epoch_has_of_each_part_comes_from_the_manifest(tmp_path, prepared):
    rows = manifests.read(prepared / "train.jsonl")
    files.write_jsonl(tmp_path / "plain.jsonl", rows)
    weighted = [{**row, "part": f"part {n % 2}", "times": 0.5 + n % 2} for n, row in enumerate(rows)]
    files.write_jsonl(tmp_path / "weighted.jsonl", weighted)
    load = lambda name: batching.load_dataset(  # noqa: E731
        tmp_path / name, prepared / "tokenizer/tokenizer.model", 16000, tmp_path / "cache"
    )
    assert batching.parts(load("plain.jsonl")) is None
    parts, times = batching.parts(load("weighted.jsonl"))
    assert parts.tolist() == [row["part"] for row in weighted] and times.tolist() == [row["times"] for row in weighted]


def plain_epoch(buckets, seed, epoch):
    """An epoch's batches with Python's lists, as they were drawn before there were millions of utterances."""
    random = np.random.default_rng([seed, epoch])
    found = []
    for number, bucket in enumerate(buckets):
        slots, left = [], bucket.batches
        for place, (indices, count, begin) in enumerate(bucket.parts):
            start, end = (int(count * e + begin + 1e-6) for e in (epoch, epoch + 1))
            if place == len(bucket.parts) - 1:
                end += max(0, left - (end - start))
            left -= end - start
            mixed = {turn: np.random.default_rng([seed, number, place, turn]).permutation(np.array(indices, np.int64))
                     for turn in range(start // len(indices), end // len(indices) + 1)}  # fmt: skip
            slots += [int(mixed[n // len(indices)][n % len(indices)]) for n in range(start, end)]
        slots = slots if bucket.parts else [int(index) for index in bucket.indices]
        slots = [slots[n] for n in random.permutation(len(slots)).tolist()]
        short, longer = divmod(len(slots), bucket.batches)
        for batch in range(bucket.batches):
            size = short + (batch < longer)
            found.append(slots[:size])
            slots = slots[size:]
    return [found[n] for n in random.permutation(len(found)).tolist()]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("times", [None, (0.37, 1.0), (2.6, 0.1)])
@pytest.mark.parametrize("kind", ["duration", "fixed"])
def test_batches_are_those_that_a_training_began_with_before_they_were_arrays(corpus, kind, times, processes):
    times = None if times is None else np.where(np.arange(3000) % 3 == 0, *times)
    options = {**OPTIONS, "batching": kind}
    sizes = corpus[0], corpus[1].astype(np.int32)
    buckets = batching.plan(*sizes, options, 100, FRAMES_PER_SECOND, times)
    made = [batching.BatchSampler(buckets, 5, None, index, processes) for index in range(processes)]
    for epoch in range(3):
        for sampler in made:
            sampler.epoch = epoch
            assert all(b.indices.dtype == b.turns.dtype == np.int32 for b in sampler.batches())
        whole = plain_epoch(buckets, 5, epoch)
        assert [list(share) for share in made] == [[batch[n::processes] for batch in whole] for n in range(processes)]


def test_a_small_share_of_a_large_corpus_reaches_all_of_it():
    """200 utterances of one's own and 2,800 of another corpus, which fill two percent of an epoch."""
    random = np.random.default_rng(1)
    durations = random.uniform(1, 20, 3000)
    own = np.arange(3000) < 200
    _, times = manifests.weigh([([{"duration": d} for d in durations[own == is_own]], weight)
                                for is_own, weight in ((True, None), (False, 0.02))])  # fmt: skip
    buckets = batching.plan(durations, durations.astype(int), OPTIONS, 60, 12.5, np.where(own, 1.0, times))
    made = batching.BatchSampler(buckets, 1)
    taken, shares = np.zeros(3000, int), []
    for epoch in range(1000):
        made.epoch = epoch
        batches = list(made)
        assert len(batches) == len(made) and all(batches)
        taken += np.bincount(np.concatenate(batches), minlength=3000)
        shares.append(batching.shares(made, durations, np.where(own, "own", "other"))["other"][0])
    assert np.mean(shares) == pytest.approx(0.02, rel=0.1)
    assert (taken[~own] > 0).mean() == 1.0 and (taken[own] == 1000).all()
