"""From manifest lines to padded batches: audio is read in the data loader's workers, never stored decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rnnt import audio, tokenizers


def load_dataset(manifest: Path, tokenizer: Path, sample_rate: int, cache: Path):
    """A Hugging Face `Dataset` of a manifest, memory-mapped from `cache`.

    An item has `audio`, float32 [samples] at `sample_rate` Hz, and `tokens`, a list of token ids.
    """
    import datasets

    datasets.disable_progress_bars()
    # Stated, as types inferred from the first lines of a large manifest need not hold for the last.
    kinds = {"offset": "float64", "duration": "float64", "channel": "int32"}
    names = ("id", "audio_filepath", "offset", "duration", "channel", "speaker", "text")
    features = datasets.Features({name: datasets.Value(kinds.get(name, "string")) for name in names})
    dataset = datasets.Dataset.from_json(str(manifest), features=features, cache_dir=str(cache))
    processor = tokenizers.load(tokenizer.read_bytes())

    def decode(rows: dict[str, list]) -> dict[str, list]:
        return {
            "audio": [
                audio.read(path, sample_rate, offset or 0.0, seconds, channel)
                for path, offset, seconds, channel in zip(
                    rows["audio_filepath"], rows["offset"], rows["duration"], rows["channel"], strict=True
                )
            ],
            "tokens": [processor.encode(text) for text in rows["text"]],
        }

    return dataset.with_transform(decode)


def reader_processes(threads: int, device: str) -> int:
    """How many of a job's CPU threads read audio in processes of their own; 0: the training process reads.

    A GPU leaves the CPU to reading. On a CPU reading is a few percent of a step, and a reader that competes with the
    model's threads for two cores makes both wait.
    """
    return max(threads - 1, 0) if device == "cuda" else threads // 4


def collate(items: list[dict]) -> dict[str, torch.Tensor]:
    """Pad a batch with zeros: `audio` [B, samples], `audio_lengths` [B], `tokens` [B, U], `token_lengths` [B]."""
    waves, waves_lengths = _pad([item["audio"] for item in items], np.float32)
    tokens, token_lengths = _pad([item["tokens"] for item in items], np.int64)
    return {
        "audio": waves,
        "audio_lengths": waves_lengths,
        "tokens": tokens,
        "token_lengths": token_lengths,
    }


def _pad(rows: list, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = [len(row) for row in rows]
    padded = np.zeros((len(rows), max(lengths)), dtype=dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded), torch.tensor(lengths)
