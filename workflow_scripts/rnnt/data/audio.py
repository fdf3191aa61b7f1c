"""Read audio where it lies: any format of libsndfile, from an offset, one channel, at the model's rate."""

from __future__ import annotations

import re

import numpy as np
import soundfile
import soxr

from rnnt.errors import UserError

MP3_FRAME = 1152  # samples


def inspect(path: str) -> tuple[float, int]:
    """Length in seconds and channels of a file, from its header; its last samples are read as proof.

    An mp3 may end up to a frame before what its header promises, as Common Voice's do: its length is what is there.
    Raises UserError where the file can't be read, is empty, or is cut off.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames == 0:
                raise UserError(f"{path}: holds no audio")
            promised = _sphere_samples(path) if file.format == "NIST" else file.frames
            if promised != file.frames:
                raise UserError(f"{path}: is cut off: its header promises {promised} samples, it has {file.frames}")
            tail = min(file.frames, 4 * MP3_FRAME)
            file.seek(file.frames - tail)
            missing = tail - len(file.read(tail))
            if missing > MP3_FRAME:
                raise UserError(f"{path}: is cut off: its header promises {file.frames / file.samplerate:.2f} s")
            return (file.frames - missing) / file.samplerate, file.channels
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: not readable as audio ({_reason(path, error)})") from None


def read(
    path: str,
    sample_rate: int,
    offset: float = 0.0,
    seconds: float | None = None,
    channel: int | None = None,
) -> np.ndarray:
    """Read mono float32 samples in [-1, 1] at `sample_rate` Hz, shape [samples].

    `offset` and `seconds` cut the file (None: to its end); `channel` counts from 0 (None: the mean of all).
    Raises UserError where the file can't be read, is shorter than asked for, or lacks the channel.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            start = round(offset * rate)
            frames = -1 if seconds is None else round((offset + seconds) * rate) - start
            if start >= file.frames:
                raise UserError(f"{path}: ends before {offset} s")
            file.seek(start)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: not readable as audio ({_reason(path, error)})") from None
    if len(samples) < max(1, frames - rate // 10):
        raise UserError(
            f"{path}: is cut off: {len(samples) / rate:.2f} s after {offset} s, {frames / rate:.2f} s wanted"
        )
    if channel is not None and channel >= samples.shape[1]:
        raise UserError(f"{path}: has no channel {channel}, only {samples.shape[1]}")
    mono = samples.mean(axis=1) if channel is None else samples[:, channel]
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _sphere_samples(path: str) -> int | None:
    """The samples that a NIST SPHERE header promises, which libsndfile does not hold the file to."""
    with open(path, "rb") as file:
        match = re.search(rb"^sample_count -i (\d+)", file.read(1024), re.MULTILINE)
    return int(match[1]) if match else None


def _reason(path: str, error: Exception) -> str:
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as reason:
        return reason.strerror
    if head.startswith(b"NIST_1A") and b"shorten" in head:
        return "SPHERE compressed with shorten: decompress it, sph2pipe -f sph IN OUT"
    if not head:
        return "it is empty"
    return str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error).rstrip(".")
