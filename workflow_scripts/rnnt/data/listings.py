"""What a source's split was found to hold, in files: entries (manifests.py), fingerprints, and audio beside them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnt import files
from rnnt.errors import UserError

UTTERANCES, ABOUT, FINGERPRINTS = "utterances.jsonl", "about.json", "fingerprints.npz"


class Listing(NamedTuple):
    """Entries of a split as delivered, how many audio files beside are in none, and whether that is accepted."""

    entries: list[dict]
    unlisted: int
    unlisted_example: str
    allow_unlisted: bool


def write(
    folder: Path,
    entries: list[dict],
    prints: list[np.ndarray],
    listened: bool,
    unlisted: list[str],
    allow_unlisted: bool,
) -> None:
    """Write a listing's three files; fingerprints are uint32 [frames] of each entry, none where not `listened` to."""
    files.write_jsonl(folder / UTTERANCES, entries)
    example = os.fsencode(unlisted[0]).decode("utf-8", "replace") if unlisted else ""
    files.write_json(
        folder / ABOUT,
        {
            "listened": listened,
            "unlisted": len(unlisted),
            "unlisted_example": example,
            "allow_unlisted": allow_unlisted,
        },
    )
    lengths = np.array([len(frames) for frames in prints], dtype=np.int64)
    frames = np.concatenate([*prints, np.zeros(0, np.uint32)])
    with files.whole(folder / FINGERPRINTS, lengths.nbytes + frames.nbytes) as temporary, open(temporary, "wb") as file:
        np.savez(file, lengths=lengths, frames=frames)


def read(folder: Path) -> Listing:
    """Read a listing. Raises UserError naming the file that is not whole."""
    about = files.read_json(folder / ABOUT)
    entries = files.read_jsonl(folder / UTTERANCES)
    return Listing(entries, about["unlisted"], about["unlisted_example"], about["allow_unlisted"])


def fingerprints(folder: Path) -> dict[str, np.ndarray]:
    """The fingerprint of each utterance by its id, uint32 [frames]; none where the audio was not listened to.

    Raises UserError when the file is not that of the listing.
    """
    if not files.read_json(folder / ABOUT)["listened"]:
        return {}
    ids = [entry["id"] for entry in files.read_jsonl(folder / UTTERANCES)]
    path = folder / FINGERPRINTS
    try:
        with np.load(path) as found:
            lengths, frames = found["lengths"], found["frames"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable ({error}): delete its folder, and it is made anew") from None
    if len(lengths) != len(ids) or lengths.sum() != len(frames):
        raise UserError(f"{path}: not of the utterances beside it: delete its folder, and it is made anew")
    ends = np.cumsum(lengths)
    return {name: frames[end - length : end] for name, length, end in zip(ids, lengths, ends, strict=True)}
