"""Whatever a recording's header says: a length that decoding confirms, or one line that names the file.

Each file is read in a process of its own, which a decoder may crash or fill.
"""

import io
import math
import os
import pickle
import resource
import signal
import traceback

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mutations import SECONDS, check_message, damaged
from rnnt.data import audio
from rnnt.errors import UserError

RATE = 8000
MEMORY = 4 << 30  # bytes beyond what this process has
LIBSNDFILE = [
    ("WAV", "PCM_16", "wav"),
    ("WAV", "IMA_ADPCM", "wav"),
    ("WAVEX", "FLOAT", "wav"),
    ("RF64", "PCM_16", "rf64"),
    ("W64", "PCM_16", "w64"),
    ("AIFF", "PCM_16", "aiff"),
    ("AU", "ULAW", "au"),
    ("CAF", "PCM_16", "caf"),
    ("VOC", "PCM_16", "voc"),
    ("NIST", "ULAW", "sph"),
    ("FLAC", "PCM_16", "flac"),
    ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "opus"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
]
FFMPEG = [("ipod", "aac", "m4a"), ("webm", "libopus", "webm"), ("asf", "wmav2", "wma"), ("adts", "aac", "aac")]
EXTREMES = [0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
EXTREMES += [2**63 - 1, 2**63, 2**64 - 1]
SPHERE = (
    "NIST_1A\n   1024\ndatabase_id -s7 EXAMPLE\nchannel_count -i 1\nsample_count -i 4000\nsample_rate -i 8000\n"
    "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s3 pcm\nend_head\n",
    "NIST_1A\n   1024\nchannel_count -i 2\nsample_count -i 4000\nsample_rate -i 8000\nsample_n_bytes -i 1\n"
    "sample_coding -s4 ulaw\nend_head\n",
)


def noise():
    return np.random.default_rng(5).integers(-8000, 8000, RATE // 2, dtype="int16")


def encoded(form, codec):
    """Half a second of noise in a format of libsndfile or a muxer of FFmpeg."""
    made = io.BytesIO()
    if form.isupper():
        soundfile.write(made, noise(), RATE, format=form, subtype=codec)
        return made.getvalue()
    with av.open(made, "w", format=form) as container:
        rate = 48000 if "opus" in codec else RATE
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.codec_context.bit_rate = 32000
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size)
        frame = av.AudioFrame.from_ndarray(noise()[None], format="s16", layout="mono")
        frame.rate = RATE
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return made.getvalue()


@st.composite
def damaged_header(draw, content):
    """A number or some bytes of the first ones changed, the end cut off, something put in or behind it."""
    for _ in range(draw(st.integers(0, 3))):
        kind, at = draw(st.integers(0, 5)), draw(st.integers(0, min(len(content), 150)))
        if kind <= 2:
            width, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
            value = draw(st.sampled_from(EXTREMES) | st.integers(0, 2**64 - 1)) % 256**width
            content = content[:at] + value.to_bytes(width, order) + content[at + width :]
        elif kind == 3:
            content = content[: draw(st.integers(0, len(content)))]
        elif kind == 4:
            content = content[:at] + draw(st.binary(max_size=12)) + content[at + draw(st.integers(0, 12)) :]
        else:
            content += draw(
                st.sampled_from([content, bytes(200), b"ID3\3\0\0\0\0\1\0" + bytes(128), b"\xff\xfb" * 100])
            )
    return content


def apart(function, *arguments):
    """What a function returns, from a process that ends with it."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)
        try:
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(60 * SECONDS)  # where it waits for ever
            os.write(there, pickle.dumps(function(*arguments)))
        except BaseException:
            os.write(there, pickle.dumps(traceback.format_exc()[-4000:]))
        finally:
            os._exit(0)
    os.close(there)
    with open(here, "rb") as file:
        answer = file.read()
    status = os.waitpid(child, 0)[1]
    ends = {signal.SIGXCPU: f"is not done after {SECONDS} s", signal.SIGALRM: "waits for ever"}
    assert answer, f"it {ends.get(os.WTERMSIG(status), f'crashes the process ({status})')}"
    answer = pickle.loads(answer)
    assert not isinstance(answer, str), answer
    return answer


def measured(path):
    """The header by `inspect` and by `listen`, and how much is read; for each the UserError where there is one."""
    ways = [
        lambda: audio.inspect(path),
        lambda: audio.listen(path, [(0.0, None, None), (0.1, 0.2, 0)])[0],
        lambda: len(audio.read(path, RATE)) / RATE,
    ]
    found = []
    for way in ways:
        try:
            found.append(way())
        except UserError as error:
            found.append(error)
    return found


def check(path, content):
    path.write_bytes(content)
    found = apart(measured, str(path))
    for answer in found:
        if isinstance(answer, UserError):
            check_message(str(answer), [path])
        elif isinstance(answer, audio.Header):
            assert math.isfinite(answer.seconds) and answer.seconds > 0 and answer.channels > 0, answer
    if not isinstance(found[0], UserError) and not isinstance(found[1], UserError):
        assert abs(found[0].seconds - found[1].seconds) <= 0.1, found
        assert isinstance(found[2], UserError) or found[2] > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audio")


@pytest.fixture(scope="module")
def sounds():
    return {kind[2] + " " + kind[1]: encoded(*kind[:2]) for kind in LIBSNDFILE + FFMPEG}


@given(data=st.data())
def test_audio_headers(folder, sounds, data):
    kind = data.draw(st.sampled_from(sorted(sounds)))
    check(folder / f"x.{kind.split()[0]}", data.draw(damaged_header(sounds[kind])))


@given(header=damaged(*SPHERE), filled=st.booleans(), samples=st.just(8000) | st.integers(0, 8200))
def test_sphere_headers(folder, header, filled, samples):
    content = header.ljust(1024) if filled else header[:1024]
    check(folder / "x.sph", content + noise().tobytes()[:samples])
