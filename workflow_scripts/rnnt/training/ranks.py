"""The processes that train one model: what they add up, and what they agree on."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from collections.abc import Callable, Iterator

import torch
import torch.distributed

from rnnt import console, launch
from rnnt.errors import UserError
from rnnt.training import models

WAIT = datetime.timedelta(hours=2)  # for a process that tries batches or writes; one that ended is noticed at once
BUCKET = 25 * 2**20  # bytes of gradients that are sent together, as DistributedDataParallel does


class Ranks:
    """One process alone: it is the first, sums are what it has, and it agrees with itself."""

    index, count = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def agreed(self, decide: Callable[[], object]):
        """What `decide` gives in the first process, a JSON value; the others wait for it."""
        return decide()

    def together(self, value) -> list:
        """The JSON values of all processes, in their order."""
        return [value]

    def add(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes. It is the same in all, bit by bit."""

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        return value


class SeveralRanks(Ranks):
    """One of several processes that were started together (launch.py, torchrun).

    The groups are not torch's default one: NeMo's encoders would then speak to all processes in each forward pass, and
    wait for ever where one has no share of a batch. On a GPU gradients go by NCCL, decisions by gloo all the same.
    """

    def __init__(self, place: launch.Place, device: str):
        self.index, self.count = place.index, place.count
        self.store, _, _ = next(torch.distributed.rendezvous(place.meeting, place.index, place.count))
        self.store.set_timeout(WAIT)
        self.said = 0
        place = self.index, self.count
        self.groups = {"cpu": torch.distributed.ProcessGroupGloo(self._own_store("gloo"), *place, WAIT)}
        if device == "cuda":
            options = torch.distributed.ProcessGroupNCCL.Options()
            options._timeout = WAIT
            self.groups["cuda"] = torch.distributed.ProcessGroupNCCL(self._own_store("nccl"), *place, options)

    def _own_store(self, name: str) -> torch.distributed.Store:
        return torch.distributed.PrefixStore(name, self.store)

    def agreed(self, decide: Callable[[], object]):
        """What `decide` gives in the first process, a JSON value; the others wait for it."""
        self.said += 1
        key = f"agreed/{self.said}"
        if self.first:
            self.store.set(key, json.dumps(decide()))
        return json.loads(self._get(key))

    def together(self, value) -> list:
        """The JSON values of all processes, in their order."""
        self.said += 1
        self.store.set(f"together/{self.said}/{self.index}", json.dumps(value))
        return [json.loads(self._get(f"together/{self.said}/{index}")) for index in range(self.count)]

    def add(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes. It is the same in all, bit by bit."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            try:
                self.groups[flat.device.type].allreduce([flat]).wait()
            except RuntimeError:  # The other one has gone, and says why where it can.
                sys.exit(launch.PEER_LOST)
            start = 0
            for tensor in bucket:
                tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
                start += tensor.numel()

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        tensor = torch.tensor([value], dtype=torch.float64)
        self.add([tensor])
        return tensor.item()

    def _get(self, key: str) -> bytes:
        try:
            return self.store.get(key)
        except RuntimeError:
            sys.exit(launch.PEER_LOST)


def _buckets(tensors: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The tensors, those of one kind together up to BUCKET bytes."""
    found: list[torch.Tensor] = []
    size = 0
    for tensor in sorted(tensors, key=lambda tensor: str(tensor.dtype)):
        if found and (tensor.dtype != found[0].dtype or size + tensor.nbytes > BUCKET):
            yield found
            found, size = [], 0
        found.append(tensor)
        size += tensor.nbytes
    if found:
        yield found


def add_gradients(ranks: Ranks, model: torch.nn.Module) -> None:
    """Sum the gradients of all processes; a parameter that has none in any keeps none, as the optimizer has it."""
    if ranks.count == 1:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.float32)
    ranks.add([used])
    gradients = []
    for parameter, wanted in zip(parameters, used.tolist(), strict=True):
        if wanted and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients += [parameter.grad] if wanted else []
    ranks.add(gradients)


def average_statistics(ranks: Ranks, statistics: models.BatchNormStatistics, share: float) -> None:
    """Make batch norm's running statistics the mean over processes, each with the share that it had of the step."""
    if ranks.count == 1:
        return
    # Counts of batches are those of the first process, which has a share of each.
    parts = [tensor * (share if tensor.is_floating_point() else int(ranks.first)) for tensor in statistics.tensors]
    ranks.add(parts)
    for tensor, part in zip(statistics.tensors, parts, strict=True):
        tensor.copy_(part)


def check_same_weights(ranks: Ranks, model: torch.nn.Module, step: int) -> None:
    """Raise UserError where the processes' models are not the same, bit by bit."""
    if ranks.count == 1:
        return
    found = hashlib.sha256()
    for value in model.state_dict().values():
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    hashes = ranks.together(found.hexdigest()[:16])
    if len(set(hashes)) > 1:
        raise UserError(
            f"step {step}: the processes have different weights ({', '.join(hashes)}): is a GPU or its memory broken? "
            "The checkpoints in runs/ are not to be trusted: delete them, and train again"
        )
    console.log.info("step %d: the weights are the same in all %d processes (%s)", step, ranks.count, hashes[0])
