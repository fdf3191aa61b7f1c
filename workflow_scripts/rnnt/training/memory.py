"""What a training step takes of the device's memory, known before the first step.

Utterances of noise, as long as the longest of the corpus, go through the model once alone and once by two. What that
takes grows with the number of utterances, so two points give it for any batch, for the networks' activations and for
the transducer step apart, whatever the architecture, the precision and the options.
"""

from __future__ import annotations

import contextlib
import math
import random
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rnnt.training import batching, models

HEADROOM = {"cpu": 0.8, "cuda": 0.9}  # share of the memory that `auto` fills: fragments and libraries take some too
CGROUP = Path("/sys/fs/cgroup/memory.max")


class Memory(NamedTuple):
    """What a training takes, in bytes; what grows with the batch as (constant, per utterance of `seconds`, `cells`).

    Encoder and prediction network take `networks` at their peak, which is in the backward pass, and have `kept` when
    the transducer step takes `lattice` on top.
    """

    weights: int
    gradients: int
    optimizer: int
    networks: tuple[float, float]
    kept: tuple[float, float]
    lattice: tuple[float, float]
    seconds: float
    cells: int
    frames_per_second: float


def measure(step, optimizer: str, seconds: float, tokens: int, precision: str) -> Memory:
    """Measure a `legs.Transducer` on its device, with utterances of `seconds` and `tokens`.

    Leaves weights, batch norm statistics and random state as they were.
    """
    parameters = [parameter for parameter in step.parameters() if parameter.requires_grad]
    networks, kept = [], []
    with _untouched(step):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)  # so that no run pays for them
        # The first run is not counted: it pays for what the libraries set up once.
        for utterances in (1, 1, 2):
            batch = noise(step, utterances, seconds, tokens)
            # A context for each run: it keeps the weights in low precision, which each has to make.
            with _account(step) as account, _autocast(step, precision):
                encoded, _, decoded, _ = step.encode(**batch)
                kept.append(account.now())
                outputs = [output for output in (encoded, decoded) if output.requires_grad]  # not of a frozen encoder
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
            networks.append(account.peak)
        frames_per_second = encoded.shape[-1] / seconds
        lattice, cells = _measure_lattice(step, encoded[:1].detach(), decoded[:1].detach(), precision)
    return Memory(
        weights=sum(tensor.nbytes for tensor in (*step.parameters(), *step.buffers())),
        gradients=sum(parameter.nbytes for parameter in parameters),
        optimizer=optimizer_bytes(step, optimizer),
        networks=_line(1, *networks[1:]),
        kept=_line(1, *kept[1:]),
        lattice=lattice,
        seconds=seconds,
        cells=cells,
        frames_per_second=frames_per_second,
    )


def _measure_lattice(
    step, encoded: torch.Tensor, decoded: torch.Tensor, precision: str
) -> tuple[tuple[float, float], int]:
    """What the transducer step takes by the number of utterances, and their cells."""
    count = 1
    if step.transducer != "fused":
        # NeMo's steps take what they take for each cell, and milliseconds of it on a CPU: a few cells do.
        encoded, decoded = encoded[:, :, :16], decoded[:, :, :9]
        count = step.fused_batch_size if step.transducer == "nemo_fused_batch" else 1
    frames, labels = encoded.shape[-1], decoded.shape[-1] - 1
    peaks = []
    for utterances in (count, 2 * count):
        outputs = [output.repeat(utterances, 1, 1).requires_grad_() for output in (encoded, decoded)]
        lengths = [torch.full((utterances,), length, device=encoded.device) for length in (frames, labels)]
        tokens = torch.zeros(utterances, labels, dtype=torch.long, device=encoded.device)
        with _account(step) as account, _autocast(step, precision):
            step.joint_loss(outputs[0], lengths[0], outputs[1], tokens, lengths[1]).backward()
        peaks.append(account.peak)
    return _line(count, *peaks), frames * (labels + 1)


def optimizer_bytes(model: torch.nn.Module, optimizer: str) -> int:
    """State of AdamW for what is trained of a model: two fp32 moments a weight.

    With bitsandbytes' 8 bits (arXiv 2110.02861) two bytes and, for each block of 256, two fp32 scales; but fp32 for
    tensors of less than 4096, and for embeddings, as the Trainer has it.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    total = 0
    for parameter in model.parameters():
        size = parameter.numel()
        small = size < 4096 or id(parameter) in embeddings
        if parameter.requires_grad:
            total += 8 * size if optimizer == "adamw_torch" or small else 2 * size + 8 * math.ceil(size / 256)
    return total


def of_batch(memory: Memory, bucket: batching.Bucket) -> tuple[float, float]:
    """Bytes of activations and of the lattice at the peak of a bucket's largest batch, all as long as its longest."""
    cells = math.ceil(bucket.seconds * memory.frames_per_second) * (bucket.tokens + 1)
    audio = bucket.utterances * bucket.seconds / memory.seconds
    networks, kept = (constant + slope * audio for constant, slope in (memory.networks, memory.kept))
    lattice = memory.lattice[0] + memory.lattice[1] * bucket.utterances * cells / memory.cells
    return max(networks - lattice, kept), lattice


def worst(memory: Memory, buckets: list[batching.Bucket]) -> batching.Bucket:
    """The bucket whose largest batch takes the most memory."""
    return max(buckets, key=lambda bucket: sum(of_batch(memory, bucket)))


def of_training(memory: Memory, bucket: batching.Bucket) -> float:
    """Bytes that the training takes beside its weights when a bucket's largest batch is at its peak."""
    return memory.gradients + memory.optimizer + sum(of_batch(memory, bucket))


def largest_budget(fits: Callable[[float], bool], most: float) -> float | None:
    """The largest budget up to `most`, of two significant digits, that fits; None when none does."""
    budgets = [round(mantissa * 10.0**power, 1) for power in range(-1, 5) for mantissa in range(10, 100)]
    budgets = budgets[: max(1, bisect_left(budgets, most + 0.01))]
    fitting = bisect_left(budgets, True, key=lambda budget: not fits(budget))
    return budgets[fitting - 1] if fitting else None


def capacity(device: str, share: float = 1.0) -> int:
    """Bytes of memory a process may fill: of the GPU, or of `share` of the machine within its control group."""
    if device == "cuda":
        return torch.cuda.get_device_properties().total_memory
    import psutil

    total = int(psutil.virtual_memory().total * share)
    if CGROUP.is_file() and (limit := CGROUP.read_text().strip()).isdigit():
        total = min(total, int(limit))
    return total


def room(device: str, weights: int) -> int:
    """Bytes that a training may take beside its weights, which are there: what is free, and what it holds now."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - weights
    import psutil

    free = psutil.virtual_memory().available
    if CGROUP.is_file() and (limit := CGROUP.read_text().strip()).isdigit():
        free = min(free, int(limit) - int(CGROUP.with_name("memory.current").read_text()))
    return free


def try_batch(step, bucket: batching.Bucket, precision: str, optimizer: int) -> int | None:
    """Forward and backward of a bucket's largest batch; its peak in bytes above what was there.

    Beside `optimizer` bytes, for the state that will be there from the second step on.
    None where that is not known: to follow NeMo's loss on a CPU, tensor by tensor, makes it ten times slower.
    Leaves weights, batch norm statistics and random state as they were.
    Raises torch.OutOfMemoryError or RuntimeError when it does not fit.
    """
    known = step.transducer == "fused" or next(step.parameters()).is_cuda
    with _untouched(step):
        batch = noise(step, bucket.utterances, bucket.seconds, bucket.tokens)
        state = torch.empty(optimizer, dtype=torch.uint8, device=batch["audio"].device)
        with _autocast(step, precision), _account(step) if known else contextlib.nullcontext() as account:
            step(**batch)["loss"].backward()
        del state
    return account.peak if known else None


def noise(step, utterances: int, seconds: float, tokens: int) -> dict[str, torch.Tensor]:
    """A batch as batching.collate makes it, of noise and random tokens, on the device of the model."""
    device = next(step.parameters()).device
    samples = int(seconds * step.model.cfg.sample_rate)
    return {
        "audio": 0.1 * torch.randn(utterances, samples, device=device),
        "audio_lengths": torch.full((utterances,), samples, device=device),
        "tokens": torch.randint(step.model.tokenizer.vocab_size, (utterances, tokens), device=device),
        "token_lengths": torch.full((utterances,), tokens, device=device),
    }


def of_call(model: torch.nn.Module, call: Callable[[], object]) -> int:
    """Bytes of the tensors that `call` makes on the model's device, at the peak."""
    with _account(model) as account:
        call()
    return account.peak


def _account(step) -> _LiveTensors | _CudaAllocator:
    """Within it, `now()` is the memory in tensors made since, in bytes; after it, `peak` is the most there was."""
    return _CudaAllocator() if next(step.parameters()).is_cuda else _LiveTensors()


class _CudaAllocator:
    """The account that PyTorch keeps of a GPU."""

    def __enter__(self):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()
        return self

    def now(self) -> int:
        return torch.cuda.memory_allocated() - self.before

    def __exit__(self, *_):
        self.peak = torch.cuda.max_memory_allocated() - self.before


class _LiveTensors(TorchDispatchMode):
    """On a CPU no allocator keeps an account: count the bytes of tensors made within it that are still alive."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known: set[int] = set()

    def now(self) -> int:
        return self.alive

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):
            self._meet(storage, 0)  # was there before
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._meet(storage, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.alive += size
            weakref.finalize(storage, self._part, storage._cdata, size).atexit = False

    def _part(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


def _storages(tree) -> list:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@contextlib.contextmanager
def _untouched(step) -> Iterator[None]:
    """Within it the model trains; after it gradients are gone, batch norm and random state as they were."""
    training = step.training
    statistics = models.BatchNormStatistics(step)
    loss = step.model.loss._loss
    omega = getattr(loss, "omega", None)
    if omega:
        loss.omega = 0.0  # of TDT's two losses the larger
    state = random.getstate()  # a streaming encoder draws its look-ahead from it
    with torch.random.fork_rng():
        step.train()
        try:
            yield
        finally:
            if omega:
                loss.omega = omega
            step.zero_grad()
            step.train(training)
            statistics.restore()
            random.setstate(state)


def _autocast(step, precision: str):
    device = next(step.parameters()).device.type
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device, dtype=dtype, enabled=dtype is not None)


def _line(count: int, once: float, twice: float) -> tuple[float, float]:
    """Constant and slope through the points (count, once) and (2 count, twice); neither is below 0."""
    slope = max(twice - once, 0.0) / count
    return max(once - slope * count, 0.0), slope
