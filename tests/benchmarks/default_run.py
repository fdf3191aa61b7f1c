"""Wall and CPU time of `make run`'s command from a fresh clone, and of the same once more, with nothing to be done.

    python tests/benchmarks/default_run.py [--cores 2] [--repeats 2] [REVISION ...]

Of each revision in turn (default: HEAD), one after the other on this machine; the last columns are shares of the first
revision's times. A run takes some minutes. CPU time is that of all processes, and what is beside hardly changes it.
"""

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
import time

from snakemake_calls import BIN, ROOT, cpu, snakemake


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="*", default=["HEAD"], metavar="REVISION", help="of this repository")
    parser.add_argument("--cores", default="all", help="for Snakemake (default: all)")
    parser.add_argument("--repeats", type=int, default=2, help="of each revision, in turn (default: 2)")
    options = parser.parse_args()
    snakemake(ROOT, ["--version"])  # what is installed is compiled, and in the page cache
    subprocess.run([BIN / "python", "-c", "import nemo.collections.asr.models, transformers"], capture_output=True)
    found = {revision: [] for revision in options.revisions}
    for _ in range(options.repeats):
        for revision, times in found.items():
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
                subprocess.run(["git", "-C", folder, "checkout", "--quiet", commit(revision)], check=True)
                times.append([*measured(folder, options.cores), *measured(folder, options.cores)])
    print(f"{cpu()}, {os.cpu_count()} cores; medians of {options.repeats}, in s")
    print(f"{'':20} {'wall':>7} {'CPU':>7} {'no-op':>7}   shares")
    medians = {
        revision: [statistics.median(column) for column in zip(*times, strict=True)]
        for revision, times in found.items()
    }
    first, *_ = medians.values()
    for revision, (wall, seconds, no_op, _) in medians.items():
        shares = f"{wall / first[0]:.2f} {seconds / first[1]:.2f} {no_op / first[2]:.2f}"
        print(f"{revision:20} {wall:7.1f} {seconds:7.1f} {no_op:7.2f}   {shares}")


def commit(revision):
    """Its hash: a clone has not all names of the repository that it is of."""
    return subprocess.check_output(["git", "-C", ROOT, "rev-parse", revision], text=True).strip()


def measured(folder, cores):
    """Seconds on the clock and of all processors for a call of Snakemake that must come to its end."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    snakemake(folder, ["--cores", cores])
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
