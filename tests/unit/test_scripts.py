"""What holds for every script, and for the environments they run in."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from conftest import ROOT, SCRIPTS

NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))
# Runs `SCRIPT --help` with no packages but those of an environment; in a light one also imports what is imported late.
IN_ITS_ENVIRONMENT = """
import ast, importlib, json, runpy, sys
script, known, allowed = sys.argv[1], *map(json.loads, sys.argv[2:])
class Missing:
    def find_spec(name, *_):
        if name in known and name not in allowed:
            raise ModuleNotFoundError(f"{name}: not in the environment of the rule")
sys.meta_path.insert(0, Missing)
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit:
    pass
if allowed and "torch" not in allowed:
    for node in ast.walk(ast.parse(open(script).read())):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
    for name in ("local", "hub", "synthetic"):
        importlib.import_module(f"rnnt.corpora.{name}")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def rules_environments():
    """The environment of each script that a rule runs."""
    found = {}
    for path in ROOT.glob("rules/*.smk"):
        for rule in re.split(r"\n(?=rule |checkpoint |use rule )", path.read_text()):
            script, environment = (re.search(pattern, rule) for pattern in (r"(\w+)\.py\"", r"envs/(\w+)\.yaml"))
            if script and environment:
                found.setdefault(script[1], set()).add(environment[1])
    return found


def packages(environment):
    """The modules at the top of what an environment has, and of all that is installed here."""
    pins = set(re.findall(r"- ([\w.-]+)==", (ROOT / f"envs/{environment}.yaml").read_text()))
    modules = {
        module: {canonicalize_name(name) for name in names} for module, names in packages_distributions().items()
    }
    return {module for module, names in modules.items() if names & pins}, modules


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_every_option_with_what_its_environment_has_and_without_torch(name):
    environments = rules_environments().get(name, {"nemo"})
    assert len(environments) == 1
    (environment,) = environments
    here, modules = packages(environment)
    command = [sys.executable, "-c", IN_ITS_ENVIRONMENT, SCRIPTS / f"{name}.py"]
    lists = [json.dumps(sorted(modules)), json.dumps(sorted(here if environment == "light" else modules))]
    done = subprocess.run([*command, *lists], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    assert ast.get_docstring(ast.parse((SCRIPTS / f"{name}.py").read_text())).split(".")[0] in " ".join(
        " ".join(shown).split()
    )
    options = importlib.import_module(name).parser()._actions
    assert len(options) > 3 and all(option.help for option in options)
    assert not set(json.loads(last)) & {"torch", "nemo"}


def test_the_light_environment_has_no_more_than_is_imported():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "envs/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    scripts = [SCRIPTS / f"{name}.py" for name, environments in rules_environments().items() if "light" in environments]
    library = [path for path in SCRIPTS.glob("rnnt/**/*.py") if path.parent.name != "training"]
    sources = "\n".join(path.read_text() for path in (*scripts, *library))
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", sources, re.M))
    found = {name for module, names in packages("light")[1].items() if module in imported for name in names}
    by_pandas = {"tabulate"}  # for Markdown
    assert set(generate.LIGHT) - found == by_pandas


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
