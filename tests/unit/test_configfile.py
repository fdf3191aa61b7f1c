"""A configuration file is read as it looks, or refused with one line that names the place."""

import pytest
import yaml

from conftest import ROOT
from rnnt import configfile
from rnnt.errors import UserError

DATASET = "{source: {type: local, path: x}, splits: {train: a, validation: b, test: c}, max_steps: 10}"


def refusal(folder, text, name="mine.yaml"):
    """What is said of a configuration file with this text, or bytes."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        configfile.check([folder / name])
    message = str(error.value)
    assert "\n" not in message and len(message) < 300
    return message.removeprefix(str(folder) + "/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {seed: 2}\ndevice: cpu\ntraining: {x: 1}\n", "mine.yaml:3: `training` is already given in line 1"),
        (f"datasets:\n  d: {DATASET}\n  e: {DATASET}\n  d: {DATASET}\n", "mine.yaml:4: `d` is already given in line 2"),
        ("training:\n  {seed: 2,\n   seed: 3}\n", "mine.yaml:3: `seed` is already given in line 2"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", "mine.yaml:2: `<<` is already given in line 2"),
        ("x: 1\n'x': 1\n", "mine.yaml:2: `x` is already given in line 1"),
        ('{"a": {\n\t"x": 1,\n\t"x": 2}}', "mine.yaml:3: `x` is already given in line 2"),
        ("x: [{y: 1}, {y: 1, y: 1}]\n", "mine.yaml:1: `y` is already given in line 1"),
        ("max_steps: 020\n", "mine.yaml:1: YAML reads 020 as 16"),
        ("max_steps: 1:30\n", "mine.yaml:1: YAML reads 1:30 as 90"),
        ("x: [1:30.5]\n", "mine.yaml:1: YAML reads 1:30.5 as 90.5"),
        ("x: 0x10\n", "reads 0x10 as 16"),
        ("x: 0b11\n", "reads 0b11 as 3"),
        ("x: 1_000\n", "reads 1_000 as 1000"),
        ("x: 1_0.5\n", "reads 1_0.5 as 10.5"),
        ("x: 2021-01-01\n", "mine.yaml:1: 2021-01-01 is a date to YAML: put it in quotes"),
        ("x: 2021-99-99\n", "2021-99-99 is a date"),
        (f"x: {'9' * 5000}\n", "a number of 5000 characters"),
        ("datasets:\n  on: {}\n", "mine.yaml:2: the key on is not text to YAML: put it in quotes"),
        ("1: x\n", "the key 1 is not text"),
        ("2021-01-01: x\n", "the key 2021-01-01 is not text"),
        ("null: x\n", "the key null is not text"),
        ("? [a, b]\n: 1\n", "expected a word for a key"),
        ("x: &a {y: *a}\n", "mine.yaml:1: an alias stands for what it is in itself"),
        ("x: &a [*a]\n", "an alias stands for what it is in itself"),
        ("a: &a {<<: *a}\n", "an alias stands for what it is in itself"),
        ("a: {<<: 1}\n", "mine.yaml:1: `<<` takes a mapping"),
        ("x: *nope\n", "mine.yaml:1: neither YAML nor JSON (found undefined alias 'nope')"),
        ("a: " + "[" * 100_000, "mine.yaml:1: nested deeper than 50 levels"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 50 levels"),
        ("".join(f"{'  ' * level}a:\n" for level in range(300)), "mine.yaml:51: nested deeper than 50 levels"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
            "more than 100000 values",
        ),
        ("x:\n" + "- 1\n" * 101_000, "mine.yaml:99998: more than 100000 values: is it a configuration file?"),
        ("x: !!python/object/apply:os.system [echo]\n", "mine.yaml:1: the tag tag:yaml.org,2002:python/object"),
        ("x: !!int 020\n", "the tag tag:yaml.org,2002:int"),
        ("__use_yte__: true\nx: ?1+1\n", "mine.yaml:1: unknown key __use_yte__"),
        ("pathvars: [1]\n", "mine.yaml:1: unknown key pathvars"),
        ("a: 1\nx:\n\ty: 1\n", "mine.yaml:3: neither YAML nor JSON"),
        ("a: 1\nx: {y: 1\n", "mine.yaml:3: neither YAML nor JSON (while parsing a flow mapping in line 2, expected"),
        ("a: 1\n---\nb: 1\n", "mine.yaml:2: neither YAML nor JSON (expected a single document"),
        ("a: 1\nb: \0\n", "mine.yaml:2: a control character (U+0000)"),
        (b"a: 1\n" + bytes(range(128, 256)), "mine.yaml:2: no text in UTF-8 (byte 0x80)"),
        ("a: 1\n".encode("utf-16"), "mine.yaml:1: no text in UTF-8 (byte 0xff)"),
        ("", "mine.yaml: holds no keys: expected `datasets:`"),
        ("# nothing\n", "mine.yaml: holds no keys"),
        ("- 1\n", "mine.yaml: holds no keys"),
        ("hello\n", "mine.yaml: holds no keys"),
        (b" " * 1_000_001, "mine.yaml: more than 1000000 bytes"),
    ],
)
def test_what_is_read_otherwise_than_it_looks_is_one_line_with_its_place(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_a_tab_is_called_one(tmp_path):
    assert refusal(tmp_path, "x:\n\ty: 1\n").endswith("indent with spaces, not tabs")


def test_what_is_no_file_is_said(tmp_path):
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "not a file")):
        with pytest.raises(UserError, match=reason):
            configfile.check([path])


@pytest.mark.parametrize("path", sorted({*(ROOT / "config").glob("*.yaml")} - {ROOT / "config/schema.yaml"}))
def test_shipped_files_are_accepted(path):
    configfile.check([path])


@pytest.mark.parametrize(
    "text",
    [
        f"datasets:\n  d: &d {DATASET}\n  e: {{<<: *d, max_steps: 3}}\n",  # a key over a merged one is no second one
        "x: [0, -1, 3.0, 1.0e-4, .5, .inf, '020', '2021-01-01', 5e-4, true, yes, off, ~, null]\n",
        '\ufeffx: 1\n"on": 1\n',
        '{"x":1e5,\t"y": "\\ud83d\\ude00", "z": [NaN, "020"]}',
        "x: 1\r\ny: 2\r\n",
    ],
)
def test_what_is_read_as_it_looks_is_accepted(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    configfile.check([tmp_path / "mine.yaml"])


def test_a_command_line_is_checked_for_what_snakemake_says_nothing_of(tmp_path, capsys):
    (tmp_path / "good.yaml").write_text("x: 1\n")
    (tmp_path / "twice.yaml").write_text("x: 1\nx: 2\n")
    good, twice = str(tmp_path / "good.yaml"), str(tmp_path / "twice.yaml")
    for arguments in (
        ["snakemake", "-n"],
        ["snakemake", "table", "--config", "a=1", "--configfile", good, good, "--cores", "4"],
    ):
        configfile.check_command_line(arguments)
    for arguments, message in (
        (["snakemake", "--configfile", good, twice, "-n"], "twice.yaml:2: `x` is already given in line 1"),
        (["snakemake", f"--configfiles={twice}"], "twice.yaml:2"),
        (["snakemake", "--configfile", good, "--configfile", good], "--configfile given twice"),
        (["snakemake", "--configfile", good, "digits"], "digits: No such file or directory: if it is a target, put it"),
        (["snakemake", "--config", "a=1", "digits"], "--config digits: expected KEY=VALUE: if it is a target, put it"),
        (["snakemake", "-n", ""], "an empty word"),
    ):
        with pytest.raises(SystemExit) as end:
            configfile.check_command_line(arguments)
        assert str(end.value.code).startswith("error: ") and message in end.value.code


def test_what_is_accepted_is_what_snakemake_reads():
    """Of two keys Snakemake's loader takes the last in silence: the reason for all this."""
    assert yaml.load("x: 1\nx: 020\n", Loader=yaml.FullLoader) == {"x": 16}
