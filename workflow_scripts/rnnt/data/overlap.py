"""What splits share: recordings, texts and speakers. A model that has trained on its test set is not tested by it."""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from rnnt import streams
from rnnt.console import progress
from rnnt.data import audio, fingerprints

KINDS = ("train", "validation", "test")  # of each two splits the later is measured against the earlier
PUT_BY = ("id", "audio_filepath", "offset", "duration", "channel", "speaker")  # of an entry
ROUNDED = 0.05  # seconds: published times are rounded, so that neighbours in a recording touch


NOTHING = {"by_sound": False, "pairs": []}


def find(splits: dict[str, Iterable[dict]], folder: Path | None = None) -> dict:
    """What each two of the splits share, `pairs`. `splits` are manifest entries by split, kept or to be scored.

    A recording is the same by its file, where two segments overlap in time, and by its sound, where the entries have a
    `fingerprint` (`manifests.listing`; `by_sound`: they have): what those of two utterances have in common makes
    their audio be read, and its waveforms compared. Shares are of the second split, 0 to 1. What another data set has
    is called `KIND_NAME/SPLIT`: then what is learned is compared with what is tested, and nothing else. Time grows with
    the number of utterances, not with its square.
    Files, texts and speakers are the same where their hashes of 64 bits are. Entries are put by in `folder`.
    """
    found = {name: _Split(entries, folder) for name, entries in splits.items()}
    index = functools.cache(lambda split: fingerprints.index(found[split].prints, folder))
    order = sorted(splits, key=lambda split: (KINDS.index(_kind(split)), split))
    return {
        "by_sound": all(split.has_prints for split in found.values()),
        "pairs": [
            _pair(one, other, found, index)
            for one, other in combinations(order, 2)
            if "/" not in one + other or (_kind(one) != "test" and _kind(other) == "test")
        ],
    }


class _Split:
    """The entries of a split, put by, and in memory what is compared, an array each; a hash of 0: there is none."""

    def __init__(self, entries: Iterable[dict], folder: Path | None):
        self.rows, self.prints = streams.Rows(folder), _Prints(folder)
        self.texts, self.speakers, self.files = array("q"), array("q"), array("q")
        self.words, self.channels = array("I"), array("i")
        self.starts, self.durations = array("d"), array("d")
        resolved = functools.lru_cache(1 << 16)(os.path.realpath)
        for entry in entries:
            if "fingerprint" in entry:
                self.prints.append(entry["fingerprint"])
            self.rows.append({key: entry[key] for key in PUT_BY if key in entry})
            self.texts.append(_hash(entry["text"]))
            self.words.append(len(entry["text"].split()))
            self.speakers.append(_hash(entry["speaker"]) if "speaker" in entry else 0)
            self.files.append(_hash(_resolve(entry["audio_filepath"], resolved)))
            self.channels.append(entry.get("channel", -1))
            self.starts.append(entry.get("offset", 0.0))
            self.durations.append(entry["duration"])
        for name in ("texts", "speakers", "files", "words", "channels", "starts", "durations"):
            setattr(self, name, np.array(getattr(self, name)))
        self.has_prints = len(self.prints) == len(self.rows)

    def pick(self, places: Iterable[int]) -> dict[int, dict]:
        """Entries by their places."""
        wanted = set(places)
        return {place: row for place, row in enumerate(self.rows) if place in wanted} if wanted else {}


class _Prints:
    """Fingerprints by their number."""

    def __init__(self, folder: Path | None):
        self.kept, self.places = fingerprints.Prints(folder), array("q")

    def append(self, frames: np.ndarray) -> None:
        self.places.extend(self.kept.append(frames))

    def __len__(self) -> int:
        return len(self.places) // 2

    def __getitem__(self, number: int) -> np.ndarray:
        return self.kept[self.places[2 * number], self.places[2 * number + 1]]


def _hash(text: str) -> int:
    """0 for nothing."""
    return hash(text) or 1 if text else 0


def _resolve(path: str, real: Callable[[str], str]) -> str:
    """The path without links; `real` does that for a folder, which has many files."""
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):
        return os.path.realpath(path)
    return os.path.join(real(folder), name)


def _kind(split: str) -> str:
    return split.split("_")[0]


def _pair(one: str, other: str, splits: dict[str, _Split], index: Callable[[str], fingerprints.Index]) -> dict:
    ours, theirs = splits[one], splits[other]
    same = dict.fromkeys(_same_files(ours, theirs), "file")
    if ours.has_prints and theirs.has_prints:
        for pair in _same_sounds(index(one), ours, theirs, same, f"compare {other} with {one}"):
            same[pair] = "sound"
    told = np.isin(theirs.texts, ours.texts) & (theirs.texts != 0)
    heard = np.isin(theirs.speakers, ours.speakers) & (theirs.speakers != 0)
    here = ours.pick(i for i, _ in same)
    there = theirs.pick([*np.flatnonzero(told | heard).tolist(), *(j for _, j in same)])
    return {
        "splits": [one, other],
        "recordings": [[here[i]["id"], there[j]["id"], how] for (i, j), how in sorted(same.items())],
        "texts": {
            "utterances": int(told.sum()),
            "share_of_utterances": round(int(told.sum()) / len(told), 4),
            "share_of_words": round(int(theirs.words[told].sum()) / max(int(theirs.words.sum()), 1), 4),
            "ids": [there[j]["id"] for j in np.flatnonzero(told).tolist()],
        },
        "speakers": {
            "names": sorted({there[j]["speaker"] for j in np.flatnonzero(heard).tolist()}),
            "utterances": int(heard.sum()),
            "share_of_utterances": round(int(heard.sum()) / len(heard), 4),
        },
    }


def _same_files(ours: _Split, theirs: _Split) -> Iterator[tuple[int, int]]:
    """Places of entries that lie in one file, on one channel, and overlap in time."""
    shared = np.flatnonzero(np.isin(theirs.files, ours.files))
    if not len(shared):
        return
    order = np.lexsort((ours.starts, ours.files))
    paths, starts, durations, channels = (v[order] for v in (ours.files, ours.starts, ours.durations, ours.channels))
    ends = starts + durations
    for j in shared.tolist():
        path, start, channel = theirs.files[j], theirs.starts[j], theirs.channels[j]
        end = start + theirs.durations[j]
        here = slice(np.searchsorted(paths, path), np.searchsorted(paths, path, "right"))
        common = np.minimum(ends[here], end) - np.maximum(starts[here], start)
        # Without a channel all are mixed.
        other = (channels[here] != channel) & (channels[here] >= 0) & (channel >= 0)
        yield from ((i, j) for i in order[here][(common > ROUNDED) & ~other].tolist())


def _same_sounds(
    index: fingerprints.Index, ours: _Split, theirs: _Split, known: dict, label: str
) -> Iterator[tuple[int, int]]:
    """Places of entries of which one is a copy of the other, but those that are `known` to be."""
    alike = [pair for pair in fingerprints.candidates(index, theirs.prints) if pair not in known]
    here, there = ours.pick(i for i, _ in alike), theirs.pick(j for _, j in alike)
    read = functools.lru_cache(maxsize=256)(_samples)
    for i, j in progress(alike, len(alike), label, "pairs") if alike else ():
        if fingerprints.are_copies(*(read(*_stretch(entry)) for entry in (here[i], there[j]))):
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
