"""Downloads that are cut off, changed and refused; archives that are damaged or mean harm."""

import gzip
import hashlib
import http.server
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import soundfile

import trees
from conftest import SCRIPTS, SHARED_DATA, fill
from rnnt import console
from rnnt.corpora import download, librispeech, switchboard, tedlium
from rnnt.errors import UserError

CONTENT = random.Random(1).randbytes(2_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHER = random.Random(2).randbytes(1_500_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`. `server.script` says, a dict a request, what goes wrong; then nothing does."""

    def do_GET(self):
        server = self.server
        server.seen.append(dict(self.headers))
        step = server.script.pop(0) if server.script else {}
        server.content, server.tags = step.get("becomes", (server.content, server.tags))
        if "status" in step:
            self.send_response(step["status"])
            for name, value in step.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self.start_of_range(step)
        if start >= len(server.content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        for name, value in server.tags.items():
            self.send_header(name, value)
        if not step.get("no_length"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        stop = step.get("drop", len(body))
        try:
            # Counted first: when the client has it all, the test goes on.
            server.served += len(body[:stop])
            self.wfile.write(body[:stop])
            if "hang" in step:
                self.wfile.flush()
                server.tired = not step["hang"].wait(60)
        except OSError:
            pass

    def start_of_range(self, step):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if not asked or step.get("ignore_range"):
            return 0
        if condition and condition not in self.server.tags.values() and not step.get("ignore_if_range"):
            return 0
        return int(asked[1])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.01)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.daemon_threads = True
        served.content, served.tags = CONTENT, {"ETag": '"one"'}
        served.script, served.seen, served.served, served.tired = [], [], 0, False
        served.url = f"http://127.0.0.1:{served.server_port}/corpus.tar.gz"
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        served.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads/corpus.tar.gz"


def alone(target, *others):
    """Nothing but the file, and the note that it was verified, is left."""
    return sorted(path.name for path in target.parent.iterdir()) == sorted([target.name, *others])


def ranges(server):
    return [seen.get("Range") for seen in server.seen]


def fails(match, function, *arguments, **options):
    """The UserError, which has one line."""
    with pytest.raises(UserError, match=match) as raised:
        function(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_arrives_whole_and_is_verified(server, target):
    assert download.fetch(server.url, target, sha256=SHA256, md5=MD5.upper(), size=len(CONTENT)) == target
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [None] and alone(target, "corpus.tar.gz.verified")


def test_a_file_that_is_there_is_hashed_once_and_never_fetched(server, target, monkeypatch):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    hashed = []
    real = download._mismatch
    monkeypatch.setattr(download, "_mismatch", lambda *given: hashed.append(given) or real(*given))
    for _ in range(3):
        download.fetch(server.url, target, sha256=SHA256)
    download.fetch("not even a URL", target, sha256=SHA256)
    assert len(hashed) == 1 and server.seen == []
    os.utime(target, ns=(1, 1))
    download.verify(target, sha256=SHA256)
    assert len(hashed) == 2
    found = fails("sha256", download.verify, target, sha256="0" * 64)
    assert str(target) in found and SHA256 in found and "0" * 64 in found
    fails(f"{MD5}, expected ffff", download.fetch, server.url, target, md5="ffff")
    fails("has 2000000 bytes, expected 7", download.fetch, server.url, target, size=7)
    assert target.read_bytes() == CONTENT and server.seen == []


def test_a_note_of_other_contents_does_not_count(target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    download.verify(target, sha256=SHA256)
    target.write_bytes(CONTENT[:-1] + b"?")
    fails("sha256 is", download.verify, target, sha256=SHA256)
    fails("no such file", download.verify, target.with_name("none"), sha256=SHA256)


def test_a_connection_dropped_twice_is_resumed(server, target):
    server.script = [{"drop": 600_000}, {"drop": 700_000}]
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == [None, "bytes=600000-", "bytes=1300000-"]
    assert [seen.get("If-Range") for seen in server.seen] == [None, '"one"', '"one"']
    assert server.served == len(CONTENT) and target.read_bytes() == CONTENT


def test_a_weak_tag_is_not_sent_and_no_tag_at_all_resumes_too(server, target):
    for tags, sent in (
        ({"ETag": 'W/"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ({"ETag": 'W/"1"'}, None),
        ({}, None),
    ):
        server.tags, server.script, server.served = tags, [{"drop": 600_000}], 0
        download.fetch(server.url, target)
        assert server.seen[-1]["Range"] == "bytes=600000-" and server.seen[-1].get("If-Range") == sent
        assert target.read_bytes() == CONTENT and server.served == len(CONTENT)
        target.unlink()


def test_more_drops_than_attempts_are_fine_as_long_as_something_arrives(server, target):
    server.script = [{"drop": 300_000} for _ in range(5)]
    download.fetch(server.url, target, sha256=SHA256, attempts=2)
    assert len(server.seen) == 6 and server.served == len(CONTENT)


def test_a_server_that_cannot_resume_is_asked_from_the_start(server, target):
    server.script = [{"drop": 600_000}, {"ignore_range": True}]
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == [None, "bytes=600000-"] and server.served == len(CONTENT) + 600_000


def test_a_server_that_cannot_resume_and_always_drops_is_given_up(server, target):
    server.script = [{"drop": 600_000, "ignore_range": True} for _ in range(50)]
    message = fails("ended after 600000 of 2000000 bytes", download.fetch, server.url, target, attempts=3)
    assert server.url in message and "source.path" in message
    assert len(server.seen) == 3 and not target.exists()


def test_a_process_killed_in_the_middle_is_resumed(server, target):
    release = threading.Event()
    server.script = [{"drop": 900_000, "hang": release}]
    code = "import sys; from rnnt.corpora import download; download.fetch(*sys.argv[1:])"
    child = subprocess.Popen(
        [sys.executable, "-c", code, server.url, str(target)], env={**os.environ, "PYTHONPATH": str(SCRIPTS)}
    )
    part = target.with_name("corpus.tar.gz.part")
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 900_000) and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    release.set()
    assert part.stat().st_size == 900_000 and not target.exists()
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == [None, "bytes=900000-"] and server.served == len(CONTENT)
    assert alone(target, "corpus.tar.gz.verified")


def leave_part(server, target, content):
    """What a killed process leaves."""
    target.parent.mkdir(exist_ok=True)
    target.with_name(f"{target.name}.part").write_bytes(content)
    note = {"url": server.url, "total": len(CONTENT), "ETag": '"one"', "Last-Modified": None}
    target.with_name(f"{target.name}.part.json").write_text(json.dumps(note))


def test_leftover_parts_partial_complete_too_long_and_of_another_url(server, target):
    leave_part(server, target, CONTENT[:5])
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == ["bytes=5-"]
    target.unlink()
    leave_part(server, target, CONTENT)
    download.fetch(server.url, target, sha256=SHA256)
    assert len(server.seen) == 1  # complete: nothing to ask
    target.unlink()
    leave_part(server, target, CONTENT + b"more")
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server)[1:] == ["bytes=2000004-", None]
    target.unlink()
    leave_part(server, target, OTHER[:1000])
    download.fetch(server.url + "?v=2", target, sha256=SHA256)
    assert ranges(server)[3:] == [None]


def test_a_complete_part_of_unknown_length_is_recognised_by_a_416(server, target):
    leave_part(server, target, CONTENT)
    note = target.with_name("corpus.tar.gz.part.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "total": None}))
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == ["bytes=2000000-"] and server.served == 0


@pytest.mark.parametrize("polite", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server, target, polite):
    change = {"becomes": (OTHER, {"ETag": '"two"'}), "ignore_if_range": not polite}
    server.script = [{"drop": 600_000}, change]
    download.fetch(server.url, target)
    assert target.read_bytes() == OTHER
    assert ranges(server) == [None, "bytes=600000-"] + ([] if polite else [None])


def test_a_file_of_the_same_length_that_changed_is_fetched_anew_too(server, target):
    change = {"becomes": (CONTENT[::-1], {"ETag": '"two"'}), "ignore_if_range": True}
    server.script = [{"drop": 600_000}, change]
    download.fetch(server.url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_file_of_another_length_is_fetched_anew_where_the_server_has_no_tags(server, target):
    server.tags, server.script = {}, [{"drop": 600_000}, {"becomes": (OTHER, {})}]
    download.fetch(server.url, target)
    assert ranges(server) == [None, "bytes=600000-", None] and target.read_bytes() == OTHER


def test_a_server_that_falls_silent_is_asked_again(server, target, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    release = threading.Event()
    server.script = [{"drop": 600_000, "hang": release}]
    download.fetch(server.url, target, sha256=SHA256)
    assert not server.tired and ranges(server) == [None, "bytes=600000-"]
    release.set()


def test_a_redirected_download_resumes(server, target):
    redirect = {"status": 302, "headers": {"Location": "/mirror/corpus.tar.gz"}}
    server.script = [redirect, {"drop": 600_000}, redirect]
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == [None, None, "bytes=600000-", "bytes=600000-"] and server.served == len(CONTENT)


def test_a_server_in_trouble_is_asked_again(server, target):
    server.script = [{"status": 500}, {"status": 503}]
    download.fetch(server.url, target, sha256=SHA256)
    assert len(server.seen) == 3


def test_the_wait_that_a_server_asks_for_is_kept_up_to_a_limit(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    asked = ["3", "99999", later, "soon"]
    server.script = [{"status": 429, "headers": {"Retry-After": value}} for value in asked]
    download.fetch(server.url, target)
    assert waits[:2] == [3, 300] and 0 < waits[2] <= 100 and waits[3] == pytest.approx(0.08)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_final_and_says_what_to_do(server, target, status):
    server.script = [{"status": status}]
    message = fails(f"answers {status}", download.fetch, server.url, target)
    assert server.url in message and "check the URL" in message and "source.path" in message
    assert len(server.seen) == 1 and not list(target.parent.iterdir())


def test_no_server_and_no_url_are_one_line(target, server):
    server.shutdown()
    server.server_close()
    assert server.url in fails("refused", download.fetch, server.url, target, attempts=2)
    for url in ("file:///etc/passwd", "corpus.tar.gz", "http://x.org/a b", "http://", "http://x.org/ä"):
        fails("expected an address", download.fetch, url, target)


def test_another_hash_or_size_deletes_the_download(server, target):
    message = fails("sha256", download.fetch, server.url, target, sha256="0" * 64)
    assert server.url in message and SHA256 in message and "0" * 64 in message
    assert not list(target.parent.iterdir())
    # Refused by its header, not after a download.
    assert "deleted" not in fails("has 2000000 bytes, expected 7", download.fetch, server.url, target, size=7)
    server.script = [{"no_length": True}]
    fails("has 2000000 bytes, expected 1999999", download.fetch, server.url, target, size=1_999_999)
    assert not list(target.parent.iterdir())


def test_too_few_bytes_of_unknown_length_are_noticed_by_the_size(server, target):
    server.script = [{"no_length": True, "drop": 600_000}]
    download.fetch(server.url, target, size=len(CONTENT))
    assert ranges(server) == [None, "bytes=600000-"] and target.read_bytes() == CONTENT


def test_too_little_room_is_said_before_anything_is_written(server, small_disk):
    target = small_disk(len(CONTENT) + 20_000) / "corpus.tar.gz"
    server.content = bytes(20_000_000)
    fails(f"^disk full: {target.parent}, 20 MB are needed, ", download.fetch, server.url, target)
    assert not list(target.parent.iterdir())
    # What is there already needs no room.
    server.content = CONTENT
    leave_part(server, target, CONTENT[:1_500_000])
    download.fetch(server.url, target, sha256=SHA256)


def test_a_disk_that_fills_up_keeps_the_part(server, small_disk, monkeypatch):
    target = small_disk(len(CONTENT) + 50_000) / "corpus.tar.gz"
    part = target.with_name("corpus.tar.gz.part")
    with monkeypatch.context() as patch:
        # Something else takes the room meanwhile.
        patch.setattr(download, "_bar", lambda *given: fill(target.parent, 500_000) and console.bar(*given[:2]))
        fails(f"^disk full: {target.parent}, [0-9.]+ MB are needed, 0 MB are free", download.fetch, server.url, target)
    (target.parent / "ballast").unlink()
    assert len(server.seen) == 1
    kept = part.stat().st_size
    assert 400_000 <= kept <= 500_000 and part.read_bytes() == CONTENT[:kept]
    download.fetch(server.url, target, sha256=SHA256)
    assert ranges(server) == [None, f"bytes={kept}-"]


def test_progress_away_from_a_terminal_is_lines_in_bytes(server, target, monkeypatch):
    lines = []
    monkeypatch.setattr(console, "LINE_EVERY_SECONDS", 0)
    monkeypatch.setattr(console.log, "info", lambda text, *values: lines.append(text % values))
    server.script = [{"drop": 600_000}]
    download.fetch(server.url, target, sha256=SHA256)
    text = "\n".join(lines)
    assert re.search(r"downloading corpus.tar.gz: [\d.]+[kM]/2.00MB \[.*B/s\]", text)
    assert "ended after 600000 of 2000000 bytes: trying again" in text
    assert re.search(r"checking corpus.tar.gz.part: 2.00M/2.00MB", text)


def pack(path, *members, mode="w:gz"):
    """An archive of (name, bytes), of TarInfo without contents, or of (name, "symlink" or "link", target)."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            if len(member) == 3:
                info.type = {"symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE}[member[1]]
                info.linkname = member[2]
                tar.addfile(info)
            else:
                info.size, info.mode = len(member[1]), 0o6777
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind):
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


def nothing_left(folder):
    return not folder.exists() and not folder.with_name(f"{folder.name}.part").exists()


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.bin", "w:gz")])
def test_an_archive_is_unpacked_with_its_links_and_without_setuid(tmp_path, name, mode):
    archive = pack(
        tmp_path / name,
        special("./TEDLIUM", tarfile.DIRTYPE),
        ("./TEDLIUM/legacy/train/sph/x.sph", "symlink", "../../../data/sph/x.sph"),
        ("./TEDLIUM/data/sph/x.sph", b"speech"),
        ("./TEDLIUM/again.sph", "link", "./TEDLIUM/data/sph/x.sph"),
        mode=mode,
    )
    folder = tmp_path / "new/raw"
    download.extract(archive, folder)
    link = folder / "TEDLIUM/legacy/train/sph/x.sph"
    assert link.is_symlink() and link.read_bytes() == b"speech"
    assert (folder / "TEDLIUM/again.sph").read_bytes() == b"speech"
    assert (folder / "TEDLIUM/data/sph/x.sph").stat().st_mode & 0o7022 == 0
    assert [path.name for path in folder.parent.iterdir()] == ["raw"]


def test_only_what_is_wanted_is_unpacked(tmp_path):
    archive = pack(tmp_path / "a.tgz", ("./c/train/a.mp3", b"a"), ("./c/other/b.mp3", b"b"), ("../evil", b"c"))
    download.extract(archive, tmp_path / "raw", wanted=lambda name: name.startswith("c/train/"))
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.mp3")] == ["raw/c/train/a.mp3"]


def test_a_folder_that_is_there_is_left_alone_and_a_leftover_is_not(tmp_path):
    archive = pack(tmp_path / "a.tgz", ("a", b"a"))
    left = tmp_path / "raw.part"
    left.mkdir()
    (left / "half").write_text("of a file")
    download.extract(archive, tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["a"] and not left.exists()
    archive.unlink()
    download.extract(archive, tmp_path / "raw")
    fails("a.tgz.*No such file", download.extract, archive, tmp_path / "other")


HARMFUL = {
    "parent": [("../evil", b"x")],
    "parent inside": [("a/../../evil", b"x")],
    "absolute": [("/tmp/rnnt-evil", b"x")],
    "symlink outside": [("l", "symlink", ".."), ("l/evil", b"x")],
    "symlink absolute": [("l", "symlink", "/etc/passwd")],
    "symlink deep": [("d/l", "symlink", "../../evil")],
    "file through a symlink": [("d/x", b"x"), ("l", "symlink", "d"), ("l/evil", b"x")],
    "file in place of a symlink": [("d/x", b"x"), ("l", "symlink", "d/x"), ("l", b"y")],
    # When p/q/l is checked p/d is no link yet, and ../d/../.. stays inside.
    "symlink that turns outwards": [
        ("p/q/l", "symlink", "../d/../.."),
        ("p/d", "symlink", ".."),
    ],
    "hard link outside": [("l", "link", "../secret")],
    "hard link absolute": [("l", "link", "/etc/hostname")],
    "hard link through a symlink": [("d/x", b"x"), ("l", "symlink", "d"), ("h", "link", "l/x")],
    "hard link to nothing": [("h", "link", "d/x")],
    "pipe": [special("pipe", tarfile.FIFOTYPE)],
    "character device": [special("null", tarfile.CHRTYPE)],
    "block device": [special("disk", tarfile.BLKTYPE)],
}


@pytest.mark.parametrize("members", HARMFUL.values(), ids=HARMFUL)
def test_a_harmful_member_stops_the_extraction(tmp_path, members):
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("secret")
    archive = pack(tmp_path / "a.tgz", ("good", b"x"), *members)
    message = fails("unsafe archive", download.extract, archive, home / "raw")
    names = [member.name if isinstance(member, tarfile.TarInfo) else member[0] for member in members]
    assert str(archive) in message and any(repr(name) in message for name in names)
    assert [path.name for path in home.iterdir()] == ["secret"] and not os.path.exists("/tmp/rnnt-evil")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_cut_off_anywhere_is_an_error(tmp_path, mode):
    members = [(f"{number}.flac", random.Random(number).randbytes(700)) for number in range(3)]
    whole = pack(tmp_path / "a.tar", *members, mode=mode).read_bytes()
    # tar pads with zeros after the end: what is cut off there is no loss
    end = len(whole) if mode == "w:gz" else 3 * (512 + 1024) + 512
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end, 97), *range(512, end, 512), end - 1]:
        cut.write_bytes(whole[:length])
        message = fails("truncated or corrupted archive .*: delete it", download.extract, cut, tmp_path / "raw")
        assert str(cut) in message and nothing_left(tmp_path / "raw")


def test_an_archive_with_wrong_bytes_is_an_error(tmp_path):
    contents = random.Random(0).randbytes(5000)
    archive = pack(tmp_path / "a.tgz", ("one", contents), ("two", contents))
    packed, plain = archive.read_bytes(), gzip.decompress(archive.read_bytes())
    header = 512 + 5120 + 20  # in the name of the second
    checksum = len(packed) - 6
    for wrong in (
        b"",
        b"<html>please log in</html>" * 100,
        packed[:100] + b"?" + packed[101:],
        packed[:checksum] + bytes([packed[checksum] ^ 1]) + packed[checksum + 1 :],
        plain[:header] + b"?" + plain[header + 1 :],
    ):
        archive.write_bytes(wrong)
        fails("a.tgz: truncated or corrupted archive", download.extract, archive, tmp_path / "raw")
        assert nothing_left(tmp_path / "raw")


def test_an_extraction_that_is_killed_does_not_count(tmp_path):
    archive = pack(tmp_path / "a.tgz", *[(str(number), b"x") for number in range(10)])
    # Killed by the tenth member: no clean-up runs.
    code = (
        "import os, sys; from pathlib import Path; from rnnt.corpora import download; "
        "download.extract(*sys.argv[1:], lambda name: name != '9' or os.kill(os.getpid(), 9))"
    )
    command = [sys.executable, "-c", code, str(archive), str(tmp_path / "raw")]
    child = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
    assert child.returncode == -9
    assert not (tmp_path / "raw").exists() and (tmp_path / "raw.part/8").exists()
    download.extract(archive, tmp_path / "raw")
    assert len(list((tmp_path / "raw").iterdir())) == 10 and not (tmp_path / "raw.part").exists()


def test_extraction_checks_the_room_and_cleans_up_when_the_disk_fills(tmp_path, small_disk):
    archive = pack(tmp_path / "a.tar", ("a", bytes(5_000_000)), ("b", b"x"), mode="w")
    folder = small_disk(10_100_000) / "raw"
    fails(
        f"^disk full: {folder.parent}, 16 MB are needed, 11 MB are free", download.extract, archive, folder, expansion=3
    )
    assert nothing_left(folder)
    download.extract(archive, folder, expansion=1.9)
    shutil.rmtree(folder)
    fill(folder.parent, 4_000_000)
    fails(f"^disk full: {folder.parent}, ", download.extract, archive, folder, expansion=0.5)
    assert nothing_left(folder)


# --- whole corpora


def serve_corpus(server, tree, name):
    """Pack a tree as its publisher does; its hash. The connection drops twice."""
    folder = tree.parent / "packed"
    folder.mkdir()
    with tarfile.open(folder / name, "w:gz", compresslevel=1) as file:
        for path in sorted(tree.iterdir()):
            file.add(path, path.name)
    server.content = (folder / name).read_bytes()
    server.script = [{"drop": len(server.content) // 3}, {"drop": len(server.content) // 3}]
    return hashlib.sha256(server.content).hexdigest()


def obtain(module, server, split, folder):
    """Prepare a source from the server, twice, and list the split."""
    source = {**trees.SOURCE, "allow_subset": False, "url": server.url.rsplit("/", 1)[0], "splits": [split]}
    for _ in range(2):
        module.prepare(source, folder, 1, None)
    return source, list(module.utterances(source, split, folder))


def shared_tree(tree, names):
    """Those folders of the real trees beside the project."""
    if not (SHARED_DATA / "corpora").is_dir():
        pytest.skip("no ../shared/data/corpora here")
    for name in names:
        shutil.copytree(SHARED_DATA / "corpora" / name, tree / name)


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.shared_data)])
def test_librispeech_is_downloaded_over_a_bad_connection(server, tmp_path, monkeypatch, real):
    tree = tmp_path / "tree"
    shared_tree(tree, ["LibriSpeech/test-other"]) if real else trees.librispeech(tree)
    monkeypatch.setitem(librispeech.SHA256, "test-other", serve_corpus(server, tree, "test-other.tar.gz"))
    _, found = obtain(librispeech, server, "test-other", tmp_path / "data")
    assert len(found) == (20 if real else 4)
    assert len(server.seen) == 3 and server.served == len(server.content), "nothing twice"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["test-other"], "the archive is removed"
    for utterance in found:
        original = tree / "LibriSpeech" / utterance.audio_filepath.split("LibriSpeech/")[1]
        assert original.read_bytes() == Path(utterance.audio_filepath).read_bytes()


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.shared_data)])
def test_tedlium_is_downloaded_over_a_bad_connection_with_its_links(server, tmp_path, monkeypatch, real):
    tree = tmp_path / "tree"
    if real:
        shared_tree(tree, ["TEDLIUM_release-3"])
        subprocess.run(["bash", SHARED_DATA / "link_tedlium.sh", tree / "TEDLIUM_release-3"], check=True)
    else:
        trees.tedlium(tree)
    monkeypatch.setattr(tedlium, "SHA256", serve_corpus(server, tree, "TEDLIUM_release-3.tgz"))
    source, found = obtain(tedlium, server, "train", tmp_path / "data")
    assert len(found) == (12 if real else 2) and len(server.seen) == 3
    assert all(Path(u.audio_filepath).is_symlink() and soundfile.info(u.audio_filepath).frames for u in found)
    assert len(list(tedlium.utterances(source, "dev", tmp_path / "data"))) == (6 if real else 2)


def test_a_download_of_another_corpus_is_refused_by_its_hash(server, tmp_path):
    trees.librispeech(tmp_path / "tree")
    serve_corpus(server, tmp_path / "tree", "TEDLIUM_release-3.tgz")
    with pytest.raises(UserError, match=tedlium.SHA256):
        obtain(tedlium, server, "train", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_switchboard_s_transcripts_are_downloaded(server, tmp_path):
    trees.switchboard(tmp_path / "tree")
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "tree/swb_ms98_transcriptions").rename(tmp_path / "transcripts/swb_ms98_transcriptions")
    serve_corpus(server, tmp_path / "transcripts", "switchboard_word_alignments.tar.gz")
    source = {
        **trees.SOURCE,
        "path": str(tmp_path / "tree/LDC97S62"),
        "transcripts": None,
        "url": server.url.rsplit("/", 1)[0],
        "splits": ["train"],
        "validation_utterances": 4,
        "max_copies": 300,
    }
    switchboard.prepare(source, tmp_path / "data", 1, None)
    assert len(list(switchboard.utterances(source, "train", tmp_path / "data"))) == 8
