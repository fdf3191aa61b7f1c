"""Refuse a configuration file that Snakemake would read otherwise than its author does, or not at all.

Imported by profiles/ and the Snakefile: standard library, and PyYAML, which Snakemake itself requires.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from rnnt.errors import UserError

TAG = "tag:yaml.org,2002:"
OF_SNAKEMAKE = ("pathvars", "__use_yte__", "__definitions__", "__variables__")  # keys that change others, or run code
SUFFIXES = (".yaml", ".yml", ".json")
MOST_VALUES = 100_000  # with what aliases stand for
MOST_LEVELS = 50
MOST_BYTES = 1_000_000


def check_command_line(arguments: list[str]) -> None:
    """Check what Snakemake takes from its command line before it opens the Snakefile: `--config` and `--configfile`.

    Ends with one line and exit code 1 where they are wrong. profiles/ calls this.
    """
    if "" in arguments:
        sys.exit("error: an empty word in the command: is a variable of the shell not set?")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="append", default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    parsed = parser.parse_known_args(arguments)[0]
    for pair in parsed.config:
        if not re.match(r"[a-zA-Z_][\w-]*=", pair):
            sys.exit(f"error: --config {pair}: expected KEY=VALUE: if it is a target, put it before --config")
    given = parsed.configfile
    if len(given) > 1:
        sys.exit(
            "error: --configfile given twice: Snakemake takes the last alone: name all files after one --configfile"
        )
    for path in itertools.chain(*given):
        try:
            check([path])
        except UserError as error:
            hint = "" if path.endswith(SUFFIXES) else ": if it is a target, put it before --configfile"
            sys.exit(f"error: {error}{hint}")


def settle_caches() -> None:
    """Have caches go to `.snakemake/cache` where HOME can't be written, as that of another user or of a container.

    Snakemake makes its own below HOME before it reads the Snakefile, and ends in a traceback where it can't.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = os.path.join(home, "snakemake")
    try:
        os.makedirs(place, exist_ok=True)
    except OSError:
        writable = False
    else:
        writable = os.access(place, os.W_OK | os.X_OK)
    if not writable:
        here = os.path.abspath(".snakemake/cache")
        os.environ["XDG_CACHE_HOME"] = os.environ["MPLCONFIGDIR"] = here
        print(f"{home} can't be written: caches go to {here}", file=sys.stderr)


def check(paths: Iterable[str | Path]) -> None:
    """Check configuration files, YAML or JSON.

    Raises UserError with one line that names file and line: what is no text in UTF-8, no YAML or no mapping, a key
    given twice, a key that is no text, a number that YAML 1.1 reads otherwise than it looks, a date, a tag, an alias
    of itself, more than anyone writes.
    """
    for path in paths:
        shown = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
        root = _root(_text(path, shown), shown)
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"{shown}: holds no keys: expected `datasets:` and others, as config/README.md has them")
        for count, _ in enumerate(_values(root, [], shown), 1):
            if count > MOST_VALUES:
                raise UserError(f"{shown}: more than {MOST_VALUES} values: an alias of aliases?")


def _text(path: str | Path, shown: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{shown}: not a file")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UserError(f"{shown}: more than {MOST_BYTES} bytes: is it a configuration file?")
        return data.decode("utf-8")
    except OSError as error:
        raise UserError(f"{shown}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{shown}:{line}: no text in UTF-8 (byte 0x{data[error.start]:02x}): save it as UTF-8"
        ) from None


def _root(text: str, shown: str) -> yaml.Node | None:
    """The YAML of a text, each node with its line; JSON is YAML but for its tabs."""
    try:
        json.loads(text)
        text = text.replace("\t", " ")
    except (ValueError, RecursionError):
        pass
    try:
        levels = 0
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            line = event.start_mark.line + 1
            if count > MOST_VALUES:
                raise UserError(f"{shown}:{line}: more than {MOST_VALUES} values: is it a configuration file?")
            if getattr(event, "tag", None):
                raise UserError(f"{shown}:{line}: the tag {event.tag}: write keys and values without tags")
            levels += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if levels > MOST_LEVELS:
                raise UserError(f"{shown}:{line}: nested deeper than {MOST_LEVELS} levels")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{shown}:{line}: a control character (U+{error.character:04X}): is it a text file?") from None
    except yaml.MarkedYAMLError as error:
        begin, mark = error.context_mark, error.problem_mark or error.context_mark
        since = f" in line {begin.line + 1}" if begin and begin.line != mark.line else ""
        reason = ", ".join(filter(None, [error.context and error.context + since, error.problem]))
        hint = ": indent with spaces, not tabs" if "'\\t'" in reason else ""
        raise UserError(f"{shown}:{mark.line + 1}: neither YAML nor JSON ({reason}){hint}") from None


def _values(node: yaml.Node, above: list[yaml.Node], shown: str) -> Iterator[yaml.Node]:
    """A node and all below it, checked; an alias counts as what it stands for."""
    where = f"{shown}:{node.start_mark.line + 1}"
    if node in above:
        raise UserError(f"{where}: an alias stands for what it is in itself: write the value out")
    if len(above) > MOST_LEVELS:
        raise UserError(f"{where}: nested deeper than {MOST_LEVELS} levels")
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, where)
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node, top=not above, shown=shown)
    yield node
    below = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    for child in below if isinstance(node, yaml.CollectionNode) else ():
        yield from _values(child, [*above, node], shown)


def _check_keys(node: yaml.MappingNode, top: bool, shown: str) -> None:
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{shown}:{line}: expected a word for a key, not a list or a mapping")
        if key.tag not in (f"{TAG}str", f"{TAG}merge"):
            raise UserError(f"{shown}:{line}: the key {key.value} is not text to YAML: put it in quotes")
        merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if key.tag == f"{TAG}merge" and not all(isinstance(each, yaml.MappingNode) for each in merged):
            raise UserError(f"{shown}:{line}: `<<` takes a mapping or a list of them")
        if key.value in lines:
            raise UserError(
                f"{shown}:{line}: `{key.value}` is already given in line {lines[key.value]}, and only one of the two "
                "would count: put what both hold under one, or rename one"
            )
        if top and key.value in OF_SNAKEMAKE:
            raise UserError(
                f"{shown}:{line}: unknown key {key.value}: pathvars and templates are not for this workflow"
            )
        lines[key.value] = line


def _check_scalar(node: yaml.ScalarNode, where: str) -> None:
    kind, value = node.tag.removeprefix(TAG), node.value
    if kind == "timestamp":
        raise UserError(f"{where}: {value} is a date to YAML: put it in quotes")
    if kind in ("merge", "value"):
        raise UserError(f"{where}: {value} is a sign to YAML: put it in quotes")
    if kind in ("int", "float") and len(value) > 100:
        raise UserError(f"{where}: a number of {len(value)} characters")
    decimal = {"int": r"[-+]?(0|[1-9][0-9]*)", "float": r"[^_:]*"}
    if kind in decimal and not re.fullmatch(decimal[kind], value):
        read = yaml.safe_load(value)
        raise UserError(f"{where}: YAML reads {value} as {read}: write the number in decimal digits, or text in quotes")
