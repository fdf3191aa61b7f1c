"""Before the first step: which batches, how much memory, and whether the worst batch fits.

So that what does not fit shows in the first minute, with the key to change, and not after ten hours.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rnnt import console, disk, files
from rnnt.errors import UserError
from rnnt.training import batching, memory, models


class Flight(NamedTuple):
    """A model on its device, the config's `training` section, the sizes of its utterances, and what they take.

    Where their speed is changed, the sizes are those of the slots (augmentation.Speeds). What has to fit is the share
    of a batch that one of `processes` has.
    """

    step: torch.nn.Module  # a legs.Transducer
    options: dict
    durations: np.ndarray
    tokens: np.ndarray
    processes: int
    taken: memory.Memory
    times: np.ndarray | None = None  # how often an epoch has each utterance, where not once

    @property
    def device(self) -> str:
        """Where the model is: `cpu` or `cuda`."""
        return next(self.step.parameters()).device.type

    @property
    def longest(self) -> float:
        """Seconds of the longest utterance, at its own speed."""
        return float(self.durations.max()) * min(self.options.get("augmentation", {}).get("speed", (1,)))

    def buckets(self, budget: float | None, batch_size: int | None = None) -> list[batching.Bucket]:
        """The buckets of a budget in seconds; of `batch_size` instead of the config's where batches are fixed."""
        options = {**self.options, "batch_size": batch_size or self.options["batch_size"]}
        frames = self.taken.frames_per_second
        return batching.plan(self.durations, self.tokens, options, budget, frames, self.times)

    def worst(self, budget: float | None) -> batching.Bucket:
        """The bucket whose largest batch takes the most memory, as one process has it."""
        return self._worst(self.buckets(budget))

    def try_batch(self, bucket: batching.Bucket) -> int | None:
        """Forward and backward of a bucket's largest batch: its peak in bytes (memory.try_batch)."""
        return memory.try_batch(self.step, bucket, self.options["precision"], self.taken.optimizer)

    def fits(self, buckets: list[batching.Bucket], room: float) -> bool:
        """Whether a training with these buckets takes at most `room` bytes beside its weights."""
        return memory.of_training(self.taken, self._worst(buckets)) <= room

    def _worst(self, buckets: list[batching.Bucket]) -> batching.Bucket:
        shares = [bucket._replace(utterances=-(-bucket.utterances // self.processes)) for bucket in buckets]
        return memory.worst(self.taken, shares)


def measure(
    step, options: dict, durations: np.ndarray, tokens: np.ndarray, processes: int = 1, times: np.ndarray | None = None
) -> Flight:
    """Measure what the longest utterances take. Raises UserError when not even two of them fit."""
    longest, most = float(durations.max()), int(tokens.max())
    try:
        taken = memory.measure(step, options["optimizer"], longest, most, options["precision"])
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(f"out of memory with two utterances of {longest:.1f} s: lower filter.max_duration") from None
    if options.get("averaging"):  # whose mean of the weights is there as the optimizer's state is
        taken = taken._replace(optimizer=taken.optimizer + taken.weights)
    return Flight(step, options, durations, tokens, processes, taken, times)


def settle_budget(flight: Flight, run: Path, previous: Path | None) -> float | None:
    """Seconds of audio in a batch; None where batches are fixed.

    What `auto` finds is kept for the whole training, wherever that goes on. It is what one process would find alone:
    the number of processes changes no batch.
    Raises UserError when no batch fits.
    """
    budget, note = flight.options["batch_budget"], run / "batch_budget.json"
    if flight.options["batching"] == "fixed":
        return None
    if budget != "auto":
        return budget
    if previous:
        return files.read_json(previous / "leg.json")["batch_budget"]
    if not note.is_file():
        flight = flight._replace(processes=1)
        # Trainings on a CPU run side by side: each takes its share of the memory.
        share = min(1.0, torch.get_num_threads() / os.cpu_count())
        room = memory.capacity(flight.device, share) * memory.HEADROOM[flight.device] - flight.taken.weights
        epoch = flight.durations.sum() if flight.times is None else (flight.durations * flight.times).sum()
        most = epoch / 10  # an epoch should have ten steps
        budget = None
        while budget is None:
            budget = memory.largest_budget(lambda seconds: flight.fits(flight.buckets(seconds), room), most)
            if budget is None:
                raise UserError(advice(flight, float(flight.durations.max())))
            try:
                flight.try_batch(flight.worst(budget))
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                most, budget = budget * 0.8, None
        files.write_json(note, {"batch_budget": budget})
    return files.read_json(note)["batch_budget"]


def report(
    flight: Flight,
    budget: float | None,
    sampler: batching.BatchSampler,
    padding: float,
    shares: dict[str, list[float]] | None = None,
) -> None:
    """Log the batches, what they hold of each part where parts have weights, and the memory that training will take."""
    options, taken = flight.options, flight.taken
    if options["batching"] == "fixed":
        kind = f"{options['batch_size']} utterances"
    else:
        fewest, most = (f(bucket.utterances for bucket in sampler.buckets) for f in (min, max))
        kind = f"{budget:g} s of audio ({fewest} to {most} utterances)"
    console.log.info(
        "%d batches an epoch of at most %s%s; %.1f %% of their audio is padding",
        len(sampler),
        kind,
        f", shared out to {flight.processes} processes" if flight.processes > 1 else "",
        100 * padding,
    )
    for part, (epoch, least, most) in (shares or {}).items():
        console.log.info(
            "%.1f %% of the audio is %s, of a batch %.0f to %.0f %%", 100 * epoch, part, 100 * least, 100 * most
        )
    if options["batching"] == "duration" and flight.durations.max() > budget:
        console.log.warning(
            "%d utterances are longer than training.batch_budget, %g s: each is a batch of its own",
            (flight.durations > budget).sum(),
            budget,
        )
    bucket = flight.worst(budget)
    activations, lattice = memory.of_batch(taken, bucket)
    console.log.info(
        "%.2fM parameters, %.2fM trained; predicted peak memory%s %s: weights %s, gradients %s, "
        "optimizer state %s (%s), activations %s and lattice %s (%s) of the worst batch",
        models.count_parameters(flight.step) / 1e6,
        taken.gradients / 4e6,
        " of each process" if flight.processes > 1 else "",
        _size(taken.weights + memory.of_training(taken, bucket)),
        _size(taken.weights),
        _size(taken.gradients),
        _size(taken.optimizer),
        options["optimizer"],
        _size(activations),
        _size(lattice),
        options["transducer"],
    )


def report_ctc(flight: Flight, durations: np.ndarray, needed: np.ndarray) -> None:
    """Log how many utterances of these seconds have fewer frames than a CTC loss needs (batching.ctc_frames)."""
    short = int((np.ceil(durations * flight.taken.frames_per_second) < needed).sum())
    if short:
        console.log.warning(
            "about %d of %d utterances have fewer encoder frames than tokens: the CTC head learns nothing of them; "
            "take a larger tokenizer.vocab_size, or a model of less stride",
            short,
            len(needed),
        )


def try_worst_batch(flight: Flight, budget: float | None) -> None:
    """Forward and backward of the worst batch. Raises UserError when it does not fit."""
    bucket = flight.worst(budget)
    needed, free = memory.of_training(flight.taken, bucket), memory.room(flight.device, flight.taken.weights)
    if flight.device == "cpu":
        needed *= flight.processes  # in one memory
    # On a CPU the system would kill the process instead of telling it.
    if flight.device == "cpu" and needed > free:
        raise UserError(f"{_size(needed)} of memory are needed, {_size(free)} are free: {advice(flight, budget)}")
    started = time.monotonic()
    with advice_when_out_of_memory(flight, budget):
        peak = flight.try_batch(bucket)
    predicted = _size(sum(memory.of_batch(flight.taken, bucket)) + flight.taken.gradients)
    console.log.info(
        "tried the worst batch, %d utterances of %.1f s with %d tokens: %.1f s%s",
        bucket.utterances,
        bucket.seconds,
        bucket.tokens,
        time.monotonic() - started,
        f"; activations, lattice and gradients took {_size(peak)}, predicted were {predicted}" if peak else "",
    )


def check_disk(flight: Flight, run: Path, saves: int, limit: int) -> None:
    """Raise DiskFull where what is to be written to `run` does not fit: rolling checkpoints, then `model.nemo`.

    A leg saves `saves` times more; of its checkpoints `limit` are kept, and one more while a new one is written.
    """
    weights, there = flight.taken.weights, len(list(run.glob("checkpoint-*")))
    new = max(0, min(there + saves, limit + 1) - there)
    needed = new * (weights + flight.taken.optimizer) + (weights if there + new <= limit else 0)
    temporary = Path(tempfile.gettempdir())  # where NeMo writes what it packs into the file
    if os.stat(temporary).st_dev == os.stat(run).st_dev:
        needed += weights
    else:
        disk.need(temporary, weights, "for what is packed into model.nemo; TMPDIR sets another folder")
    disk.need(run, needed, f"for {new} rolling checkpoints and model.nemo")


def advice(flight: Flight, budget: float | None) -> str:
    """Which keys to change, and to what, when the batches of `budget` do not fit the memory."""
    options = flight.options
    room = memory.room(flight.device, flight.taken.weights) * memory.HEADROOM[flight.device]
    changes = []
    # At most 0.8 of what it was: that did not fit, whatever was predicted.
    if options["batching"] == "fixed":
        now = options["batch_size"]
        smaller = memory.largest_budget(lambda size: flight.fits(flight.buckets(None, int(size)), room), now * 0.8)
        if smaller and 1 <= int(smaller) < now:
            changes.append(f"training.batch_size from {now} to {int(smaller)}")
    elif options["batch_budget"] != "auto":
        smaller = memory.largest_budget(lambda seconds: flight.fits(flight.buckets(seconds), room), budget * 0.8)
        if smaller and sum(memory.of_batch(flight.taken, flight.worst(smaller))) < sum(
            memory.of_batch(flight.taken, flight.worst(budget))
        ):
            changes.append(f"training.batch_budget from {budget:g} to {smaller:g}")
    others = {"transducer": "fused", "gradient_checkpointing": True, "optimizer": "adamw_8bit", "precision": "bf16"}
    changes += [f"training.{key} to {str(value).lower()}" for key, value in others.items() if options[key] != value]
    changes.append(f"filter.max_duration to less than {flight.longest:.1f}")
    return f"out of memory: change {', or '.join(changes)}"


@contextlib.contextmanager
def advice_when_out_of_memory(flight: Flight, budget: float | None) -> Iterator[None]:
    """Turn running out of memory into a UserError that says what to change."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        message = advice(flight, budget)
    else:
        return
    raise UserError(message)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"
