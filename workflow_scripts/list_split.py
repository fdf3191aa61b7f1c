"""List the utterances of one split of a source as delivered, with what their audio is like; nothing is dropped yet."""

import functools
import os
from pathlib import Path

from rnnt import console, corpora, files
from rnnt.corpora import published
from rnnt.data import listings, manifests
from rnnt.data.fingerprints import Prints


def parser():
    p = console.parser(__doc__)
    p.add_argument("--corpus", type=Path, required=True, help="what prepare_corpus.py wrote")
    p.add_argument("--split", required=True, help="the source's split")
    p.add_argument("--headers-only", action="store_true", help="do not decode the audio, believe its headers")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    p.add_argument(
        "--output", type=Path, required=True, help="folder for utterances.jsonl, about.json, fingerprints.npz"
    )
    return p


def main(args):
    corpus = files.read_json(args.corpus)
    source, module = corpus["source"], corpora.module(corpus["source"])
    args.output.mkdir(parents=True, exist_ok=True)
    utterances = module.utterances(source, args.split, Path(corpus["folder"]))
    label = f"read headers of {args.split}" if args.headers_only else f"read {args.split}"
    prints = None if args.headers_only else Prints(args.output)
    found = manifests.listing(utterances, args.workers, label, args.output, prints)
    expected = getattr(module, "EXPECTED", {}).get(args.split)
    if expected and not source["allow_subset"]:
        found = checked(found, expected, f"{source['type']} {args.split}")
    unlisted = functools.partial(module.unlisted, source, args.split) if hasattr(module, "unlisted") else lambda _: []
    listings.write(args.output, found, prints, unlisted, source.get("allow_unlisted", False))


def checked(found, expected, what):
    """What a listing has, to its end. Raises UserError there, where it is not of its published size."""
    count, seconds = 0, 0.0
    for entry, place in found:
        yield entry, place
        count, seconds = count + 1, seconds + entry.get("duration", 0)
    published.check_counts(count, seconds / 3600, expected, what)


if __name__ == "__main__":
    console.run(main, parser())
