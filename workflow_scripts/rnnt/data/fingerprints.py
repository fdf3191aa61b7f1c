"""Fingerprints of recordings, by which a copy is found that was encoded again, resampled, cut or made louder.

Haitsma and Kalker 2002 (A highly robust audio fingerprinting system, ISMIR): 32 bits a frame, the signs of differences
of energy between neighbouring bands and neighbouring frames. Frames overlap so far that a shift of less than one step
changes few bits. They find what may be a copy; the waveforms decide (`correlation`): one word said twice by one voice
has similar bits where it is short, and another waveform.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.signal
import soxr

from rnnt import streams

RATE = 5000  # Hz, of what is looked at
WINDOW = 1024  # samples: 0.2 s
STEP = 100  # samples: 20 ms
LOWEST, HIGHEST = 300, 2000  # Hz: what every telephone line and codec keeps
LAG = 5  # frames between those that are compared: 0.1 s
BITS = 32
SKETCH = 64  # frames by which an utterance is looked up
COMMON = 50  # utterances: a frame that more of them have, such as silence, tells nothing
PART = 1 << 23  # frames of an index that are in memory
BLOCK = 1 << 20  # frames of an index that are read together
SHORT = 100  # frames, 2 s: fewer may have none that is the same to the last bit
ALIKE = 0.25  # share of bits that may differ in a copy; of unrelated recordings about 0.5 do
AS_LONG = 25  # frames, 0.5 s, by which copies differ in length (codecs add some), or a quarter where that is less
IN_COMMON = 100  # frames, 2 s, that those have in common which differ more: a cut one, or two segments of a recording
CORRELATED = 0.95  # copies: mp3 0.97 and more, mu-law 0.99; one digit said twice by one voice: 0.92 at most


def lower(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mono float32 samples [samples] at RATE."""
    return samples if sample_rate == RATE else soxr.resample(samples, sample_rate, RATE, quality="MQ")


def fingerprint(samples: np.ndarray) -> np.ndarray:
    """uint32 [frames] of mono float32 samples [samples] at RATE; empty for what is too short for one."""
    # The first and last window have a quarter of sound: else one word would have hardly a frame.
    samples = np.pad(samples, 3 * WINDOW // 4)
    if len(samples) < WINDOW + LAG * STEP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    spectrum = scipy.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)
    borders = np.geomspace(LOWEST, HIGHEST, BITS + 2) * WINDOW / RATE
    energy = np.add.reduceat(np.abs(spectrum) ** 2, borders.astype(int), axis=1)[:, : BITS + 1]
    across = energy[:, :-1] - energy[:, 1:]
    bits = across[LAG:] > across[:-LAG]
    return np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)


class Prints:
    """Fingerprints on disk, by their places, in a file without a name in `folder`."""

    def __init__(self, folder: str | Path | None):
        self.file, self.end = streams.unnamed(folder), 0

    def append(self, frames: np.ndarray) -> tuple[int, int]:
        """Put a fingerprint behind the others; its place, by which it is found again."""
        place = self.end, len(frames)
        self.file.seek(4 * self.end)
        self.file.write(frames.astype(np.uint32).tobytes())
        self.end += len(frames)
        return place

    def __getitem__(self, place: tuple[int, int]) -> np.ndarray:
        """uint32 [frames]."""
        start, length = place
        self.file.seek(4 * start)
        return np.frombuffer(self.file.read(4 * length), np.uint32)


class Index:
    """Fingerprints, and frames of them on disk, to be looked up: those whose values fall into one part at a time."""

    def __init__(self, prints: Sequence[np.ndarray], folder: str | Path | None):
        self.prints, self.file = prints, streams.unnamed(folder)
        count = 0
        for place in range(len(prints)):
            frames = prints[place]
            positions = _sketch(frames)
            found = np.stack([frames[positions], np.full(len(positions), place), positions], axis=1)
            self.file.write(found.astype(np.uint32).tobytes())
            count += len(positions)
        self.parts = 1 << max(0, math.ceil(math.log2(max(count, 1) / PART)))

    def part(self, number: int) -> Part:
        """The frames of a part."""
        self.file.seek(0)
        found = [np.zeros((0, 3), np.uint32)]
        while data := self.file.read(12 * BLOCK):
            rows = np.frombuffer(data, np.uint32).reshape(-1, 3)
            found.append(rows[_part(rows[:, 0], self.parts) == number])
        rows = np.concatenate(found)
        return Part(*rows[np.argsort(rows[:, 0], kind="stable")].T)


class Part(NamedTuple):
    """Frames of fingerprints sorted by value, [frames] each."""

    values: np.ndarray
    places: np.ndarray  # of the fingerprint in the list
    positions: np.ndarray  # of the frame in the fingerprint


def index(prints: Sequence[np.ndarray], folder: str | Path | None = None) -> Index:
    """Fingerprints, to be looked up; frames of them are put by in `folder`."""
    return Index(prints, folder)


def candidates(ours: Index, theirs: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Places of fingerprints, of ours and of theirs, that may be of one recording; time grows with their number.

    Pairs come in the order of theirs.
    """
    hits: dict[int, list[np.ndarray]] = {}
    for number in range(ours.parts):
        part = ours.part(number)
        for j in range(len(theirs)):
            found = _lookup(part, theirs[j], ours.parts, number)
            if found.size:
                hits.setdefault(j, []).append(found)
    for j, parts in sorted(hits.items()):
        frames = theirs[j]
        found = {i for i, shift in _frequent(np.concatenate(parts, axis=1)) if _alike(ours.prints[i], frames, shift)}
        yield from ((i, j) for i in sorted(found))


def _part(values: np.ndarray, parts: int) -> np.ndarray:
    """Which of so many parts, a power of two, has each value."""
    return (values * np.uint32(2654435761)).astype(np.uint64) * np.uint64(parts) >> np.uint64(32)


def _sketch(frames: np.ndarray) -> np.ndarray:
    """Positions of a few different frames, those that a hash puts first: the same in a copy (bottom-k, Broder 1997)."""
    values, positions = np.unique(frames, return_index=True)
    positions = positions[values > 0]  # digital silence has no bits
    mixed = frames[positions] * np.uint32(2654435761)
    return positions[np.argsort(mixed ^ (mixed >> np.uint32(15)), kind="stable")[:SKETCH]]


def _lookup(part: Part, frames: np.ndarray, parts: int, number: int) -> np.ndarray:
    """Places that have a frame of these, and how many frames later it is there, int32 [2, hits], in part `number`."""
    positions = np.flatnonzero(frames)
    probes = frames[positions]
    if len(frames) <= SHORT:
        flips = np.concatenate([np.zeros(1, np.uint32), np.uint32(1) << np.arange(BITS, dtype=np.uint32)])
        probes, positions = (probes[:, None] ^ flips).ravel(), np.repeat(positions, len(flips))
    if parts > 1:
        here = _part(probes, parts) == number
        probes, positions = probes[here], positions[here]
    first = np.searchsorted(part.values, probes, "left")
    counts = np.searchsorted(part.values, probes, "right") - first
    counts[counts > COMMON] = 0
    hit = np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    shifts = part.positions[hit].astype(np.int32) - np.repeat(positions, counts).astype(np.int32)
    return np.stack([part.places[hit].astype(np.int32), shifts])


def _frequent(hits: np.ndarray) -> list[tuple[int, int]]:
    """Of each place of `_lookup`'s hits the three most frequent shifts."""
    (places, shifts), times = np.unique(hits, axis=1, return_counts=True)
    order = np.lexsort((-times, places))
    places, shifts = places[order], shifts[order]
    rank = np.arange(len(places)) - np.searchsorted(places, places)
    return list(zip(places[rank < 3].tolist(), shifts[rank < 3].tolist(), strict=True))


def _alike(one: np.ndarray, other: np.ndarray, shift: int) -> bool:
    """Whether two fingerprints, the second moved by `shift` frames, have enough frames in common, and alike."""
    start, end = max(shift, 0), min(len(one), len(other) + shift)
    longer = max(len(one), len(other))
    if end - start < _needed(longer, IN_COMMON, AS_LONG):
        return False
    pairs = np.stack([one[start:end], other[start - shift : end - shift]])
    pairs = pairs[:, pairs.any(axis=0)]
    return pairs.size > 0 and np.bitwise_count(pairs[0] ^ pairs[1]).mean() <= ALIKE * BITS


def _needed(longer: int, in_common: int, as_long: int) -> float:
    return max(1, min(in_common, max(longer - as_long, 0.75 * longer)))


def are_copies(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two recordings, mono [samples] at RATE, are the same where they overlap best, and overlap enough.

    By the correlation of their waveforms between LOWEST and HIGHEST, whatever its sign.
    """
    one, other = _band(one), _band(other)
    correlation = scipy.signal.correlate(one, other, "full", "fft")
    shift = int(np.argmax(np.abs(correlation))) - (len(other) - 1)
    start, end = max(shift, 0), min(len(one), len(other) + shift)
    if end - start < _needed(max(len(one), len(other)), IN_COMMON * STEP, AS_LONG * STEP):
        return False
    ours, theirs = one[start:end], other[start - shift : end - shift]
    power = np.dot(ours, ours) * np.dot(theirs, theirs)
    return power > 0 and abs(np.dot(ours, theirs)) >= CORRELATED * np.sqrt(power)


def _band(samples: np.ndarray) -> np.ndarray:
    filters = scipy.signal.butter(4, [LOWEST, HIGHEST], "bandpass", fs=RATE, output="sos")
    return scipy.signal.sosfiltfilt(filters, samples.astype(np.float64), padtype=None)
