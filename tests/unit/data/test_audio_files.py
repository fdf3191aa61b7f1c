"""What people really feed it: files of every container that are whole, cut off, put together, damaged or silent."""

import io
import random
import re
import struct

import av
import numpy as np
import pytest
import soundfile

from rnnt.data import audio, containers
from rnnt.errors import UserError

RATE, SECONDS = 16000, 3.0
# A format of libsndfile, its encoding, the suffix.
LIBSNDFILE = [
    ("WAV", "PCM_16", "wav"),
    ("WAV", "ULAW", "wav"),
    ("WAV", "GSM610", "wav"),
    ("WAV", "IMA_ADPCM", "wav"),
    ("WAVEX", "FLOAT", "wav"),
    ("RF64", "PCM_16", "rf64"),
    ("W64", "PCM_24", "w64"),
    ("AIFF", "PCM_16", "aiff"),
    ("AIFF", "ULAW", "aifc"),
    ("AU", "PCM_16", "au"),
    ("AU", "G721_32", "au"),
    ("CAF", "PCM_16", "caf"),
    ("VOC", "PCM_16", "voc"),
    ("SVX", "PCM_16", "iff"),
    ("NIST", "PCM_16", "sph"),
    ("FLAC", "PCM_16", "flac"),
    ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "opus"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
]
# A muxer of FFmpeg, an encoder, the suffix.
FFMPEG = [
    ("ipod", "aac", "m4a"),
    ("mp4", "aac", "mp4"),
    ("webm", "libopus", "webm"),
    ("matroska", "pcm_s16le", "mkv"),
    ("asf", "wmav2", "wma"),
    ("adts", "aac", "aac"),
    ("amr", "libopencore_amrnb", "amr"),
    ("mp2", "mp2", "mp2"),
    ("flac", "flac", "flac"),
    ("caf", "alac", "caf"),
    ("voc", "pcm_s16le", "voc"),
]
ALL = [pytest.param(*kind, id="-".join(kind)) for kind in LIBSNDFILE + FFMPEG]


def speech(seconds=SECONDS, rate=RATE):
    """Something that no codec finds easy: noise that swells four times a second."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, len(t))
    return (noise * (0.1 + 0.9 * np.sin(2 * np.pi * 2 * t) ** 2)).astype("float32")


def make(path, form, codec, samples=None, rate=RATE, **options):
    """Write a file with libsndfile where it knows the format, else with FFmpeg; returns its bytes."""
    samples = speech() if samples is None else samples
    if form.isupper():
        soundfile.write(path, samples, rate, format=form, subtype=codec, **options)
    else:
        encode(str(path), form, codec, samples, rate, options)
    return path.read_bytes()


def encode(target, form, codec, samples, rate, options):
    rate_there = 8000 if "amr" in codec else 48000 if "opus" in codec else rate
    with av.open(target, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate_there, layout="mono")
        stream.codec_context.bit_rate = 12200 if "amr" in codec else 64000
        resampler = av.AudioResampler(stream.format, "mono", rate_there)
        for first in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
            frame.rate = rate
            for piece in resampler.resample(frame):
                container.mux(stream.encode(piece))
        for piece in resampler.resample(None):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


@pytest.fixture
def file(tmp_path):
    """A file with the given bytes."""

    def write(content, name="x.wav"):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def seconds(path):
    """The length by the headers, which is that of the samples, of `listen` and of what is read."""
    by_headers = audio.inspect(path)
    heard, _ = audio.listen(path, [(0, None, None)])
    assert heard == by_headers
    assert len(audio.read(path, RATE)) / RATE == pytest.approx(by_headers.seconds, abs=0.06)
    assert len(audio.read(path, RATE, seconds=by_headers.seconds)) / RATE == pytest.approx(by_headers.seconds, abs=0.06)
    return by_headers.seconds


def fault(path):
    """What `inspect` says of a file, or, where that says nothing, `listen`."""
    for look in (audio.inspect, lambda path: audio.listen(path, [])):
        try:
            look(path)
        except UserError as error:
            assert "\n" not in str(error) and str(error).startswith(f"{path}: ")
            return error
    return None


@pytest.mark.parametrize(("form", "codec", "suffix"), ALL)
def test_a_whole_file_is_as_long_as_it_is(tmp_path, form, codec, suffix):
    make(tmp_path / f"x.{suffix}", form, codec)
    assert seconds(str(tmp_path / f"x.{suffix}")) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("share", [0.55, 0.9])
@pytest.mark.parametrize(("form", "codec", "suffix"), ALL)
def test_a_file_that_is_cut_off_is_called_so(file, tmp_path, form, codec, suffix, share):
    if codec in ("libopencore_amrnb",):
        pytest.skip("its header promises nothing")
    content = make(tmp_path / f"x.{suffix}", form, codec)
    error = fault(file(content[: int(len(content) * share) + 1], f"x.{suffix}"))
    assert isinstance(error, containers.CutOff) or (suffix == "caf" and codec == "alac" and error), error
    assert "is cut off" in str(error) or codec == "alac"
    if suffix == "mp3":
        assert re.search(r"its header promises 3\.\d\d s, it has [12]\.\d\d s", str(error))


@pytest.mark.parametrize(("form", "codec", "suffix"), ALL)
def test_two_recordings_in_one_file_are_not_taken_for_the_first(file, tmp_path, form, codec, suffix):
    content = make(tmp_path / f"x.{suffix}", form, codec)
    path = file(content + content, f"x.{suffix}")
    if suffix in ("aac", "mp2"):  # made for it, as every frame speaks for itself
        assert seconds(path) == pytest.approx(2 * SECONDS, abs=0.3)
    elif codec != "libopencore_amrnb":
        error = fault(path)
        assert isinstance(error, containers.WrongLength) and "several files put together" in str(error), error
        if "head -c" in str(error):
            assert f"`head -c {len(content)} IN > FIRST` and `tail -c +{len(content) + 1} IN > SECOND`" in str(error)


def riff(data, size=None, whole=None, before=b"", after=b"", magic=b"RIFF", order="<", first=b""):
    """A WAV of 16-bit samples with the sizes that are asked for."""
    form = struct.pack(order + "4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = (
        b"WAVE"
        + first
        + form
        + before
        + b"data"
        + struct.pack(order + "I", len(data) if size is None else size)
        + data
        + after
    )
    return magic + struct.pack(order + "I", len(body) if whole is None else whole) + body


PCM = (speech() * 32767).astype("<i2").tobytes()
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf59.27.100\0"


@pytest.mark.parametrize(
    "content",
    [
        riff(PCM, before=b"JUNK" + struct.pack("<I", 28) + bytes(28)),
        riff(PCM, before=b"junk" + struct.pack("<I", 5) + b"abcde\0"),
        riff(PCM, before=LIST, after=LIST),
        riff(PCM, after=b"id3 " + struct.pack("<I", 3000) + b"ID3" + b"\7" * 2997),
        riff(PCM, after=b"ID3\4\0\0\0\0\x17\x70" + b"\7" * 3000),
        riff(PCM, after=b"TAG" + b"x" * 125),
        riff(PCM, after=bytes(4096)),
        riff(PCM, size=len(PCM) + 44),
        riff(PCM, whole=0),
        riff(np.frombuffer(PCM, "<i2").astype(">i2").tobytes(), magic=b"RIFX", order=">"),
    ],
    ids="JUNK odd LIST id3 ID3v2 ID3v1 zeros counts-itself riff-0 RIFX".split(),
)
def test_what_a_wav_may_hold_beside_its_samples_is_no_fault(file, content):
    path = file(content)
    assert seconds(path) == pytest.approx(SECONDS) and audio.inspect(path).stated


@pytest.mark.parametrize(
    ("whole", "size"),
    [
        (0, 0),
        (8, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0x7FFFFFFF, 0x7FFFFFDB),
        (0xFFFFFFFF, 0xFFFFFFD8),
    ],
)
def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end(file, whole, size):
    path = file(riff(PCM, size, whole))
    assert seconds(path) == pytest.approx(SECONDS) and not audio.inspect(path).stated


def test_other_sizes_that_stand_for_unknown(file, tmp_path):
    content = make(tmp_path / "x.au", "AU", "PCM_16")
    path = file(content[:8] + b"\xff" * 4 + content[12:], "x.au")
    assert seconds(path) == pytest.approx(SECONDS) and not audio.inspect(path).stated
    long = struct.pack("<4sIQQQI", b"ds64", 28, 0, 0, 0, 0)
    path = file(riff(PCM, 0xFFFFFFFF, 0xFFFFFFFF, first=long, magic=b"RF64"), "x.rf64")
    assert seconds(path) == pytest.approx(SECONDS) and not audio.inspect(path).stated
    path = file(riff(PCM, 0xFFFFFFFF, first=struct.pack("<4sIQQQI", b"ds64", 28, 0, len(PCM), 0, 0), magic=b"BW64"))
    assert seconds(path) == pytest.approx(SECONDS) and audio.inspect(path).stated


def test_a_header_that_was_written_before_the_samples_is_not_believed(file):
    error = fault(file(riff(PCM, len(PCM) // 3)))
    assert isinstance(error, containers.WrongLength) and "`ffmpeg -ignore_length 1 -i IN OUT.flac`" in str(error)
    assert str(fault(file(riff(b"", after=LIST)))).endswith(": holds no audio")
    assert str(fault(file(riff(b"")))).endswith(": holds no audio")


def test_a_sphere_header_may_lack_its_count_and_may_be_wrong(file, tmp_path):
    content = make(tmp_path / "x.sph", "NIST", "PCM_16")
    without = content.replace(b"sample_count -i 48000\n", b"sample_bits -i 1\nab_ -i 9\n".ljust(22)[:22])
    path = file(without, "x.sph")
    assert b"sample_count" not in without and not containers.check(path).stated
    # More digits than Python makes a number of.
    longer = content.replace(b"-i 48000\n", b"-i %s\n" % (b"9" * 5000)).replace(b"1024", b"9024")
    (tmp_path / "x.sph").write_bytes(longer)
    assert not containers.check(str(tmp_path / "x.sph")).stated
    error = fault(file(content.replace(b"-i 48000", b"-i 16000"), "x.sph"))
    assert isinstance(error, containers.WrongLength) and "64000 bytes more than its header says" in str(error)
    error = fault(file(content.replace(b"-i 48000", b"-i 96000"), "x.sph"))
    assert isinstance(error, containers.CutOff) and "promises 96000 samples, it has 48000" in str(error)


ID3 = b"ID3\4\0\0\0\0\2\0" + bytes(256)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 40, 1, 0) + bytes(48)


@pytest.fixture(scope="module")
def untagged(tmp_path_factory):
    """An mp3 of variable bitrate without the frame that says how long it is, which starts with silence."""
    path = tmp_path_factory.mktemp("mp3") / "x.mp3"
    samples = np.concatenate([np.zeros(RATE, "float32"), speech()])
    content = make(path, "MP3", "MPEG_LAYER_III", samples, bitrate_mode="VARIABLE", compression_level=0.5)
    first = content.find(b"\xff\xf3")
    assert b"Xing" in content[first : first + 60] or b"Info" in content[first : first + 60]
    return content[content.find(b"\xff\xf3", first + 50) :]


def test_an_mp3_that_does_not_say_how_long_it_is_is_counted(file, untagged):
    path = file(untagged, "x.mp3")
    with soundfile.SoundFile(path) as guess:
        assert abs(guess.frames / RATE - 4) > 0.5, "else the test shows nothing"
    once = seconds(path)
    assert once == pytest.approx(4, abs=0.15) and not audio.inspect(path).stated
    assert seconds(file(ID3 + ID3 + untagged + APE + b"TAG" + bytes(125), "x.mp3")) == once
    assert seconds(file(untagged + b"TAG" + b"x" * 125 + ID3 + untagged, "x.mp3")) == pytest.approx(2 * once)
    middle = len(untagged) // 2
    damaged = audio.inspect(file(untagged[:middle] + bytes(30) + untagged[middle:], "x.mp3")).seconds
    assert seconds(path) == damaged == pytest.approx(once, abs=0.15), "but for a frame or two"
    error = fault(file(untagged[:-40], "x.mp3"))
    assert isinstance(error, containers.CutOff) and "ends within a frame" in str(error)
    error = fault(file(untagged[: len(untagged) // 2] + bytes(3000) + untagged[len(untagged) // 2 :], "x.mp3"))
    assert "is damaged: " in str(error) and "are no frames" in str(error)


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
def test_an_mp3_with_a_tag_is_believed_within_a_frame(file, tmp_path, rate):
    content = make(tmp_path / "x.mp3", "MP3", "MPEG_LAYER_III", speech(rate=rate), rate)
    path = file(ID3 + content + APE, "x.mp3")
    assert seconds(path) == pytest.approx(SECONDS, abs=0.001) and audio.inspect(path).stated
    assert seconds(file(content[:-20], "x.mp3")) == pytest.approx(SECONDS, abs=0.16), "as Common Voice's"
    error = fault(file(content + b"TAG" + b"x" * 125 + ID3 + content, "x.mp3"))
    assert isinstance(error, containers.WrongLength) and "`ffmpeg -i IN OUT.flac` makes one recording" in str(error)


def test_an_mp3_is_read_from_an_offset_as_in_the_whole(tmp_path):
    """Its first frames after a seek lack what is kept in those before."""
    bursts = speech(rate=44100) * (np.arange(3 * 44100) // 4000 % 2)
    make(tmp_path / "x.mp3", "MP3", "MPEG_LAYER_III", bursts, 44100, bitrate_mode="VARIABLE", compression_level=0.6)
    whole = audio.read(str(tmp_path / "x.mp3"), 44100)
    for start in np.arange(0.5, 2.7, 0.037):
        part = audio.read(str(tmp_path / "x.mp3"), 44100, start, 0.2)
        assert np.abs(part - whole[round(start * 44100) :][: len(part)]).max() < 1e-4, start


@pytest.mark.parametrize(
    ("form", "codec", "suffix"),
    [("WAV", "GSM610", "wav"), ("AIFF", "GSM610", "aiff"), ("AIFF", "DWVW_16", "aiff"), ("ipod", "aac", "m4a"),
     ("webm", "libopus", "webm"), ("amr", "libopencore_amrnb", "amr")],
)  # fmt: skip
def test_a_stretch_is_read_where_libsndfile_can_t_seek(tmp_path, form, codec, suffix):
    path = str(tmp_path / f"x.{suffix}")
    make(tmp_path / f"x.{suffix}", form, codec)
    whole = audio.read(path, RATE)
    part = audio.read(path, RATE, 2.0, 0.5)
    assert len(part) == 8000
    shift = min(range(-100, 101), key=lambda by: np.abs(part[1000:7000] - whole[33000 + by : 39000 + by]).sum())
    assert abs(shift) <= (40 if suffix == "webm" else 0), "webm keeps its times in milliseconds"


def test_a_flac_without_a_length_is_read_and_said_to_be_so(file, tmp_path):
    content = make(tmp_path / "x.flac", "FLAC", "PCM_16")
    unknown = content[:21] + bytes([content[21] & 0xF0]) + bytes(4) + content[26:]
    path = file(unknown, "x.flac")
    assert seconds(path) == pytest.approx(SECONDS) and not audio.inspect(path).stated
    assert "not readable" in str(fault(file(unknown[: len(unknown) // 2], "x.flac")))


def test_an_ogg_that_nothing_ends_is_cut_off(file, tmp_path):
    content = make(tmp_path / "x.ogg", "OGG", "VORBIS")
    last = content.rfind(b"OggS")
    assert isinstance(fault(file(content[:last], "x.ogg")), containers.CutOff)
    assert fault(file(content + b"TAG" + bytes(125), "x.ogg")) is None


@pytest.mark.parametrize(
    ("form", "codec", "suffix"),
    [("FLAC", "PCM_16", "flac"), ("OGG", "VORBIS", "ogg"), ("OGG", "OPUS", "opus"), ("ipod", "aac", "m4a"),],
)  # fmt: skip
def test_damage_in_the_middle_is_found_by_listening(file, tmp_path, form, codec, suffix):
    content = bytearray(make(tmp_path / f"x.{suffix}", form, codec))
    middle = len(content) // 2
    content[middle : middle + 600] = random.Random(1).randbytes(600)
    path = file(bytes(content), f"x.{suffix}")
    with pytest.raises(UserError, match="is damaged: .* of it can be decoded .*: get it again") as error:
        audio.listen(path, [(0, None, None)])
    assert not isinstance(error.value, containers.CutOff)


def test_what_is_wrong_with_the_sound_is_said_of_each_stretch_and_channel(tmp_path):
    """More than a block long, so that stretches lie across blocks."""
    one = speech(12)
    left, right = one.copy(), np.roll(one, 7000)
    left[3 * RATE : 4 * RATE] = right[3 * RATE : 4 * RATE] = 0.2
    right[5 * RATE : 6 * RATE] = -0.98 * left[5 * RATE : 6 * RATE]
    left[7 * RATE : 8 * RATE] = np.clip(left[7 * RATE : 8 * RATE] * 4, -1, 1)
    left[9 * RATE] = np.nan
    right[11 * RATE] = np.inf
    path = str(tmp_path / "x.wav")
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    stretches = [(second, 1.0, channel) for channel in (None, 0, 1) for second in (2, 3, 5, 7, 9, 11)]
    header, heard = audio.listen(path, [*stretches, (0, None, None), (20, 1.0, None), (1, 1.0, 5)])
    found = [sound.problems for sound in heard]
    assert header == audio.Header(12.0, 2) and found[-3:] == [[audio.NOT_FINITE], [], []]
    assert found[:-3] == [
        [], ["silent"], ["channels cancel each other"], ["clipped"], [audio.NOT_FINITE], [audio.NOT_FINITE],
        [], ["silent"], [], ["clipped"], [audio.NOT_FINITE], [],
        [], ["silent"], [], [], [], [audio.NOT_FINITE],
    ]  # fmt: skip


def test_silence_and_loudness_that_are_no_fault(tmp_path):
    path = str(tmp_path / "x.wav")
    quiet = (speech() * 20).astype("int16")
    loud = speech() * 2
    loud[:20] = 1.0
    for samples in (quiet, loud / np.abs(loud).max(), np.stack([quiet, np.roll(quiet, 999)], axis=1)):
        soundfile.write(path, samples, RATE)
        assert audio.listen(path, [(0, None, None)])[1][0].problems == []
    dither = np.random.default_rng(1).integers(-1, 1, RATE, endpoint=True).astype("int16")
    soundfile.write(path, dither, RATE)
    assert audio.listen(path, [(0, None, None)])[1][0].problems == ["silent"]


def test_a_text_a_picture_and_samples_without_a_header_are_no_audio(file):
    for name, content in {
        "x.wav": b"not audio",
        "x.mp3": "ünlesbar".encode("utf-16") * 50,
        "x.m4a": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "x.ogg": b"",
    }.items():
        assert "not readable as audio" in str(fault(file(content, name))), name
    assert "`ffmpeg -f s16le -ar RATE -ac 1 -i IN OUT.flac`" in str(fault(file(PCM, "x.raw")))
    rate_1 = riff(PCM).replace(struct.pack("<I", RATE), struct.pack("<I", 1), 1)
    assert "its header says 1 Hz" in str(fault(file(rate_1)))


@pytest.mark.parametrize(("form", "codec", "suffix"), ALL)
def test_no_damage_is_a_traceback_or_without_end(file, tmp_path, form, codec, suffix):
    content = make(tmp_path / f"x.{suffix}", form, codec, speech(0.5))
    chance = random.Random(f"{form}{codec}")
    for _ in range(15):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 5))):
            damaged[chance.randrange(min(len(damaged), chance.choice((60, 400, 10**9))))] = chance.choice((0, 255, 17))
        if chance.random() < 0.4:
            damaged = damaged[: chance.randrange(8, len(damaged))]
        fault(file(bytes(damaged), f"x.{suffix}"))


def test_blocks_of_a_voc_are_samples_and_nothing_else(tmp_path):
    """libsndfile plays the headers of all blocks but the first."""
    make(tmp_path / "x.voc", "voc", "pcm_s16le")
    assert soundfile.info(tmp_path / "x.voc").frames > 3 * RATE
    assert np.abs(audio.read(str(tmp_path / "x.voc"), RATE) - speech()).max() < 2**-14


def test_what_ffmpeg_can_t_decode_to_its_end_is_found_without_listening(file, tmp_path):
    content = make(tmp_path / "x.webm", "webm", "libopus")
    third = len(content) // 3
    path = file(content[:third] + bytes(third) + content[2 * third :], "x.webm")
    with pytest.raises(UserError, match="s can be decoded, the rest is lost"):
        audio.inspect(path)


def test_a_chunk_of_no_size_is_no_loop(file, tmp_path):
    content = bytearray(make(tmp_path / "x.w64", "W64", "PCM_16"))
    content[56:64] = bytes(8)
    assert "not readable as audio" in str(fault(file(bytes(content), "x.w64")))


def test_titles_of_old_files_are_in_any_encoding(file):
    buffer = io.BytesIO()
    encode(buffer, "wav", "adpcm_g726", speech(rate=8000), 8000, {})
    content = buffer.getvalue()
    title = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"\xfcb\xe9r"
    assert seconds(file(content + title)) > 1
