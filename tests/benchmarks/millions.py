"""Time and memory of a large data set: manifests, tokenizer, training start and report.

    python tests/benchmarks/millions.py [--utterances 10000 100000 1000000] [--scripts workflow_scripts]

A local corpus is made in a temporary folder (--folder: where): a NeMo manifest of so many utterances in no order, each
with a file of its own (--distinct files of noise, hard-linked under many names) and a text of words drawn by Zipf's
law, and a test split of a hundredth of it. Then the pipeline's scripts run one after the other, each in a process of
its own, with two workers: list_split (headers alone), build_manifest, compare_splits; build_tokenizer and
check_tokenizer; what train_leg does up to the first batch of its sampler, without a model; and what the report computes
of the hypotheses of a test split, as many as there are training utterances. Given for each: wall time, CPU time (user
and system, of all processes), and the peak of the memory of the process and its children, summed every 0.1 s: resident
(RSS, where pages that a fork shares count for each process) and proportional (PSS, where they count once). --scripts
may be another version's.
"""

import argparse
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

HERE = Path(__file__).resolve()
WORDS = 50_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--distinct", type=int, default=200, help="files of audio (default: 200)")
    parser.add_argument("--scripts", type=Path, default=HERE.parents[2] / "workflow_scripts")
    parser.add_argument("--steps", nargs="+", default=["manifests", "tokenizer", "start", "report"])
    parser.add_argument("--folder", type=Path, help="where to make the corpus; kept")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(options.scripts.resolve()))
    if options.only:
        step, *paths = options.only
        return {"start": start, "report": report}[step](*map(Path, paths))
    for count in options.utterances:
        folder = options.folder / str(count) if options.folder else Path(tempfile.mkdtemp())
        try:
            if not (folder / "corpus.json").exists():
                make_corpus(folder, count, options.distinct)
            for step in options.steps:
                run = {"manifests": build, "tokenizer": spell, "start": begin, "report": look}[step]
                total = np.zeros(4)
                for name, command in run(folder, options.scripts):
                    found = measure(command)
                    show(count, name, found)
                    total = np.array([*(total[:2] + found[:2]), *np.maximum(total[2:], found[2:])])
                if run in (build, spell):
                    show(count, f"{step}, all", total)
        finally:
            if not options.folder:
                shutil.rmtree(folder)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def show(count, name, found):
    wall, used, resident, proportional = found
    print(
        f"{count:>8} {name:24} {wall:7.1f} s, {used:7.1f} s of CPU, "
        f"{resident / 2**30:5.2f} GiB RSS, {proportional / 2**30:5.2f} GiB PSS",
        flush=True,
    )


def make_corpus(folder, count, distinct):
    draw, shuffle = np.random.default_rng(0), random.Random(0)
    (folder / "audio").mkdir(parents=True)
    seconds = []
    for n in range(distinct):
        seconds.append(int(draw.uniform(2, 18) * 16000) / 16000)
        samples = draw.integers(-3000, 3000, int(seconds[-1] * 16000), dtype="int16")
        soundfile.write(folder / f"original{n}.flac", samples, 16000)
    vocabulary = sorted(
        {"".join(shuffle.choices("etaoinshrdlucmfwygpbvk", k=shuffle.randint(1, 9))) for _ in range(WORDS)}
    )
    shuffle.shuffle(vocabulary)
    order = list(range(count + count // 100))
    shuffle.shuffle(order)
    for split, names in (("train", order[:count]), ("test", order[count:])):
        with open(folder / split, "w", encoding="utf-8") as manifest:
            for n in names:
                place = folder / f"audio/{n // 1000}"
                place.mkdir(exist_ok=True)
                os.link(folder / f"original{n % distinct}.flac", place / f"utterance-{n:08d}.flac")
                length = seconds[n % distinct]
                words = draw.zipf(1.3, int(2.5 * length)) % len(vocabulary)
                row = {
                    "audio_filepath": f"audio/{n // 1000}/utterance-{n:08d}.flac",
                    "duration": length,
                    "speaker": f"speaker-{n % 9973}",
                    "text": " ".join(vocabulary[word] for word in words),
                }
                manifest.write(json.dumps(row) + "\n")
    corpus = {"source": {"type": "local", "path": str(folder), "allow_unlisted": False}, "folder": str(folder)}
    (folder / "corpus.json").write_text(json.dumps(corpus))


def script(scripts, name, *arguments):
    return name, [sys.executable, scripts / f"{name}.py", *map(str, arguments)]


def build(folder, scripts):
    described = {}
    for split in ("train", "test"):
        listed = folder / "listings" / split
        yield script(
            scripts, "list_split", "--corpus", folder / "corpus.json", "--split", split, "--headers-only",
            "--workers", 2, "--output", listed,
        )  # fmt: skip
        parts = [{"label": split, "listing": str(listed), "prefix": ""}]
        paths = "--output", folder / f"manifests/{split}.jsonl", "--summary", folder / f"manifests/{split}.json"
        yield script(scripts, "build_manifest", "--split", split, "--parts", json.dumps(parts), "--workers", 2, *paths)
        described[split] = {"manifest": str(paths[1]), "parts": parts}
    yield script(
        scripts, "compare_splits", "--splits", json.dumps(described), "--overlap", folder / "manifests/overlap.json"
    )


def spell(folder, scripts):
    train, model = folder / "manifests/train.jsonl", folder / "tokenizer/tokenizer.model"
    yield script(scripts, "build_tokenizer", "--manifest", train, "--vocab-size", 1024, "--output", model.parent)
    yield script(
        scripts, "check_tokenizer", "--manifests", train, folder / "manifests/test.jsonl", "--tokenizer", model,
        "--output", folder / "tokenizer/check.json",
    )  # fmt: skip


def own(scripts, step, *paths):
    return step, [sys.executable, str(HERE), "--scripts", str(scripts), "--only", step, *map(str, paths)]


def begin(folder, scripts):
    shutil.rmtree(folder / "cache", ignore_errors=True)
    yield own(
        scripts, "start", folder / "manifests/train.jsonl", folder / "tokenizer/tokenizer.model", folder / "cache"
    )


def start(manifest, tokenizer, cache):
    """What legs.train does of the manifest before the first step, and the first batch of the sampler."""
    from rnnt.training import batching

    dataset = batching.load_dataset(manifest, tokenizer, 16000, cache)
    batching.parts(dataset)
    durations, tokens = batching.sizes(dataset, tokenizer)
    options = {"batching": "duration", "batch_size": 16, "batch_cells": None}
    sampler = batching.BatchSampler(batching.plan(durations, tokens, options, 160.0, 12.5), 1)
    padding = batching.padding(sampler, durations)
    first = next(iter(sampler))
    print(f"{len(sampler)} batches, padding {padding:.3f}, the first of {len(first)}", file=sys.stderr)


def look(folder, scripts):
    hypotheses = folder / "hypotheses/test.jsonl"
    if not hypotheses.exists():
        hypotheses.parent.mkdir()
        with open(folder / "manifests/train.jsonl") as rows, open(hypotheses, "w") as written:
            for number, line in enumerate(rows):
                row = json.loads(line)
                words = row["text"].split()
                words[number % len(words)] = "wrong"
                written.write(json.dumps({**row, "pred_text": " ".join(words)}) + "\n")
    yield own(scripts, "report", hypotheses)


def report(hypotheses):
    """What the page computes of a test split."""
    from rnnt.report import page

    wers = dict.fromkeys(("wer_zero_shot", "wer_greedy", "wer_beam", "rtfx_greedy", "rtfx_beam"), "1")
    found = page.one_split(hypotheses.parent, {"dataset": "d", "split": hypotheses.stem, **wers})
    print(f"{found['utterances']} utterances", file=sys.stderr)


def measure(command):
    """Wall and CPU time in seconds, peak RSS and PSS in bytes, of a command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    resident = proportional = 0
    with tempfile.TemporaryFile() as said:
        running = psutil.Popen(command, stdout=said, stderr=said)
        while running.poll() is None:
            time.sleep(0.1)
            rss = pss = 0
            for process in (running, *children(running)):
                try:
                    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
                except OSError:
                    continue
                sizes = {line.split(":")[0]: line.split()[1] for line in lines}
                rss, pss = rss + 1024 * int(sizes["Rss"]), pss + 1024 * int(sizes["Pss"])
            resident, proportional = max(resident, rss), max(proportional, pss)
        if running.returncode:
            said.seek(0)
            sys.exit(f"{command}\n{said.read().decode()}")
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, resident, proportional


def children(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


if __name__ == "__main__":
    main()
