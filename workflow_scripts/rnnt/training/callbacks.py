"""What happens while the Trainer trains a leg: its end, a request to stop, the terminal, the trackers."""

from __future__ import annotations

import os
import platform
import signal
import time
from pathlib import Path

import numpy as np
import transformers
from transformers import integrations

from rnnt import console, files, tracking
from rnnt.training import batching
from rnnt.training.ranks import Ranks


class LegEnd(transformers.TrainerCallback):
    """Save and stop where the leg ends, or where a signal asked for it, whichever of several processes it reached."""

    def __init__(self, end: int, stop: StopRequest, ranks: Ranks):
        self.end, self.stop, self.ranks = end, stop, ranks

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer after each optimizer step."""
        asked = self.ranks.total(self.stop.asked)
        if state.global_step >= self.end or asked:
            control.should_save = control.should_log = control.should_training_stop = True


class OwnRandomness(transformers.TrainerCallback):
    """Draw other dropout, dither and masks than the first process, from the seed, the step and the process alone."""

    def __init__(self, seed: int, index: int):
        self.seed, self.index = seed, index

    def on_step_begin(self, args, state, control, **kwargs):
        """Called by the Trainer before the first batch of each step."""
        drawn = np.random.SeedSequence([self.seed, self.index, state.global_step]).generate_state(1)
        transformers.set_seed(int(drawn[0]))


class Epochs(transformers.TrainerCallback):
    """Tell the sampler which epoch begins: accelerate's wrappers hide it from the Trainer."""

    def __init__(self, sampler: batching.BatchSampler, steps_per_epoch: int):
        self.sampler, self.steps_per_epoch = sampler, steps_per_epoch

    def on_epoch_begin(self, args, state, control, **kwargs):
        """Called by the Trainer before it draws an epoch's first batch, or the next one after a restart."""
        self.sampler.epoch = state.global_step // self.steps_per_epoch


class StopRequest:
    """Within it, SIGTERM and SIGINT ask for a checkpoint at the next step instead of ending the process."""

    def __init__(self):
        self.asked = False

    def __enter__(self):
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        self.asked = True


class Progress(transformers.TrainerCallback):
    """Leg, step, loss, learning rate and ETA on the terminal, and in `runs/status.json` for show_status.py."""

    def __init__(self, leg: int, legs: int, total: int, runs: Path):
        self.label, self.total, self.path = f"leg {leg}/{legs}", total, runs / "status.json"
        job = os.environ.get("SLURM_JOB_ID")
        self.known = {"leg": leg, "legs": legs, "total": total, "host": platform.node(), "pid": os.getpid(), "job": job}
        self.loss = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Called by the Trainer once the step to continue from is known."""
        self.bar = console.bar(self.total, self.label, "step", initial=state.global_step)
        self.first, self.started = state.global_step, time.monotonic()
        self.write(state.global_step)

    def write(self, step: int) -> None:
        """Say how far the training is; the seconds are the mean of the steps since this process began."""
        self.written = time.monotonic()
        rate = (self.written - self.started) / (step - self.first) if step > self.first else None
        now = {"step": step, "loss": self.loss, "seconds_per_step": rate, "time": time.time()}
        files.write_json(self.path, {**self.known, **now})

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer after each optimizer step."""
        self.bar.update(state.global_step - self.bar.n)
        if time.monotonic() > self.written + console.LINE_EVERY_SECONDS:
            self.write(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Called by the Trainer with the mean loss since the last call."""
        if "loss" in logs:
            self.loss = logs["loss"]
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}, lr {logs['learning_rate']:.2e}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        """Called by the Trainer at the end of the leg."""
        self.bar.close()
        self.write(state.global_step)
        last = next((row for row in reversed(state.log_history) if "loss" in row), {"loss": float("nan")})
        skipped = sum("skipped" in row for row in state.log_history)
        console.log.info(
            "%s: step %d of %d, loss %.3f%s",
            self.label,
            state.global_step,
            self.total,
            last["loss"],
            f"; {skipped} steps were skipped" if skipped else "",
        )


class Tracking(transformers.TrainerCallback):
    """What the Trainer does not know: the padding, and the WERs of earlier legs as their evaluations end.

    The training logs them, not the evaluation: two processes can't write to one run.
    """

    def __init__(self, tracked: tracking.Run, runs: Path, leg: int, padding: float):
        self.tracked, self.runs, self.leg, self.padding = tracked, runs, leg, padding

    def on_train_begin(self, args, state, control, **kwargs):
        """Called by the Trainer once the step to continue from is known."""
        self.tracked.log({"train/padding": self.padding}, state.global_step)

    def on_log(self, args, state, control, **kwargs):
        """Called by the Trainer every few steps."""
        self.tracked.interim(tracking.finished_legs(self.runs, self.leg))


class EventFilesCallback(integrations.TensorBoardCallback):
    """The Trainer's, where a resumed training drops the steps of the killed one."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Called by the Trainer once the step to continue from is known."""
        self.tb_writer.go_on_from(state.global_step)
        super().on_train_begin(args, state, control, **kwargs)


def of_trackers(tracked: tracking.Run, runs: Path, leg: int, padding: float) -> list[transformers.TrainerCallback]:
    """The Trainer's own callbacks for the trackers that are on, and ours."""
    own = [integrations.WandbCallback()] if tracked.tracker("wandb") else []
    event_files = tracked.tracker("tensorboard")
    own += [EventFilesCallback(event_files)] if event_files else []
    return [*own, Tracking(tracked, runs, leg, padding)]
