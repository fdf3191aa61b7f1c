"""A data set of the Hugging Face Hub, or a local folder of Parquet files, through `datasets`.

The encoded bytes are written out unchanged: nothing is decoded, so torchcodec and ffmpeg are not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rnnt import files
from rnnt.corpora import Utterance, local
from rnnt.errors import UserError

LISTING = "metadata.jsonl"


def prepare(source: dict, folder: Path, workers: int, progress) -> None:
    """Load every split that `source["splits"]` names and write its audio under `folder`/{split}/.

    A split that is complete (its listing is written last) is not loaded again.
    Raises UserError when the data set can't be loaded or a column is missing.
    """
    for split in source["splits"]:
        if not (folder / split / LISTING).is_file():
            _write_split(source, split, folder / split, progress)


def utterances(source: dict, split: str, folder: Path) -> Iterator[Utterance]:
    """List a split that `prepare` wrote."""
    return local.utterances({"path": folder}, split, folder)


def _write_split(source: dict, split: str, folder: Path, progress) -> None:
    from datasets import Audio

    dataset = _load(source, split)
    for column in filter(None, (source["audio_column"], source["text_column"], source["speaker_column"])):
        if column not in dataset.column_names:
            raise UserError(f"{source['name']}: no column `{column}` (found: {', '.join(dataset.column_names)})")
    dataset = dataset.cast_column(source["audio_column"], Audio(decode=False))
    rows = []
    for index, row in enumerate(progress(dataset, total=len(dataset), label=f"write {split}")):
        audio, text = row[source["audio_column"]], row[source["text_column"]]
        data = audio["bytes"] if audio["bytes"] is not None else Path(audio["path"]).read_bytes()
        name = f"{index // 1000:05d}/{index:08d}{Path(audio['path'] or '').suffix or '.audio'}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append({"file_name": name, "text": text or ""})
        if source["speaker_column"]:
            rows[-1]["speaker"] = str(row[source["speaker_column"]])
    files.write_jsonl(folder / LISTING, rows)


def _load(source: dict, split: str):
    import datasets

    datasets.disable_progress_bars()
    where = {"name": source["config"], "revision": source["revision"]}
    if source["revision"] == "refs/convert/parquet":  # a folder for each configuration
        where |= {"name": None, "data_dir": source["config"]}
    try:
        return datasets.load_dataset(source["name"], split=split, **where)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"{source['name']}: split `{split}` can't be loaded ({type(error).__name__}: {reason[0] if reason else ''})"
        ) from None
