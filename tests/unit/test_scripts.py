"""What holds for every script, and for the environments they run in."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT, SCRIPTS

HEAVY = {
    *("train_leg", "transcribe_split", "tune_language_model", "find_suspects", "fetch_base_model", "check_environment"),
}
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_every_option_without_importing_torch(name):
    code = (
        f"import runpy, sys; sys.argv = ['{name}', '--help']\n"
        f"try: runpy.run_path({str(SCRIPTS / (name + '.py'))!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('TORCH', 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SCRIPTS, env=environment())
    assert done.stdout.rstrip().endswith("TORCH False"), done.stderr
    assert ast.get_docstring(ast.parse((SCRIPTS / f"{name}.py").read_text())).split(".")[0] in " ".join(
        done.stdout.split()
    )
    options = importlib.import_module(name).parser()._actions
    assert len(options) > 3 and all(option.help for option in options)


def environment():
    return {**os.environ, "PYTHONPATH": str(SCRIPTS)}


@pytest.mark.parametrize("name", sorted(set(NAMES) - HEAVY))
def test_light_scripts_and_what_they_import_never_import_torch(name):
    sources = "rnnt.corpora.local, rnnt.corpora.hub, rnnt.corpora.synthetic"
    code = f"import sys, {name}, {sources}; sys.exit('torch' in sys.modules or 'nemo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


def test_the_environments_carry_the_lock_s_pins(tmp_path):
    subprocess.run([sys.executable, ROOT / "envs/generate.py", "--output", tmp_path], check=True)
    for name in ("light.yaml", "nemo.yaml"):
        assert (tmp_path / name).read_text() == (ROOT / "envs" / name).read_text(), "run: python envs/generate.py"
    light, nemo = ((ROOT / f"envs/{name}.yaml").read_text() for name in ("light", "nemo"))
    assert "- torch==2.13.0\n" in nemo and "nemo-toolkit==3.0.0" in nemo
    assert "torch==" not in light and "nemo" not in light
    lock = (ROOT / "requirements.txt").read_text().split()
    pins = re.findall(r"- (\S+==\S+)", light + nemo)
    assert len(pins) > 100 and set(pins) <= set(lock)
    assert not [pin for pin in lock if pin.startswith(("nvidia-", "triton", "cuda-"))]


def test_every_python_writes_the_same_lock_with_what_only_some_need(tmp_path):
    (tmp_path / "envs").mkdir()
    for name in ("requirements.in", "envs/generate.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "envs/generate.py", "--freeze"], check=True)
    lock = (tmp_path / "requirements.txt").read_text()
    assert lock == (ROOT / "requirements.txt").read_text(), "run: make lock"
    assert 'audioop-lts==0.2.2; python_version >= "3.13"\n' in lock


def test_every_requirement_is_pinned_exactly():
    pin = r'[A-Za-z0-9_.\[\],-]+==[\w.]+(; python_version >= "3\.\d+")?'
    for name in ("requirements.in", "requirements.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert not line or line.startswith("#") or re.fullmatch(pin, line), line
