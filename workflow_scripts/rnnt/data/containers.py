"""How long a file is by its container: what its header promises, held against what is there.

Decoders believe one of the two without a word: a recording that was cut off, or several that were put into one file,
come out short, with the whole transcript beside them.
"""

from __future__ import annotations

import mmap
import re
import struct
from typing import NamedTuple

from rnnt.errors import UserError

# Bytes by which headers are off: they count themselves in, or leave out a pad byte or an ID3v1 tag (128 bytes).
SLACK = 128
# What may follow the audio: tags, and chunks with a name, which need not be whole.
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"<?xpacket")
CHUNK_NAME = re.compile(rb"[A-Za-z0-9_ ]{4}")
WAV = (b"RIFF", b"RIFX", b"RF64", b"BW64")
# What reads the samples that a header leaves out.
READ_ON = dict.fromkeys((b"RIFF", b"RF64", b"BW64"), "`ffmpeg -ignore_length 1 -i IN OUT.flac` reads to the end")
READ_ON |= dict.fromkeys((b".snd", b"NIST"), "`ffmpeg -i IN OUT.flac` reads to the end")
MENDED = "get it again; where this is all there is, `ffmpeg -i IN OUT.flac` makes it a whole file"


class CutOff(UserError):
    """A file that ends before what its header promises."""

    reason = "cut off"


class WrongLength(UserError):
    """A file that holds more than its header says, such as two recordings one after the other."""

    reason = "length wrong"


class Length(NamedTuple):
    """`stated`: the header says how long the file is. `seconds`: counted, of MPEG audio whose header does not say."""

    stated: bool = True
    seconds: float | None = None


def check(path: str) -> Length:
    """Hold what a file's header says of its length against what the file has, decoding nothing.

    Knows WAV (RIFF, RIFX, RF64, BW64), Wave64, AIFF, 8SVX, CAF, AU, VOC, SPHERE, Ogg, FLAC, MPEG audio, ADTS, MP4,
    Matroska and ASF by their first bytes, and takes any other file as it is. Raises CutOff or WrongLength, UserError
    where a file of these formats has no room for a sample or is damaged, OSError where it can't be opened.
    """
    with open(path, "rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # empty
            return Length()
    with content:
        start = _after_tags(content)
        head = content[start : start + 20]
        if head[:4] in WAV and head[8:12] == b"WAVE":
            return _chunks(path, content, start, 12, ">4sI" if head[:4] == b"RIFX" else "<4sI", b"data", 2)
        if head[:4] == b"riff":
            return _chunks(path, content, start, 40, "<4s12xQ", b"data", 8)
        if head[:4] == b"FORM":
            samples = b"BODY" if head[8:12] in (b"8SVX", b"16SV") else b"SSND"
            return _chunks(path, content, start, 12, ">4sI", samples, 2)
        if head[:4] == b"caff":
            return _chunks(path, content, start, 8, ">4sQ", b"data", 1)
        for magic, measure in MEASURES.items():
            if re.match(magic, head, re.DOTALL):
                return measure(path, content, start)
    return Length()


def _chunks(path: str, content: mmap.mmap, start: int, skip: int, form: str, wanted: bytes, align: int) -> Length:
    """A file of chunks, each with a name and a size, of which one holds the samples.

    RIFF: Multimedia Programming Interface and Data Specifications 1.0 (1991). RF64 and BW64, whose `ds64` has the size:
    EBU Tech 3306, ITU-R BS.2088. Wave64, whose sizes count the chunk's header: Sony's specification. AIFF and AIFF-C:
    Apple, 1989 and 1991. CAF: Apple's Core Audio Format Specification.
    """
    header, at, long, length = struct.Struct(form), start + skip, None, None
    while at + header.size <= len(content):
        name, size = header.unpack_from(content, at)
        if length is not None and name == content[start : start + 4]:
            _second(path, at)
        if length is not None and not CHUNK_NAME.match(name):
            break
        at += header.size
        if "x" in form:
            size -= header.size
        if name == b"ds64" and at + 16 <= len(content):
            long = struct.unpack_from("<Q", content, at + 8)[0]
        if name == wanted and length is None:
            bits = 64 if form[-1] == "Q" else 32
            if long is not None and size == 0xFFFFFFFF:
                size, bits = long, 64
            length = _held(path, content, start, at, size, bits)
            if not length.stated:
                break
        if size < 0:  # damaged
            break
        at += size + -size % align
    return length or Length()


def _held(path: str, content: mmap.mmap, start: int, begin: int, size: int, bits: int) -> Length:
    """Compare the `size` of the samples that begin at `begin` with what the file has from there on."""
    held = len(content) - begin
    rest = content[begin + max(size, 0) :][: 1 << 20].lstrip(b"\0") if size < held else b""
    if size <= 0 and held > SLACK and not CHUNK_NAME.match(rest):
        return Length(stated=False)
    if size <= 0 or held <= 0:
        raise UserError(f"{path}: holds no audio")
    if size > held + SLACK:
        if _written_to_a_pipe(size, bits):
            return Length(stated=False)
        raise CutOff(f"{path}: is cut off: its header promises {size} bytes of audio, it has {held}: {MENDED}")
    _nothing_more(path, content, start, begin + size)
    return Length()


def _written_to_a_pipe(size: int, bits: int) -> bool:
    """Whether a size stands for "unknown": all ones in ffmpeg, 2 GiB less some bytes in SoX, LAME and espeak."""
    return any(limit - 2**16 <= size <= limit + 2**10 for limit in (2**bits, 2 ** (bits - 1)))


def _nothing_more(path: str, content: mmap.mmap, start: int, end: int) -> None:
    """Raise WrongLength where a second file or samples follow the `end` of the audio; tags, chunks and zeros may."""
    rest = content[end:][: 1 << 20]
    more = rest.lstrip(b"\0")
    first = content[start : start + 4]
    if more.startswith(first):
        _second(path, end + len(rest) - len(more))
    if len(more) > SLACK and not more.startswith(TAGS) and not CHUNK_NAME.match(more):
        mend = READ_ON.get(first, "write it again from its source")
        raise WrongLength(f"{path}: has {len(content) - end} bytes more than its header says, which are no tag: {mend}")


def _second(path: str, at: int) -> None:
    raise WrongLength(
        f"{path}: is several files put together, of which a header speaks of the first alone: take them apart, "
        f"`head -c {at} IN > FIRST` and `tail -c +{at + 1} IN > SECOND`"
    )


def _au(path: str, content: mmap.mmap, at: int) -> Length:
    """Offset and size of the samples, big-endian or, with the magic turned round, little (Sun, audio file format)."""
    if at + 12 > len(content):
        return Length()
    begin, size = struct.unpack_from("<II" if content[at : at + 4] == b"dns." else ">II", content, at + 4)
    return _held(path, content, at, at + begin, size, 32)


def _voc(path: str, content: mmap.mmap, at: int) -> Length:
    """Blocks with a type and a size, of which type 0 ends the file (Creative Labs, "Creative Voice File Format")."""
    if at + 22 > len(content):
        return Length()
    start, at = at, at + struct.unpack_from("<H", content, at + 20)[0]
    while at + 4 <= len(content) and content[at] != 0:
        size = int.from_bytes(content[at + 1 : at + 4], "little")
        if at + 4 + size > len(content) + SLACK:
            raise CutOff(
                f"{path}: is cut off: its last block promises {size} bytes, it has {len(content) - at - 4}: {MENDED}"
            )
        at += 4 + size
    _nothing_more(path, content, start, at + 1)
    return Length()


def _sphere(path: str, content: mmap.mmap, at: int) -> Length:
    """NIST SPHERE: a text header of the size that its second line gives, then `sample_count` samples a channel."""
    try:
        begin = at + int(content[at + 8 : at + 16])
    except ValueError:
        return Length()
    fields = dict(re.findall(rb"^(\w+) -\S+ (.+)$", content[at + 16 : begin], re.MULTILINE))
    count, channels = fields.get(b"sample_count", b""), fields.get(b"channel_count", b"1")
    width = fields.get(b"sample_n_bytes", b"2")
    if b"," in fields.get(b"sample_coding", b""):  # compressed
        return Length()
    if not all(re.fullmatch(rb"\s*\d{1,18}\s*", number) for number in (count, channels, width)):
        return Length(stated=False)
    unit = max(1, int(channels) * int(width))
    promised, held = int(count), (len(content) - begin) // unit
    if (promised - held) * unit > SLACK:
        raise CutOff(f"{path}: is cut off: its header promises {promised} samples, it has {held}: {MENDED}")
    _nothing_more(path, content, at, begin + promised * unit)
    return Length()


def _ogg(path: str, content: mmap.mmap, at: int) -> Length:
    """Pages, of which the last ends the stream and none but the first begins one (RFC 3533)."""
    begun, last = False, 0
    while (at := content.find(b"OggS", at)) >= 0 and at + 27 <= len(content):
        flags = content[at + 5]
        if flags & 2 and begun:
            _second(path, at)
        begun, last = begun or not flags & 2, flags
        segments = content[at + 27 : at + 27 + content[at + 26]]
        end = at + 27 + content[at + 26] + sum(segments)
        if end > len(content):
            last = 0
            break
        at = end
    if not last & 4:
        raise CutOff(f"{path}: is cut off: its last Ogg page does not end the stream: {MENDED}")
    return Length()


def _flac(path: str, content: mmap.mmap, at: int) -> Length:
    """STREAMINFO comes first and has the number of samples, 0 where it was not known (RFC 9639)."""
    if at + 26 > len(content) or content[at + 4] & 127 != 0:
        return Length()
    return Length(stated=int.from_bytes(content[at + 21 : at + 26], "big") & (2**36 - 1) > 0)


def second_flac(path: str) -> None:
    """Raise WrongLength where a second FLAC stream follows. Reads the file to its end, which `check` does not."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(b"fLaC\0\0\0\x22", _after_tags(content) + 4)
        if at >= 0:
            _second(path, at)


def _boxes(path: str, content: mmap.mmap, at: int) -> Length:
    """MP4, M4A, 3GP and QuickTime: boxes with a size and a type (ISO/IEC 14496-12)."""
    names = []
    while at + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        if size == 1 and at + 16 <= len(content):
            size = struct.unpack_from(">Q", content, at + 8)[0]
        if not CHUNK_NAME.match(name) or 0 < size < 8:
            break
        if name == b"ftyp" and name in names:
            _second(path, at)
        if size == 0:  # to the end
            break
        if at + size > len(content) + SLACK:
            raise CutOff(
                f"{path}: is cut off: a part of it promises {size} bytes, it has {len(content) - at}: get it again"
            )
        names.append(name)
        at += size
    return Length()


def _matroska(path: str, content: mmap.mmap, at: int) -> Length:
    """Matroska and WebM: an EBML header, then a segment, whose size is all ones where unknown (RFC 8794, RFC 9559)."""
    end = at
    for identity in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if content[end : end + 4] != identity or end + 12 > len(content):
            return Length()
        width = 9 - content[end + 4].bit_length()
        bits = 7 * width
        size = int.from_bytes(content[end + 4 : end + 4 + width], "big") & (2**bits - 1)
        end += 4 + width + size
    if size == 2**bits - 1:
        return Length(stated=False)
    if end > len(content) + SLACK:
        missing = end - len(content)
        raise CutOff(
            f"{path}: is cut off: {missing} of the {size} bytes that its header promises are missing: {MENDED}"
        )
    _nothing_more(path, content, at, end)
    return Length()


def _asf(path: str, content: mmap.mmap, at: int) -> Length:
    """WMA: the File Properties Object has the size of the file (Microsoft, Advanced Systems Format Specification)."""
    object_ = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65"
    found = content.find(object_, at, at + 2**16)
    if found < 0 or found + 92 > len(content):
        return Length()
    size = struct.unpack_from("<Q", content, found + 40)[0]
    if size == 0 or content[found + 88] & 1:  # a broadcast
        return Length(stated=False)
    if size > len(content) + SLACK:
        raise CutOff(f"{path}: is cut off: its header promises {size} bytes, it has {len(content)}: {MENDED}")
    _nothing_more(path, content, at, at + size)
    return Length()


# Kilobits a second by the index in a header; of MPEG-1's layers, of MPEG-2's layer I, of its layers II and III.
RATES_1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
RATES_2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = (44100, 48000, 32000)
SYNC = re.compile(rb"\xff[\xe0-\xff]")


class _Frame(NamedTuple):
    size: int  # bytes, 0 in free format
    samples: int
    rate: int  # Hz
    kind: tuple


def _frame(content: mmap.mmap, at: int, seen: dict) -> _Frame | None:
    """The frame that begins at `at`, None where none does (ISO/IEC 11172-3 and 13818-3; ADTS: 13818-7)."""
    header = content[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    if header[1] & 0xF6 == 0xF0:  # ADTS: layer 0
        size = (header[3] & 3) << 11 | int.from_bytes(content[at + 4 : at + 6], "big") >> 5
        index = header[2] >> 2 & 15
        rates = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
        return _Frame(size, 1024, rates[index], ("adts", index)) if index < len(rates) and size > 7 else None
    word = header[1:3]
    if word not in seen:
        seen[word] = _mpeg_frame(*word)
    return seen[word]


def _mpeg_frame(second: int, third: int) -> _Frame | None:
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)  # version 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    if version == 1 or layer == 4 or third >> 4 == 15 or third >> 2 & 3 == 3:
        return None
    rate = SAMPLE_RATES[third >> 2 & 3] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * (RATES_1[layer] if version == 3 else RATES_2[min(layer, 2)])[third >> 4]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    slots, padding = (4, third >> 1 & 1) if layer == 1 else (1, third >> 1 & 1)
    size = (samples // 8 // slots * bits // rate + padding) * slots if bits else 0
    return _Frame(size, samples, rate, (version, layer, rate))


def _mpeg(path: str, content: mmap.mmap, at: int) -> Length:
    """Count the frames of MPEG audio, past any tags and junk, and hold them against the first one's Xing or VBRI tag.

    A frame more or less than the tag says is no difference: some encoders count the tag's own frame, and Common Voice's
    files end up to a frame early.
    """
    seen: dict = {}
    first = _frame(content, at, seen)
    if first is None or first.size == 0 or not _run(content, at, 2, seen):
        return Length()  # no MPEG audio after all, or in free format, which libsndfile reads
    promised = _promised_frames(content, at, first)
    if promised is not None:
        at += first.size
    samples: dict[int, int] = {}  # by rate
    count, kind, junk, whole = 0, first.kind, 0, True
    while whole and (found := _next_frame(content, at, kind, seen)) is not None:
        junk += 0 if content[at : at + 16].startswith(TAGS) else found - at
        frame = _frame(content, found, seen)
        at, kind = found + frame.size, frame.kind
        whole = at <= len(content)
        if whole:
            count += 1
            samples[frame.rate] = samples.get(frame.rate, 0) + frame.samples
    seconds = sum(number / rate for rate, number in samples.items())
    if promised is None and len(samples) < 2:
        if not whole or (0 < len(content) - at < 4 and content[at] == 0xFF):
            raise CutOff(f"{path}: is cut off: it ends within a frame, after {seconds:.2f} s: {MENDED}")
        if junk > 4 * first.size:
            raise UserError(f"{path}: is damaged: {junk} bytes between its MPEG frames are no frames: get it again")
        return Length(stated=False, seconds=seconds)
    said = (promised or 0) * first.samples / first.rate
    if promised is None or count > promised + 1:
        raise WrongLength(
            f"{path}: is several files put together, about {seconds:.1f} s, of which its header speaks of the first "
            f"{said:.2f} s alone: `ffmpeg -i IN OUT.flac` makes one recording of it"
        )
    if count < promised - 1:
        raise CutOff(f"{path}: is cut off: its header promises {said:.2f} s, it has {seconds:.2f} s: {MENDED}")
    return Length()


def _next_frame(content: mmap.mmap, at: int, kind: tuple, seen: dict) -> int | None:
    """Where the next frame begins, at `at` or behind the tags and the damage there; None where there is none."""
    frame = _frame(content, at, seen)
    if frame is not None and frame.size and frame.kind == kind:
        return at
    for found in SYNC.finditer(content, at):
        frame = _frame(content, found.start(), seen)
        # By chance any bytes look like a frame: another one must follow, and of a new kind several.
        if frame and frame.size and _run(content, found.start(), 2 if frame.kind == kind else 4, seen):
            return found.start()
    return None


def _run(content: mmap.mmap, at: int, number: int, seen: dict) -> bool:
    """Whether so many frames of one kind follow each other from `at`, or fewer that end with the file."""
    kind = None
    for _ in range(number):
        if kind is not None and at == len(content):
            return True
        frame = _frame(content, at, seen)
        if frame is None or frame.size == 0 or frame.kind != (kind or frame.kind):
            return False
        at, kind = at + frame.size, frame.kind
    return True


def _promised_frames(content: mmap.mmap, at: int, first: _Frame) -> int | None:
    """The number of frames by a Xing, Info or VBRI tag in the first one, which it does not count; None without.

    LAME's "Mp3 Info Tag revision 1"; Fraunhofer's VBRI tag.
    """
    body = content[at : at + max(first.size, 200)]
    tag = next((body.find(name, 4, 48) for name in (b"Xing", b"Info") if body.find(name, 4, 48) > 0), None)
    if tag is not None and len(body) >= tag + 12 and body[tag + 7] & 1:
        return int.from_bytes(body[tag + 8 : tag + 12], "big") or None
    if body[36:40] == b"VBRI" and len(body) >= 54:
        return int.from_bytes(body[50:54], "big") or None
    return None


def states_mpeg_length(path: str) -> bool:
    """Whether an MPEG file says how many frames it has, or is in free format; without, libsndfile guesses."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = _after_tags(content)
        first = _frame(content, at, {})
        return first is None or first.size == 0 or _promised_frames(content, at, first) is not None


def is_endless_wav(path: str) -> bool:
    """Whether a file is a WAV whose header gives no length for its samples."""
    with open(path, "rb") as file:
        wav = file.read(4) in WAV
    return wav and not check(path).stated


def _after_tags(content: mmap.mmap) -> int:
    """Where the file begins behind its ID3v2 tags and what pads them (id3.org, "ID3 tag version 2.4.0", 3.1)."""
    at = 0
    while content[at : at + 3] == b"ID3" and at + 10 <= len(content):
        size = content[at + 6 : at + 10]
        at += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + (10 if content[at + 5] & 16 else 0)
    padding = content[at : at + 4096] if at else b""
    return at + len(padding) - len(padding.lstrip(b"\0"))


MEASURES = {
    rb"\.snd|dns\.": _au,
    rb"Creative Voice File": _voc,
    rb"NIST_1A\n": _sphere,
    rb"OggS": _ogg,
    rb"fLaC": _flac,
    rb"....(ftyp|moov|mdat|wide|free|skip)": _boxes,
    rb"\x1a\x45\xdf\xa3": _matroska,
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11": _asf,
    rb"\xff[\xe0-\xff]": _mpeg,
}
