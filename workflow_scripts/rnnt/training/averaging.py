"""The mean of the weights over the end of a leg: a candidate beside the last ones, which the training goes on with."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
import transformers

from rnnt.training import checkpoints


class Average(transformers.TrainerCallback):
    """The running mean of a `legs.Transducer`'s weights after each step behind step `begin`.

    Batch norm's statistics are averaged with them (the floating buffers). Polyak and Juditsky 1992, Acceleration of
    stochastic approximation by averaging; so do the recipes of icefall (averaged models).
    """

    def __init__(self, step: torch.nn.Module, begin: int):
        self.begin = begin
        self.weights = {name: value for name, value in step.state_dict().items() if value.is_floating_point()}
        self.means: dict[str, torch.Tensor] = {}

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer after each optimizer step."""
        count = state.global_step - self.begin
        if count == 1:
            self.means = {name: value.clone() for name, value in self.weights.items()}
        elif count > 1:
            torch._foreach_lerp_(list(self.means.values()), list(self.weights.values()), 1 / count)

    def save(self, checkpoint: Path) -> None:
        """Write the mean into a rolling checkpoint, once there is one."""
        if self.means:
            safetensors.torch.save_file(self.means, checkpoint / checkpoints.AVERAGE)

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Raises UserError where its mean is missing or cut off."""
        if checkpoints.steps_done(checkpoint) > self.begin:
            saved = checkpoints.read_weights(checkpoint / checkpoints.AVERAGE)
            self.means = {name: saved[name].to(value.device) for name, value in self.weights.items()}


def begin(start: int, end: int, share: float) -> int:
    """The step behind which the mean over the last `share` of a leg from `start` to `end` begins: one step at least."""
    return end - max(1, round(share * (end - start)))


def weights(run: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The mean in the newest rolling checkpoint of a finished leg, as a whole state of the NeMo `model`."""
    saved = checkpoints.read_weights(checkpoints.newest(run) / checkpoints.AVERAGE)
    return {name: saved.get(f"model.{name}", value) for name, value in model.state_dict().items()}
