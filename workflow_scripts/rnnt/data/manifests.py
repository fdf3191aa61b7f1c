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
from array import array
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, compress, groupby, islice, tee
from operator import attrgetter, itemgetter
from pathlib import Path

import numpy as np

from rnnt import files, streams
from rnnt.console import progress
from rnnt.corpora import MOST_SECONDS, Utterance
from rnnt.data import audio, fingerprints, transcripts
from rnnt.errors import UserError

EXAMPLES = 3  # of each cleaning rule, in summary.json
LISTED = 10  # ids of each problem of the sound, in summary.json
UNSTATED = "length not stated"
NOT_WRITTEN = ("problems", "rules", "origin")  # of an entry: for summary.json, for its cleaning, for messages
MANY = 20_000  # texts from which on processes are worth their start
NEEDED = (("id", str), ("audio_filepath", str), ("duration", int | float), ("text", str))  # in a manifest


def listing(
    utterances: Iterable[Utterance],
    workers: int,
    label: str,
    folder: Path | None = None,
    prints: fingerprints.Prints | None = None,
) -> Iterator[tuple[dict, tuple[int, int] | None]]:
    """An entry for each utterance, sorted by id, with `duration` from the audio's header and `text` as delivered.

    `rules` are those of its corpus, `origin` the line that lists it. With `prints` every file is decoded once, whole:
    an entry then has `problems` where there are some (`audio.listen`, and UNSTATED), and beside it is the place of its
    fingerprint in `prints`, None for what can't be read. One whose audio can't be read has `unreadable` (what is wrong)
    and no `duration`, and `reason` where that is known better; nothing is dropped yet.
    What memory does not hold is put by in `folder`. Raises UserError when a file is missing or an id occurs twice.
    """
    listed, count = _by_file(utterances, folder)
    measure = functools.partial(_of_file, read_samples=prints is not None)
    same = (list(found) for _, found in groupby(listed, attrgetter("audio_filepath")))
    if workers == 1 or count < 32:
        measured = map(measure, same)
    else:
        measured = streams.by_processes(measure, same, workers, min(64, 1 + count // (8 * workers)))
    found = (
        (entry, None if prints is None or mark is None else prints.append(mark))
        for file in progress(measured, count, label, "files")
        for entry, mark in file
    )
    try:
        found = streams.Sorted(folder, lambda pair: pair[0]["id"], found)
    except BrokenProcessPool:
        raise UserError(
            f"{label}: a process was killed: is the memory used up, or a file so damaged that its decoder crashes?"
        ) from None
    for entry, place in found:
        if entry.get("missing"):
            raise UserError(f"{entry['origin']}: {entry['missing']}")
        yield entry, place


def _by_file(utterances: Iterable[Utterance], folder: Path | None) -> tuple[Iterator[Utterance], int]:
    """The utterances sorted by file, and the number of files. Raises UserError when an id occurs twice."""
    ids, paths, listed = array("q"), array("q"), streams.Sorted(folder, lambda row: row[1].audio_filepath)
    for number, utterance in enumerate(utterances):
        ids.append(hash(utterance.id))
        paths.append(hash(utterance.audio_filepath))
        listed.append((number, utterance))
    if twice := streams.repeated(ids):
        origins: dict[str, str] = {}
        for _, utterance in sorted(row for row in listed if hash(row[1].id) in twice):
            if utterance.id in origins:
                raise UserError(f"{utterance.origin}: id {utterance.id} occurs before, in {origins[utterance.id]}")
            origins[utterance.id] = utterance.origin
    return (utterance for _, utterance in listed), len(np.unique(paths))


def clean(
    found: Iterable[dict], case: str, rules: str = "auto", language: str = "en", workers: int = 1
) -> tuple[Iterator[dict], dict]:
    """The entries of a listing with cleaned `text`, and what the cleaning did, which grows as they are taken.

    `rules` names the cleaning rules, `auto` takes those of the entry; `language` (BCP 47) says how lower case is made.
    What it did is, by rule, the number of utterances it changed and some examples, each the text before and after all
    cleaning.
    """
    cleaning: dict[str, dict] = {}
    return _cleaned(iter(found), cleaning, case, rules, language, workers), cleaning


def _cleaned(
    found: Iterator[dict], cleaning: dict[str, dict], case: str, rules: str, language: str, workers: int
) -> Iterator[dict]:
    first = list(islice(found, MANY))
    many = workers > 1 and len(first) == MANY
    before, texts = tee(chain(first, found))
    texts = ((entry.get("text"), entry.get("rules") if rules == "auto" else rules) for entry in texts)
    apply = functools.partial(_clean, case=case, language=language)
    after = streams.by_processes(apply, texts, workers, 1000) if many else map(apply, texts)
    del first
    for entry, (text, fired) in zip(before, after, strict=True):
        for rule in fired:
            did = cleaning.setdefault(rule, {"utterances": 0, "examples": []})
            did["utterances"] += 1
            if len(did["examples"]) < EXAMPLES:
                did["examples"].append([entry["text"], text])
        yield entry if text is None else {**entry, "text": text}


def _clean(delivered: tuple[str | None, str | None], case: str, language: str) -> tuple[str | None, list[str]]:
    text, rules = delivered  # none where the audio can't be read
    return (None, []) if text is None else transcripts.clean(text, case, rules, language)


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


def keep_all(found: Collection[dict], split: str) -> None:
    """See that a test split is whole. Raises UserError when an utterance can't be read: the score would lack it."""
    lost = (entry for entry in found if "unreadable" in entry)
    if first := next(lost, None):
        raise UserError(
            f"{first['origin']}: {first['unreadable']}; {1 + sum(1 for _ in lost)} of {len(found)} utterances of "
            f"{split} would be missing from the score: mend the files, or take them and their rows out of the test set"
        )


def filter_for_training(
    found: Iterable[dict], min_duration: float, max_duration: float, folder: Path | None = None
) -> tuple[Iterator[dict], dict[str, streams.Rows]]:
    """The entries to train or validate on, and those dropped by reason, which grow as the others are taken.

    Durations are in seconds; what memory does not hold is put by in `folder`.
    """
    dropped: dict[str, streams.Rows] = {}
    return _filtered(found, dropped, min_duration, max_duration, folder), dropped


def _filtered(
    found: Iterable[dict],
    dropped: dict[str, streams.Rows],
    min_duration: float,
    max_duration: float,
    folder: Path | None,
) -> Iterator[dict]:
    for entry in found:
        reason = _reason_to_drop(entry, min_duration, max_duration)
        if reason is None:
            yield entry
        else:
            dropped.setdefault(reason, streams.Rows(folder)).append(entry)


def draw(
    kept: Iterable[dict], hours: float, label: str, folder: Path | None = None
) -> tuple[streams.Rows, streams.Rows]:
    """At most so many hours of a split, and the entries that are left out, both in their order.

    Without replacement, and the same each time. Speakers take turns, so that each has about as much of the share as
    another, as far as it has that much. What memory does not hold is put by in `folder`. Raises UserError when the
    split is shorter.
    """
    durations, by_speaker = array("d"), {}
    for place, entry in enumerate(kept):
        durations.append(entry["duration"])
        by_speaker.setdefault(entry.get("speaker", ""), array("I")).append(place)
    have = sum(durations)
    if hours * 3600 > have:
        raise UserError(
            f"{label}: {hours:g} hours are asked for, and it has {have / 3600:.2f} (after the filter): ask for less, "
            "or for all of it by its name alone"
        )
    rng = random.Random(label)
    # The next is of the speaker who has the least so far.
    turns = [
        (0.0, rng.random(), array("I", rng.sample(places, len(places)))) for _, places in sorted(by_speaker.items())
    ]
    heapq.heapify(turns)
    drawn, seconds = np.zeros(len(durations), bool), 0.0
    while turns:
        taken, order, places = heapq.heappop(turns)
        place = places.pop()
        if seconds + durations[place] > hours * 3600:
            break
        drawn[place] = True
        seconds += durations[place]
        if places:
            heapq.heappush(turns, (taken + durations[place], order, places))
    return streams.Rows(folder, compress(kept, drawn)), streams.Rows(folder, compress(kept, ~drawn))


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


def merge(parts: Iterable[Iterable[dict]]) -> Iterator[dict]:
    """The entries of several parts, each sorted by id, sorted by id."""
    return heapq.merge(*parts, key=itemgetter("id"))


def check_ids(rows: Iterable[dict]) -> Iterator[dict]:
    """The rows, which are sorted by id. Raises UserError when two have one id."""
    before: dict = {}
    for row in rows:
        if row["id"] == before.get("id"):
            raise UserError(
                f"{row.get('origin')}: id {row['id']} occurs before, in {before.get('origin')}: rename a split"
            )
        yield row
        before = row


def summary(kept: Iterable[dict], dropped: dict[str, Iterable[dict]], cleaning: dict) -> dict:
    """Utterances and hours, kept and dropped by reason (the hours of unreadable audio are not known: 0); cleaning.

    `sound`: how many of those that are kept have which problem, and which; empty where their samples were not read.
    """
    sound: dict[str, dict] = {}
    return {
        **_size(_listened(kept, sound)),
        "dropped": {reason: _size(rows) for reason, rows in sorted(dropped.items())},
        "sound": dict(sorted(sound.items())),
        "cleaning": cleaning,
    }


def _listened(kept: Iterable[dict], sound: dict[str, dict]) -> Iterator[dict]:
    for entry in kept:
        for problem in entry.get("problems", []):
            found = sound.setdefault(problem, {"utterances": 0, "examples": []})
            found["utterances"] += 1
            if len(found["examples"]) < LISTED:
                found["examples"].append(entry["id"])
        yield entry


def _size(rows: Iterable[dict]) -> dict:
    seconds = array("d", (row.get("duration", 0.0) for row in rows))
    return {"utterances": len(seconds), "hours": round(sum(seconds) / 3600, 4)}


def write(path: str | Path, kept: Iterable[dict]) -> None:
    """Write a manifest, without what is NOT_WRITTEN."""
    files.write_jsonl(path, ({key: value for key, value in entry.items() if key not in NOT_WRITTEN} for entry in kept))


def read(path: str | Path) -> list[dict]:
    """Read a manifest. Raises UserError naming the line that lacks a needed key."""
    return list(rows(path))


def rows(path: str | Path) -> Iterator[dict]:
    """The rows of a manifest one by one. Raises UserError naming the line that lacks a needed key."""
    for number, row in files.numbered_jsonl(path):
        for key, kind in NEEDED:
            if key not in row:
                raise UserError(f"{path}:{number}: no `{key}`: not a manifest of this pipeline")
            if not isinstance(row[key], kind) or (key == "duration" and not 0 < row[key] <= MOST_SECONDS):
                raise UserError(
                    f"{path}:{number}: `{key}` is {reprlib.repr(row[key])}: not a manifest of this pipeline"
                )
        yield row
