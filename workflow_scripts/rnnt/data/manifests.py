"""NeMo manifests: which utterances a split keeps, which it drops and why.

One JSON object a line (https://docs.nvidia.com/nemo-framework, "ASR manifest"), sorted by id. What a source has is
listed once, as delivered (`listing`); a data set's manifest cleans, filters and draws from such listings.
"""

from __future__ import annotations

import functools
import heapq
import os
import random
import reprlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from rnnt import files
from rnnt.console import progress
from rnnt.corpora import MOST_SECONDS, Utterance
from rnnt.data import audio, transcripts
from rnnt.errors import UserError

EXAMPLES = 3  # of each cleaning rule, in summary.json
LISTED = 10  # ids of each problem of the sound, in summary.json
UNSTATED = "length not stated"
NOT_WRITTEN = ("problems", "rules", "origin")  # of an entry: for summary.json, for its cleaning, for messages
MANY = 20_000  # texts from which on processes are worth their start


def listing(
    utterances: Iterable[Utterance], workers: int, label: str, read_samples: bool = False
) -> tuple[list[dict], list[np.ndarray]]:
    """An entry for each utterance, sorted by id, with `duration` from the audio's header and `text` as delivered.

    `rules` are those of its corpus, `origin` the line that lists it. `read_samples` decodes every file once, whole. An
    entry then has `problems` where there are some (`audio.listen`, and UNSTATED), and the second value is a fingerprint
    for each entry, empty for what can't be read; without samples there is none. One whose audio can't be read has
    `unreadable` (what is wrong) and no `duration`, and `reason` where that is known better; nothing is dropped yet.
    Raises UserError when a file is missing or an id occurs twice.
    """
    utterances = list(utterances)
    origins: dict[str, str] = {}
    by_file: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if utterance.id in origins:
            raise UserError(f"{utterance.origin}: id {utterance.id} occurs before, in {origins[utterance.id]}")
        origins[utterance.id] = utterance.origin
        by_file.setdefault(utterance.audio_filepath, []).append(utterance)
    measure = functools.partial(_of_file, read_samples=read_samples)
    if workers == 1 or len(by_file) < 32:
        found = list(progress(map(measure, by_file.values()), len(by_file), label, "files"))
    else:
        chunk = min(64, 1 + len(by_file) // (8 * workers))
        try:
            with ProcessPoolExecutor(workers, get_context("fork")) as pool:
                done = pool.map(measure, by_file.values(), chunksize=chunk)
                found = list(progress(done, len(by_file), label, "files"))
        except BrokenProcessPool:
            raise UserError(
                f"{label}: a process was killed: is the memory used up, or a file so damaged that its decoder crashes?"
            ) from None
    found = sorted((pair for file in found for pair in file), key=lambda pair: pair[0]["id"])
    for entry, _ in found:
        if entry.get("missing"):
            raise UserError(f"{entry['origin']}: {entry['missing']}")
    silent = np.zeros(0, np.uint32)
    prints = [silent if mark is None else mark for _, mark in found] if read_samples else []
    return [entry for entry, _ in found], prints


def clean(
    found: list[dict], case: str, rules: str = "auto", language: str = "en", workers: int = 1
) -> tuple[list[dict], dict]:
    """The entries of a listing with cleaned `text`, and what the cleaning did.

    `rules` names the cleaning rules, `auto` takes those of the entry; `language` (BCP 47) says how lower case is made.
    What it did is, by rule, the number of utterances it changed and some examples, each the text before and after all
    cleaning.
    """
    apply = functools.partial(_clean, case=case, rules=rules, language=language)
    if workers == 1 or len(found) < MANY:
        done = list(map(apply, found))
    else:
        with ProcessPoolExecutor(workers, get_context("fork")) as pool:
            done = list(pool.map(apply, found, chunksize=1000))
    cleaning: dict[str, dict] = {}
    for before, (after, fired) in zip(found, done, strict=True):
        for rule in fired:
            did = cleaning.setdefault(rule, {"utterances": 0, "examples": []})
            did["utterances"] += 1
            if len(did["examples"]) < EXAMPLES:
                did["examples"].append([before["text"], after["text"]])
    return [entry for entry, _ in done], cleaning


def _clean(entry: dict, case: str, rules: str, language: str) -> tuple[dict, list[str]]:
    if "unreadable" in entry:
        return entry, []
    text, fired = transcripts.clean(entry["text"], case, entry["rules"] if rules == "auto" else rules, language)
    return {**entry, "text": text}, fired


def _of_file(utterances: list[Utterance], read_samples: bool) -> list[tuple[dict, np.ndarray | None]]:
    """The entries and fingerprints of the utterances of one file, which is opened once for all of them."""
    listed = utterances[0].audio_filepath
    path = files.existing(listed)
    header, heard, failure = None, [None] * len(utterances), {}
    if path is None:
        failure = {"missing": _missing(listed)}
    else:
        try:
            if read_samples:
                header, heard = audio.listen(path, [(u.offset, u.duration, u.channel) for u in utterances])
            else:
                header = audio.inspect(path)
        except UserError as error:
            failure = {"unreadable": str(error)} | ({"reason": error.reason} if hasattr(error, "reason") else {})
    return [
        (_entry(utterance, path or listed, header, sound, failure), sound and sound.fingerprint)
        for utterance, sound in zip(utterances, heard, strict=True)
    ]


def _entry(
    utterance: Utterance, path: str, header: audio.Header | None, sound: audio.Heard | None, failure: dict
) -> dict:
    problems = sound.problems if sound else []
    entry = {"id": utterance.id, "audio_filepath": path}
    if utterance.offset:
        entry["offset"] = utterance.offset
    if header is None:
        return {**entry, **failure, "origin": utterance.origin}
    left = header.seconds - utterance.offset
    seconds = left if utterance.duration is None else utterance.duration
    reason = None
    # Published times are rounded: half a tenth of a second past the end is not an error.
    if round(seconds, 6) <= 0 or seconds > left + 0.05:
        reason = f"the file ends {left:.2f} s after the offset, {seconds:.2f} s wanted"
    elif utterance.channel is not None and utterance.channel >= header.channels:
        reason = f"has no channel {utterance.channel}, only {header.channels}"
    elif audio.NOT_FINITE in problems:
        reason = f"{audio.NOT_FINITE}: write it again from its source"
    if reason:
        return {**entry, "unreadable": f"{path}: {reason}", "origin": utterance.origin}
    entry["duration"] = round(min(seconds, left), 6)
    if utterance.channel is not None:
        entry["channel"] = utterance.channel
    if utterance.speaker is not None:
        entry["speaker"] = utterance.speaker
    if utterance.stm is not None:
        entry["stm"] = utterance.stm
    entry["text"] = utterance.text
    if not header.stated:
        problems = [*problems, UNSTATED]
    if problems:
        entry["problems"] = problems
    return {**entry, "rules": utterance.rules, "origin": utterance.origin}


def _missing(path: str) -> str:
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"no such file: {path}" + (" (its name ends with a space)" if path != path.rstrip() else "")
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'strerror', error)}: {path}"
    return f"not a file: {path}"


def keep_all(found: list[dict], split: str) -> list[dict]:
    """A test split, whole. Raises UserError when an utterance can't be read: it would be missing from the score."""
    lost = [entry for entry in found if "unreadable" in entry]
    if lost:
        raise UserError(
            f"{lost[0]['origin']}: {lost[0]['unreadable']}; {len(lost)} of {len(found)} utterances of {split} would be "
            "missing from the score: mend the files, or take them and their rows out of the test set"
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


def draw(kept: list[dict], hours: float, label: str) -> tuple[list[dict], list[dict]]:
    """At most so many hours of a split, and the entries that are left out, both in their order.

    Without replacement, and the same each time. Speakers take turns, so that each has about as much of the share as
    another, as far as it has that much. Raises UserError when the split is shorter.
    """
    have = sum(entry["duration"] for entry in kept)
    if hours * 3600 > have:
        raise UserError(
            f"{label}: {hours:g} hours are asked for, and it has {have / 3600:.2f} (after the filter): ask for less, "
            "or for all of it by its name alone"
        )
    rng = random.Random(label)
    by_speaker: dict[str, list[dict]] = {}
    for entry in kept:
        by_speaker.setdefault(entry.get("speaker", ""), []).append(entry)
    # The next is of the speaker who has the least so far.
    turns = [(0.0, rng.random(), rng.sample(entries, len(entries))) for _, entries in sorted(by_speaker.items())]
    heapq.heapify(turns)
    drawn, seconds = set(), 0.0
    while turns:
        taken, order, entries = heapq.heappop(turns)
        entry = entries.pop()
        if seconds + entry["duration"] > hours * 3600:
            break
        drawn.add(entry["id"])
        seconds += entry["duration"]
        if entries:
            heapq.heappush(turns, (taken + entry["duration"], order, entries))
    return [e for e in kept if e["id"] in drawn], [e for e in kept if e["id"] not in drawn]


def weigh(parts: list[tuple[list[dict], float | None]]) -> list[float]:
    """How often an epoch has each utterance of a part, so that weighted parts have their share of its audio.

    `parts` are entries and their weight. Those without are taken once; where all have a weight, an epoch is as long as
    all of them together.
    """
    seconds = [sum(entry["duration"] for entry in entries) for entries, _ in parts]
    plain = sum(length for length, (_, weight) in zip(seconds, parts, strict=True) if weight is None)
    rest = 1 - sum(weight for _, weight in parts if weight is not None)
    epoch = plain / rest if plain else sum(seconds)
    return [
        1.0 if weight is None else weight * epoch / length for length, (_, weight) in zip(seconds, parts, strict=True)
    ]


def _reason_to_drop(entry: dict, min_duration: float, max_duration: float) -> str | None:
    if "unreadable" in entry:
        return entry.get("reason", "unreadable audio")
    if not entry["text"]:
        return "empty text"
    if entry["duration"] > max_duration:
        return f"longer than {max_duration:g} s"
    if entry["duration"] < min_duration:
        return f"shorter than {min_duration:g} s"
    return None


def check_ids(rows: list[dict]) -> None:
    """Raise UserError when two utterances, of rows sorted by id, have one id."""
    for one, other in pairwise(rows):
        if one["id"] == other["id"]:
            raise UserError(
                f"{other.get('origin')}: id {other['id']} occurs before, in {one.get('origin')}: rename a split"
            )


def summary(kept: list[dict], dropped: dict[str, list[dict]], cleaning: dict) -> dict:
    """Utterances and hours, kept and dropped by reason (the hours of unreadable audio are not known: 0); cleaning.

    `sound`: how many of those that are kept have which problem, and which; empty where their samples were not read.
    """
    sound: dict[str, list[str]] = {}
    for entry in kept:
        for problem in entry.get("problems", []):
            sound.setdefault(problem, []).append(entry["id"])
    return {
        **_size(kept),
        "dropped": {reason: _size(rows) for reason, rows in sorted(dropped.items())},
        "sound": {name: {"utterances": len(ids), "examples": ids[:LISTED]} for name, ids in sorted(sound.items())},
        "cleaning": cleaning,
    }


def _size(rows: list[dict]) -> dict:
    seconds = sum(row.get("duration", 0.0) for row in rows)
    return {"utterances": len(rows), "hours": round(seconds / 3600, 4)}


def write(path: str | Path, kept: list[dict]) -> None:
    """Write a manifest, without what is NOT_WRITTEN."""
    files.write_jsonl(path, ({key: value for key, value in entry.items() if key not in NOT_WRITTEN} for entry in kept))


def read(path: str | Path) -> list[dict]:
    """Read a manifest. Raises UserError naming the line that lacks a needed key."""
    rows = []
    for number, row in files.numbered_jsonl(path):
        for key, kind in (("id", str), ("audio_filepath", str), ("duration", int | float), ("text", str)):
            if key not in row:
                raise UserError(f"{path}:{number}: no `{key}`: not a manifest of this pipeline")
            if not isinstance(row[key], kind) or (key == "duration" and not 0 < row[key] <= MOST_SECONDS):
                raise UserError(
                    f"{path}:{number}: `{key}` is {reprlib.repr(row[key])}: not a manifest of this pipeline"
                )
        rows.append(row)
    return rows
