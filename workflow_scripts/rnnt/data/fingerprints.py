"""Fingerprints of recordings, by which a copy is found that was encoded again, resampled, cut or made louder.

Haitsma and Kalker 2002 (A highly robust audio fingerprinting system, ISMIR): 32 bits a frame, the signs of differences
of energy between neighbouring bands and neighbouring frames. Frames overlap so far that a shift of less than one step
changes few bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import scipy.fft
import soxr

RATE = 5000  # Hz, of what is looked at
WINDOW = 1024  # samples: 0.2 s
STEP = 100  # samples: 20 ms
LOWEST, HIGHEST = 300, 2000  # Hz: what every telephone line and codec keeps
LAG = 5  # frames between those that are compared: 0.1 s
BITS = 32
SKETCH = 64  # frames by which an utterance is looked up
COMMON = 50  # utterances: a frame that more of them have, such as silence, tells nothing
ALIKE = 0.25  # share of bits that may differ in a copy; of unrelated recordings about 0.5 do
AS_LONG = 10  # frames, 0.2 s, by which copies differ in length: codecs add some
IN_COMMON = 100  # frames, 2 s, that those have in common which differ more: a cut one, or two segments of a recording


def fingerprint(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """uint32 [frames] of mono float32 samples [samples]; empty for what is shorter than 0.3 s."""
    if sample_rate != RATE:
        samples = soxr.resample(samples, sample_rate, RATE, quality="MQ")
    if len(samples) < WINDOW + LAG * STEP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    power = np.abs(scipy.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)) ** 2
    borders = np.geomspace(LOWEST, HIGHEST, BITS + 2) * WINDOW / RATE
    energy = np.add.reduceat(power, borders.astype(int), axis=1)[:, : BITS + 1]
    across = energy[:, :-1] - energy[:, 1:]
    bits = across[LAG:] > across[:-LAG]
    return np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)


def copies(ours: list[np.ndarray], theirs: list[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Pairs of places in two lists of fingerprints that are of one recording. Time grows with what the lists have."""
    known: dict[int, list[int]] = defaultdict(list)
    for place, frames in enumerate(ours):
        for value in _sketch(frames):
            known[value].append(place)
    for place, frames in enumerate(theirs):
        candidates: dict[int, int] = defaultdict(int)
        for value in _sketch(frames):
            if len(found := known.get(value, ())) <= COMMON:
                for other in found:
                    candidates[other] += 1
        for other in sorted(candidates):
            if are_copies(ours[other], frames):
                yield other, place


def are_copies(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two fingerprints, of which some frames are equal, are of one recording."""
    _, places, others = np.intersect1d(one, other, return_indices=True)
    if not len(places):
        return False
    shifts, counts = np.unique(places - others, return_counts=True)
    for shift in shifts[np.argsort(-counts)][:3]:
        start, end = max(shift, 0), min(len(one), len(other) + shift)
        if end - start < min(IN_COMMON, max(len(one), len(other)) - AS_LONG):
            continue
        pairs = np.stack([one[start:end], other[start - shift : end - shift]])
        pairs = pairs[:, pairs.any(axis=0)]  # digital silence has no bits
        if pairs.size and np.bitwise_count(pairs[0] ^ pairs[1]).mean() <= ALIKE * BITS:
            return True
    return False
    shifts, counts = np.unique(places - others, return_counts=True)
    for shift in shifts[np.argsort(-counts)][:3]:
        start, end = max(shift, 0), min(len(one), len(other) + shift)
        if end - start < min(IN_COMMON, max(len(one), len(other)) - AS_LONG):
            continue
        different = np.bitwise_count(one[start:end] ^ other[start - shift : end - shift]).sum()
        if different <= ALIKE * BITS * (end - start):
            return True
    return False


def _sketch(frames: np.ndarray) -> list[int]:
    """The same few of the frames for every copy: those that a hash puts first (bottom-k, Broder 1997)."""
    values = np.unique(frames[frames > 0])
    mixed = values * np.uint32(2654435761)
    return values[np.argsort(mixed ^ (mixed >> np.uint32(15)), kind="stable")[:SKETCH]].tolist()
