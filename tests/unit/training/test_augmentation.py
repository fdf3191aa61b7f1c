"""Augmentation: each part does what its name says, as often as the configuration asks, and the same after a restart."""

import csv
import json
import random
import shutil

import numpy as np
import preview_augmentation
import pytest
import soundfile
import torch

from legs import OPTIONS, everything, flight, train, weights
from rnnt import files
from rnnt.data import audio, manifests
from rnnt.errors import UserError
from rnnt.training import augmentation, batching, callbacks, models, preflight
from rnnt.training.augmentation import Augmentation, Draw, Speeds

RATE = 16000
FRAMES_PER_SECOND = 12.5
ONCE = Draw(0, 1.0, 0)


def tone(hertz, seconds=1.0, rate=RATE):
    return (0.1 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pitch(samples, rate=RATE):
    """The loudest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    return spectrum.argmax() * rate / len(samples)


def band(samples, low, high, rate=RATE):
    """The power between two frequencies in Hz."""
    spectrum = np.square(np.abs(np.fft.rfft(samples)))
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)
    return spectrum[(hertz >= low) & (hertz < high)].sum()


def change(options, seed=1, utterances=(), speakers=()):
    """The augmentation of some options, of samples alone."""
    made = Augmentation(options, seed, RATE, utterances, speakers)
    return lambda samples, id="a", draw=ONCE: made(samples, id, draw)[0]


@pytest.fixture
def noises(tmp_path):
    """A folder with a low noise and, further down, a high one, and a file that is no audio."""
    for name, hertz in (("low.wav", 200), ("below/high.wav", 5000)):
        (tmp_path / "noises" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "noises" / name, tone(hertz, 3), RATE)
    (tmp_path / "noises/LICENSE").write_text("free")
    return tmp_path / "noises"


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
def test_faster_speech_is_shorter_and_higher(factor):
    heard = change({"speed": [factor]})(tone(440), draw=Draw(0, factor, 0))
    assert len(heard) == pytest.approx(RATE / factor, abs=1) and heard.dtype == np.float32
    assert pitch(heard) == pytest.approx(440 * factor, abs=2)


def test_the_gain_is_drawn_evenly_from_its_range():
    apply, plain = change({"gain": [-6, 6]}), tone(440)
    gains = [10 * np.log10(augmentation.power(apply(plain, str(n))) / augmentation.power(plain)) for n in range(300)]
    assert -6 <= min(gains) < -5.5 and 5.5 < max(gains) <= 6
    assert np.mean(gains) == pytest.approx(0, abs=0.6)


def test_noise_lies_so_many_decibels_below_and_comes_from_all_of_the_folder(noises):
    apply = change({"noise": {"path": str(noises), "snr": [10, 20], "probability": 1}})
    plain, ratios, kinds = tone(1000, 0.5), [], set()
    for n in range(60):
        noise = apply(plain, str(n)) - plain
        ratios.append(10 * np.log10(augmentation.power(plain) / augmentation.power(noise)))
        kinds.add(round(pitch(noise), -2))
    assert 10 <= min(ratios) < 12 and 18 < max(ratios) <= 20 and kinds == {200, 5000}


def test_a_noise_shorter_than_the_utterance_is_repeated_and_of_a_longer_one_each_takes_another_stretch(tmp_path):
    generator = np.random.default_rng(0)
    found = {}
    for seconds in (0.25, 20):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        soundfile.write(folder / "noise.flac", 0.1 * generator.standard_normal(round(seconds * RATE)), RATE)
        apply = change({"noise": {"path": str(folder), "snr": [0, 0], "probability": 1}})
        found[seconds] = [apply(tone(1000), id) - tone(1000) for id in "ab"]
    short, other = found[0.25]
    assert np.allclose(short[:4000], short[4000:8000], atol=1e-4) and np.allclose(short, other, atol=1e-4)
    assert abs(np.corrcoef(*found[20])[0, 1]) < 0.1


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_what_has_a_probability_happens_as_often(probability):
    apply, plain = change({"telephone": {"probability": probability}}), tone(440, 0.1)
    happened = np.mean([not np.array_equal(apply(plain, str(n)), plain) for n in range(200)])
    assert happened == pytest.approx(probability, abs=0.1)


def test_babble_is_of_other_speakers_each_another(tmp_path):
    rows = []
    for n in range(12):  # of 6 speakers
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, tone(500 + 200 * (n // 2), 2), RATE)
        rows.append({"audio_filepath": str(path), "offset": None, "duration": 2.0, "channel": None})
    speakers = [f"speaker {n // 2}" for n in range(12)]
    options = {"babble": {"snr": [5, 5], "probability": 1, "speakers": [2, 4]}}
    apply, plain, counts = change(options, 1, rows, speakers), tone(500), set()
    for n in range(40):
        babble = apply(plain, str(n)) - plain
        assert 10 * np.log10(augmentation.power(plain) / augmentation.power(babble)) == pytest.approx(5, abs=0.01)
        powers = [band(babble, hertz - 50, hertz + 50) / band(babble, 0, 8000) for hertz in range(500, 1700, 200)]
        heard = [share for share in powers if share > 0.01]
        assert powers[0] < 0.01, "its own speaker"
        assert heard == pytest.approx([1 / len(heard)] * len(heard), rel=0.1), "all as loud"
        counts.add(len(heard))
    assert counts == {2, 3, 4}


def test_what_is_not_finite_is_in_no_babble(tmp_path):
    rows = []
    for n in range(4):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, np.full(RATE, np.nan) if n == 1 else tone(500, 1), RATE, subtype="FLOAT")
        rows.append({"audio_filepath": str(path), "offset": None, "duration": 1.0, "channel": None})
    options = {"babble": {"snr": [5, 5], "probability": 1, "speakers": [3, 3]}}
    made = Augmentation(options, 1, RATE, rows, list("abcd"))
    samples, done = made(tone(440, 1), "x", ONCE)
    assert np.isfinite(samples).all() and "2 voices" in done[0]


def test_without_known_speakers_every_other_utterance_may_be_in_the_babble():
    assert [list(voice) for voice in augmentation._by_speaker([None, "a", "a"], 1)] == [[0], [1], [2]]
    assert [list(voice) for voice in augmentation._by_speaker(["b", "a", "b"], 2)] == [[0], [1], [2]]
    assert [list(voice) for voice in augmentation._by_speaker(["b", "a", "b"], 1)] == [[1], [0, 2]]


def test_a_simulated_room_decays_as_long_as_it_says():
    generator = np.random.default_rng(1)
    response = augmentation.simulated_response(0.5, 6.0, RATE, generator)
    assert len(response) == 0.5 * RATE and response[0] == 1
    assert 10 * np.log10(1 / np.square(response[1:]).sum()) == pytest.approx(6)
    start, end = (np.square(response[place : place + 800]).sum() for place in (1, 4001))
    assert 10 * np.log10(start / end) == pytest.approx(30, abs=2), "60 dB in 0.5 s"


def test_reverberation_keeps_place_loudness_and_length(tmp_path):
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.5
    heard = change({"reverberation": {"path": None, "probability": 1}})(click)
    assert len(heard) == RATE and np.abs(heard).argmax() == 4000 and np.abs(heard[:3990]).max() < 1e-6
    assert augmentation.power(heard) == pytest.approx(augmentation.power(click), rel=1e-3)
    other = change({"reverberation": {"path": None, "probability": 1}})(click, "b")
    assert not np.allclose(heard, other), "another room"
    response = np.zeros((8000, 2))
    response[100, 0], response[2100, 0], response[0, 1] = 1, 0.5, 1
    soundfile.write(tmp_path / "room.wav", response, RATE, subtype="FLOAT")
    heard = change({"reverberation": {"path": str(tmp_path), "probability": 1}})(click)
    assert heard[6000] / heard[4000] == pytest.approx(0.5, abs=0.01), "the echo of the first channel"
    assert np.abs(heard).argmax() == 4000


@pytest.mark.parametrize("codec", augmentation.CODECS)
def test_a_telephone_has_its_band_and_its_codec(codec):
    generator = np.random.default_rng(0)
    plain = 0.1 * generator.standard_normal(RATE).astype(np.float32)
    heard = augmentation.telephone(plain, RATE, codec)
    assert len(heard) == RATE
    inside = band(heard, 500, 3000) / band(plain, 500, 3000)
    assert inside > 0.5
    for low, high in ((0, 100), (4100, 8000)):
        assert band(heard, low, high) / band(plain, low, high) < 0.1 * inside
    loud = 30 * tone(400)
    heard = augmentation.telephone(loud, RATE, codec)
    clipped = np.clip(loud, -1, 1)
    assert np.abs(np.fft.irfft(np.fft.rfft(heard) * np.fft.rfft(clipped).conj())).max() > 0.9 * np.square(clipped).sum()


def test_both_codecs_occur_and_are_told():
    made = Augmentation({"telephone": {"probability": 1}}, 1, RATE, (), ())
    said = {made(tone(440, 0.1), str(n), ONCE)[1][0] for n in range(20)}
    assert said == {"telephone, mu-law", "telephone, GSM"}


def test_silence_and_what_is_not_finite_come_through(noises):
    options = {
        "noise": {"path": str(noises), "snr": [10, 10], "probability": 1},
        "reverberation": {"path": None, "probability": 1},
        "telephone": {"probability": 1},
    }
    assert np.isfinite(change(options)(np.zeros(RATE, np.float32))).all()
    soundfile.write(noises / "silence.wav", np.zeros(RATE), RATE)
    (noises / "low.wav").unlink()
    (noises / "below/high.wav").unlink()
    assert np.array_equal(change({"noise": options["noise"]})(tone(440)), tone(440))
    broken = np.full(RATE, np.nan, np.float32)
    assert change(options)(broken) is broken, "the guard names its utterance"


def test_what_happens_comes_from_seed_turn_and_id_alone(noises):
    options = {"gain": [-6, 6], "noise": {"path": str(noises), "snr": [0, 20], "probability": 0.5}}
    apply, plain = change(options), tone(440)
    first = apply(plain, "a")
    apply(plain, "b")
    assert np.array_equal(apply(plain, "a"), first) and np.array_equal(change(options)(plain, "a"), first)
    for other in (apply(plain, "b"), apply(plain, "a", Draw(0, 1.0, 1)), change(options, 2)(plain, "a")):
        assert not np.array_equal(other, first)


@pytest.mark.parametrize(
    ("name", "problem"), [("none", "no such folder"), ("empty", "no audio in"), ("broken", "not readable as audio")]
)
def test_a_folder_that_is_no_good_is_one_line_with_its_key(tmp_path, name, problem):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/x.wav").write_text("not a sound")
    (tmp_path / "empty/.hidden.wav").write_text("")
    for key in ("noise", "reverberation"):
        options = {key: {"path": str(tmp_path / name), "snr": [1, 2], "probability": 1}}
        with pytest.raises(UserError, match=f"^training.augmentation.{key}.path: .*{problem}") as error:
            change(options)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def corpus():
    """Durations (s) and token counts of 2,000 utterances, most of them short."""
    generator = np.random.default_rng(0)
    durations = np.clip(generator.lognormal(1.2, 0.8, 2000), 0.2, 20).round(3)
    return durations, (durations * generator.uniform(2, 6, 2000)).astype(int)


FACTORS = (0.9, 1.0, 1.1)


def sampler(corpus, factors=FACTORS, budget=100, times=None, **options):
    durations, tokens = corpus
    speeds = Speeds(factors, durations, times)
    options = {"batching": "duration", "batch_size": 16, "batch_cells": None, **options}
    buckets = batching.plan(*speeds.bounds(durations, tokens), options, budget, FRAMES_PER_SECOND, times)
    return batching.BatchSampler(buckets, 1, speeds)


def drawn(made):
    return [draw for batch in made for draw in batch]


@pytest.mark.parametrize("options", [{}, {"batch_cells": 20000}, {"batching": "fixed"}])
@pytest.mark.parametrize("factors", [FACTORS, (1.0,), (0.9, 1.0, 1.0, 1.1)])
def test_an_epoch_has_every_utterance_once_at_some_speed_and_as_many_batches_as_the_others(corpus, factors, options):
    made = sampler(corpus, factors, **options)
    for epoch in range(3):
        made.epoch = epoch
        assert sorted(draw.index for draw in drawn(made)) == list(range(2000))
        assert {draw.turn for draw in drawn(made)} == {epoch}
        assert len(list(made)) == len(made)


def test_every_utterance_has_every_factor_as_often_and_another_order_than_its_neighbour(corpus):
    made, seen = sampler(corpus), np.zeros((2000, 300))
    for epoch in range(300):
        made.epoch = epoch
        for draw in drawn(made):
            seen[draw.index, epoch] = draw.speed
    for factor in FACTORS:
        share = (seen == factor).mean(axis=1)
        assert share.mean() == pytest.approx(1 / 3, abs=0.01) and 0.2 < share.min() < share.max() < 0.47
    order = np.argsort(-corpus[0], kind="stable")
    together = np.corrcoef(seen[order[300]], seen[order[303]])[0, 1]
    assert abs(together) < 0.2, "blocks are dealt each on its own"


def test_several_processes_share_an_epoch(corpus):
    made = sampler(corpus)
    shares = [batching.BatchSampler(made.buckets, 1, made.speeds, index, 3) for index in range(3)]
    assert sorted(drawn(made)) == sorted(draw for share in shares for draw in drawn(share))


@pytest.mark.parametrize("budget", [8, 100])
def test_batches_of_changed_speed_stay_within_the_budget_with_little_padding(corpus, budget):
    durations, tokens = corpus
    made, cells = sampler(corpus, budget=budget), sampler(corpus, budget=budget, batch_cells=20000)
    for epoch in range(4):
        made.epoch = cells.epoch = epoch
        for batch in made:
            longest = max(durations[draw.index] / draw.speed for draw in batch)
            assert len(batch) * longest <= budget or len(batch) == 1
        for batch in cells:
            frames = np.ceil(max(durations[draw.index] / draw.speed for draw in batch) * FRAMES_PER_SECOND)
            assert len(batch) * frames * (max(tokens[d.index] for d in batch) + 1) <= 20000 or len(batch) == 1
    assert batching.padding(sampler(corpus, budget=100), durations) <= 0.05


def test_padding_is_that_of_the_durations_that_are_heard(corpus):
    durations, _ = corpus
    made = sampler(corpus)
    heard = [[durations[draw.index] / draw.speed for draw in batch] for batch in made]
    padded = sum(len(batch) * max(batch) for batch in heard)
    assert batching.padding(made, durations) == pytest.approx(1 - sum(map(sum, heard)) / padded)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_utterances_have_all_factors_too(count):
    durations, tokens = np.linspace(2, 1.99, count), np.arange(count)
    speeds = Speeds(FACTORS, durations)
    seconds, most = speeds.bounds(durations, tokens)
    seen = set()
    for turn in range(60):
        indices, factors = speeds.deal(np.arange(count), np.full(count, turn), 1)
        assert sorted(indices) == list(range(count))
        assert (durations[indices] / factors <= seconds).all() and (tokens[indices] <= most).all()
        seen |= set(zip(indices.tolist(), factors.tolist(), strict=True))
    assert len(seen) == 3 * count


def test_weights_keep_their_shares_and_no_utterance_has_the_same_twice(corpus):
    """What an epoch has half of takes all, before it takes one again; what it has often has another random state."""
    durations, _ = corpus
    times = np.where(np.arange(2000) % 2 == 0, 0.4, 1.6)
    made, taken, states = sampler(corpus, times=times), np.zeros(2000, int), []
    for epoch in range(10):
        made.epoch = epoch
        found = drawn(made)
        taken += np.bincount([draw.index for draw in found], minlength=2000)
        states += [(draw.index, draw.turn) for draw in found]
        parts = np.where(times < 1, "rare", "often")
        held = sum(durations[d.index] / d.speed for d in found if times[d.index] < 1)
        assert batching.shares(made, durations, parts)["rare"][0] == pytest.approx(
            held / sum(durations[d.index] / d.speed for d in found), abs=1e-4
        )
    assert len(set(states)) == len(states)
    assert np.ptp(taken[times < 1]) <= 2 and np.ptp(taken[times > 1]) <= 2
    assert taken[times > 1].mean() == pytest.approx(4 * taken[times < 1].mean(), rel=0.02)


def killed_after(step):
    """A training that dies at the end of a step, behind its rolling checkpoint."""
    go_on = callbacks.LegEnd.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step + 1:
            raise KeyboardInterrupt
        return go_on(self, args, state, control, **kwargs)

    return on_step_end


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory):
    """The noises, and the weights of a training of two epochs with everything on."""
    folder = tmp_path_factory.mktemp("undisturbed")
    soundfile.write(folder / "noise.wav", tone(300, 3), RATE)
    model, _ = train(prepared, folder / "run", steps=26, augmentation=everything(folder))
    return folder, weights(model)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_training_that_is_killed_ends_with_the_same_weights_whoever_reads(
    prepared, undisturbed, tmp_path, monkeypatch, workers
):
    """Two legs, each killed in the middle of an epoch behind a checkpoint."""
    noises, wanted = undisturbed
    previous = None
    options = {"workers": workers, "augmentation": everything(noises), "checkpoint_every_steps": 2}
    for leg, kill in ((1, 6), (2, 20)):
        run = tmp_path / f"leg{leg}"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(callbacks.LegEnd, "on_step_end", killed_after(kill))
            train(prepared, run, leg, 2, 26, previous, **options)
        model, previous = train(prepared, run, leg, 2, 26, previous, **options)
    assert torch.equal(weights(model), wanted)
    report = files.read_json(previous / "leg.json")
    assert report["augmentation"] == augmentation.describe(everything(noises))
    assert 6 < report["batches_per_epoch"] < 20, "killed in the first epoch, and in another"


PARTS = ("speed", "gain", "noise", "babble", "reverberation", "telephone", "spec_augment")


@pytest.fixture(scope="module")
def plain(prepared, tmp_path_factory):
    """The weights of a training without augmentation."""
    return weights(train(prepared, tmp_path_factory.mktemp("plain") / "run", steps=3)[0])


@pytest.mark.parametrize("part", PARTS)
def test_each_part_reaches_the_training(prepared, undisturbed, plain, tmp_path, part):
    only = {part: everything(undisturbed[0])[part]}
    if "probability" in only[part]:
        only[part]["probability"] = 1.0
    model, _ = train(prepared, tmp_path / "run", steps=3, augmentation=only)
    assert torch.isfinite(weights(model)).all() and not torch.equal(weights(model), plain)
    if part in ("noise", "spec_augment"):
        only[part] |= {"snr": [0, 0]} if part == "noise" else {"time_masks": 9}
        other, _ = train(prepared, tmp_path / "other", steps=3, augmentation=only)
        assert not torch.equal(weights(model), weights(other)), "and so does what it is set to"


def test_only_training_is_augmented(prepared, tmp_path):
    """Who asks for an utterance by its number, as decoding and the search for suspects do, gets it as it is."""
    dataset = batching.load_dataset(prepared / "train.jsonl", prepared / "tokenizer/tokenizer.model", RATE, tmp_path)
    options = {"speed": [0.9], "gain": [3, 3], "babble": {"snr": [5, 5], "probability": 1, "speakers": [2, 2]}}
    augmented = augmentation.of_dataset(dataset, options, 1, RATE)
    row, item, other = (
        manifests.read(prepared / "train.jsonl")[3],
        dataset[3],
        *augmented.__getitems__([Draw(3, 0.9, 0)]),
    )
    assert np.array_equal(item["audio"], audio.read(row["audio_filepath"], RATE))
    assert len(other["audio"]) == pytest.approx(len(item["audio"]) / 0.9, abs=1)
    assert other["id"] == item["id"] and other["tokens"] == item["tokens"]


def test_the_worst_batch_is_that_of_the_slowest_speed(prepared, tmp_path, log):
    longest = max(row["duration"] for row in manifests.read(prepared / "train.jsonl"))
    train(prepared, tmp_path / "run", steps=1, batching="fixed", augmentation={"speed": [0.5, 2.0]})
    assert f"4 utterances of {longest / 0.5:.1f} s" in log.read_text()
    assert "augmentation: speed 0.5, 2" in log.read_text()


def test_the_longest_duration_that_is_advised_is_that_of_the_file(prepared):
    made = flight(prepared, [10.0] * 8, augmentation={"speed": [0.5, 1.0]})
    assert "filter.max_duration to less than 5.0" in preflight.advice(made, 20.0)


def test_masks_are_those_of_the_configuration_and_else_the_model_s_own(prepared):
    model = models.build("contextnet_tiny", prepared / "tokenizer")
    models.settle_spec_augment(model, None)
    assert model.spec_augmentation is None
    wanted = {"frequency_masks": 1, "frequency_width": 20, "time_masks": 3, "time_width": 0.1}
    models.settle_spec_augment(model, wanted)
    spectrum, lengths = torch.ones(64, 80, 200), torch.full((64,), 200)
    masked = model.spec_augmentation(input_spec=spectrum, length=lengths) == 0
    bands, frames = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert 15 < bands.max() <= 20 and 30 < frames.max() <= 60
    models.settle_spec_augment(model, wanted | {"frequency_masks": 0, "time_masks": 0})
    assert not (model.spec_augmentation(input_spec=spectrum, length=lengths) == 0).any()
    model.train()
    assert model.cfg.spec_augment.time_masks == 0, "the exported model says what it was trained with"


def test_masks_that_nemo_draws_with_python_come_from_the_state_of_the_checkpoint(prepared):
    """As of a model whose configuration has `use_vectorized_spec_augment: false`, or `rect_masks`."""
    model = models.build("contextnet_dummy", prepared / "tokenizer")
    own = {**model.cfg.spec_augment, "use_vectorized_spec_augment": False, "rect_masks": 2}
    model.spec_augmentation = model.from_config_dict(own)
    models.settle_spec_augment(model, None)
    found, lengths = [], torch.full((4,), 200)
    for _ in range(2):
        random.seed(5)
        found.append(model.spec_augmentation(input_spec=torch.ones(4, 80, 200), length=lengths))
    assert torch.equal(*found) and (found[0] == 0).any()
    assert not torch.equal(found[0], model.spec_augmentation(input_spec=torch.ones(4, 80, 200), length=lengths))


def test_an_utterance_with_fewer_frames_than_tokens_is_learned_all_the_same(prepared, tmp_path):
    """A transducer writes several tokens a frame: at twice the speed some of these have more tokens than frames."""
    tokenizer = prepared / "tokenizer/tokenizer.model"
    durations, tokens = batching.sizes(
        batching.load_dataset(prepared / "train.jsonl", tokenizer, RATE, tmp_path), tokenizer
    )
    assert (tokens > np.ceil(durations / 2.0 * FRAMES_PER_SECOND)).any()
    model, done = train(prepared, tmp_path / "run", steps=6, augmentation={"speed": [2.0]})
    assert torch.isfinite(weights(model)).all() and files.read_json(done / "leg.json")["skipped_steps"] == 0


def test_the_preview_is_what_the_first_epoch_hears(prepared, undisturbed, tmp_path, monkeypatch):
    """Of a part with a weight too, of which an epoch has some twice, or not yet."""
    rows = [
        {**row, "part": str(n % 3 == 0), "times": 0.6 if n % 3 == 0 else 1.2}
        for n, row in enumerate(manifests.read(prepared / "train.jsonl"))
    ]
    files.write_jsonl(tmp_path / "weighted/train.jsonl", rows)
    shutil.copytree(prepared / "tokenizer", tmp_path / "weighted/tokenizer")
    options = everything(undisturbed[0]) | {"gain": [20, 20]}
    heard, before = {}, Augmentation.__call__

    def listen(self, samples, id, draw):
        found = before(self, samples, id, draw)
        if draw.turn == 0:
            heard[id] = found[0]
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Augmentation, "__call__", listen)
        train(tmp_path / "weighted", tmp_path / "run", steps=40, augmentation=options)
    folder = tmp_path / "augmentation"
    arguments = {
        "manifest": tmp_path / "weighted/train.jsonl",
        "augmentation": json.dumps(options),
        "seed": OPTIONS["seed"],
        "output": folder,
    }
    given = [part for key, value in arguments.items() for part in (f"--{key}", str(value))]
    preview_augmentation.main(preview_augmentation.parser().parse_args(given))
    with open(folder / "list.tsv", newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    assert len({row["id"] for row in listed}) == len(listed) == 10
    assert any("speed 1.1" in row["done"] for row in listed) and any(
        "dB; gain 20.0 dB" in row["done"] for row in listed
    )
    for row in listed:
        samples, rate = soundfile.read(folder / row["file"], dtype="float32")
        wanted = heard[row["id"]] / max(1.0, np.abs(heard[row["id"]]).max())
        assert rate == RATE and np.allclose(samples, wanted, atol=1e-4)
        assert float(row["seconds"]) == pytest.approx(len(samples) / RATE, abs=0.01)
    texts = {row["id"]: row["text"] for row in rows}
    assert [row["text"] for row in listed] == [texts[row["id"]] for row in listed]


def test_what_is_on_is_one_line_without_a_folder():
    said = augmentation.describe(everything("/home/somebody/noises"))
    assert said == (
        "speed 0.9, 1, 1.1; gain -6 to 6 dB; noise at 10 to 20 dB (p 0.5); babble of 1 to 3 voices at 10 to 20 dB "
        "(p 0.5); rooms, simulated (p 0.5); telephone (p 0.5); SpecAugment 2 x 10 bands, 2 x 10 % of the time"
    )
