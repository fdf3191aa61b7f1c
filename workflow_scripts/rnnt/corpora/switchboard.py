"""Switchboard-1 Release 2 (LDC97S62) with the ISIP transcripts, and Hub5'00 (LDC2002S09, LDC2002T43) for testing.

Telephone conversations, 8 kHz mu-law SPHERE, a channel for each side. Audio: sw0NNNN.sph anywhere below `path`.
Transcripts: swb_ms98_transcriptions/NN/NNNN/swNNNNS-ms98-a-trans.text, lines of id, start, end (seconds) and text.
Hub5'00: en_NNNN.sph (CallHome) and sw_NNNN.sph (Switchboard) with one STM file.

As in Kaldi's recipe (egs/swbd/s5c) the first 4,000 utterances are the validation split and a transcript occurs at most
300 times in training.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rnnt import console
from rnnt.corpora import Utterance, glm, published
from rnnt.corpora.published import Archive, Counts
from rnnt.errors import UserError

URL = "http://www.openslr.org/resources/5"
FOLDER_KEYS = ("type", "path", "transcripts")
EXPECTED = {"test_switchboard": Counts(1831), "test_callhome": Counts(2628)}
CONVERSATIONS = Counts(2438)
PREFIXES = {"test_switchboard": "sw_", "test_callhome": "en_"}
NOT_SCORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
NO_SPEECH = re.compile(r"(\[(silence|noise|laughter|vocalized-noise)\]|<[be]_aside>|\s)*")
LICENCE = "needs a licence of the LDC (catalog.ldc.upenn.edu)"


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Find the audio, and find or download the transcripts. Raises UserError when something is not there."""
    if set(source["splits"]) - set(PREFIXES):
        if not source["path"]:
            raise UserError(f"Switchboard-1 {LICENCE}: get LDC97S62 and set source.path to its folder")
        published.obtain(source, folder, _transcripts(source), source["transcripts"])
        found = len(_audio(source["path"], "sw0*"))
        if not source["allow_subset"]:
            published.check_counts(found, 0, CONVERSATIONS, f"{source['path']}: conversations (sw0*.sph)")
    if set(source["splits"]) & set(PREFIXES):
        _stm(source)
        if mapping := glm.find(source):
            glm.read(mapping)
        else:
            console.log.warning("no *hub5*.glm beside the STM (LDC2002T43 has one): wer_glm stays empty")


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List `train`, `validation`, `test_switchboard` or `test_callhome`.

    Raises UserError naming the line that is wrong, or what lacks its audio or its transcript.
    """
    if split in PREFIXES:
        return _hub5(source, PREFIXES[split])
    listed = sorted(_conversations(source, folder), key=lambda utterance: utterance.id)
    first = source["validation_utterances"]
    if split == "validation":
        return iter(listed[:first])
    return _at_most(listed[first:], source["max_copies"])


def _at_most(listed: list[Utterance], copies: int) -> Iterator[Utterance]:
    seen: Counter = Counter()
    for utterance in listed:
        seen[utterance.text] += 1
        if seen[utterance.text] <= copies:
            yield utterance


def _transcripts(source: dict) -> Archive:
    url = (source["url"] or URL).rstrip("/")
    name = "switchboard_word_alignments.tar.gz"
    return Archive(name, "swb_ms98_transcriptions", f"{url}/{name}", how="set source.transcripts")


def _conversations(source: dict, folder: Path) -> Iterator[Utterance]:
    root = published.root(folder, _transcripts(source), source["transcripts"]) / "swb_ms98_transcriptions"
    audio = _audio(source["path"], "sw0*")
    speakers = _speakers(source["path"])
    used = set()
    for table in sorted(root.glob("*/*/*-trans.text")):
        match = re.fullmatch(r"sw(\d{4})([AB])-ms98-a-trans", table.stem)
        if not match:
            raise UserError(f"{table}: expected a name like sw2001A-ms98-a-trans.text")
        conversation, side = f"sw0{match[1]}", match[2]
        if conversation not in audio:
            raise UserError(f"{table}:1: no such file: {conversation}.sph below {source['path']}")
        used.add(conversation)
        for number, line in published.lines(table):
            where = f"{table}:{number}"
            fields = line.split(maxsplit=3)
            if len(fields) < 4:
                raise UserError(f"{where}: expected id, start, end and text")
            offset, duration = published.seconds(*fields[1:3], where)
            if NO_SPEECH.fullmatch(fields[3]):
                continue
            yield Utterance(
                id=f"{conversation}-{side}_{offset * 100:06.0f}-{(offset + duration) * 100:06.0f}",
                audio_filepath=str(audio[conversation]),
                text=fields[3],
                offset=offset,
                duration=duration,
                channel="AB".index(side),
                speaker=speakers.get((match[1], side), f"{conversation}-{side}"),
                origin=where,
                rules="switchboard",
            )
    if set(audio) - used:
        raise UserError(f"{audio[min(set(audio) - used)]}: has no transcript in {root}")


def _audio(path: str, pattern: str) -> dict[str, Path]:
    """SPHERE files below `path` by their lower-case stem; discs differ in depth and in case."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"{path}: no such folder")
    found = (p for p in root.rglob("*") if p.suffix.lower() == ".sph" and p.stem.lower().startswith(pattern[:-1]))
    audio: dict[str, Path] = {}
    for file in sorted(found):
        other = audio.get(file.stem.lower(), file)
        if file != other and not file.samefile(other):
            raise UserError(f"{other} and {file}: two recordings of one conversation: keep one below {path}")
        audio[file.stem.lower()] = file
    return audio


def _speakers(path: str) -> dict[tuple[str, str], str]:
    """The real speakers of each side, where LDC's conv_tab.csv is: conversation, active, caller A, caller B, ..."""
    speakers = {}
    for table in sorted(Path(path).rglob("conv_tab.csv"))[:1]:
        for number, line in published.lines(table):
            try:
                (row,) = csv.reader([line], strict=True)
            except csv.Error as error:
                raise UserError(f"{table}:{number}: {error}: is a quote left open?") from None
            if len(row) >= 4 and row[0].strip().isdigit():
                speakers[row[0].strip(), "A"], speakers[row[0].strip(), "B"] = row[2].strip(), row[3].strip()
    return {side: speaker for side, speaker in speakers.items() if speaker}


def _stm(source: dict) -> Path:
    if not source["hub5_audio"]:
        raise UserError(
            f"Hub5'00 {LICENCE}: get LDC2002S09 and LDC2002T43 and set source.hub5_audio and source.hub5_transcripts"
        )
    transcripts = source["hub5_transcripts"] or source["hub5_audio"]
    found = sorted(Path(transcripts).rglob("hub5e00.english.*.stm"))
    if not found:
        raise UserError(f"{transcripts}: no hub5e00.english.*.stm below it (LDC2002T43): set source.hub5_transcripts")
    if len({path.read_bytes() for path in found}) > 1:
        raise UserError(f"{found[0]} and {found[-1]}: two references that differ: keep one, or set hub5_transcripts")
    return found[0]


def _hub5(source: dict, prefix: str) -> Iterator[Utterance]:
    table, audio = _stm(source), _audio(source["hub5_audio"], f"{prefix}*")
    for number, line in published.lines(table):
        where = f"{table}:{number}"
        fields = line.split(maxsplit=6)
        if line.startswith(";;") or not line.startswith(prefix):
            continue
        if len(fields) < 7 or fields[1] not in ("A", "B"):
            raise UserError(f"{where}: expected conversation, A or B, speaker, start, end, label and text")
        conversation, side, speaker, start, end, _, text = fields
        if text.strip().upper() == NOT_SCORED:
            continue
        if conversation not in audio:
            raise UserError(f"{where}: no such file: {conversation}.sph below {source['hub5_audio']}")
        offset, duration = published.seconds(start, end, where)
        yield Utterance(
            id=f"{conversation}-{side}_{offset * 100:06.0f}-{(offset + duration) * 100:06.0f}",
            audio_filepath=str(audio[conversation]),
            text=text,
            offset=offset,
            duration=duration,
            channel="AB".index(side),
            speaker=speaker,
            stm=text.strip(),
            origin=where,
            rules="hub5",
        )
