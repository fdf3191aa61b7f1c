"""Utterances as other speakers, rooms and channels would have them: their samples are changed, in training alone.

What happens to an utterance comes from the seed, how often all utterances were taken before, and its id: it is the same
in any number of the data loader's processes, and after a kill.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
import scipy.signal
import soundfile
import soxr

from rnnt.corpora import local
from rnnt.data import audio
from rnnt.errors import UserError

KEY = "training.augmentation"
TELEPHONE_RATE = 8000  # Hz
BAND = scipy.signal.butter(4, (300, 3400), "bandpass", fs=TELEPHONE_RATE, output="sos")  # Hz, of ITU-T G.712
CODECS = {"ULAW": "mu-law", "GSM610": "GSM"}  # by libsndfile's name
PREVIEW_RATE = 16000  # Hz, of most models
LIST = "list.tsv"  # of the examples
DECAY = (0.2, 0.8)  # seconds until a simulated room is silent (RT60): from a furnished room to a hall
DIRECT = (0, 12)  # dB that the direct sound of a simulated room has over all that follows it


class Draw(NamedTuple):
    """An utterance that is to be heard: its place in the data set, its speed, and how often all were taken before."""

    index: int
    speed: float
    turn: int


class Speeds:
    """Which utterance is heard at which speed, each with the same probability, while the durations stay as planned.

    As many neighbours by duration as there are factors are dealt out to one slot for each factor, anew in every turn.
    So each utterance is heard once a turn, and the slots, of which batches are planned, are as long in all of them.
    """

    def __init__(self, factors: Sequence[float], durations: np.ndarray, times: np.ndarray | None = None):
        self.factors = np.array(factors, dtype=float)
        count = len(self.factors)
        order = np.argsort(-durations, kind="stable")
        kinds = np.zeros(len(order), int) if times is None else np.unique(times, return_inverse=True)[1]
        order = order[np.argsort(kinds[order], kind="stable")]  # what an epoch has more often is dealt apart
        kinds = kinds[order]
        place = np.arange(len(order)) - np.searchsorted(kinds, kinds)
        sizes = np.bincount(kinds)[kinds]
        numbers = np.cumsum(place % count == 0) - 1
        self.members = np.zeros((numbers[-1] + 1, count), np.int32)
        self.members[numbers, place % count] = order
        self.block, self.position, self.whole = (np.empty(len(order), kind) for kind in (np.int32, np.int32, bool))
        self.block[order], self.position[order] = numbers, place % count
        self.whole[order] = place - place % count + count <= sizes  # else there are fewer utterances than factors

    def bounds(self, durations: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The most seconds and tokens that each slot ever has."""
        longest, most = (np.zeros(len(self.members), values.dtype) for values in (durations, tokens))
        np.maximum.at(longest, self.block, durations)
        np.maximum.at(most, self.block, tokens)
        slowest = np.where(self.whole, self.factors[self.position], self.factors.min())
        return longest[self.block] / slowest, most[self.block]

    def deal(self, slots: np.ndarray, turns: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The utterances that are in the slots in some turns, and their speeds."""
        indices, speeds = np.empty(len(slots), np.int32), np.empty(len(slots))
        for turn in np.unique(turns):
            here = turns == turn
            block, position, whole = (values[slots[here]] for values in (self.block, self.position, self.whole))
            cards = np.random.default_rng([seed, turn, *b"speed"]).random(self.members.shape).argsort(axis=1)
            dealt = cards[block, position]
            indices[here] = np.where(whole, self.members[block, dealt], slots[here])
            speeds[here] = self.factors[np.where(whole, position, dealt)]
        return indices, speeds


class Augmentation:
    """What `options`, those of `training.augmentation` that are on, do to an utterance's samples at `rate` Hz.

    `utterances` are the training split, from which babble is drawn: rows with `audio_filepath`, `offset`, `duration`
    and `channel`; `speakers` who speaks in each, None where that is not known.
    Raises UserError where a folder has no audio, or some that can't be read.
    """

    def __init__(self, options: dict, seed: int, rate: int, utterances: Sequence[dict], speakers: Sequence[str | None]):
        self.options, self.seed, self.rate, self.utterances = options, seed, rate, utterances
        self.noises, self.responses = (_recordings(options, name) for name in ("noise", "reverberation"))
        self.speakers = _by_speaker(speakers, options["babble"]["speakers"][1]) if "babble" in options else []

    def __call__(self, samples: np.ndarray, id: str, draw: Draw) -> tuple[np.ndarray, list[str]]:
        """The samples, float32 [samples / speed], and what was done to them, in words."""
        if not np.isfinite(samples).all():
            return samples, []  # the guard names it
        random = np.random.default_rng([self.seed, draw.turn, *hashlib.sha256(id.encode()).digest()])
        done = []
        if draw.speed != 1:
            samples = soxr.resample(samples, draw.speed * self.rate, self.rate)
            done.append(f"speed {draw.speed:g}")
        for name, change in (
            ("reverberation", self._reverberate),
            ("babble", self._babble),
            ("noise", self._noise),
            ("telephone", self._telephone),
        ):
            if name in self.options and random.random() < self.options[name]["probability"]:
                samples, what = change(samples, random, draw.index)
                done.append(what)
        if "gain" in self.options:
            gain = random.uniform(*self.options["gain"])
            samples = samples * 10 ** (gain / 20)
            done.append(f"gain {gain:.1f} dB")
        return np.ascontiguousarray(samples, dtype=np.float32), done

    def _reverberate(self, samples: np.ndarray, random: np.random.Generator, _) -> tuple[np.ndarray, str]:
        if not self.responses:
            decay, direct = random.uniform(*DECAY), random.uniform(*DIRECT)
            response = simulated_response(decay, direct, self.rate, random)
            return reverberate(samples, response), f"a room that decays in {decay:.2f} s"
        chosen = self.responses[random.integers(len(self.responses))]
        response = audio.read(chosen["audio_filepath"], self.rate, channel=0)  # the mean of several would be no room
        return reverberate(samples, response), f"the room of {chosen['name']}"

    def _noise(self, samples: np.ndarray, random: np.random.Generator, _) -> tuple[np.ndarray, str]:
        chosen = self.noises[random.integers(len(self.noises))]
        snr = random.uniform(*self.options["noise"]["snr"])
        noise = self._stretch(chosen, len(samples), random)
        return mix(samples, noise, snr), f"{chosen['name']} at {snr:.1f} dB"

    def _babble(self, samples: np.ndarray, random: np.random.Generator, index: int) -> tuple[np.ndarray, str]:
        options = self.options["babble"]
        # One more than wanted, in case that it is the utterance's own speaker.
        wanted = min(random.integers(*options["speakers"], endpoint=True), len(self.speakers) - 1)
        voices = [self.speakers[n] for n in random.choice(len(self.speakers), wanted + 1, replace=False)]
        others = [random.choice(voice) for voice in voices if index not in voice][:wanted]
        snr = random.uniform(*options["snr"])
        found = [self._stretch(self.utterances[int(other)], len(samples), random) for other in others]
        found = [voice for voice in found if np.isfinite(voice).all()]  # the guard names such an utterance by its own
        babble = np.zeros(len(samples), np.float32)
        for voice in found:
            babble = mix(babble, voice, None)
        return mix(samples, babble, snr), f"{len(found)} voices at {snr:.1f} dB"

    def _telephone(self, samples: np.ndarray, random: np.random.Generator, _) -> tuple[np.ndarray, str]:
        codec = list(CODECS)[random.integers(len(CODECS))]
        return telephone(samples, self.rate, codec), f"telephone, {CODECS[codec]}"

    def _stretch(self, entry: dict, count: int, random: np.random.Generator) -> np.ndarray:
        """So many samples of a recording, from anywhere in it; of a shorter one all of it, again and again."""
        seconds = min(count / self.rate, entry["duration"])
        offset = (entry.get("offset") or 0.0) + random.uniform(0, entry["duration"] - seconds)
        return np.resize(audio.read(entry["audio_filepath"], self.rate, offset, seconds, entry.get("channel")), count)


class Augmented:
    """A `batching.load_dataset` whose items are asked for by `Draw` and come augmented."""

    def __init__(self, dataset, augmentation: Augmentation):
        self.dataset, self.augmentation = dataset, augmentation

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, draws: list[Draw]) -> list[dict]:
        """The items of a batch, as the data loader asks for them."""
        items = self.dataset.__getitems__([draw.index for draw in draws])
        return [
            {**item, "audio": self.augmentation(item["audio"], item["id"], draw)[0]}
            for item, draw in zip(items, draws, strict=True)
        ]


def changes_samples(options: dict) -> bool:
    """Whether anything but SpecAugment, which the model does itself, is on."""
    return bool(options.keys() - {"spec_augment"})


def of_dataset(dataset, options: dict, seed: int, rate: int) -> Augmented:
    """A `batching.load_dataset` with what `options`, those that are on, do to its samples at `rate` Hz."""
    plain = dataset.with_format(None)
    names: dict[str | None, str | None] = {}  # each once in memory
    speakers = [names.setdefault(name, name) for name in plain["speaker"]] if "babble" in options else []
    return Augmented(dataset, Augmentation(options, seed, rate, plain, speakers))


def preview(rows: list[dict], options: dict, seed: int, count: int, folder: Path) -> list[dict[str, str]]:
    """Write `count` utterances of a manifest's rows as the first epoch has them, with PREVIEW_RATE, to `folder`.

    What was written has `file`, `id`, `seconds`, `done` (what was done to it) and `text`. Louder than a file can be is
    made quieter. Raises UserError where audio can't be read.
    """
    durations = np.array([row["duration"] for row in rows], dtype=float)
    times = None if all(row.get("times") is None for row in rows) else np.array([row["times"] for row in rows])
    slots = np.random.default_rng(seed).choice(len(rows), min(count, len(rows)), replace=False)
    dealt = Speeds(options.get("speed", (1,)), durations, times).deal(slots, np.zeros(len(slots), int), seed)
    change = Augmentation(options, seed, PREVIEW_RATE, rows, [row.get("speaker") for row in rows])
    found = []
    for number, (index, speed) in enumerate(zip(*dealt, strict=True), 1):
        row, file = rows[index], f"{number:02d}.flac"
        offset, seconds, channel = row.get("offset") or 0.0, row["duration"], row.get("channel")
        samples = audio.read(row["audio_filepath"], PREVIEW_RATE, offset, seconds, channel)
        samples, done = change(samples, row["id"], Draw(int(index), float(speed), 0))
        soundfile.write(folder / file, samples / max(1.0, np.abs(samples).max()), PREVIEW_RATE)
        seconds = f"{len(samples) / PREVIEW_RATE:.2f}"
        found.append({"file": file, "id": row["id"], "seconds": seconds, "done": "; ".join(done), "text": row["text"]})
    return found


def as_tsv(rows: list[dict[str, str]]) -> str:
    """The rows of `preview` with a header, separated by tabs."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def power(samples: np.ndarray) -> float:
    """The mean of the squares."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def mix(samples: np.ndarray, other: np.ndarray, snr: float | None) -> np.ndarray:
    """The sum of two signals of the same length, the other one `snr` dB below; None: of a power of 1.

    The power of all of an utterance counts, its pauses too. Silence is added to nothing and gets nothing added.
    """
    theirs = power(other)
    wanted = 1.0 if snr is None else power(samples) / 10 ** (snr / 10)
    return samples + other * np.float32(np.sqrt(wanted / theirs)) if theirs else samples


def simulated_response(decay: float, direct: float, rate: int, random: np.random.Generator) -> np.ndarray:
    """An impulse response [samples] of a room: the direct sound, then noise that falls by 60 dB in `decay` seconds.

    The direct sound has `direct` dB more power than all that follows. Polack's model of a diffuse field (J.-D. Polack,
    La transmission de l'énergie sonore dans les salles, 1988), without a room's first echoes.
    """
    seconds = np.arange(1, max(2, round(decay * rate))) / rate
    tail = random.standard_normal(len(seconds)) * 10 ** (-3 * seconds / decay)
    return np.concatenate([[1.0], tail * np.sqrt(10 ** (-direct / 10) / np.square(tail).sum())])


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The samples in a room, as many and as loud as before, the direct sound where it was."""
    direct = np.abs(response).argmax()
    heard = scipy.signal.fftconvolve(samples, response[direct:])[: len(samples)]
    loudness = power(heard)
    return heard * np.sqrt(power(samples) / loudness) if loudness else samples


def telephone(samples: np.ndarray, rate: int, codec: str) -> np.ndarray:
    """The samples over a telephone: 300 to 3400 Hz, 8 kHz, and one of CODECS, by libsndfile."""
    narrow = scipy.signal.sosfilt(BAND, soxr.resample(samples, rate, TELEPHONE_RATE))
    file = io.BytesIO()
    # libsndfile looks a sample up in a table, beyond whose ends it does not look where it reads.
    soundfile.write(file, np.clip(narrow, -1, 1), TELEPHONE_RATE, format="WAV", subtype=codec)
    file.seek(0)
    heard = soxr.resample(soundfile.read(file, dtype="float32")[0], TELEPHONE_RATE, rate)[: len(samples)]
    return np.pad(heard, (0, len(samples) - len(heard)))


def describe(options: dict) -> str:
    """What is on, in one line; of a folder no name, which is somebody's disk."""
    found = []
    if "speed" in options:
        found.append(f"speed {_listed(options['speed'])}")
    if "gain" in options:
        found.append(f"gain {_range(options['gain'])} dB")
    words = {
        "noise": lambda on: f"noise at {_range(on['snr'])} dB",
        "babble": lambda on: f"babble of {_range(on['speakers'])} voices at {_range(on['snr'])} dB",
        "reverberation": lambda on: "rooms, recorded" if on["path"] else "rooms, simulated",
        "telephone": lambda on: "telephone",
    }
    found += [
        f"{say(options[name])} (p {options[name]['probability']:g})" for name, say in words.items() if name in options
    ]
    if "spec_augment" in options:
        on = options["spec_augment"]
        found.append(
            f"SpecAugment {on['frequency_masks']} x {on['frequency_width']} bands, "
            f"{on['time_masks']} x {100 * on['time_width']:g} % of the time"
        )
    return "; ".join(found)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _range(values: Sequence[float]) -> str:
    low, high = values
    return f"{low:g} to {high:g}" if low != high else f"{low:g}"


def _recordings(options: dict, name: str) -> list[dict]:
    """The audio in an option's folder, each with `name`, `audio_filepath` and `duration`; none without a folder."""
    folder = options.get(name, {}).get("path")
    if not folder:
        return []
    key = f"{KEY}.{name}.path"
    found = []
    for relative in local.audio_below(folder, key):
        path = f"{folder}/{relative}"
        try:
            found.append({"name": relative, "audio_filepath": path, "duration": audio.inspect(path).seconds})
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    return found


def _by_speaker(speakers: Sequence[str | None], most: int) -> Sequence[np.ndarray]:
    """The numbers of each speaker's utterances; where few are named, each utterance is a speaker of its own."""
    numbers, names = pandas.factorize(np.array(speakers, dtype=object), sort=True)
    if (numbers < 0).any() or len(names) <= most:
        return np.arange(len(speakers), dtype=np.int32)[:, None]
    order = np.argsort(numbers, kind="stable").astype(np.int32)
    return np.split(order, np.cumsum(np.bincount(numbers))[:-1])
