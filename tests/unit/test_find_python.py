"""Which Python `make` takes for .venv: the first of 3.11 to 3.13 that can make one; else one line says what to do."""

import os
import shutil
import subprocess

import pytest

from conftest import ROOT

MAKE = shutil.which("make")
SH = shutil.which("sh")


@pytest.fixture
def bin(tmp_path):
    """A PATH folder without any Python, and a checkout beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir", "touch", "chmod"):
        (folder / name).symlink_to(shutil.which(name))
    (tmp_path / "checkout/envs").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "envs/find_python.sh"):
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    return folder


def put(folder, name, version, ensurepip=True):
    """A fake interpreter: its version, whether ensurepip is there, and a venv with a pip that installs nothing."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(
        f"""#!/bin/sh
case "$*" in
*version_info*) echo python{version} ;;
*ensurepip*) exit {int(not ensurepip)} ;;
"-m venv"*)
    mkdir -p .venv/bin
    printf '#!/bin/sh\\n' > .venv/bin/pip
    chmod +x .venv/bin/pip
    printf '{name}' > .venv/made_by ;;
esac
"""
    )
    (folder / name).chmod(0o755)


def put_shim(folder, name):
    """As pyenv's for a version that is not set."""
    (folder / name).write_text(f"#!/bin/sh\necho 'pyenv: {name}: command not found' >&2\nexit 127\n")
    (folder / name).chmod(0o755)


def make(folder, *arguments):
    """Build .venv with nothing but `folder` on PATH; returns what was said, and the Python that made it, if any."""
    checkout = folder.parent / "checkout"
    env = {"PATH": str(folder)}
    done = subprocess.run([MAKE, ".venv/.installed", *arguments], cwd=checkout, env=env, capture_output=True, text=True)
    made_by = checkout / ".venv/made_by"
    assert (done.returncode == 0) == made_by.exists() == (checkout / ".venv/.installed").exists(), done.stderr
    return done.stdout + done.stderr, made_by.read_text() if made_by.exists() else None


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13", "python3"])
def test_a_python_of_3_11_to_3_13_is_taken_under_any_of_its_names(bin, name):
    put(bin, name, name.removeprefix("python") if "." in name else "3.13")
    assert make(bin)[1] == name


def test_the_first_that_can_make_an_environment_is_taken(bin):
    put_shim(bin, "python3.11")
    put(bin, "python3.12", "3.12", ensurepip=False)
    put(bin, "python3.13", "3.13")
    put(bin, "python3", "3.11")
    assert make(bin)[1] == "python3.13"


def test_where_ensurepip_is_missing_one_line_names_the_package_to_install(bin):
    put(bin, "python3", "3.12", ensurepip=False)
    said, _ = make(bin)
    assert said.startswith("error: python3.12 can't make a virtual environment; ")
    assert "apt install python3.12-venv\n" in said and "no Python" not in said


def test_without_a_python_one_line_names_the_versions(bin):
    put_shim(bin, "python3.12")
    put(bin, "python3", "3.10")
    put(bin, "python3.14", "3.14")
    said, _ = make(bin)
    assert said.startswith("error: no Python of 3.11 to 3.13 among python3.11 python3.12 python3.13 python3: install")
    assert "pyenv" not in said and said.count("error") == 1


def test_a_python_that_is_named_is_the_only_one_tried_and_is_checked_too(bin, tmp_path):
    put(bin, "python3.11", "3.11")
    put(tmp_path / "my tools", "python", "3.13")
    put(tmp_path / "my tools", "old", "3.9")
    said, made_by = make(bin, f"PYTHON={tmp_path}/my tools/old")
    assert said.startswith("error: no Python of 3.11 to 3.13 among ") and "/my tools/old: install" in said
    said, made_by = make(bin, "PYTHON=python3.12")
    assert "among python3.12: install" in said and made_by is None
    assert make(bin, f"PYTHON={tmp_path}/my tools/python")[1] == "python"


def test_an_environment_that_has_pip_is_kept_and_one_without_is_made_anew(bin, tmp_path):
    python = tmp_path / "checkout/.venv/bin/python"
    python.parent.mkdir(parents=True)
    (tmp_path / "checkout/.venv/made_by").write_text("me")
    put(bin, "python3.11", "3.11")
    put(bin, "pip", "")
    python.symlink_to(shutil.which("true"))
    assert make(bin)[1] == "me"
    (tmp_path / "checkout/.venv/.installed").unlink()
    python.unlink()
    python.symlink_to(shutil.which("false"))
    assert make(bin)[1] == "python3.11"


@pytest.mark.skipif(shutil.which("dash") is None, reason="needs dash")
def test_the_script_is_plain_posix(bin):
    put(bin, "python3.13", "3.13")
    env = {"PATH": os.fspath(bin)}
    done = subprocess.run([shutil.which("dash"), ROOT / "envs/find_python.sh"], env=env, capture_output=True, text=True)
    assert done.stdout == "python3.13\n" and not done.stderr
