"""Read audio where it lies: any format of libsndfile or FFmpeg, from an offset, one channel, at the model's rate."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from rnnt.data import containers, fingerprints, libav
from rnnt.errors import UserError

MP3_FRAME = 1152  # samples
BLOCK = 1 << 16  # samples a channel that are looked at in one piece
SILENCE = 2.0**-14  # two steps of 16 bits, which dither takes: no more is no sound
FULL_SCALE = 0.999
CLIPPED = 0.001  # of the samples at full scale: a loud recording touches it, a clipped one stays there
SAMPLE_RATES = range(1000, 1_000_000)  # Hz; what lies outside is a damaged header, which resampling would not survive
NOT_FINITE = "has samples that are no numbers (NaN or infinite)"
CANCELLED = 0.05  # of the louder channel is left of the mix; two voices leave half


class Header(NamedTuple):
    """`stated`: whether the file says how long it is; where it does not, nobody can tell whether it is whole."""

    seconds: float
    channels: int
    stated: bool = True


class Heard(NamedTuple):
    """What a stretch of a file sounds like: what is wrong with it, and its fingerprint (fingerprints.py)."""

    problems: list[str]
    fingerprint: np.ndarray


def inspect(path: str) -> Header:
    """Length and channels of a file, from its headers and its container (`containers.check`); its end is read as proof.

    What only FFmpeg reads is decoded: its headers are estimates. An mp3 may end up to a frame before what its header
    promises, as Common Voice's do: its length is what is there.
    Raises UserError where the file can't be read or is empty, and its kinds CutOff and WrongLength.
    """
    with _told(path):
        length = containers.check(path)
        with _open(path) as file:
            seconds = file.count() / file.rate if length.seconds is None else length.seconds
            return _header(path, file, seconds, length.stated)


def listen(path: str, stretches: list[tuple[float, float | None, int | None]]) -> tuple[Header, list[Heard]]:
    """`inspect`, and decode the file once, whole: what does each stretch sound like?

    A stretch has an offset, a length in seconds (None: to the end) and a channel (None: the mean of all). What may be
    wrong: NOT_FINITE, "silent", "channels cancel each other", "clipped". Takes the memory of a block,
    and 20 kB a second of the stretches for their fingerprints.
    Raises what `inspect` raises, UserError where the file is damaged, and WrongLength where another one follows in it.
    """
    with _told(path):
        length = containers.check(path)
        with _open(path) as file:
            sounds = [_Sound(file.rate, *stretch) for stretch in stretches]
            position, problem = 0, ""
            try:
                for block in file.blocks():
                    for sound in sounds:
                        sound.hear(block, position)
                    position += len(block)
            except (soundfile.LibsndfileError, libav.Undecodable) as error:
                problem = _words(error)
            if problem or position < file.promised() - file.rate // 10:
                _tell_damage(path, f"{position / file.rate:.2f} s of it can be decoded", problem or "the rest is lost")
            if file.is_flac:
                containers.second_flac(path)
            header = _header(path, file, length.seconds or position / file.rate, length.stated)
    return header, [Heard(sound.problems(), sound.fingerprint()) for sound in sounds]


def _header(path: str, file: _Recording | libav.Recording, seconds: float, stated: bool) -> Header:
    if seconds == 0:
        raise UserError(f"{path}: holds no audio")
    return Header(seconds, file.channels, stated)


def _tell_damage(path: str, extent: str, problem: str) -> None:
    """Raise the CutOff of a file whose end is missing, UserError for one that is damaged before its end."""
    try:
        inspect(path)
    except containers.CutOff:
        raise
    except UserError:
        pass
    raise UserError(f"{path}: is damaged: {extent} ({problem}): get it again")


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
    with _told(path), _open(path) as file:
        rate = file.rate
        start = round(offset * rate)
        stop = None if seconds is None else round((offset + seconds) * rate)
        pieces = list(file.blocks(start, stop, whole=True))
    samples = pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros((0, file.channels), np.float32), *pieces])
    if start and not len(samples):
        raise UserError(f"{path}: ends before {offset} s")
    if len(samples) < max(1, (stop or 0) - start - rate // 10):
        wanted = "" if stop is None else f", {(stop - start) / rate:.2f} s wanted"
        raise UserError(f"{path}: is cut off: {len(samples) / rate:.2f} s after {offset} s{wanted}")
    if channel is not None and channel >= samples.shape[1]:
        raise UserError(f"{path}: has no channel {channel}, only {samples.shape[1]}")
    mono = samples.mean(axis=1) if channel is None else samples[:, channel]
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


class _File(soundfile.SoundFile):
    """Reads on without a seek where `seeks` is False: libsndfile can't seek in every codec, whatever it says."""

    seeks = True

    def seekable(self) -> bool:
        return self.seeks and super().seekable()


class _Recording:
    """A file as libsndfile reads it; the same methods as `libav.Recording`."""

    def __init__(self, path: str, file: _File):
        self._path, self._file = path, file
        self.rate, self.channels = file.samplerate, file.channels
        self.format = file.format  # asked once: libsndfile goes through a list for it
        self.is_flac = self.format == "FLAC"

    def __enter__(self) -> _Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def promised(self) -> int:
        """Samples of a channel by the header, as libsndfile reads it."""
        return self._file.frames

    def count(self) -> int:
        """Samples of a channel; the last ones are read as proof, but in a codec without seek."""
        samples = self._file.frames
        tail = min(samples, 4 * MP3_FRAME) if self._file.seekable() else 0
        try:
            missing = tail - sum(map(len, self.blocks(samples - tail, samples, again=False)))
        except soundfile.LibsndfileError:
            missing = samples
        if missing > MP3_FRAME and self.format == "OGG":  # whose last page is there
            raise UserError(f"{self._path}: is damaged: its end can't be read: get it again")
        if missing > MP3_FRAME:
            raise containers.CutOff(
                f"{self._path}: is cut off or damaged: its header promises {samples / self.rate:.2f} s, "
                f"its end can't be read: {containers.MENDED}"
            )
        return samples - missing

    def blocks(
        self, start: int = 0, stop: int | None = None, whole: bool = False, again: bool = True
    ) -> Iterator[np.ndarray]:
        """Samples from `start` to `stop` (None: the end), float32 of shape [samples, channels]; `whole`: at once.

        Without `again` the one seek is that to `start`: soundfile has more, which take time.
        """
        stop = min(self._file.frames, self._file.frames if stop is None else stop)
        # The first frames after a seek lack what MPEG audio keeps in those before.
        position = max(0, start - 10 * MP3_FRAME) if self.format == "MP3" else start
        if position and not self._seeks(position):
            self._file.close()
            self._file, position = _File(self._path), 0
        self._file.seeks = position > 0 and again
        while position < stop:
            samples = self._file.read(
                stop - position if whole else min(BLOCK, stop - position), "float32", always_2d=True
            )
            if not len(samples):
                return
            if position + len(samples) > start:
                yield samples[max(0, start - position) :]
            position += len(samples)

    def _seeks(self, position: int) -> bool:
        try:
            return self._file.seekable() and self._file.seek(position) == position
        except soundfile.LibsndfileError:
            return False


def _open(path: str) -> _Recording | libav.Recording:
    """libsndfile's file, or FFmpeg's where libsndfile can't read it, or not past a length that it guessed."""
    recording = _decoder(path)
    if recording.rate not in SAMPLE_RATES:
        recording.__exit__()
        raise UserError(f"{path}: not readable as audio (its header says {recording.rate} Hz)")
    return recording


def _decoder(path: str) -> _Recording | libav.Recording:
    try:
        file = _File(path)
    except TypeError:  # by the suffix .raw
        raise UserError(
            f"{path}: samples without a header: `ffmpeg -f s16le -ar RATE -ac 1 -i IN OUT.flac` gives them one"
        ) from None
    except soundfile.LibsndfileError as error:
        try:
            return libav.Recording(path, to_the_end=containers.is_endless_wav(path))
        except libav.Undecodable:
            raise error from None
    # Of VOC it plays the headers of blocks, of MPEG audio that has no length it guesses one, off by any factor.
    guessed = file.format == "VOC" or not 0 < file.frames < 2**62 or (file.format != "MP3" and "MPEG" in file.subtype)
    if guessed or (file.format == "MP3" and not containers.states_mpeg_length(path)):
        file.close()
        return libav.Recording(path, to_the_end=containers.is_endless_wav(path))
    return _Recording(path, file)


class _Sound:
    """What a stretch of a file sounds like, by the blocks of the file; one channel or all."""

    def __init__(self, rate: int, offset: float, seconds: float | None, channel: int | None):
        self.start, self.channel = round(offset * rate), channel
        self.stop = sys.maxsize if seconds is None else round((offset + seconds) * rate)
        self.samples = self.clipped = 0
        self.lower = soxr.ResampleStream(rate, fingerprints.RATE, 1, quality="MQ")
        self.lowered: list[np.ndarray] = []
        self.low: np.ndarray | float = np.inf
        self.high: np.ndarray | float = -np.inf
        self.sums = self.squares = 0.0  # of the channels, then of their mean

    def hear(self, block: np.ndarray, position: int) -> None:
        """Take in what belongs to the stretch of a block, [samples, channels], that begins at `position`."""
        piece = block[max(0, self.start - position) : max(0, self.stop - position)]
        if self.channel is not None:
            piece = piece[:, self.channel : self.channel + 1]  # empty where there is no such channel
        if not piece.size:
            return
        self.lowered.append(self.lower.resample_chunk(piece.mean(axis=1)))
        self.samples += piece.size
        low, high = piece.min(axis=0), piece.max(axis=0)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        if max(high.max(), -low.min()) >= FULL_SCALE:
            self.clipped += int((np.abs(piece) >= FULL_SCALE).sum())
        if piece.shape[1] > 1:
            both = np.column_stack([piece, piece.mean(axis=1)]).astype(np.float64)
            self.sums, self.squares = self.sums + both.sum(axis=0), self.squares + (both**2).sum(axis=0)

    def fingerprint(self) -> np.ndarray:
        end = self.lower.resample_chunk(np.zeros(0, np.float32), last=True)
        return fingerprints.fingerprint(np.concatenate([*self.lowered, end]))

    def problems(self) -> list[str]:
        """The kinds of problems, see `listen`."""
        if not self.samples:
            return []
        if not np.isfinite(self.low).all() or not np.isfinite(self.high).all():
            return [NOT_FINITE]
        found = ["clipped"] if self.clipped > CLIPPED * self.samples else []
        if np.max(self.high - self.low) <= SILENCE:
            found.append("silent")
        elif np.ndim(self.squares):
            count = self.samples / (len(self.squares) - 1)
            power = self.squares / count - (self.sums / count) ** 2
            if power[-1] < CANCELLED**2 * power[:-1].max():
                found.append("channels cancel each other")
        return found


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except (soundfile.LibsndfileError, libav.Undecodable, OSError) as error:
        raise UserError(f"{path}: not readable as audio ({_reason(path, error)})") from None


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
    return _words(error)


def _words(error: Exception) -> str:
    words = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)
    if words.startswith("File does not exist"):  # libsndfile's words for an mp3 without a whole frame
        return "no MPEG frame in it is whole"
    return words.removeprefix("Error : ").rstrip(".")
