"""What splits share: recordings, texts and speakers. A model that has trained on its test set is not tested by it."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np

from rnnt.data import fingerprints

KINDS = ("train", "validation", "test")  # of each two splits the later is measured against the earlier


def find(splits: dict[str, list[dict]], sounds: dict[str, list[np.ndarray]] | None = None) -> list[dict]:
    """What each two of the splits share. `splits` are manifest entries by split, kept or to be scored.

    A recording is the same by its file, where the segments overlap in time, and by the fingerprints of the entries,
    `sounds` (fingerprints.py), where they were taken. Shares are of the second split, 0 to 1.
    Time grows with the number of utterances, not with its square.
    """
    order = sorted(splits, key=lambda split: (KINDS.index(split.split("_")[0]), split))
    return [_pair(one, other, splits, sounds) for one, other in combinations(order, 2)]


def _pair(one: str, other: str, splits: dict[str, list[dict]], sounds: dict[str, list[np.ndarray]] | None) -> dict:
    ours, theirs = splits[one], splits[other]
    same = dict.fromkeys(_same_files(ours, theirs), "file")
    if sounds:
        for pair in fingerprints.copies(sounds[one], sounds[other]):
            same.setdefault(pair, "sound")
    texts = {entry["text"] for entry in ours if entry["text"]}
    speakers = {entry["speaker"] for entry in ours if "speaker" in entry}
    words = sum(len(entry["text"].split()) for entry in theirs)
    told = [entry for entry in theirs if entry["text"] in texts]
    heard = [entry for entry in theirs if entry.get("speaker") in speakers]
    told_words = sum(len(entry["text"].split()) for entry in told)
    return {
        "splits": [one, other],
        "recordings": [[ours[i]["id"], theirs[j]["id"], how] for (i, j), how in sorted(same.items())],
        "texts": {
            "utterances": len(told),
            "share_of_utterances": round(len(told) / len(theirs), 4),
            "share_of_words": round(told_words / max(words, 1), 4),
            "ids": [entry["id"] for entry in told],
        },
        "speakers": {
            "names": sorted({entry["speaker"] for entry in heard}),
            "utterances": len(heard),
            "share_of_utterances": round(len(heard) / len(theirs), 4),
        },
    }


def _same_files(ours: list[dict], theirs: list[dict]) -> list[tuple[int, int]]:
    """Places of entries that lie in one file, on one channel, and overlap in time."""
    places: dict[tuple, list[int]] = defaultdict(list)
    real: dict[str, str] = {}

    def key(entry: dict) -> str:
        path = entry["audio_filepath"]
        if path not in real:
            real[path] = str(Path(path).resolve())
        return real[path]

    for i, entry in enumerate(ours):
        places[key(entry)].append(i)
    found = []
    for j, entry in enumerate(theirs):
        for i in places.get(key(entry), ()):
            if _overlap(ours[i], entry):
                found.append((i, j))
    return found


def _overlap(one: dict, other: dict) -> bool:
    starts = [entry.get("offset", 0.0) for entry in (one, other)]
    ends = [start + entry["duration"] for start, entry in zip(starts, (one, other), strict=True)]
    channels = {entry["channel"] for entry in (one, other) if "channel" in entry}  # without one: all are mixed
    # Published times are rounded: neighbours touch.
    return min(ends) - max(starts) > 0.05 and len(channels) < 2


def with_test(pairs: list[dict]) -> list[dict]:
    """Those pairs of which a test split and another kind share a recording."""
    kinds = [{split.split("_")[0] for split in pair["splits"]} for pair in pairs]
    return [
        pair for pair, kind in zip(pairs, kinds, strict=True) if "test" in kind and len(kind) > 1 and pair["recordings"]
    ]


def describe(pair: dict) -> list[str]:
    """What two splits share, a line each: recordings, texts, speakers; none where they share nothing."""
    one, other = pair["splits"]
    lines = []
    if pair["recordings"]:
        count = len({theirs for _, theirs, _ in pair["recordings"]})
        lines.append(f"{count} recordings of {other} are in {one} too, such as {pair['recordings'][0][1]}")
    if pair["texts"]["utterances"]:
        share = 100 * pair["texts"]["share_of_utterances"]
        lines.append(
            f"{pair['texts']['utterances']} utterances of {other} ({share:.1f} %) have a text that {one} has too"
        )
    if pair["speakers"]["names"]:
        count = len(pair["speakers"]["names"])
        lines.append(f"{count} speakers of {other} ({pair['speakers']['utterances']} utterances) are in {one} too")
    return lines
