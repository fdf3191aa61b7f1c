"""Keep a step whose loss or gradient is not finite out of the model."""

from __future__ import annotations

import torch
import transformers

from rnnt import console
from rnnt.errors import UserError
from rnnt.training import models
from rnnt.training.ranks import Ranks, average_statistics

NAMES = 20  # utterances in one message


class Guard(transformers.TrainerCallback):
    """A step whose loss or gradient is not finite changes nothing; too many of them in a row end the training.

    Weights, optimizer and batch norm's statistics keep no trace of it, in none of several processes. Skipped steps are
    rows of the Trainer's log history, and so survive a restart.
    """

    def __init__(self, model, max_skipped_steps: int, ranks: Ranks | None = None):
        self.statistics = models.BatchNormStatistics(model)
        self.limit = max_skipped_steps
        self.ranks = ranks or Ranks()
        self.broken = False  # a loss of the step, in whichever process
        self.ids: list[str] = []  # of the step's utterances
        self.bad: list[str] = []  # those among them whose loss was not finite
        self.last: torch.Tensor | None = None
        self.scaler = None
        self.scale_before: float | None = None

    def before(self, ids: list[str]) -> None:
        """Called before each batch of a step."""
        if not self.ids:
            self.statistics.update()
        self.ids = self.ids + ids

    def after(
        self, loss: torch.Tensor, ids: list[str], audio: torch.Tensor | None, own: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Called with the loss of each batch, and that of this process's `own` share; returns what is to be logged.

        `ids` and `audio` [B, samples] are those of the share, None where there is none.
        """
        if torch.isfinite(loss):
            self.last = loss
            return loss
        self.broken = True
        if audio is not None and not torch.isfinite(loss if own is None else own):
            broken = (~torch.isfinite(audio).all(dim=1)).tolist()
            self.bad = self.bad + ([id for id, is_broken in zip(ids, broken, strict=True) if is_broken] or ids)
        # The Trainer's running sum would never recover from a NaN.
        return torch.zeros_like(loss) if self.last is None else self.last

    def share_statistics(self, total: float) -> None:
        """Called behind the last batch of a step, which had `total` utterances: batch norm's statistics become one."""
        average_statistics(self.ranks, self.statistics, len(self.ids) / total)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Called by the Trainer between the backward pass and the optimizer."""
        ids, bad, broken = self.ids, self.bad, self.broken
        self.ids, self.bad, self.broken = [], [], False
        if self.scaler is not None:
            scale = self.scaler.get_scale()
            if scale < 1:
                raise UserError(
                    f"step {state.global_step + 1}: fp16's gradient scale has collapsed to {scale:g}: "
                    "set training.precision to bf16 or fp32, or lower training.learning_rate"
                )
            if not broken:
                return  # The scaler skips what overflows at its scale, and tries a lower one.
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if not broken and torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            return
        model.zero_grad()  # The optimizer passes over parameters that have no gradient.
        self.statistics.restore()
        what, names = ("loss", bad) if broken else ("gradient", ids)
        names = [name for part in self.ranks.together(names) for name in part]
        state.log_history.append({"step": state.global_step + 1, "skipped": names[:NAMES]})
        named = ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
        console.log.warning("step %d skipped, %s not finite; utterances: %s", state.global_step + 1, what, named)
        if self.scaler is not None:
            self.scale_before = scale
        skipped = {row["step"] for row in state.log_history if "skipped" in row}
        if all(step in skipped for step in range(state.global_step + 2 - self.limit, state.global_step + 2)):
            raise UserError(
                f"{self.limit} steps in a row had a loss or gradient that is not finite (training.max_skipped_steps): "
                f"listen to {', '.join(names[:3])}, lower training.learning_rate, or try training.precision fp32"
            )

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer after the step: a bad recording is no reason for a lower fp16 scale."""
        if self.scale_before is not None:
            self.scaler.update(self.scale_before)
            self.scale_before = None
