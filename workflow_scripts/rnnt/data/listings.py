"""What a source's split was found to hold, in files: entries (manifests.py), fingerprints, and audio beside them."""

from __future__ import annotations

import os
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnt import files
from rnnt.data.fingerprints import Prints
from rnnt.errors import UserError

UTTERANCES, ABOUT, FINGERPRINTS = "utterances.jsonl", "about.json", "fingerprints.npz"


class Listing(NamedTuple):
    """Entries of a split as delivered, how many audio files beside are in none, and whether that is accepted."""

    entries: Iterator[dict]
    unlisted: int
    unlisted_example: str
    allow_unlisted: bool


class Paths:
    """The audio files of a listing, an utterance each, as often as wanted."""

    def __init__(self, folder: Path):
        self.listing = folder / UTTERANCES

    def __iter__(self) -> Iterator[str]:
        return (entry["audio_filepath"] for _, entry in files.numbered_jsonl(self.listing))


def write(
    folder: Path,
    found: Iterable[tuple[dict, tuple[int, int] | None]],
    prints: Prints | None,
    unlisted: Callable[[Iterable[str]], list[str]],
    allow_unlisted: bool,
) -> None:
    """Write a listing's three files as `manifests.listing` finds its entries; `prints` are None without samples.

    `unlisted` tells which audio is not among what is listed. A fingerprint is uint32 [frames], of each entry.
    """
    starts, lengths = array("q"), array("q")

    def entries() -> Iterator[dict]:
        for entry, place in found:
            if prints is not None:
                start, length = place or (0, 0)
                starts.append(start)
                lengths.append(length)
            yield entry

    files.write_jsonl(folder / UTTERANCES, entries())
    left = unlisted(Paths(folder))
    example = os.fsencode(left[0]).decode("utf-8", "replace") if left else ""
    files.write_json(
        folder / ABOUT,
        {
            "listened": prints is not None,
            "unlisted": len(left),
            "unlisted_example": example,
            "allow_unlisted": allow_unlisted,
        },
    )
    size = 8 * len(lengths) + 4 * sum(lengths)
    places = zip(starts, lengths, strict=True)
    with files.whole(folder / FINGERPRINTS, size) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        # As np.savez has it, which wants all of the frames at once.
        _write_array(archive, "lengths", np.int64, len(lengths), [np.frombuffer(lengths, np.int64)])
        _write_array(archive, "frames", np.uint32, sum(lengths), (prints[place] for place in places))


def _write_array(archive: zipfile.ZipFile, name: str, kind: type, length: int, parts: Iterable[np.ndarray]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(kind))
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (length,)})
        for part in parts:
            file.write(part.tobytes())


def read(folder: Path) -> Listing:
    """Read a listing. Raises UserError naming the file that is not whole, for its entries when they are taken."""
    about = files.read_json(folder / ABOUT)
    entries = (entry for _, entry in files.numbered_jsonl(folder / UTTERANCES))
    return Listing(entries, about["unlisted"], about["unlisted_example"], about["allow_unlisted"])


def fingerprints(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Each utterance's id and fingerprint, uint32 [frames], sorted by id; none where the audio was not listened to.

    Raises UserError when the file is not that of the listing.
    """
    if not files.read_json(folder / ABOUT)["listened"]:
        return
    path, ids = folder / FINGERPRINTS, (entry["id"] for _, entry in files.numbered_jsonl(folder / UTTERANCES))
    foreign = UserError(f"{path}: not of the utterances beside it: delete its folder, and it is made anew")
    try:
        with np.load(path) as found, found.zip.open("frames.npy") as frames:
            lengths = found["lengths"]
            np.lib.format.read_magic(frames)
            (count,), _, _ = np.lib.format.read_array_header_1_0(frames)
            if lengths.sum() != count:
                raise foreign
            for length in lengths.tolist():
                data = frames.read(4 * length)
                if (name := next(ids, None)) is None:
                    raise foreign
                yield name, np.frombuffer(data, np.uint32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable ({error}): delete its folder, and it is made anew") from None
    if next(ids, None) is not None:
        raise foreign
