"""LibriSpeech (OpenSLR 12, CC BY 4.0): read English books, 16 kHz flac, a transcript file per chapter.

Layout: LibriSpeech/SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac and SPEAKER-CHAPTER.trans.txt beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rnnt.corpora import Utterance, published
from rnnt.corpora.published import Archive, Counts
from rnnt.errors import UserError

URL = "https://www.openslr.org/resources/12"
FOLDER_KEYS = ("type", "path")  # what the audio's folder depends on
EXPECTED = {
    "train-clean-100": Counts(28539, 100.59),
    "train-clean-360": Counts(104014, 363.6),
    "train-other-500": Counts(148688, 496.7),
    "dev-clean": Counts(2703),
    "dev-other": Counts(2864),
    "test-clean": Counts(2620),
    "test-other": Counts(2939),
}
SIZE = {  # of the archive, in bytes
    "train-clean-100": 6_387_309_499,
    "train-clean-360": 23_049_477_885,
    "train-other-500": 30_593_501_606,
    "dev-clean": 337_926_286,
    "dev-other": 314_305_928,
    "test-clean": 346_663_984,
    "test-other": 328_757_843,
}
SHA256 = {
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
}


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Download, check and extract the archive of every split that is needed, where `path` doesn't hold it.

    Raises UserError when one can't be had.
    """
    archives = [_archive(source, split) for split in source["splits"]]
    published.check_room(source, folder, archives, source["path"])
    for archive in archives:
        published.obtain(source, folder, archive, source["path"])


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split. Raises UserError naming what lacks its audio or its transcript."""
    root = published.root(folder, _archive(source, split), source["path"])
    for chapter in sorted(path for path in (root / split).glob("*/*") if path.is_dir()):
        yield from _chapter(chapter)


def _archive(source: dict, split: str) -> Archive:
    url = f"{(source['url'] or URL).rstrip('/')}/{split}.tar.gz"
    return Archive(f"{split}.tar.gz", split, url, SHA256[split], size=SIZE[split])


def _chapter(chapter: Path) -> Iterator[Utterance]:
    speaker = chapter.parent.name
    transcript = chapter / f"{speaker}-{chapter.name}.trans.txt"
    audio = {path.stem for path in chapter.glob("*.flac")}
    if not transcript.is_file():
        raise UserError(f"{transcript}: missing, with {len(audio)} recordings beside it")
    listed = set()
    for number, line in published.lines(transcript):
        where = f"{transcript}:{number}"
        name, _, text = line.partition(" ")
        if not text.strip():
            raise UserError(f"{where}: expected an id, a space and the text, got {line!r}")
        if name not in audio:
            raise UserError(f"{where}: no such file: {chapter / name}.flac")
        listed.add(name)
        yield Utterance(name, str(chapter / f"{name}.flac"), text, speaker=speaker, origin=where, rules="librispeech")
    if audio - listed:
        raise UserError(f"{chapter / min(audio - listed)}.flac: has no line in {transcript.name}")
