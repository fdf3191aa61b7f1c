"""Copies of recordings: how many are missed and how many are none, and the time of a large data set.

    python tests/benchmarks/overlap.py --corpus ../shared/data/digits [--copied 200] [--rows 100000]

--corpus has a folder a split, with audio. Of its recordings --copied (drawn with a fixed seed) are encoded again in
several ways and looked for among them, whole, and cut to their first second of speech. False alarms are counted between
training and the other splits. The time is of --rows utterances, a twentieth of them test, whose fingerprints are those
of noise.
"""

import argparse
import io
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

import numpy as np
import soundfile
import soxr

from rnnt.data import fingerprints, overlap


def coded(samples, rate, kind, subtype=None, **options):
    packed = io.BytesIO()
    soundfile.write(packed, samples, rate, format=kind, subtype=subtype, **options)
    packed.seek(0)
    return soundfile.read(packed, dtype="float32")


def resampled(samples, rate, wanted):
    return soxr.resample(samples, rate, wanted), wanted


def with_noise(samples, rate):
    noise = np.random.default_rng(0).normal(0, 0.1 * samples.std(), len(samples))
    return (samples + noise).astype(np.float32), rate


COPIES = {
    "the same": lambda samples, rate: (samples, rate),
    "other rate": lambda samples, rate: resampled(samples, rate, 16000 if rate != 16000 else 11025),
    "mp3": lambda samples, rate: coded(samples, rate, "MP3"),
    "mp3, 16 kHz": lambda samples, rate: coded(*resampled(samples, rate, 16000), "MP3"),
    "mp3, 16 kHz, poorest": lambda samples, rate: coded(
        *resampled(samples, rate, 16000), "MP3", compression_level=0.99
    ),
    "Vorbis": lambda samples, rate: coded(samples, rate, "OGG", "VORBIS"),
    "mu-law, 8 kHz": lambda samples, rate: coded(*resampled(samples, rate, 8000), "WAV", "ULAW"),
    "GSM 6.10, 8 kHz": lambda samples, rate: coded(*resampled(samples, rate, 8000), "WAV", "GSM610"),
    "20 dB quieter": lambda samples, rate: (0.1 * samples, rate),
    "0.1 s cut off at both ends": lambda samples, rate: (samples[rate // 10 : -(rate // 10)], rate),
    "noise, 20 dB below": with_noise,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder with train/ and other splits; none: the time alone")
    parser.add_argument("--copied", type=int, default=200, help="default: 200")
    parser.add_argument("--rows", type=int, default=100_000, help="default: 100000")
    options = parser.parse_args()
    if options.corpus:
        count_alarms(options.corpus)
        count_misses(options.corpus, options.copied)
    take_time(options.rows)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def recordings(folder):
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav", ".mp3"))
    return [soundfile.read(path, dtype="float32") for path in paths]


def found(ours, theirs):
    """Pairs of candidates, and which of them are copies, of two lists of (samples, rate)."""
    ours, theirs = ([fingerprints.lower(*recording) for recording in side] for side in (ours, theirs))
    marks = [[fingerprints.fingerprint(samples) for samples in side] for side in (ours, theirs)]
    pairs = list(fingerprints.candidates(*marks))
    return pairs, [(i, j) for i, j in pairs if fingerprints.are_copies(ours[i], theirs[j])]


def count_alarms(corpus):
    train = recordings(corpus / "train")
    for split in sorted(path.name for path in corpus.iterdir() if path.is_dir() and path.name != "train"):
        other = recordings(corpus / split)
        for what, sides in (("whole", (train, other)), ("first second", (starts(train), starts(other)))):
            pairs, same = found(*sides)
            print(
                f"train and {split}, {what}: {len(same)} alarms, {len(pairs)} candidates of {len(train) * len(other)}"
            )


def starts(sounds):
    """The first second of each, from where it is loud."""
    loud = [int(np.argmax(np.abs(samples) > 0.1 * np.abs(samples).max())) for samples, _ in sounds]
    return [(samples[at : at + rate], rate) for at, (samples, rate) in zip(loud, sounds, strict=True)]


def count_misses(corpus, count):
    chosen = recordings(corpus / "train")
    chosen = random.Random(0).sample(chosen, min(count, len(chosen)))
    for name, copy in COPIES.items():
        missed = []
        for ours in (chosen, starts(chosen)):
            same = set(found(ours, [copy(*recording) for recording in ours])[1])
            missed.append(sum((place, place) not in same for place in range(len(ours))))
        print(f"{name}: {missed[0]} of {len(chosen)} missed, of the first second {missed[1]}")


def take_time(rows):
    draw = np.random.default_rng(0)
    noise = [draw.normal(0, 0.1, int(draw.uniform(2, 15) * fingerprints.RATE)).astype(np.float32) for _ in range(200)]
    marks = [fingerprints.fingerprint(samples) for samples in noise]
    splits = {"train": [], "test": []}
    for n in range(rows):
        mark = marks[n % len(marks)]
        splits["test" if n % 20 == 0 else "train"].append({
            "id": str(n), "audio_filepath": f"/nowhere/{n}.flac", "duration": len(mark) / 50, "speaker": str(n % 1000),
            "text": f"text {draw.integers(10 * rows)}", "fingerprint": mark ^ draw.integers(1, 2**32, dtype=np.uint32),
        })  # fmt: skip
    started = time.perf_counter()
    (pair,) = overlap.find(splits)["pairs"]
    took = time.perf_counter() - started
    hours = sum(entry["duration"] for split in splits.values() for entry in split) / 3600
    print(f"{rows} rows, {hours:.0f} h: {took:.1f} s ({len(pair['recordings'])} alarms)")


if __name__ == "__main__":
    main()
