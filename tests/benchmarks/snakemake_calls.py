"""Time of Snakemake calls that run no job, as a multiple of `snakemake --version`'s in the same run.

    python tests/benchmarks/snakemake_calls.py [--repeats 5]

Dry runs of the configurations, and a run after which there is nothing to be done: of the data set `digits` of
tests/config/tiny.yaml, which is computed first (some minutes). All in a clone of the last commit.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FINISHED = ["--cores", "2", "digits", "--configfile", "tests/config/tiny.yaml", "untracked.yaml"]
CALLS = {
    "snakemake --version": ["--version"],
    **{f"dry run of config/{name}.yaml": ["--dry-run", "--configfile", f"config/{name}.yaml"]
       for name in ("config", "paper", "esb")},
    "run with nothing to be done": FINISHED,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of each call, in turn (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        (Path(folder) / "untracked.yaml").write_text("wandb: {mode: off}\ntensorboard: false\n")
        for arguments in CALLS.values():  # the last one computes; no call compiles Python while the clock runs
            snakemake(folder, arguments)
        seconds = {name: [] for name in CALLS}
        for _ in range(options.repeats):
            for name, arguments in CALLS.items():
                started = time.perf_counter()
                output = snakemake(folder, arguments)
                seconds[name].append(time.perf_counter() - started)
        assert "Nothing to be done" in output
    print(f"{cpu()}, {os.cpu_count()} cores; medians of {options.repeats}")
    base, *_ = medians = [statistics.median(found) for found in seconds.values()]
    for name, median in zip(seconds, medians, strict=True):
        print(f"{name:30} {median:5.2f} s {median / base:5.2f} times")


def snakemake(folder, arguments):
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run([BIN / "snakemake", *arguments], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def cpu():
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.exists() else None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
