"""Time and disk of a manifest against decoded audio in an Arrow cache, as fine-tuning scripts of 2022 made it.

    python tests/benchmarks/manifests.py [--utterances 20000] [--mapped 2000]

Both start from the same LibriSpeech tree of flac files (noise of 2 to 18 s, --distinct files under many names). The
manifest has all --utterances, read by two processes: headers alone, then with their samples. `datasets.map` decodes
--mapped of them to float32 arrays; its time and disk are given for as many as the manifest has, in proportion.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

import numpy as np
import soundfile

from rnnt.corpora import librispeech
from rnnt.data import fingerprints, manifests


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=20000, help="default: 20000")
    parser.add_argument("--mapped", type=int, default=2000, help="of them for the Arrow cache (default: 2000)")
    parser.add_argument("--distinct", type=int, default=200, help="files of audio (default: 200)")
    parser.add_argument("--workers", type=int, default=2, help="processes, for both (default: 2)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        make_tree(folder, options.utterances, options.distinct)
        source = {"path": str(folder), "url": None, "splits": ["test-other"], "allow_subset": True}
        took = {}
        for samples in (False, True):
            started = time.perf_counter()
            utterances = librispeech.utterances(source, "test-other", folder)
            prints = fingerprints.Prints(folder) if samples else None
            listed = manifests.listing(utterances, options.workers, "", folder, prints)
            found, _ = manifests.clean((entry for entry, _ in listed), "lower", workers=options.workers)
            manifests.write(folder / "manifest.jsonl", found)
            took[samples] = time.perf_counter() - started
        ours = took[False], (folder / "manifest.jsonl").stat().st_size
        found = manifests.read(folder / "manifest.jsonl")
        seconds, size = map_decoded(found[: options.mapped], folder / "cache", options.workers)
        scale = options.utterances / options.mapped
        theirs = seconds * scale, size * scale
        hours = sum(entry["duration"] for entry in found) / 3600
        print(f"{options.utterances} utterances, {hours:.1f} h, {options.workers} processes")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"manifest: {ours[0]:.1f} s, {ours[1] / 1e6:.1f} MB")
        print(f"with samples: {took[True]:.1f} s, {hours * 3600 / took[True]:.0f} times faster than it is spoken")
        print(f"decoded audio in Arrow: {theirs[0]:.1f} s, {theirs[1] / 1e6:.0f} MB (from {options.mapped} utterances)")
        print(f"{theirs[0] / ours[0]:.0f} times faster, {theirs[1] / ours[1]:.0f} times less disk")
    finally:
        shutil.rmtree(folder)


def make_tree(folder, utterances, distinct):
    """LibriSpeech's layout: chapters of 50 utterances, the audio hard-linked."""
    random = np.random.default_rng(0)
    originals = []
    for n in range(distinct):
        originals.append(folder / f"original{n}.flac")
        samples = random.integers(-3000, 3000, int(random.uniform(2, 18) * 16000), dtype="int16")
        soundfile.write(originals[-1], samples, 16000)
    for first in range(0, utterances, 50):
        chapter = folder / "LibriSpeech/test-other" / str(first // 50) / "1"
        chapter.mkdir(parents=True)
        names = [f"{first // 50}-1-{n:04d}" for n in range(min(50, utterances - first))]
        for n, name in enumerate(names):
            os.link(originals[(first + n) % distinct], chapter / f"{name}.flac")
        (chapter / f"{first // 50}-1.trans.txt").write_text("".join(f"{name} SOME WORDS\n" for name in names))


def map_decoded(rows, cache, workers):
    """Seconds and bytes of a `datasets.map` that stores each utterance's samples."""
    import datasets

    datasets.disable_progress_bars()
    plain = datasets.Dataset.from_list([{"path": row["audio_filepath"], "text": row["text"]} for row in rows])
    cache.mkdir()
    started = time.perf_counter()
    plain.map(
        lambda row: {"input_values": soundfile.read(row["path"], dtype="float32")[0]},
        num_proc=workers,
        cache_file_name=str(cache / "mapped.arrow"),
    )
    return time.perf_counter() - started, sum(path.stat().st_size for path in cache.iterdir())


if __name__ == "__main__":
    main()
