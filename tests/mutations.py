"""Files that are nearly right: genuine ones with a few changes of the kind that editors, exports and disks make.

`never_worse` holds what is asked of whoever reads them.
"""

import contextlib
import functools
import math
import re
import signal
import unicodedata

from hypothesis import strategies as st

from rnnt.data import transcripts
from rnnt.errors import UserError

SECONDS = 5  # of CPU time for a file
LONGEST = 50_000  # bytes of it
ODD = [
    *("", " ", "\t", ",", ";", '"', "'", '""', "`", "\\", "|", "/", "//", ".", "..", "../x", "~", "-", "--", "#", "%"),
    *("\0", "\x07", "\x1b[31m", "\x1c", "\x7f", "\x85", "\ufeff", "\u2028", "\u2029", "\u200b", "\u202e", "\xa0"),
    *("\n", "\r", "\r\n", "\n\n", "\r\r", "\x0b", "\x0c", "\n;;", "\n\\", "\n*", "*", "=>", "@", "<", ">", "{", "}"),
    *("nan", "NaN", "inf", "-Infinity", "1e999", "1e308", "1e-999", "1e-9", "-1", "-0.0", "0", "-0.01", "1_0", "0x1f"),
    *("020", "1:30", "9" * 30, "9" * 400, "9" * 5000, "-" + "9" * 5000, "0." + "0" * 400 + "1", "٣", "３", "²", "1,5"),
    *("null", "true", "no", "on", "[]", "{}", "&a", "*a", "<<: *a", "!!int", "? ", ": ", "- ", "2021-01-01", "(", ")"),
    *("[" * 2000, '{"a":' * 2000, '{"text": "x"}', '"\\ud800"', "\\ud83d", "\\u0000", "\\n", "((", "[", "]", "\u200d"),
    *("<unk>", "$HOME", "{dataset}", "e\u0301", "İ", "Σ", "ß", "ﬁ", "😀", "\U000e0100", "मैं", "می\u200cخواهم", "한"),
    *(
        "x" * 300,
        "a " * 3000,
        "x" * 20_000,
        "x,y\n" * 50,
        "\U0010ffff",
        "\ufffe",
        "/ [ ] __ [ ]",
        "{a / b}",
        "{ " * 999,
    ),
    *(
        ';; INPUT_DEPENDENT_APPLICATION = "(a+)+b"',
        "* max_nrules = '1'",
        "* case_sensitive = 'F'",
        "ngram 3=1",
        "\\end\\",
    ),
]
NO_TEXT = [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xf5\x80\x80\x80", b"\x80", b"\xff\xfe", b"\x1f\x8b"]
FIELD = re.compile(rb"[^\s,:\"'|=/\[\](){}]+")
LINE_ENDS = [b"\r\n", b"\r", b"\r\r\n", b"\n\n", "\x85".encode(), "\u2028".encode(), b"\x1e", b""]
ENCODINGS = ["utf-16", "utf-16-le", "utf-8-sig", "latin-1", "utf-32"]

odd = st.one_of(
    st.sampled_from([text.encode() for text in ODD]),
    st.sampled_from(NO_TEXT),
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.one_of(st.integers(), st.floats()).map(lambda number: str(number).encode()),
    st.binary(max_size=8),
)


def _field(draw, data, others):
    found = list(FIELD.finditer(data))
    if not found:
        return data
    field = found[draw(st.integers(0, len(found) - 1))]
    return data[: field.start()] + draw(odd) + data[field.end() :]


def _insert(draw, data, others):
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(odd) + data[at:]


def _delete(draw, data, others):
    at = draw(st.integers(0, len(data)))
    return data[:at] + data[at + draw(st.integers(1, 20)) :]


def _cut(draw, data, others):
    return data[: draw(st.integers(0, len(data)))]


def _lines(draw, data, others):
    """A line again and again, or at another place."""
    lines = data.split(b"\n")
    line = lines[draw(st.integers(0, len(lines) - 1))]
    at = draw(st.integers(0, len(lines)))
    return b"\n".join([*lines[:at], *[line] * draw(st.sampled_from([1, 2, 300])), *lines[at:]])


def _splice(draw, data, others):
    other = draw(st.sampled_from(others))
    begin, at = draw(st.integers(0, len(other))), draw(st.integers(0, len(data)))
    return data[:at] + other[begin : begin + draw(st.integers(1, 200))] + data[at:]


def _flip(draw, data, others):
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]


def _line_ends(draw, data, others):
    return data.replace(b"\n", draw(st.sampled_from(LINE_ENDS)))


def _encode(draw, data, others):
    return data.decode("utf-8", "replace").encode(draw(st.sampled_from(ENCODINGS)), "replace")


CHANGES = [_field, _field, _field, _insert, _insert, _delete, _cut, _lines, _splice, _flip, _line_ends, _encode]


@st.composite
def damaged(draw, *genuine, most=2):
    """The bytes of one of the genuine files (text or bytes) after up to `most` changes."""
    genuine = [text.encode() if isinstance(text, str) else text for text in genuine]
    data = draw(st.sampled_from(genuine))
    for _ in range(draw(st.integers(0, most))):
        data = draw(st.sampled_from(CHANGES))(draw, data, genuine)[:LONGEST]
    return data


@contextlib.contextmanager
def in_time():
    """Fails what takes more than SECONDS of CPU time, however busy the machine is."""

    def stop(*_):
        raise AssertionError(f"still not done after {SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def never_worse(function, *arguments, names):
    """What a reader returns, or None where it refuses the input with one line in which one of `names` is."""
    with in_time():
        try:
            return function(*arguments)
        except UserError as error:
            check_message(str(error), names)


def check_message(message, names):
    assert is_plain(message), f"a message that is not one plain line: {message!r}"
    assert len(message) <= 2100, f"a message of {len(message)} characters: {message[:300]}"
    assert any(str(name) in message for name in names), f"says not where: {message}"


def is_plain(text):
    """Whether a text is one line that any terminal and any file takes as it is."""
    return not any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text)


def check_utterance(utterance):
    """Well formed, and so is its text after the cleaning."""
    assert utterance.id.splitlines() == [utterance.id], f"an id that is not one line: {utterance.id!r}"
    assert isinstance(utterance.audio_filepath, str) and utterance.audio_filepath
    assert math.isfinite(utterance.offset) and utterance.offset >= 0, utterance.offset
    assert utterance.duration is None or (math.isfinite(utterance.duration) and utterance.duration > 0)
    assert utterance.channel is None or (type(utterance.channel) is int and utterance.channel >= 0)
    assert utterance.speaker is None or (isinstance(utterance.speaker, str) and utterance.speaker.strip())
    assert utterance.origin
    for value in (utterance.id, utterance.text, utterance.audio_filepath, utterance.speaker or "", utterance.stm or ""):
        value.encode()
    check_text(utterance.text, utterance.rules)


@functools.lru_cache  # of a line that is there 300 times
def check_text(text, rules):
    for case, language in (("lower", "en"), ("keep", "en"), ("lower", "tr"), ("lower", "lt")):
        check_cleaned(transcripts.clean(text, case, rules, language)[0])


def check_cleaned(text):
    assert isinstance(text, str) and is_plain(text), text
    assert text == " ".join(text.split()) and text == unicodedata.normalize("NFC", text), text
