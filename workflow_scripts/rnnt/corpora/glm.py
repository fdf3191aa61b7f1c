"""Global mapping files (GLM), the text rules that come with Hub5'00: find, read and apply them.

NIST's hubscr.pl sends texts through csrfilt.sh -dh, which upcases and rewrites by the rules of the GLM (rfilter1).
https://github.com/usnistgov/SCTK documents the format (doc/GLMRules.txt). evaluation/sclite.py scores by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rnnt.errors import UserError

COMMENT = ";;"
LONGEST = 131  # characters of a line, LINE_LENGTH of rfilter1 less its end
APPLICATION = re.compile(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')
HEADER = re.compile(r"""\*([^"']*)["']([^"']*)["']""")


@dataclass(frozen=True)
class Rules:
    """Rules in the order of their lines: `pattern` has an empty group for each, which gives its place in `targets`."""

    pattern: re.Pattern
    targets: list[str]
    copy_no_hit: bool

    def apply(self, text: str) -> str:
        """Rewrite from left to right; the first rule that fits wins, contexts are those of `text` itself."""
        if self.copy_no_hit:
            return self.pattern.sub(lambda match: self.targets[match.lastindex - 1], text)
        return "".join(self.targets[match.lastindex - 1] for match in self.pattern.finditer(text))


@dataclass(frozen=True)
class Glm:
    """A global mapping file: what holds for references and what holds for hypotheses."""

    reference: Rules
    hypothesis: Rules


def find(source: dict) -> Path | None:
    """The GLM beside the STM of a source: of `switchboard` alone, and where LDC2002T43 is."""
    folder = source["type"] == "switchboard" and (source["hub5_transcripts"] or source["hub5_audio"])
    return min(Path(folder).rglob("*hub5*.glm"), default=None) if folder else None


def read(path: str | Path) -> Glm:
    """Read a GLM: lines `SOURCE => TARGET / [LEFT] __ [RIGHT] ;; comment` and `* name = 'value'`.

    Raises UserError with file and line for what rfilter1 refuses.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
    return Glm(_rules(_applying(lines, ("stm", "ref"), path)), _rules(_applying(lines, ("ctm", "hyp"), path)))


def _applying(lines: list[str], inputs: tuple[str, str], path: str | Path) -> Iterator[tuple[str, str]]:
    """The lines for one kind of input, with where each is: INPUT_DEPENDENT_APPLICATION holds until the next one."""
    applies = True
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if named := APPLICATION.match(line):
            try:
                applies = any(re.search(named[1].lower(), kind) for kind in inputs)
            except (re.error, OverflowError, RecursionError):
                raise UserError(f"{where}: not a regular expression: {named[1]}") from None
        if applies:
            yield where, line.rstrip()


def _rules(lines: Iterable[tuple[str, str]]) -> Rules:
    settings = {"FORMAT": "NIST1", "MAX_NRULES": "400", "COPY_NO_HIT": "T", "CASE_SENSITIVE": "T"}
    found, started = [], False
    for where, line in lines:
        if not started:
            # The first word of a GLM tells rfilter1 how comments start; csrfilt.sh knows only this one.
            if line.split(maxsplit=1)[:1] != [COMMENT]:
                raise UserError(f"{where}: expected a comment, `;; ...`, as the first line")
            started = True
        elif len(line) > LONGEST:
            raise UserError(f"{where}: rfilter1 reads at most {LONGEST} characters of a line")
        elif line.startswith("*"):
            header = HEADER.match(line)
            if not header:
                raise UserError(f"{where}: expected a quoted value, as in * case_sensitive = 'F'")
            settings.update({name: header[2] for name in settings if name in header[1].upper()})
            if settings["FORMAT"] != "NIST1" or not settings["MAX_NRULES"].isdecimal():
                raise UserError(f"{where}: expected format 'NIST1' and a number for max_nrules")
        elif line and not line.startswith(COMMENT):
            found.append(_rule(line.partition(COMMENT)[0], where))
            if len(found) > int(settings["MAX_NRULES"]):
                raise UserError(f"{where}: more than {settings['MAX_NRULES']} rules: raise * max_nrules")
    yes = {name: value.upper() in ("T", "YES", "TRUE") for name, value in settings.items()}
    branches = []
    found = [rule for rule in found if rule[1]]  # rfilter1 never applies the others
    for left, source, right, _ in found:
        # csrfilt.sh has upcased the text.
        parts = source, right, left + source
        source, right, before = (re.escape(part if yes["CASE_SENSITIVE"] else part.upper()) for part in parts)
        branches.append(f"{source}(?={right})(?<={before})()")
    return Rules(re.compile("|".join(branches) or "(?!)"), [rule[3] for rule in found], yes["COPY_NO_HIT"])


def _rule(line: str, where: str) -> tuple[str, str, str, str]:
    """Left context, source, right context and target of a line, just as rfilter1 cuts it."""
    source, arrow, _ = line.partition("=>")
    if not arrow:
        raise UserError(f"{where}: expected SOURCE => TARGET / [LEFT] __ [RIGHT]")
    rule, slash, context = line.rpartition("/")
    if not slash or context.find("]") < context.find("["):  # a slash in brackets is one of the target
        rule, context = line, ""
    left, slot, right = context.partition("_")
    left, right = (_second(slash + left), _second(slot + right)) if slot else ("", "")
    return left, _bare(source), right, _second(rule[len(source) :])


def _second(text: str) -> str:
    """What follows the first word, the sign before a part of a rule."""
    return _bare("".join(text.split(maxsplit=1)[1:]))


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text[:1] + text[-1:] in ("[]", '""') else text
