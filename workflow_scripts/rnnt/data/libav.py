"""Decode with FFmpeg's libraries (PyAV) what libsndfile can't: m4a, webm, wma, amr, mp3 that states no length."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

LEAD = 1  # second before the wanted ones at which decoding starts, to have settled by then
TIMED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf"}  # the containers that keep the time of each packet


class Undecodable(Exception):
    """What FFmpeg says of a file that it can't decode."""


class Recording:
    """The first audio stream of a file: `rate` in Hz, `channels`. Raises Undecodable, here and in every method.

    `to_the_end`: do not believe the size in a WAV header.
    """

    is_flac = False  # that needs a look for a second stream, which FFmpeg reads on into

    def __init__(self, path: str, to_the_end: bool = False):
        import av  # takes 0.2 s, and most corpora never need it

        self._av = av
        with self._told():
            # Titles and comments of old files are in any encoding.
            self._container = av.open(
                path, options={"ignore_length": "1"} if to_the_end else {}, metadata_errors="replace"
            )
        self._stream = next(iter(self._container.streams.audio), None)
        codec = self._stream and self._stream.codec_context
        if not codec or codec.sample_rate <= 0:
            self._container.close()
            raise Undecodable("no audio in it, or of an unknown codec")
        self._times: tuple[int, int] | None = None  # of the first packet and of the last
        self.rate, self.channels = codec.sample_rate, codec.channels

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def promised(self) -> int:
        """Samples of a channel that have to be there, after `blocks`.

        Those before the last packet, by its time, as its length is an estimate; of Matroska those of its header, as
        damage there hides what follows it.
        """
        first, last = self._times or (0, 0)
        samples = round((last - first) * self._stream.time_base * self.rate)
        alone = len(self._container.streams) == 1
        if self._container.format.name == "matroska,webm" and self._container.duration and alone:
            samples = max(samples, round(self._container.duration / self._av.time_base * self.rate))
        return samples

    def count(self) -> int:
        """Samples of a channel, all decoded: headers are estimates, and so are the lengths of packets."""
        samples = sum(map(len, self.blocks()))
        if samples < self.promised() - self.rate // 10:
            raise Undecodable(f"{samples / self.rate:.2f} s can be decoded, the rest is lost")
        return samples

    def blocks(self, start: int = 0, stop: int | None = None, whole: bool = False) -> Iterator[np.ndarray]:
        """Decode the samples from `start` to `stop` (None: the end), float32 of shape [samples, channels], in pieces.

        Of MPEG audio what is no frame is passed over, as players do: tags lie between the parts of a recording.
        """
        to_float = self._av.AudioResampler(format="fltp")
        position = 0
        with self._told():
            if start > LEAD * self.rate and self._container.format.name in TIMED:
                first = next(self._container.decode(self._stream)).pts
                ahead = round((start / self.rate - LEAD) / self._stream.time_base)
                self._container.seek(first + ahead, stream=self._stream)
                position = None
            for packet in self._container.demux(self._stream):
                if packet.pts is not None:
                    self._times = (max(packet.pts, 0) if self._times is None else self._times[0], packet.pts)
                for frame in self._frames(packet):
                    if position is None:
                        position = round((frame.pts - first) * frame.time_base * self.rate)
                    for piece in to_float.resample(frame):
                        samples = piece.to_ndarray().T
                        if samples.shape[1] != self.channels:
                            raise Undecodable(f"{self.channels} channels become {samples.shape[1]}")
                        end = None if stop is None else max(0, stop - position)
                        wanted = samples[max(0, start - position) : end]
                        position += len(samples)
                        if len(wanted):
                            yield wanted
                    if stop is not None and position >= stop:
                        return

    def _frames(self, packet) -> list:
        try:
            return packet.decode()
        except self._av.InvalidDataError:
            if self._container.format.name == "mp3":
                return []
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, StopIteration, ValueError) as error:  # ValueError: of the resampler
            raise Undecodable(getattr(error, "strerror", None) or str(error) or "no audio in it") from None
