"""Where utterances come from: one module per source, each with the same two functions.

prepare(source, folder, workers, progress)   make or fetch the audio under `folder`; restartable
utterances(source, split, folder)            list the utterances of one split of the source

A module may also have EXPECTED, the published size of its splits; FOLDER_KEYS, the keys of the source that decide which
folder its audio goes to (all, where it has none); unlisted(source, split, listed), the audio beside a listing that is
none of its files.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

MOST_SECONDS = 1e8  # three years: a time in a listing beyond that is no time


@dataclass(frozen=True)
class Utterance:
    """A stretch of audio and its transcript as delivered.

    `offset` and `duration` are in seconds (`duration` None: to the end of the file), `channel` counts from 0
    (None: the file's only channel, or all mixed), `stm` is the text with the marks that sclite scores by
    (evaluation/sclite.py), `origin` names the line that lists the utterance, `rules` the cleaning rules for its text
    (data/transcripts.py).
    """

    id: str
    audio_filepath: str
    text: str
    offset: float = 0.0
    duration: float | None = None
    channel: int | None = None
    speaker: str | None = None
    stm: str | None = None
    origin: str = ""
    rules: str = "none"


def module(source: dict) -> ModuleType:
    """The module of a data set's `source` section, by its `type`."""
    return importlib.import_module(f"rnnt.corpora.{source['type']}")
