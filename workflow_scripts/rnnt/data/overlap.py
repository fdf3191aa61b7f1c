"""What splits share: recordings, texts and speakers. A model that has trained on its test set is not tested by it."""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from rnnt.console import progress
from rnnt.data import audio, fingerprints

KINDS = ("train", "validation", "test")  # of each two splits the later is measured against the earlier
ROUNDED = 0.05  # seconds: published times are rounded, so that neighbours in a recording touch


NOTHING = {"by_sound": False, "pairs": []}


def find(splits: dict[str, list[dict]]) -> dict:
    """What each two of the splits share, `pairs`. `splits` are manifest entries by split, kept or to be scored.

    A recording is the same by its file, where two segments overlap in time, and by its sound, where the entries have a
    `fingerprint` (`manifests.listing`; `by_sound`: they have): what those of two utterances have in common makes
    their audio be read, and its waveforms compared. Shares are of the second split, 0 to 1. What another data set has
    is called `KIND_NAME/SPLIT`: then what is learned is compared with what is tested, and nothing else. Time grows with
    the number of utterances, not with its square.
    """
    index = functools.cache(lambda split: fingerprints.index([entry["fingerprint"] for entry in splits[split]]))
    order = sorted(splits, key=lambda split: (KINDS.index(_kind(split)), split))
    return {
        "by_sound": all("fingerprint" in entry for entries in splits.values() for entry in entries),
        "pairs": [
            _pair(one, other, splits, index)
            for one, other in combinations(order, 2)
            if "/" not in one + other or (_kind(one) != "test" and _kind(other) == "test")
        ],
    }


def _kind(split: str) -> str:
    return split.split("_")[0]


def _pair(one: str, other: str, splits: dict[str, list[dict]], index: Callable[[str], fingerprints.Index]) -> dict:
    ours, theirs = splits[one], splits[other]
    same = dict.fromkeys(_same_files(ours, theirs), "file")
    if all("fingerprint" in entry for entry in ours + theirs):
        for pair in _same_sounds(index(one), ours, theirs, same, f"compare {other} with {one}"):
            same[pair] = "sound"
    texts = {entry["text"] for entry in ours if entry["text"]}
    speakers = {entry["speaker"] for entry in ours if "speaker" in entry}
    told = [entry for entry in theirs if entry["text"] in texts]
    heard = [entry for entry in theirs if entry.get("speaker") in speakers]
    return {
        "splits": [one, other],
        "recordings": [[ours[i]["id"], theirs[j]["id"], how] for (i, j), how in sorted(same.items())],
        "texts": {
            "utterances": len(told),
            "share_of_utterances": round(len(told) / len(theirs), 4),
            "share_of_words": round(_words(told) / max(_words(theirs), 1), 4),
            "ids": [entry["id"] for entry in told],
        },
        "speakers": {
            "names": sorted({entry["speaker"] for entry in heard}),
            "utterances": len(heard),
            "share_of_utterances": round(len(heard) / len(theirs), 4),
        },
    }


def _words(entries: list[dict]) -> int:
    return sum(len(entry["text"].split()) for entry in entries)


def _same_files(ours: list[dict], theirs: list[dict]) -> Iterator[tuple[int, int]]:
    """Places of entries that lie in one file, on one channel, and overlap in time."""
    resolved = functools.cache(lambda path: str(Path(path).resolve()))
    segments: dict[str, list[tuple[float, int]]] = defaultdict(list)
    longest: dict[str, float] = defaultdict(float)
    for i, entry in enumerate(ours):
        path = resolved(entry["audio_filepath"])
        segments[path].append((entry.get("offset", 0.0), i))
        longest[path] = max(longest[path], entry["duration"])
    for found in segments.values():
        found.sort()
    for j, entry in enumerate(theirs):
        path = resolved(entry["audio_filepath"])
        found = segments.get(path, [])
        start = entry.get("offset", 0.0)
        first = bisect_left(found, (start - longest.get(path, 0.0), -1))
        for _, i in found[first : bisect_right(found, (start + entry["duration"], len(ours)))]:
            if _overlap(ours[i], entry):
                yield i, j


def _overlap(one: dict, other: dict) -> bool:
    starts = [entry.get("offset", 0.0) for entry in (one, other)]
    ends = [start + entry["duration"] for start, entry in zip(starts, (one, other), strict=True)]
    channels = {entry["channel"] for entry in (one, other) if "channel" in entry}  # without one: all are mixed
    return min(ends) - max(starts) > ROUNDED and len(channels) < 2


def _same_sounds(
    index: fingerprints.Index, ours: list[dict], theirs: list[dict], known: dict, label: str
) -> Iterator[tuple[int, int]]:
    """Places of entries of which one is a copy of the other, but those that are `known` to be."""
    marks = [entry["fingerprint"] for entry in theirs]
    alike = [pair for pair in fingerprints.candidates(index, marks) if pair not in known]
    read = functools.lru_cache(maxsize=256)(_samples)
    for i, j in progress(alike, len(alike), label, "pairs") if alike else ():
        if fingerprints.are_copies(*(read(*_stretch(entry)) for entry in (ours[i], theirs[j]))):
            yield i, j


def _stretch(entry: dict) -> tuple:
    return entry["audio_filepath"], entry.get("offset", 0.0), entry["duration"], entry.get("channel")


def _samples(path: str, offset: float, seconds: float, channel: int | None) -> np.ndarray:
    return audio.read(path, fingerprints.RATE, offset, seconds, channel)


def with_test(found: dict) -> list[dict]:
    """Those pairs of a test split and another kind that share a recording."""
    return [
        pair for pair in found["pairs"] if pair["recordings"] and len({*map(_kind, pair["splits"])} & {*KINDS[:2]}) == 1
    ]


def seen_texts(found: dict, split: str) -> set[str]:
    """The ids of a split's utterances whose text is in the training split."""
    return {name for pair in found["pairs"] if _trained(pair, split) for name in pair["texts"]["ids"]}


def _trained(pair: dict, split: str) -> bool:
    return _kind(pair["splits"][0]) == "train" and pair["splits"][1] == split


def describe(found: dict, examples: bool = True) -> list[str]:
    """What the splits share, a line each, or that they share nothing, and how recordings were compared.

    `examples` names one of the recordings.
    """
    lines = [line for pair in found["pairs"] for line in describe_pair(pair, examples)]
    if found["pairs"] and not lines:
        lines.append("no recording, text or speaker is in two splits")
    if found["pairs"] and not found["by_sound"]:
        lines.append("recordings were compared by their files alone (filter.read_samples is false)")
    return lines


def describe_split(found: dict, split: str) -> list[str]:
    """What a split shares with training and validation, a line each."""
    pairs = [pair for pair in found["pairs"] if pair["splits"][1] == split and _kind(pair["splits"][0]) != "test"]
    return [line for pair in pairs for line in describe_pair(pair)]


def describe_pair(pair: dict, examples: bool = True) -> list[str]:
    """What two splits share, a line each: recordings, texts, speakers; none where they share nothing."""
    one, other = pair["splits"]
    texts, speakers = pair["texts"], pair["speakers"]
    lines = []
    if pair["recordings"]:
        count = len({theirs for _, theirs, _ in pair["recordings"]})
        ours, theirs, how = pair["recordings"][0]
        example = f", such as {theirs}, {ours} there, the same by its {how}" if examples else ""
        lines.append(f"{_number(count, 'recording')} of {other} {'is' if count == 1 else 'are'} in {one} too{example}")
    if texts["utterances"]:
        lines.append(
            f"the text of {_number(texts['utterances'], 'utterance')} of {other} "
            f"({100 * texts['share_of_utterances']:.1f} %, with {100 * texts['share_of_words']:.1f} % of the words) "
            f"is in {one} too"
        )
    if speakers["names"]:
        count = len(speakers["names"])
        lines.append(
            f"{_number(count, 'speaker')} of {other} ({_number(speakers['utterances'], 'utterance')}, "
            f"{100 * speakers['share_of_utterances']:.1f} %) {'is' if count == 1 else 'are'} in {one} too"
        )
    return lines


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
