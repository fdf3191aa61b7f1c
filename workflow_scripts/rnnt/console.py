"""What every script shows: log lines, progress bars, and one line when something is wrong."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rnnt import alone, disk
from rnnt.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger("rnnt")
LINE_EVERY_SECONDS = 10  # progress away from a terminal


class OneLine(argparse.HelpFormatter):
    """Help that states defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default not in (None, argparse.SUPPRESS, False) and "%(default)" not in text:
            text += " (default: %(default)s)"
        return text


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the options that all scripts share."""
    result = argparse.ArgumentParser(description=description, formatter_class=OneLine)
    result.add_argument("--log", type=Path, help="file that gets a copy of the messages")
    result.add_argument("--label", default="", help="what to put before each message, such as the data set's name")
    return result


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser) -> None:
    """Parse, log to stderr and the log file, call `main`; what a user can mend is one line and exit code 1.

    A process that is at work on the same log file is waited for: what a killed Snakemake left goes on, and would write
    the same outputs. Where it has done all that was asked, nothing is left to do.
    """
    args = arguments.parse_args()
    try:
        start_logging(args.log, args.label)
    except OSError as error:
        sys.exit(f"error: {disk.explain(error, disk.written([args.log])) or error}")
    try:
        with _alone(args) as done:
            if not done:
                main(args)
    except KeyboardInterrupt:
        log.error("interrupted")
        sys.exit(130)
    except Exception as error:
        if full := disk.explain(error, disk.written(vars(args).values())):
            log.error("error: %s", full)
        elif isinstance(error, UserError | OSError):
            log.error("error: %s", error)
        elif type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
            log.error("error: out of memory: lower evaluation.batch_size or training.batch_budget (%s)", error)
        else:
            log.exception("this is a bug, not a mistake in your input:")
        sys.exit(1)


@contextlib.contextmanager
def _alone(args: argparse.Namespace) -> Iterator[bool]:
    """Hold the lock of a rule's job; yields whether it was done by the process that had it."""
    if not args.log or alone.is_held_for():
        yield False
        return
    values = [v for value in vars(args).values() for v in (value if isinstance(value, list) else [value])]
    with alone.held(args.log.with_name(f".{args.log.name}.lock"), str(args.log), arguments=sys.argv) as before:
        same = before.get("done") and before["arguments"] == sys.argv
        # Snakemake may have removed what was made before this process began.
        done = bool(same) and all(value.exists() for value in values if isinstance(value, Path))
        if done:
            log.info("it has done what was asked")
        yield done


def _end_thread(failed: threading.ExceptHookArgs) -> None:
    """One line where a library's thread met a full disk: whoever waits for it fails too."""
    if full := disk.explain(failed.exc_value, ()):
        log.warning("%s", full)
    else:
        threading.__excepthook__(failed)


def start_logging(path: Path | None, label: str) -> None:
    """Send the messages of this project to stderr and to `path`, each behind `[label]`."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(f"[{label}] %(message)s" if label else "%(message)s"))
    log.handlers[:] = handlers
    disk.quiet_logs()
    threading.excepthook = _end_thread
    log.setLevel(logging.INFO)
    log.propagate = False
    # On a CPU with AVX-512 it asks, when it is imported, for a package that 4-bit inference would be faster with.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def add_log_file(path: Path) -> None:
    """Append the messages to one more file: Snakemake wipes a rule's log before each attempt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)


class _LogLines:
    """A file for tqdm that makes each refresh a line in the log."""

    def write(self, text: str) -> None:
        if text.strip():
            log.info("%s", text.strip())

    def flush(self) -> None:
        pass


def bar(total: int | None, label: str, unit: str = "utt", initial: int = 0) -> tqdm:
    """A progress bar with rate and ETA: live on a terminal, a line every ten seconds elsewhere."""
    from tqdm import tqdm  # not above: a dry run has Snakemake's packages alone

    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=label,
        unit=f" {unit}",
        initial=initial,
        file=sys.stderr if live else _LogLines(),
        mininterval=0.2 if live else LINE_EVERY_SECONDS,
        delay=0 if live else LINE_EVERY_SECONDS / 2,
        miniters=1,
        dynamic_ncols=live,
        ascii=not live,
        leave=False,
        bar_format=None if live else "{desc}: {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    )


def progress(iterable: Iterable, total: int | None = None, label: str = "", unit: str = "utt") -> Iterator:
    """Iterate with a progress bar."""
    with bar(total, label, unit) as shown:
        for item in iterable:
            yield item
            shown.update()
