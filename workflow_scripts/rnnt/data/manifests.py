"""NeMo manifests: which utterances a split keeps, which it drops and why.

One JSON object a line (https://docs.nvidia.com/nemo-framework, "ASR manifest"), sorted by id.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

from rnnt import files
from rnnt.console import progress
from rnnt.corpora import Utterance
from rnnt.data import audio, transcripts
from rnnt.errors import UserError

EXAMPLES = 3  # of each cleaning rule, in summary.json


def entries(
    utterances: Iterable[Utterance], case: str, workers: int, label: str, rules: str = "auto", language: str = "en"
) -> tuple[list[dict], dict]:
    """A manifest entry for each utterance, with `duration` from the audio's header and the cleaned `text`.

    `rules` names the cleaning rules, `auto` takes those of the utterance's corpus; `language` (BCP 47) says how
    lower case is made. Also returns what they did: by rule
    the number of utterances it changed and some examples, each the text before and after all cleaning.
    An entry whose audio can't be read has `unreadable` (the reason) and no `duration`; nothing is dropped yet.
    Raises UserError when a file is missing or an id occurs twice.
    """
    utterances = list(utterances)
    origins: dict[str, str] = {}
    for utterance in utterances:
        if utterance.id in origins:
            raise UserError(f"{utterance.origin}: id {utterance.id} occurs before, in {origins[utterance.id]}")
        origins[utterance.id] = utterance.origin
    measure = functools.partial(_clean_entry, case=case, rules=rules, language=language)
    if workers == 1 or len(utterances) < 200:
        found = list(progress(map(measure, utterances), len(utterances), label))
    else:
        with get_context("fork").Pool(workers) as pool:
            found = list(progress(pool.imap(measure, utterances, chunksize=64), len(utterances), label))
    for entry, _ in found:
        if entry.get("missing"):
            raise UserError(f"{entry['origin']}: {entry['missing']}")
    found.sort(key=lambda pair: pair[0]["id"])
    texts = {utterance.id: utterance.text for utterance in utterances}
    cleaning: dict[str, dict] = {}
    for entry, fired in found:
        for rule in fired:
            done = cleaning.setdefault(rule, {"utterances": 0, "examples": []})
            done["utterances"] += 1
            if len(done["examples"]) < EXAMPLES:
                done["examples"].append([texts[entry["id"]], entry["text"]])
    return [entry for entry, _ in found], cleaning


def _clean_entry(utterance: Utterance, case: str, rules: str, language: str) -> tuple[dict, list[str]]:
    rules = utterance.rules if rules == "auto" else rules
    text, fired = transcripts.clean(utterance.text, case, rules, language)
    entry = _entry(utterance)
    if "missing" not in entry and "unreadable" not in entry:
        entry["text"] = text
        return entry, fired
    return entry, []


def _entry(utterance: Utterance) -> dict:
    path = files.existing(utterance.audio_filepath)
    if path is None:
        return {"id": utterance.id, "missing": _missing(utterance.audio_filepath), "origin": utterance.origin}
    entry = {"id": utterance.id, "audio_filepath": path}
    if utterance.offset:
        entry["offset"] = utterance.offset
    try:
        length, channels = _inspect(path)
    except UserError as error:
        return {**entry, "unreadable": str(error), "origin": utterance.origin}
    left = length - utterance.offset
    seconds = left if utterance.duration is None else utterance.duration
    # Published times are rounded: half a tenth of a second past the end is not an error.
    if seconds <= 0 or seconds > left + 0.05:
        reason = f"{path}: the file ends {left:.2f} s after the offset, {seconds:.2f} s wanted"
        return {**entry, "unreadable": reason, "origin": utterance.origin}
    if utterance.channel is not None and utterance.channel >= channels:
        reason = f"{path}: has no channel {utterance.channel}, only {channels}"
        return {**entry, "unreadable": reason, "origin": utterance.origin}
    entry["duration"] = round(min(seconds, left), 6)
    if utterance.channel is not None:
        entry["channel"] = utterance.channel
    if utterance.speaker is not None:
        entry["speaker"] = utterance.speaker
    if utterance.stm is not None:
        entry["stm"] = utterance.stm
    return entry


def _missing(path: str) -> str:
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"no such file: {path}" + (" (its name ends with a space)" if path != path.rstrip() else "")
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'strerror', error)}: {path}"
    return f"not a file: {path}"


@functools.lru_cache(maxsize=256)
def _inspect(path: str) -> tuple[float, int]:
    return audio.inspect(path)


def keep_all(found: list[dict], split: str) -> list[dict]:
    """A test split, whole. Raises UserError when an utterance can't be read: it would be missing from the score."""
    for entry in found:
        if "unreadable" in entry:
            raise UserError(
                f"{entry['origin']}: {entry['unreadable']}: an utterance of {split} that can't be read would be "
                "missing from the score: mend the file, or take it and its row out of the test set"
            )
    return found


def filter_for_training(
    found: list[dict], min_duration: float, max_duration: float
) -> tuple[list[dict], dict[str, list[dict]]]:
    """Split entries into those to train or validate on and those dropped, by reason. Durations in seconds."""
    kept, dropped = [], {}
    for entry in found:
        reason = _reason_to_drop(entry, min_duration, max_duration)
        if reason is None:
            kept.append(entry)
        else:
            dropped.setdefault(reason, []).append(entry)
    return kept, dropped


def _reason_to_drop(entry: dict, min_duration: float, max_duration: float) -> str | None:
    if "unreadable" in entry:
        return "unreadable audio"
    if not entry["text"]:
        return "empty text"
    if entry["duration"] > max_duration:
        return f"longer than {max_duration:g} s"
    if entry["duration"] < min_duration:
        return f"shorter than {min_duration:g} s"
    return None


def summary(kept: list[dict], dropped: dict[str, list[dict]], cleaning: dict) -> dict:
    """Utterances and hours, kept and dropped by reason (the hours of unreadable audio are not known: 0); cleaning."""
    return {
        **_size(kept),
        "dropped": {reason: _size(rows) for reason, rows in sorted(dropped.items())},
        "cleaning": cleaning,
    }


def _size(rows: list[dict]) -> dict:
    seconds = sum(row.get("duration", 0.0) for row in rows)
    return {"utterances": len(rows), "hours": round(seconds / 3600, 4)}


def read(path: str | Path) -> list[dict]:
    """Read a manifest. Raises UserError naming the line that lacks a needed key."""
    rows = []
    for number, row in files.numbered_jsonl(path):
        for key in ("id", "audio_filepath", "duration", "text"):
            if key not in row:
                raise UserError(f"{path}:{number}: no `{key}`: not a manifest of this pipeline")
        rows.append(row)
    return rows
