"""Demo corpora spoken by espeak-ng: made on the spot, without a network or a system package.

They are for trying the pipeline and for its tests. A model that reads them well has learned
a formant synthesizer, not speech: no result on them says anything about real recordings.

espeak-ng comes with the espeakng-loader wheel. Its C interface is described in
https://github.com/espeak-ng/espeak-ng/blob/master/src/include/espeak-ng/speak_lib.h
"""

from __future__ import annotations

import csv
import ctypes
import io
import os
import re
import zlib
from _ctypes import dlclose
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from rnnt import files
from rnnt.corpora import Utterance, local
from rnnt.errors import UserError

SAMPLE_RATE = 16000  # Hz

DIGITS = "zero one two three four five six seven eight nine".split()

# {name} is replaced by one of GRAMMAR[name]; a sentence starts at "command".
GRAMMAR = {
    "command": [
        "turn {switch} the {room} {device}",
        "turn {switch} the {device} in the {room}",
        "set the timer to {number} minutes",
        "set the alarm to {hour} in the {daytime}",
        "play the {order} {music}",
        "play the {order} {music} in the {room}",
        "{halt} the music",
        "{move} the {room} {opening}",
        "{move} the {opening} in the {room}",
        "what is the weather like {day}",
        "remind me to call {person} {day}",
        "add {item} to the shopping list",
    ],
    "switch": ["on", "off"],
    "room": ["kitchen", "bedroom", "hallway", "garden", "living room"],
    "device": ["light", "lamp", "fan", "heater", "radio", "television"],
    "number": ["three", "five", "ten", "twenty", "thirty"],
    "hour": ["six", "seven", "eight", "nine"],
    "daytime": ["morning", "evening"],
    "order": ["next", "last", "first"],
    "music": ["song", "album"],
    "halt": ["stop", "pause"],
    "move": ["open", "close"],
    "opening": ["door", "window", "curtains"],
    "day": ["today", "tomorrow"],
    "person": ["mother", "the doctor"],
    "item": ["milk", "bread", "coffee", "butter"],
}

ACCENTS = {  # our name: espeak's
    "en-gb": "en",
    "en-gb-lancaster": "en-gb-x-gbclan",
    "en-gb-scotland": "en-gb-scotland",
    "en-us": "en-us",
    "en-us-nyc": "en-us-nyc",
    "en-029": "en-029",  # Caribbean
}

# A speaker is an accent with a variant (the vocal tract). The splits share the accents and
# have no variant in common, so that every voice of validation and test is a new one.
VARIANTS = {
    "train": (
        "f1 f3 f4 m1 m2 m4 m6 m7 m8 Alex Annie Michael aunty belinda boris grandma grandpa linda max pablo "
        "quincy robert travis victor"
    ).split(),
    "validation": "f5 m5 rob".split(),
    "test": "f2 m3 steph Mike".split(),
}

ESPEAK_PARAMETERS = {  # number in speak_lib.h: lowest and highest value
    1: (120, 200),  # rate, words per minute
    3: (35, 65),  # pitch, 0 to 100; 50 is the variant's own
    4: (30, 70),  # pitch range, 0 (monotone) to 100; likewise
}
PAUSE_PROBABILITY = 0.08  # between two words
PAUSE_S = (0.15, 1.0)
MARGIN_S = (0.1, 0.6)  # silence before the first and after the last word
SNR_DB = (20, 40)
NOISE_EXPONENT = (0, 2)  # power ~ 1 / f^exponent: 0 is white, 1 pink, 2 brown
SPEECH_LEVEL_DB = (-34, -20)  # RMS of the words, relative to full scale
LONG_SHARE = 0.01  # at least LONG_AT_LEAST in a split: what a 20 s filter drops
LONG_AT_LEAST = 2
LONG_S = (20.5, 26)

# more of speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Recipe(NamedTuple):
    """One file: what is said, by whom, and the seed of all that is left to chance in it."""

    path: Path
    speaker: str
    phrases: list[str]
    long: bool
    seed: list[int]


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Make folder/{split}/*.flac (16 kHz, mono, 16 bit) and folder/{split}/metadata.csv.

    `source` holds `corpus` (spoken_digits or spoken_commands), `seed` (an integer >= 0) and
    `utterances` (split: count). The same source gives the same files, whatever `workers` is.
    Files that are there are kept, and none is ever there by half: the next call continues an
    interrupted one.
    Raises UserError when espeak-ng can't be loaded.
    """
    for split, count in source["utterances"].items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        recipes = _recipes(source, split, count, folder / split)
        missing = [recipe for recipe in recipes if not recipe.path.is_file()]
        if missing:
            # fork, as a spawned worker would import the caller's main module again
            with ProcessPoolExecutor(min(workers, len(missing)), get_context("fork")) as pool:
                made = pool.map(_make, missing, chunksize=8)
                label = f"{source['corpus']} {split}"
                for _ in progress(made, total=len(missing), label=label):
                    pass
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["file_name", "transcription", "speaker"])
        writer.writerows([r.path.name, " ".join(r.phrases), r.speaker] for r in recipes)
        files.write_text(folder / split / "metadata.csv", table.getvalue())


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split that `prepare` made, in the order of its metadata.csv."""
    return local.utterances({"path": str(folder)}, split, folder)


def _recipes(source: dict, split: str, count: int, folder: Path) -> list[Recipe]:
    speakers = [f"{accent}_{variant}" for accent in ACCENTS for variant in VARIANTS[split]]
    longs = max(LONG_AT_LEAST, round(LONG_SHARE * count))
    long_indices = {i * count // longs for i in range(longs)}
    recipes = []
    for index in range(count):
        seed = [source["seed"], zlib.crc32(f"{source['corpus']}/{split}".encode()), index]
        rng = np.random.default_rng([*seed, 0])
        speaker, long = str(rng.choice(speakers)), index in long_indices
        phrases = _phrases(rng, _words(rng, source["corpus"], long))
        path = folder / f"{speaker}-{index:05d}.flac"
        recipes.append(Recipe(path, speaker, phrases, long, [*seed, 1]))
    return recipes


def _words(rng: np.random.Generator, corpus: str, long: bool) -> list[str]:
    if corpus == "spoken_digits":
        return list(rng.choice(DIGITS, size=rng.integers(*((10, 21) if long else (1, 7)))))
    sentences = [_expand(rng, "{command}") for _ in range(rng.integers(2, 4) if long else 1)]
    return " ".join(sentences).split()


def _expand(rng: np.random.Generator, text: str) -> str:
    return re.sub(r"{(\w+)}", lambda m: _expand(rng, str(rng.choice(GRAMMAR[m[1]]))), text)


def _phrases(rng: np.random.Generator, words: list[str]) -> list[str]:
    text = words[0]
    for word in words[1:]:
        text += ("\n" if rng.random() < PAUSE_PROBABILITY else " ") + word
    return text.split("\n")


def _make(recipe: Recipe) -> None:
    audio = _audio(recipe)
    with files.whole(recipe.path, audio.size) as temporary:  # of two bytes a sample, FLAC saves half
        soundfile.write(temporary, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _audio(recipe: Recipe) -> np.ndarray:
    rng = np.random.default_rng(recipe.seed)
    spoken = [_trim(phrase) for phrase in _speak(recipe, rng)]
    speech = np.concatenate(spoken)
    level = 10 ** (rng.uniform(*SPEECH_LEVEL_DB) / 20)
    noise_level = level / 10 ** (rng.uniform(*SNR_DB) / 20)

    pauses = rng.uniform(*PAUSE_S, size=len(spoken) + 1)
    pauses[[0, -1]] = rng.uniform(*MARGIN_S, size=2)
    if recipe.long:
        missing = rng.uniform(*LONG_S) - len(speech) / SAMPLE_RATE - pauses.sum()
        pauses += max(missing, 0) * rng.dirichlet(np.full(len(pauses), 3.0))
    pieces = []
    for seconds, phrase in zip(pauses, [*spoken, speech[:0]], strict=True):
        pieces += [np.zeros(round(seconds * SAMPLE_RATE)), phrase]
    audio = np.concatenate(pieces) * (level / np.sqrt(np.mean(speech**2)))
    audio += noise_level * _noise(rng, len(audio))
    return audio * min(1, 0.95 / np.abs(audio).max())


def _noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of RMS 1 whose power falls as 1 / f^exponent."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    # flat below 50 Hz: else brown noise would be all rumble that no feature sees
    spectrum *= np.maximum(frequencies, 50) ** (-rng.uniform(*NOISE_EXPONENT) / 2)
    noise = np.fft.irfft(spectrum, samples)
    return noise / noise.std()


def _trim(phrase: np.ndarray) -> np.ndarray:
    """Cut what is 50 dB below the peak off both ends, but for 20 ms; the pauses are ours to set."""
    heard = np.flatnonzero(np.abs(phrase) > 10 ** (-50 / 20) * np.abs(phrase).max())
    margin = SAMPLE_RATE // 50
    return phrase[max(heard[0] - margin, 0) : heard[-1] + margin]


def _speak(recipe: Recipe, rng: np.random.Generator) -> list[np.ndarray]:
    """The phrases at SAMPLE_RATE, full scale 1, in a voice, rate and pitch of the recipe."""
    accent, variant = recipe.speaker.split("_")
    chunks: list[bytes] = []

    @SYNTH_CALLBACK
    def collect(samples, count, events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    # espeak carries the phase of its pitch flutter over from one call to the next, and nothing
    # but a fresh copy of the library resets it: so each file loads its own (2 ms), and its
    # sound does not depend on the files that the same process made before.
    espeak, native_rate = _load_espeak()
    try:
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(int(rng.integers(1, 2**31))))
        espeak.espeak_SetSynthCallback(collect)
        if espeak.espeak_SetVoiceByName(f"{ACCENTS[accent]}+{variant}".encode()) != 0:
            raise UserError(f"espeak-ng has no voice {ACCENTS[accent]}: update espeakng-loader")
        for parameter, (low, high) in ESPEAK_PARAMETERS.items():
            espeak.espeak_SetParameter(parameter, int(rng.integers(low, high + 1)), 0)
        phrases = []
        for phrase in recipe.phrases:
            chunks.clear()
            text = phrase.encode() + b"\0"
            espeak.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 0, 0, CHARS_UTF8, None, None)
            samples = np.frombuffer(b"".join(chunks), np.int16) / 32768
            phrases.append(soxr.resample(samples, native_rate, SAMPLE_RATE))
    finally:
        espeak.espeak_Terminate()
        dlclose(espeak._handle)
    return phrases


def _load_espeak() -> tuple[ctypes.CDLL, int]:
    try:
        import espeakng_loader

        espeak = ctypes.CDLL(espeakng_loader.get_library_path())
        data = os.fsencode(espeakng_loader.get_data_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"espeak-ng can't be loaded ({error}): install espeakng-loader") from None
    rate = espeak.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, INITIALIZE_DONT_EXIT)
    if rate <= 0:
        raise UserError("espeak-ng can't be loaded (no data): reinstall espeakng-loader")
    return espeak, rate
