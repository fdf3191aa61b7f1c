"""Fetch large archives over bad connections, prove that they are right, and unpack them; each whole or not at all."""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import hashlib
import http.client
import os
import posixpath
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from rnnt import console, disk, files
from rnnt.errors import UserError

CHUNK = 1 << 18  # bytes
TIMEOUT_SECONDS = 60  # without a byte from the server
FIRST_WAIT_SECONDS = 1.0  # before the second attempt; doubles with each further one
LONGEST_WAIT_SECONDS = 300.0
EXPANSION = 1.2  # of an archive of compressed audio, by extracting it
BY_HAND = "check the URL, or download the file by hand and set source.path"


class _Again(Exception):
    """A failure that another attempt may not meet, `wait` seconds from now at the earliest."""

    def __init__(self, reason: object, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str,
    destination: Path,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    attempts: int = 8,
) -> Path:
    """Download an http(s) URL to `destination`, whole or not at all; a file that is there is verified, not fetched.

    What has arrived lies in `destination`.part, and this process or a later one goes on from there. `size` is in
    bytes; `attempts` in a row may bring nothing new before this gives up.
    Raises UserError where the server refuses, the disk is full, or size or hash are not as expected.
    """
    destination = Path(destination)
    if destination.exists():
        verify(destination, sha256, md5, size)
        return destination
    if not re.fullmatch(r"https?://[\w\[][!-~]*", url, re.ASCII):
        raise UserError(f"{url}: expected an address that begins with http:// or https://, without spaces")
    destination.parent.mkdir(parents=True, exist_ok=True)
    part, failures, furthest = _beside(destination, ".part"), 0, 0
    while True:
        try:
            _attempt(url, part, size)
            break
        except _Again as again:
            # A server that can't resume brings the same bytes each time: only new ones count as progress.
            reached = part.stat().st_size if part.exists() else 0
            failures, furthest = (1, reached) if reached > furthest else (failures + 1, furthest)
            if failures >= attempts:
                reason = f"{again} ({attempts} attempts)"
                raise UserError(f"{url}: {reason}: start again later to go on from there, or {BY_HAND}") from None
            wait = min(LONGEST_WAIT_SECONDS, max(again.wait, FIRST_WAIT_SECONDS * 2 ** (failures - 1)))
            console.log.info("%s: %s: trying again in %.0f s", url, again, wait)
            time.sleep(wait)
    wanted = _wanted(sha256, md5, size)
    if problem := _mismatch(part, wanted):
        _forget(part)
        raise UserError(
            f"{url}: {problem}: the download is deleted, start again; if that does not help, the file there is "
            f"another one: correct what is expected, or {BY_HAND}"
        )
    os.replace(part, destination)
    _forget(part)
    _remember(destination, wanted)
    return destination


def verify(path: Path, sha256: str | None = None, md5: str | None = None, size: int | None = None) -> None:
    """Compare a file's hashes (hexadecimal) and size (bytes) with those given; `path`.verified spares doing it twice.

    Raises UserError where the file is not there or is another one.
    """
    path, wanted = Path(path), _wanted(sha256, md5, size)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    known = _note(_beside(path, ".verified"))
    if known and all(known.get(key) == value for key, value in [*_state(path).items(), *wanted.items()]):
        return
    if problem := _mismatch(path, wanted):
        raise UserError(f"{path}: {problem}: delete it and start again")
    _remember(path, wanted)


def extract(
    archive: Path, folder: Path, wanted: Callable[[str], bool] | None = None, expansion: float = EXPANSION
) -> None:
    """Unpack a tar or tar.gz to `folder`, whole or not at all; a folder that exists is left alone.

    `wanted` gets each member's name, without a leading `./`, and says whether to unpack it. `expansion` is the
    unpacked size over the archive's, for the check of the free disk.
    Raises UserError where a member would leave the folder, the archive is damaged, or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        return
    part = _beside(folder, ".part")
    try:
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(parents=True)
        with disk.room(folder.parent, archive.stat().st_size * expansion):
            _unpack(archive, part, wanted)
            part.rename(folder)
    except tarfile.FilterError as error:
        raise _unsafe(archive, error.tarinfo.name, "would leave the folder, or is a device or pipe") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise UserError(f"{archive}: truncated or corrupted archive ({error}): delete it and start again") from None
    except OSError as error:
        raise UserError(f"{archive}: can't be extracted to {folder} ({error.strerror or error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _attempt(url: str, part: Path, size: int | None) -> None:
    """Bring `part` to its full length, from where it is if the server lets us. Raises _Again, UserError."""
    memo = _beside(part, ".json")
    note = _note(memo)
    offset = part.stat().st_size if part.exists() and note.get("url") == url else 0
    if offset and offset == note["total"]:
        return
    with _open(url, offset, note) as response:
        tags = {key: response.headers.get(key) for key in ("ETag", "Last-Modified")}
        total = response.length if response.status == 200 else None
        if offset and response.status != 200:
            span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
            total = int(span[2]) if span and span[2] != "*" else note["total"]
            if response.status == 416 and total == offset:
                return
            same = note["total"] in (None, total) and all(tags[key] in (None, note[key]) for key in tags)
            if not same or not span or span[1] != str(offset):
                _forget(part)
                raise _Again("the file on the server is not the one that the download began with")
        else:
            offset = 0
        if size is not None and total not in (None, size):
            raise UserError(f"{url}: has {total} bytes, expected {size}: {BY_HAND}")
        total = size if total is None else total
        with disk.room(part.parent, (total or 0) - offset):
            if not offset:
                # In this order: the note never stands beside another file's bytes, whenever we are killed.
                part.unlink(missing_ok=True)
                files.write_json(memo, {"url": url, "total": total, **tags})
            with open(part, "ab", buffering=0) as file, _bar(total, f"downloading {part.stem}", offset) as shown:
                while True:
                    with _network():
                        chunk = response.read1(CHUNK)
                    if not chunk:
                        break
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
                    shown.update(len(chunk))
    reached = part.stat().st_size
    if total is not None and reached < total:
        raise _Again(f"the connection ended after {reached} of {total} bytes")


def _open(url: str, offset: int, note: dict) -> http.client.HTTPResponse | urllib.error.HTTPError:
    """Ask for the file from byte `offset` on. A 416 (nothing there) is returned, not raised."""
    headers = {"User-Agent": "rnnt"}
    if offset:
        # HTTP forbids weak tags in If-Range.
        strong = note["ETag"] and not note["ETag"].startswith("W/")
        validator = note["ETag"] if strong else note["Last-Modified"]
        headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": validator} if validator else {})
    try:
        with _network():
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        answer = f"the server answers {error.code} {error.reason}"
        if error.code == 416 and offset:
            return error
        if error.code in (408, 429) or error.code >= 500:
            raise _Again(answer, _seconds(error.headers.get("Retry-After", ""))) from None
        raise UserError(f"{url}: {answer}: {BY_HAND}") from None


@contextlib.contextmanager
def _network() -> Iterator[None]:
    # Only around what talks to the server: an error of our own disk is no reason to try again.
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Again(getattr(error, "reason", None) or str(error) or type(error).__name__) from None


def _seconds(retry_after: str) -> float:
    """The wait that a Retry-After header asks for, in seconds from now; it holds seconds or a date."""
    date = email.utils.parsedate_tz(retry_after)
    return float(retry_after) if retry_after.isdecimal() else email.utils.mktime_tz(date) - time.time() if date else 0.0


def _unpack(archive: Path, part: Path, wanted: Callable[[str], bool] | None) -> None:
    links = set()
    with open(archive, "rb") as file, _bar(archive.stat().st_size, f"extracting {archive.name}") as shown:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = CallbackIOWrapper(shown.update, file, "read")
        # Not tarfile's own decompression: that takes a cut-off stream for the end.
        stream = gzip.GzipFile(fileobj=stream) if compressed else stream
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # there may be millions
                name = posixpath.normpath(member.name)
                if wanted is None or wanted(name):
                    _check_member(archive, member, part, links)
                    tar.extract(member, part, filter="data")
                    links |= {name} if member.issym() else set()
        while stream.read(CHUNK):  # to the checksum at the end
            pass
    # Once more, now that all is there: a link that leads through another may mean something else by now.
    for name in links:
        if not (part / name).resolve().is_relative_to(part.resolve()):
            raise _unsafe(archive, name, "leads out of the folder")


def _check_member(archive: Path, member: tarfile.TarInfo, part: Path, links: set[str]) -> None:
    """Refuse what tarfile's `data` filter lets pass, or changes without a word."""
    for path in map(PurePosixPath, [member.name, *([member.linkname] if member.islnk() else [])]):
        if path.is_absolute() or ".." in path.parts:
            raise _unsafe(archive, member.name, "would leave the folder")
        if any(str(place) in links for place in (path, *path.parents)):
            raise _unsafe(archive, member.name, "lies behind a symbolic link")
    if member.islnk() and not (part / member.linkname).is_file():
        raise _unsafe(archive, member.name, f"is a link to {member.linkname!r}, which is not extracted before it")


def _unsafe(archive: Path, name: str, reason: str) -> UserError:
    return UserError(f"{archive}: unsafe archive, nothing is extracted: member {name!r} {reason}: get it anew")


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error; to tarfile it would be the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise error if isinstance(error, tarfile.EOFHeaderError) else tarfile.ReadError(str(error)) from None


def _bar(total: int | None, label: str, initial: int = 0) -> tqdm:
    shown = console.bar(total, label, "B", initial)
    shown.unit, shown.unit_scale = "B", True
    return shown


def _wanted(sha256: str | None, md5: str | None, size: int | None) -> dict[str, str | int]:
    hashes = {kind: value.lower() for kind, value in (("sha256", sha256), ("md5", md5)) if value}
    return hashes if size is None else {"size": size, **hashes}


def _mismatch(path: Path, wanted: dict[str, str | int]) -> str:
    """How the file differs from the size and hashes wanted, "" where it does not."""
    size = path.stat().st_size
    if wanted.get("size", size) != size:
        return f"has {size} bytes, expected {wanted['size']}"
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in wanted if kind != "size"}
    with open(path, "rb") as file, _bar(size, f"checking {path.name}") as shown:
        while hashes and (chunk := file.read(CHUNK)):
            for one in hashes.values():
                one.update(chunk)
            shown.update(len(chunk))
    found = {kind: one.hexdigest() for kind, one in hashes.items()}
    return ", ".join(
        f"{kind} is {found[kind]}, expected {wanted[kind]}" for kind in found if found[kind] != wanted[kind]
    )


def _remember(path: Path, wanted: dict[str, str | int]) -> None:
    if wanted.keys() - {"size"}:
        # Where the folder can't be written to, the file is hashed again the next time.
        with contextlib.suppress(OSError):
            files.write_json(_beside(path, ".verified"), {**wanted, **_state(path)})


def _state(path: Path) -> dict[str, int]:
    state = path.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _note(path: Path) -> dict:
    """What was noted beside a file; {} where nothing was."""
    with contextlib.suppress(UserError):
        return files.read_json(path)
    return {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part, ".json").unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
