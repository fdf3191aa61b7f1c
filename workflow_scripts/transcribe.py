"""Transcribe audio files with a trained model.

On stdout a line FILE, tab, TEXT for each file (or JSON), in the order given; everything else goes to stderr. A file
that can't be read is named there and the others go on; the exit code is then 1.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rnnt import console, files
from rnnt.data import audio, tokenizers
from rnnt.errors import UserError

STRATEGIES = ["greedy", "greedy_batch", "beam", "tsd", "alsd", "maes", "malsd_batch", "maes_batch"]
GREEDY = ["greedy", "greedy_batch"]
# What is taken for audio in a folder. A file that is named itself may have any name.
SUFFIXES = set(
    ".wav .wave .bwf .rf64 .w64 .flac .mp3 .mp2 .mp1 .mpga .mpeg .mpg .ogg .oga .opus .spx .sph .nist .aif .aiff .aifc "
    ".au .snd .caf .voc .m4a .m4b .mp4 .m4v .mov .aac .wma .asf .wmv .webm .weba .mka .mkv .amr .awb .3gp .3g2 .ac3 "
    ".wv .tta .ape .avi .flv".split()
)
SHORTEST = 0.02  # seconds: a single frame of features has no variance to be normalised by
LONG = 60  # seconds, above which decoding hears a file in windows


def parser():
    p = console.parser(__doc__)
    p.add_argument(
        "files",
        nargs="+",
        metavar="FILES",
        help="audio files of any format (wav, flac, mp3, ogg, SPHERE, m4a, webm, ...), rate and number of channels, "
        "which are mixed; of a folder all audio files in it and below, sorted",
    )
    p.add_argument("--model", type=Path, required=True, help="folder with model.nemo, or a .nemo file")
    p.add_argument("--strategy", choices=STRATEGIES, default="malsd_batch", help="NeMo's search")
    p.add_argument("--beam-size", type=positive, default=4, help="hypotheses that a beam search keeps")
    p.add_argument("--batch-size", type=positive, default=8, help="files decoded together; less takes less memory")
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to decode")
    p.add_argument("--threads", type=positive, default=os.cpu_count(), help="CPU threads")
    p.add_argument("--format", choices=["text", "jsonl"], default="text", help="jsonl: file, duration, text")
    return p


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)


def main(args):
    with transcripts_alone() as stdout:
        path = args.model / "model.nemo" if args.model.is_dir() else args.model
        if not path.is_file():
            raise UserError(f"{path}: no such file: --model takes a folder with model.nemo, or a .nemo file")
        vocabulary = tokenizers.from_nemo(path)
        wanted, failures = find(args.files)
        found, unreadable = check(wanted)
        if found:
            for row, text in zip(found, transcribe(found, path, vocabulary, args), strict=True):
                print(line(row, text, args.format), file=stdout)
        failures += unreadable
    if failures:
        raise UserError(f"{failures} of {len(found) + failures} can't be transcribed, see above")


@contextlib.contextmanager
def transcripts_alone():
    """A file that is stdout; what anybody else prints there meanwhile, C code too, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with (
            open(kept, "w", encoding="utf-8", closefd=False) as stdout,
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield stdout
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def in_terms_of_options():
    """Errors name the options of this script, where the pipeline names keys of its configuration."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).removeprefix("evaluation.beam: ")) from None


def find(given):
    """The files, folders replaced by the audio files in them, and the number of folders without any."""
    found, empty = [], 0
    for path in given:
        if not Path(path).is_dir():
            found.append(path)
            continue
        below = [p for p in Path(path).rglob("*") if p.is_file() and not p.name.startswith(".")]
        inside = sorted(str(p) for p in below if p.suffix.lower() in SUFFIXES)
        found += inside
        others = Counter(p.suffix.lower() or "without suffix" for p in below if p.suffix.lower() not in SUFFIXES)
        left = ", ".join(f"{number} {shown(suffix)}" for suffix, number in sorted(others.items()))
        if left:
            console.log.warning(
                "%s: left out, as not audio by their names: %s (a file that is named itself is tried)",
                shown(path),
                left,
            )
        if not inside:
            console.log.error("%s: no audio files in this folder", shown(path))
            empty += 1
    return found, empty


def check(paths):
    """Manifest lines of the files that can be read, and the number of those that can't, each named on stderr.

    Every file is read to its end: damage in the middle must not end the decoding of all others.
    """
    rows, unreadable = [], 0
    for path in console.progress(paths, len(paths), "read", unit="files"):
        try:
            with open(path, "rb"):  # says what is wrong with a path; libsndfile does not
                pass
            path.encode()  # the manifest is UTF-8
            header, (heard,) = audio.listen(path, [(0, None, None)])
            seconds = header.seconds
        except UnicodeEncodeError:
            problem = f"{shown(path)}: the name is not UTF-8: rename the file"
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{shown(path)}: {error.strerror}"
        else:
            problem = f"{path}: shorter than {SHORTEST} s: too short" if seconds < SHORTEST else None
        if not problem and audio.NOT_FINITE in heard.problems:
            problem = f"{path}: {audio.NOT_FINITE}: write it again from its source"
        if problem:
            console.log.error("%s", problem)
            unreadable += 1
            continue
        for trouble in heard.problems:
            console.log.warning("%s: %s: what is transcribed here is no speech, or poor", path, trouble)
        if seconds > LONG:
            console.log.warning(
                "%s: %.1f minutes in one piece: longer than anything that training knew, and heard in windows of 20 s; "
                "cut it at pauses if it comes out badly",
                path,
                seconds / 60,
            )
        rows.append({"id": str(len(rows)), "audio_filepath": path, "duration": seconds, "text": ""})
    return rows, unreadable


def shown(path):
    """A path for the terminal, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "replace")


def transcribe(rows, path, vocabulary, args):
    """The transcripts in the order of the manifest lines."""
    import torch

    from rnnt.evaluation import decoding
    from rnnt.training import batching, models

    device = models.pick_device(args.device)
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    with in_terms_of_options():
        model = models.restore(path)
        beam = {} if args.strategy in GREEDY else {"beam_size": args.beam_size}
        decoding.set_search(model, {"strategy": args.strategy, **beam})
    with tempfile.TemporaryDirectory() as cache:
        manifest, tokenizer = Path(cache) / "files.jsonl", Path(cache) / "tokenizer.model"
        files.write_jsonl(manifest, rows)
        tokenizer.write_bytes(vocabulary)
        batch_size = 1 if decoding.depends_on_batch(model) else args.batch_size
        texts, _ = decoding.transcribe(
            model, manifest, tokenizer, Path(cache), batch_size, device, workers=workers, label="transcribe"
        )
    return texts


def line(row, text, kind):
    if kind == "text":
        return f"{row['audio_filepath']}\t{text}"
    return json.dumps(
        {"file": row["audio_filepath"], "duration": round(row["duration"], 3), "text": text}, ensure_ascii=False
    )


if __name__ == "__main__":
    console.run(main, parser())
