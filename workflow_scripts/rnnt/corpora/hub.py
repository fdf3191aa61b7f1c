"""A data set of the Hugging Face Hub, or a local folder of Parquet files, through `datasets`.

The encoded bytes are written out unchanged: nothing is decoded, so torchcodec and ffmpeg are not needed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import reprlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rnnt import files
from rnnt.corpora import Utterance, local
from rnnt.errors import UserError

LISTING = "metadata.jsonl"
PATTERN = re.compile(r"[*?\[\]{}$\n]|::")  # what `datasets` does not take literally in a path


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Load every split that `source["splits"]` names and write its audio under `folder`/{split}/.

    A split that is complete (its listing is written last) is not loaded again.
    Raises UserError when the data set can't be loaded, a column is missing, or a row lacks its audio, text or speaker.
    """
    missing = [split for split in source["splits"] if not (folder / split / LISTING).is_file()]
    with _place(source["name"], folder) as place:
        for split in missing:
            _write_split(source, split, folder / split, progress, place)


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split that `prepare` wrote."""
    return local.utterances({"path": folder}, split, folder)


@contextlib.contextmanager
def _place(name: str, folder: Path) -> Iterator[dict]:
    """What tells `load_dataset` where the data set is: its name on the Hub, or the path of a local folder.

    `datasets` takes a path for a pattern ([v2], a?b, g::h) and puts in variables ($HOME): such a folder is loaded
    through links to its files in a plain one.
    """
    if not os.path.isdir(name):
        yield {"path": name}
        return
    root = Path(name).resolve()
    if not PATTERN.search(str(root)):
        yield {"path": str(root)}
        return
    cache = folder / ".cache"  # as that folder is another one each time
    try:
        with tempfile.TemporaryDirectory() as links:
            for path in filter(Path.is_file, root.rglob("*")):
                link = links / path.relative_to(root)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
            yield {"path": links, "cache_dir": str(cache)}
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _write_split(source: dict, split: str, folder: Path, progress, place: dict) -> None:
    from datasets import Audio

    dataset = _load(source, split, place)
    audio_column, text_column, speaker_column = (source[f"{kind}_column"] for kind in ("audio", "text", "speaker"))
    for column in filter(None, (audio_column, text_column, speaker_column)):
        if column not in dataset.column_names:
            raise UserError(f"{source['name']}: no column `{column}` (found: {', '.join(dataset.column_names)})")
    try:
        dataset = dataset.cast_column(audio_column, Audio(decode=False))
    except (TypeError, ValueError, NotImplementedError):
        kind = dataset.features[audio_column]
        raise UserError(
            f"{source['name']}: column `{audio_column}` is no audio but {kind}: set source.audio_column"
        ) from None
    files.write_jsonl(folder / LISTING, _written(dataset, source, split, folder, progress))


def _written(dataset, source: dict, split: str, folder: Path, progress) -> Iterator[dict]:
    """The rows of a listing, each when its audio is written."""
    audio_column, text_column, speaker_column = (source[f"{kind}_column"] for kind in ("audio", "text", "speaker"))
    for index, row in enumerate(progress(dataset, total=len(dataset), label=f"write {split}")):
        where = f"{source['name']}: split {split}, row {index} (from 0)"
        audio = row[audio_column]
        name = f"{index // 1000:05d}/{index:08d}{_suffix(audio)}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encoded(audio, audio_column, where))
        entry = {"file_name": name, "text": _value(dataset.features, row, text_column, where)}
        if speaker_column:
            entry["speaker"] = _value(dataset.features, row, speaker_column, where)
        yield entry


def _encoded(audio: dict | None, column: str, where: str) -> bytes:
    if audio is None or (audio["bytes"] is None and audio["path"] is None):
        raise UserError(f"{where}: `{column}` is null: mend the data set, or name another column")
    if audio["bytes"] is not None:
        return audio["bytes"]
    try:
        return Path(audio["path"]).read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: `{column}`: can't read {audio['path']!r} ({error})") from None


def _suffix(audio: dict | None) -> str:
    suffix = Path((audio and audio["path"]) or "").suffix
    return suffix if re.fullmatch(r"\.\w{1,8}", suffix) else ".audio"


def _value(features: dict, row: dict, column: str, where: str) -> str:
    from datasets import ClassLabel

    value = row[column]
    if value is None:
        raise UserError(f"{where}: `{column}` is null: mend the data set, or name another column")
    if isinstance(features[column], ClassLabel):
        if not 0 <= value < features[column].num_classes:
            raise UserError(f"{where}: `{column}` is {value}: none of its classes")
        return features[column].int2str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number or isinstance(value, str)):
        raise UserError(f"{where}: `{column}` must be text or a number, not {reprlib.repr(value)}")
    return str(value)


def _load(source: dict, split: str, place: dict):
    import datasets

    datasets.disable_progress_bars()
    where = {**place, "name": source["config"], "revision": source["revision"]}
    if source["revision"] == "refs/convert/parquet":  # a folder for each configuration
        where |= {"name": None, "data_dir": source["config"]}
    try:
        return datasets.load_dataset(split=split, **where)
    except Exception as error:
        error = error.__cause__ or error
        reason = str(error).strip().splitlines()
        raise UserError(
            f"{source['name']}: split `{split}` can't be loaded ({type(error).__name__}: {reason[0] if reason else ''})"
        ) from None
