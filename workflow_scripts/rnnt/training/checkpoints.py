"""What a training goes on from: the Trainer's checkpoints, whole or not, and their state by the names of parameters.

torch and bitsandbytes keep an optimizer's state by position. NeMo makes modules anew when a model gets another
vocabulary, which moves them to the end of `model.parameters()`: by position, equal shapes would be mixed up in silence.
"""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from rnnt import console, files
from rnnt.errors import UserError

STATE = "trainer_state.json"
WEIGHTS = "model.safetensors"
AVERAGE = "averaged.safetensors"
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
SCALER = "scaler.pt"
HASHES = "hashes.json"
ANEW = "delete the folders of that leg and the later ones in checkpoints/ and runs/, and they are trained anew"


def newest(run: Path) -> Path | None:
    """The newest rolling checkpoint in `run` that is whole; one that is not is removed, with a line that says so."""
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in checkpoints:
        try:
            check_whole(path)
        except UserError:
            console.log.warning("%s was cut off while it was written, or damaged since: removed", path)
            shutil.rmtree(path)
        else:
            return path
    return None


def check_whole(checkpoint: Path) -> None:
    """Raise UserError naming a file of the checkpoint that is missing, was cut off or is not what was written.

    The hashes are what is written last. A checkpoint of an earlier version has none: what can be seen without is.
    """
    if (checkpoint / HASHES).is_file():
        for name, wanted in files.read_json(checkpoint / HASHES).items():
            path = checkpoint / name
            if not path.is_file() or files.sha256_once(path) != wanted:
                raise UserError(f"{path}: missing, cut off or damaged: it is not what was written: {ANEW}")
        return
    steps_done(checkpoint)
    for path in (checkpoint / WEIGHTS, *checkpoint.glob(AVERAGE)):
        try:
            with safetensors.safe_open(path, "pt"):
                pass
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(f"{path}: missing or cut off ({error}): {ANEW}") from None
    for path in (checkpoint / OPTIMIZER, checkpoint / SCHEDULER, *checkpoint.glob("*.pth")):
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: missing or cut off: {ANEW}")


def seal(checkpoint: Path) -> None:
    """Note the hashes of a checkpoint's files, once they are written. About a second for each GB.

    Not of the random states of several processes, which each writes for itself.
    """
    names = sorted(path.name for path in checkpoint.iterdir() if not path.name.startswith(("rng_state_", HASHES)))
    files.write_json(checkpoint / HASHES, {name: files.sha256_once(checkpoint / name) for name in names})


def steps_done(checkpoint: Path) -> int:
    """The optimizer step of a checkpoint. Raises UserError when it is not whole."""
    return files.read_json(checkpoint / STATE)["global_step"]


def skipped_steps(checkpoint: Path) -> int:
    """How many steps were skipped since the training began (guard.py)."""
    return sum("skipped" in row for row in files.read_json(checkpoint / STATE)["log_history"])


def read(path: Path, device: str | torch.device = "cpu") -> dict:
    """A file that torch wrote. Raises UserError when it is missing or not whole."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: can't be read ({reason}): {ANEW}") from None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises UserError when it is not whole."""
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: missing or cut off ({error}): {ANEW}") from None


def load_weights(module: torch.nn.Module, path: Path, prefix: str = "") -> None:
    """Put the weights of a safetensors file, whose names begin with `prefix`, into `module`.

    Raises UserError when the file is not whole, or has not the very names and shapes of the module.
    """
    saved = {name.removeprefix(prefix): value for name, value in read_weights(path).items()}
    _compare(_shapes(saved.items()), _shapes(module.state_dict().items()), path)
    module.load_state_dict(saved)


def optimizer_state(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> dict:
    """The state of an optimizer of `model` by parameter: `shapes`, `state`, and `groups` with the names in `params`."""
    plain = optimizer.state_dict()
    names = _names(optimizer, model)
    order = dict(zip(chain(*(group["params"] for group in plain["param_groups"])), chain(*names), strict=True))
    return {
        "shapes": _wanted(model, names),
        "state": {order[position]: state for position, state in plain["state"].items()},
        "groups": [{**group, "params": members} for group, members in zip(plain["param_groups"], names, strict=True)],
    }


def load_optimizer(optimizer: torch.optim.Optimizer, model: torch.nn.Module, saved: dict, path: Path) -> None:
    """Put what `optimizer_state` gave into an optimizer of `model`, whatever order its parameters are in.

    A parameter may be in another group than it was: an earlier version let norms decay. `saved` may also be of a
    version of this project that kept it by position: then the order has to be the same.
    Raises UserError, with the `path` it is from, where names, shapes or the number of groups are not the optimizer's.
    """
    plain = optimizer.state_dict()
    names = _names(optimizer, model)
    wanted = _wanted(model, names)
    if "shapes" not in saved:
        saved = _by_name(saved, names, wanted, path)
    _compare({name: list(shape) for name, shape in saved["shapes"].items()}, wanted, path)
    if (groups := len(saved["groups"])) != len(names):
        raise UserError(f"{path}: has {groups} groups of parameters, the optimizer has {len(names)}: {ANEW}")
    positions = dict(zip(chain(*names), chain(*(group["params"] for group in plain["param_groups"])), strict=True))
    optimizer.load_state_dict(
        {
            "state": {positions[name]: state for name, state in saved["state"].items()},
            "param_groups": [
                {**theirs, "params": group["params"]}
                for theirs, group in zip(saved["groups"], plain["param_groups"], strict=True)
            ],
        }
    )


def load_scheduler(scheduler: torch.optim.lr_scheduler.LRScheduler, path: Path) -> None:
    """Put the state in the file `path` into a scheduler. Raises UserError when it is of other groups of parameters."""
    saved = read(path)
    groups, wanted = len(saved.get("base_lrs", ())), len(scheduler.base_lrs)
    if groups != wanted:
        raise UserError(f"{path}: has {groups} groups of parameters, the optimizer has {wanted}: {ANEW}")
    scheduler.load_state_dict(saved)


def _names(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> list[list[str]]:
    """The names of each group's parameters, in the optimizer's order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def _wanted(model: torch.nn.Module, names: list[list[str]]) -> dict[str, list[int]]:
    parameters = dict(model.named_parameters())
    return _shapes((name, parameters[name]) for name in chain(*names))


def _shapes(named: Iterator[tuple[str, torch.Tensor]]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in named}


def _compare(saved: dict[str, list[int]], wanted: dict[str, list[int]], path: Path) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        ours, theirs = wanted.get(name), saved.get(name)
        if ours != theirs:
            what = "is missing" if theirs is None else "is not in this model" if ours is None else ""
            what = what or f"has the shape {theirs}, in this model it has {ours}"
            raise UserError(f"{path}: is of another model: {name} {what}: {ANEW}")


def _by_name(saved: dict, names: list[list[str]], shapes: dict[str, list[int]], path: Path) -> dict:
    """State that was kept by position, by the names that now stand there."""
    order = list(chain(*names))
    if [len(group["params"]) for group in saved["param_groups"]] != [len(group) for group in names]:
        raise UserError(f"{path}: is of another model: it has other groups of parameters: {ANEW}")
    state = {order[position]: value for position, value in saved["state"].items()}
    found = {name: _shape_of(value) or shapes[name] for name, value in state.items()}
    return {
        "shapes": {**shapes, **found},
        "state": state,
        "groups": [{**group, "params": members} for group, members in zip(saved["param_groups"], names, strict=True)],
    }


def _shape_of(state: dict) -> list[int] | None:
    """The shape of a parameter by its first moment: of torch's AdamW, or of bitsandbytes', which may nest it."""
    flat = {**state, **state.get("__bnb_optimizer_quant_state__", {})}
    moment = flat.get("exp_avg", flat.get("state1"))
    return None if moment is None else list(moment.shape)
