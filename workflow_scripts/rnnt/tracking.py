"""Weights & Biases and TensorBoard: one run per data set and seed, the same run across legs and restarts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rnnt import console, files
from rnnt.errors import UserError

OFF = {"wandb": {"mode": "off"}, "tensorboard": False}
STEP = "train/global_step"  # what the Trainer calls it: the x axis of every curve
INIT_SECONDS = 30
FINISH_SECONDS = 300


class WandB:
    """A W&B run that is open."""

    name = "wandb"

    def __init__(self, section: dict, mode: str, folder: Path, dataset: str, identity: str):
        """Open it. Raises a wandb.errors.Error when `online` cannot be reached or is not logged in."""
        import wandb

        if mode == "online" and not wandb.login(prompt=False):  # A job must not wait for an answer on the terminal.
            raise wandb.errors.UsageError("not logged in")
        self.run = wandb.init(
            project=section["project"],
            name=dataset,
            id=identity,
            resume="allow",
            mode=mode,
            dir=str(folder.resolve()),  # The client is a process of its own.
            settings=wandb.Settings(
                silent=True,
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        self.folder = Path(os.path.relpath(self.run.dir)).parent
        self.where = {"mode": mode, "folder": str(self.folder), **({} if self.run.offline else {"url": self.run.url})}
        self.run.define_metric(STEP)
        self.run.define_metric("*", step_metric=STEP, step_sync=True)

    def log(self, values: dict[str, float], step: int) -> None:
        """Numbers at an optimizer step, which may be an earlier one."""
        self.run.log({**values, STEP: step})

    def table(self, name: str, rows: list[dict], step: int) -> None:
        """Rows that have the same keys."""
        import wandb

        columns = list(rows[0])
        data = [[row[column] for column in columns] for row in rows]
        self.run.log({name: wandb.Table(columns=columns, data=data), STEP: step})

    def close(self) -> None:
        """End the run's part of this process, once it is sent; what could not be sent in time stays on disk."""
        try:
            self.run.finish()
        except TimeoutError:
            console.log.warning(
                "wandb: not everything was sent in %d s: `wandb sync --include-online %s` sends it",
                FINISH_SECONDS,
                self.folder,
            )


class EventFiles:
    """TensorBoard's event files of a run, with what the Trainer's callback asks of torch's SummaryWriter.

    Not torch's: a light script writes them too.
    """

    name = "tensorboard"

    def __init__(self, folder: Path):
        self.folder, self.writer = folder, None
        self.where = {"folder": str(folder)}

    def go_on_from(self, step: int) -> None:
        """Drop what was logged of later steps: a killed training takes them once more."""
        from tensorboard.compat.proto import event_pb2

        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=start))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """A number at an optimizer step."""
        from tensorboard.compat.proto import summary_pb2

        self._summary(summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)]), step)

    def add_text(self, tag: str, text: str, step: int = 0) -> None:
        """A text, in Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._summary(text_pb(tag, text), step)

    def log(self, values: dict[str, float], step: int) -> None:
        """Numbers at an optimizer step, which may be an earlier one."""
        for tag, value in values.items():
            self.add_scalar(tag, value, step)
        self.flush()

    def table(self, name: str, rows: list[dict], step: int) -> None:
        """Rows that have the same keys."""
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
        cells = ([" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines)
        self.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in cells), step)

    def flush(self) -> None:
        """Write what was logged to the file."""
        if self.writer:
            self.writer.flush()

    def close(self) -> None:
        """Flush and close the file, where anything was logged; the Trainer's callback does so too."""
        writer, self.writer = self.writer, None
        if writer:
            writer.flush()  # which says what went wrong in its thread
            writer.close()

    def _summary(self, summary, step: int) -> None:
        from tensorboard.compat.proto import event_pb2

        self._write(event_pb2.Event(wall_time=time.time(), step=int(step), summary=summary))

    def _write(self, event) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # Not before there is something to write: a leg that is found done logs nothing.
        self.writer = self.writer or EventFileWriter(str(self.folder))
        self.writer.add_event(event)


class Run:
    """A data set's run in the trackers that are on, and a note of the interim WERs that they have.

    A tracker that can't log any more is left, with a line that says so: the others go on. `errors` has the reasons.
    """

    def __init__(self, note: Path, identity: str, trackers: list[WandB | EventFiles], errors: dict[str, str]):
        known = read_note(note)
        self.note, self.identity, self.trackers, self.errors = note, identity, trackers, errors
        self.logged = known["logged"] if known.get("id") == identity else {}
        self._write_note()

    def tracker(self, name: str) -> WandB | EventFiles | None:
        """The tracker of that name, where it is on."""
        return next((tracker for tracker in self.trackers if tracker.name == name), None)

    def log(self, values: dict[str, float], step: int) -> None:
        """Numbers at an optimizer step."""
        for tracker in list(self.trackers):
            self._try(tracker, tracker.log, values, step)

    def table(self, name: str, rows: list[dict], step: int, leaves_the_machine: bool = True) -> None:
        """Rows that have the same keys; none where there are none; W&B gets what may leave the machine."""
        for tracker in list(self.trackers) if rows else ():
            if leaves_the_machine or tracker.name != "wandb":
                self._try(tracker, tracker.table, name, rows, step)

    def interim(self, found: list[tuple[str, dict]]) -> None:
        """Log `SPLIT/wer`, in percent, of splits and their metrics at the step of their leg, each once."""
        for tracker in list(self.trackers):
            logged = self.logged.setdefault(tracker.name, {})
            for split, metrics in found:
                leg = metrics["checkpoint"]
                key = f"leg_{leg['leg']}/{split}"
                if logged.get(key) != metrics["wer"]:
                    if not self._try(tracker, tracker.log, {f"{split}/wer": metrics["wer"]}, leg["step"]):
                        break
                    logged[key] = metrics["wer"]
                    self._write_note()

    def close(self) -> None:
        """Close the trackers."""
        for tracker in list(self.trackers):
            self._try(tracker, tracker.close)

    def _try(self, tracker: WandB | EventFiles, action: Callable[..., None], *arguments: object) -> bool:
        try:
            action(*arguments)
        except Exception as error:
            self.trackers.remove(tracker)
            self.errors[tracker.name] = _left(tracker.name, error)
        return tracker in self.trackers

    def _write_note(self) -> None:
        files.write_json(self.note, {"id": self.identity, "logged": self.logged})


def is_on(options: dict) -> bool:
    """Whether anything is tracked; `options` has the config's `wandb` and `tensorboard`."""
    return options["wandb"]["mode"] != "off" or options["tensorboard"]


@contextlib.contextmanager
def run(options: dict, folder: Path, dataset: str, offline_if_unreachable: bool = False) -> Iterator[Run | None]:
    """Open the data set's run in the trackers that are on; yields None when none is.

    `folder` is `results/{dataset}/runs`. The run's id comes from the fingerprint of the training's first leg there: all
    legs and restarts of a training go on with one run, another training gets its own.
    Raises UserError when W&B can't be reached, or its folder not be written; with `offline_if_unreachable` it is
    written offline instead, or left.
    """
    if not is_on(options):
        yield None
        return
    note = folder / "tracking.json"
    identity = run_id(folder, dataset)
    trackers, errors = [], {}
    if options["wandb"]["mode"] != "off":
        try:
            trackers.append(_wandb(options["wandb"], folder, dataset, identity, offline_if_unreachable))
        except Exception as error:
            if not offline_if_unreachable:
                raise
            errors["wandb"] = _left("wandb", error)
    if options["tensorboard"]:
        trackers.append(EventFiles(folder / "tensorboard" / identity))
    opened = Run(note, identity, trackers, errors)
    try:
        yield opened
    finally:
        opened.close()


def _left(name: str, error: Exception) -> str:
    """Say that nothing more goes to a tracker; returns why."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    console.log.warning("%s: %s: nothing more is logged there", name, reason)
    return reason


def run_id(folder: Path, dataset: str) -> str:
    """The run's id: from the first leg's fingerprint; where that was deleted, as it was noted."""
    leg = folder / "leg_1/fingerprint.json"
    if leg.is_file():
        return f"{dataset}-{files.read_json(leg)['fingerprint'][:10]}"
    return read_note(folder / "tracking.json").get("id") or f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"


def read_note(path: Path) -> dict:
    """The note's content; nothing where there is none."""
    return files.read_json(path) if path.is_file() else {}


def _wandb(section: dict, folder: Path, dataset: str, identity: str, offline_if_unreachable: bool) -> WandB:
    import wandb

    try:
        return WandB(section, section["mode"], folder, dataset, identity)
    except OSError as error:
        raise UserError(f"wandb.mode: {section['mode']}: {folder / 'wandb'} can't be written ({error})") from None
    except wandb.errors.Error as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if not offline_if_unreachable or section["mode"] != "online":
            raise UserError(
                f"wandb.mode: {section['mode']}: {reason}: run `wandb login`, check the network, or set mode: offline"
            ) from None
    offline = WandB(section, "offline", folder, dataset, identity)
    console.log.warning("wandb: %s: written offline; `wandb sync %s` sends it", reason, offline.folder)
    return offline


def finished_legs(runs: Path, leg: int) -> list[tuple[str, dict]]:
    """Validation splits and their metrics after the legs before `leg`, those that are there by now.

    Metrics of another training than that in `runs` are left out: they lie there until they are computed anew.
    """
    found = []
    for earlier in range(1, leg):
        folder = runs.parent / f"evaluation/leg_{earlier}/greedy"
        for path in sorted(folder.glob("validation*.json")):
            # Not NAME.decoding.json. A file that is gone or was edited meanwhile concerns its own rule, not a training.
            with contextlib.suppress(UserError):
                if "." not in path.stem:
                    metrics = files.read_sealed(path)
                    trained = files.read_json(runs / f"leg_{earlier}/fingerprint.json")
                    if metrics["checkpoint"]["fingerprint"] == trained["fingerprint"]:
                        found.append((path.stem, metrics))
    return found
