"""Which code ran, where git can tell and where it can't."""

import shutil
import subprocess
import sys

from conftest import SCRIPTS
from rnnt import files


def git(folder, *arguments):
    who = ["-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "-C", folder, *arguments], check=True, capture_output=True)


def version(scripts):
    """The code version that a copy of the library tells."""
    code = "from rnnt import files; print(files.code_version())"
    return subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True).stdout.strip()


def test_without_git_the_code_version_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert files.code_version() == "unknown"


def test_a_copy_inside_another_project_does_not_take_that_one_s_version(tmp_path):
    (tmp_path / "rnnt").mkdir()
    for name in ("__init__.py", "files.py", "disk.py", "errors.py"):
        shutil.copy2(SCRIPTS / "rnnt" / name, tmp_path / "rnnt" / name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    assert version(tmp_path) == "unknown"
    git(tmp_path, "add", "rnnt")
    assert version(tmp_path).endswith("-dirty")
