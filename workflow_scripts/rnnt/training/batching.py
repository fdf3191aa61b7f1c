"""From manifest lines to padded batches: audio is read in the data loader's workers, never stored decoded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
import torch

from rnnt import files
from rnnt.data import audio, tokenizers
from rnnt.errors import UserError
from rnnt.training.augmentation import Draw, Speeds

ALIKE = 0.05  # durations of one bucket: it starts with the longest and ends this share below
ROUNDING = 1e-6  # of utterances
ROWS = 10_000  # of a manifest that are in memory
BLOCK = 1 << 20  # bytes of a manifest that are read together
FULL_BATCHES = 2  # or with so many full batches, whichever is more, so that a small corpus is shuffled too


def load_dataset(manifest: Path, tokenizer: Path, sample_rate: int, cache: Path):
    """A Hugging Face `Dataset` of a manifest, memory-mapped from `cache`.

    An item has `id`, `audio`, float32 [samples] at `sample_rate` Hz, and `tokens`, a list of token ids.
    Raises UserError when the manifest is none.
    """
    import datasets

    dataset = datasets.Dataset.from_file(cache_manifest(manifest, cache))
    processor = tokenizers.load(tokenizer.read_bytes())

    def decode(rows: dict[str, list]) -> dict[str, list]:
        return {
            "id": rows["id"],
            "audio": [
                audio.read(path, sample_rate, offset or 0.0, seconds, channel)
                for path, offset, seconds, channel in zip(
                    rows["audio_filepath"], rows["offset"], rows["duration"], rows["channel"], strict=True
                )
            ],
            "tokens": [processor.encode(text) for text in rows["text"]],
        }

    return dataset.with_transform(decode)


def cache_manifest(manifest: Path, cache: Path) -> str:
    """The path of the manifest as an Arrow stream, named after its content and written where it is not there yet.

    Written here as `Dataset.from_json` takes the path for a pattern, and a text like 2021-01-01 for a date. The types
    are stated: those of the first lines of a large manifest need not hold for the last.
    """
    import pyarrow
    import pyarrow.json

    names = ("id", "audio_filepath", "offset", "duration", "channel", "speaker", "stm", "text", "part", "times")
    # What was begun before there was one of the columns has none of it in its file.
    path = cache / f"{files.sha256(manifest)}-{len(names)}.arrow"
    if path.is_file():
        return str(path)
    kinds = {"channel": pyarrow.int32(), **dict.fromkeys(("offset", "duration", "times"), pyarrow.float64())}
    schema = pyarrow.schema({name: kinds.get(name, pyarrow.string()) for name in names})
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with files.whole(path, manifest.stat().st_size) as temporary, open(manifest, "rb") as file:
        longest = max(map(len, file), default=0)
        file.seek(0)
        read = pyarrow.json.ReadOptions(block_size=max(BLOCK, 2 * longest))
        try:
            with (
                pyarrow.json.open_json(file, read, parse) as batches,
                pyarrow.ipc.new_stream(str(temporary), schema) as stream,
            ):
                for batch in batches:
                    stream.write_batch(batch)
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"{manifest}: not a manifest of this pipeline ({error})") from None
    return str(path)


def sizes(dataset, tokenizer: Path) -> tuple[np.ndarray, np.ndarray]:
    """Duration in seconds, float64, and number of tokens, int32, of every utterance of a `load_dataset`.

    Durations are not rounded to 4 bytes: that would make other batches of them.
    """
    durations = [table["duration"].to_numpy() for table in _tables(dataset, "duration")]
    counts = (len(ids) for ids in _spelt(dataset, tokenizer))
    return np.concatenate(durations), np.fromiter(counts, np.int32, len(dataset))


def _tables(dataset, *columns: str) -> Iterator:
    """Columns of a `load_dataset` as Arrow tables, ROWS at a time."""
    return dataset.select_columns(list(columns)).with_format("arrow").iter(ROWS)


def _spelt(dataset, tokenizer: Path) -> Iterator[list[int]]:
    """The token ids of every utterance of a `load_dataset`."""
    processor = tokenizers.load(tokenizer.read_bytes())
    for table in _tables(dataset, "text"):
        yield from map(processor.encode, table["text"].to_pylist())


def ctc_frames(dataset, tokenizer: Path) -> np.ndarray:
    """The encoder frames that CTC needs for every utterance: its tokens, and a blank between two that are the same.

    Graves et al. 2006, Connectionist Temporal Classification, 3.1.
    """
    needed = (len(ids) + sum(a == b for a, b in itertools.pairwise(ids)) for ids in _spelt(dataset, tokenizer))
    return np.fromiter(needed, np.int32, len(dataset))


def parts(dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """Of every utterance of a `load_dataset` its part of the split, and how often an epoch has it.

    None where no part has a weight (`manifests.weigh`): then an epoch has each utterance once.
    """
    times = np.concatenate([table["times"].to_numpy() for table in _tables(dataset, "times")])
    if np.isnan(times).all():
        return None
    names: dict[str, str] = {}  # each once in memory
    parts = [names.setdefault(name, name) for table in _tables(dataset, "part") for name in table["part"].to_pylist()]
    return np.array(parts, dtype=object), times


class Bucket(NamedTuple):
    """Utterances of like duration, from which batches are drawn."""

    indices: np.ndarray  # in the data set, int32
    batches: int  # an epoch
    utterances: int  # in a batch, at most
    seconds: float  # of the longest utterance
    tokens: int  # of the longest transcript
    parts: tuple[tuple[np.ndarray, float, float], ...] = ()  # indices, how many an epoch has, and where it begins


def plan(
    durations: np.ndarray,
    tokens: np.ndarray,
    options: dict,
    budget: float | None,
    frames_per_second: float,
    times: np.ndarray | None = None,
) -> list[Bucket]:
    """Divide a training split into buckets; every batch drawn from one keeps within the budget.

    `options` is the config's `training` section. With `batching: duration`, a batch padded to its longest utterance
    has at most `budget` seconds of audio and, where set, `batch_cells` lattice cells (an utterance that is over on its
    own is a batch of one). With `fixed` there is one bucket of everything and `batch_size` utterances a batch. The
    number of batches is the same in every epoch, and each utterance is in one of them, or in as many as `times` says on
    an average, float [utterances].
    """
    order = np.argsort(-durations, kind="stable").astype(np.int32)
    share = _Shares(times)
    if options["batching"] == "fixed":
        found = [_bucket(order, options["batch_size"], durations, tokens, share)]
    else:
        found, start = [], 0
        before = np.cumsum(np.ones(len(order)) if times is None else times[order])  # utterances drawn, and this one
        descending = -durations[order]
        while start < len(order):
            longest = durations[order[start]]
            utterances = max(1, int(budget / longest))
            alike = np.searchsorted(descending, -longest * (1 - ALIKE), side="right")
            enough = FULL_BATCHES * utterances + (before[start - 1] if start else 0)
            end = max(alike, min(np.searchsorted(before, enough - ROUNDING) + 1, len(order)))
            if options["batch_cells"]:
                cells = math.ceil(longest * frames_per_second) * (int(tokens[order[start:end]].max()) + 1)
                utterances = max(1, min(utterances, int(options["batch_cells"] / cells)))
            found.append(_bucket(order[start:end], utterances, durations, tokens, share))
            start = end
    return found


class _Shares:
    """How many utterances an epoch draws of each part of a bucket; what rounding leaves goes on in the next bucket."""

    def __init__(self, times: np.ndarray | None):
        self.times = times
        self.left = {} if times is None else dict.fromkeys(np.unique(times), 0.5)

    def of(self, indices: np.ndarray) -> tuple[tuple[np.ndarray, float, float], ...]:
        found = []
        for value in self.left:
            same = indices[self.times[indices] == value]
            if len(same):
                found.append((same, value * len(same), self.left[value]))
                self.left[value] = (self.left[value] + value * len(same)) % 1
        return tuple(found)


def _bucket(indices: np.ndarray, utterances: int, durations: np.ndarray, tokens: np.ndarray, share: _Shares) -> Bucket:
    made = Bucket(indices, 0, 0, float(durations[indices].max()), int(tokens[indices].max()), share.of(indices))
    batches = math.ceil(_most(made) / utterances)
    return made._replace(batches=batches, utterances=math.ceil(_most(made) / batches))


def _most(bucket: Bucket) -> int:
    """Utterances that an epoch has of a bucket at most: of parts that are not drawn whole, one more or less."""
    return sum(math.ceil(count - ROUNDING) for _, count, _ in bucket.parts) or len(bucket.indices)


class Batch(NamedTuple):
    """Utterances that are padded to one length, by their place in the data set."""

    indices: np.ndarray
    speeds: np.ndarray
    turns: np.ndarray  # how often all utterances were taken before


class BatchSampler(torch.utils.data.Sampler):
    """Batches of utterance indices, drawn anew in every `epoch` from seed and epoch alone.

    So an epoch that was cut off is resumed by skipping batches. With `speeds`, whose slots the buckets are of, batches
    are of `augmentation.Draw`. Of several processes that of number `index` iterates over its share of each batch, which
    may be nothing; the first one always has one.
    """

    def __init__(
        self, buckets: list[Bucket], seed: int, speeds: Speeds | None = None, index: int = 0, processes: int = 1
    ):
        self.buckets, self.seed, self.speeds, self.epoch = buckets, seed, speeds, 0
        self.share = slice(index, None, processes)

    def __len__(self) -> int:
        return sum(bucket.batches for bucket in self.buckets)

    def __iter__(self) -> Iterator[list[int] | list[Draw]]:
        for batch in self.batches():
            indices, speeds, turns = (values[self.share] for values in batch)
            if self.speeds is None:
                yield indices.tolist()
            else:
                yield list(map(Draw, indices.tolist(), speeds.tolist(), turns.tolist()))

    def batches(self) -> Iterator[Batch]:
        """The batches of the epoch, whole, with the speeds at which their utterances are heard."""
        random = np.random.default_rng([self.seed, self.epoch])
        found = []
        for number, bucket in enumerate(self.buckets):
            slots, turns = self._slots(number, bucket)
            order = random.permutation(len(slots))
            found.append((slots[order], turns[order], _sizes(len(slots), bucket.batches)))
        slots, turns, sizes = (np.concatenate(values) for values in zip(*found, strict=True))
        del found
        indices, speeds = slots, np.broadcast_to(1.0, len(slots))
        if self.speeds is not None:
            indices, speeds = self.speeds.deal(slots, turns, self.seed)
        ends = np.cumsum(sizes)
        for batch in random.permutation(len(sizes)):
            place = slice(ends[batch] - sizes[batch], ends[batch])
            yield Batch(indices[place], speeds[place], turns[place])

    def _slots(self, number: int, bucket: Bucket) -> tuple[np.ndarray, np.ndarray]:
        """What an epoch has of a bucket, and how often all of its part were taken before.

        Of a part that is not drawn whole it goes on where the epoch before ended.
        """
        if not bucket.parts:
            return bucket.indices, np.full(len(bucket.indices), self.epoch, np.int32)
        ends = [
            [int(count * epoch + begin + ROUNDING) for epoch in (self.epoch, self.epoch + 1)]
            for _, count, begin in bucket.parts
        ]
        # Every batch has an utterance, though a small share rounds to none.
        ends[-1][1] += max(0, bucket.batches - sum(end - start for start, end in ends))
        found, turns = [], []
        for part, ((indices, *_), (start, end)) in enumerate(zip(bucket.parts, ends, strict=True)):
            place = np.arange(start, end)
            turns.append(place // len(indices))
            for again in np.unique(turns[-1]):
                mixed = np.random.default_rng([self.seed, number, part, again]).permutation(indices)
                found.append(mixed[place[turns[-1] == again] % len(indices)])
        return np.concatenate(found), np.concatenate(turns).astype(np.int32)


def _sizes(count: int, batches: int) -> np.ndarray:
    """How many each of so many batches has, as np.array_split parts them."""
    return count // batches + (np.arange(batches) < count % batches)


def padding(sampler: BatchSampler, durations: np.ndarray) -> float:
    """The share of an epoch's audio that is padding, 0 to 1."""
    padded = held = 0.0
    for indices, speeds, _ in sampler.batches():
        seconds = durations[indices] / speeds
        held += seconds.sum()
        padded += len(seconds) * seconds.max()
    return 1 - held / padded


def shares(sampler: BatchSampler, durations: np.ndarray, parts: np.ndarray) -> dict[str, list[float]]:
    """Of each part its share of an epoch's audio, and the least and the most that a batch has of it, 0 to 1."""
    number, names = pandas.factorize(parts, sort=True)
    seconds = np.array(
        [np.bincount(number[b.indices], durations[b.indices] / b.speeds, len(names)) for b in sampler.batches()]
    )
    of_batch = seconds / seconds.sum(axis=1, keepdims=True)
    epoch = seconds.sum(axis=0) / seconds.sum()
    values = np.stack([epoch, of_batch.min(axis=0), of_batch.max(axis=0)], axis=1).round(4)
    return dict(zip(names.tolist(), values.tolist(), strict=True))


def reader_processes(threads: int, device: str) -> int:
    """How many of a job's CPU threads read audio in processes of their own; 0: the training process reads.

    A GPU leaves the CPU to reading. On a CPU reading is a few percent of a step, and a reader that competes with the
    model's threads for two cores makes both wait.
    """
    return max(threads - 1, 0) if device == "cuda" else threads // 4


def collate(items: list[dict]) -> dict:
    """Pad a batch with zeros: `audio` [B, samples], `tokens` [B, U], their lengths [B], and the utterances' `ids`.

    No items, no more than no `ids`.
    """
    if not items:
        return {"ids": []}
    waves, waves_lengths = _pad([item["audio"] for item in items], torch.float32)
    tokens, token_lengths = _pad([item["tokens"] for item in items], torch.int64)
    return {
        "audio": waves,
        "audio_lengths": waves_lengths,
        "tokens": tokens,
        "token_lengths": token_lengths,
        "ids": [item["id"] for item in items],
    }


def _pad(rows: list, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    found = [torch.as_tensor(row, dtype=dtype) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True), torch.tensor([len(row) for row in found])
