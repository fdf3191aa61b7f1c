"""List the utterances of one split of a source as delivered, with what their audio is like; nothing is dropped yet."""

import os
from pathlib import Path

from rnnt import console, corpora, files
from rnnt.corpora import published
from rnnt.data import listings, manifests


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
    utterances = module.utterances(source, args.split, Path(corpus["folder"]))
    label = f"read headers of {args.split}" if args.headers_only else f"read {args.split}"
    found, prints = manifests.listing(utterances, args.workers, label, read_samples=not args.headers_only)
    expected = getattr(module, "EXPECTED", {}).get(args.split)
    if expected and not source["allow_subset"]:
        hours = sum(entry.get("duration", 0) for entry in found) / 3600
        published.check_counts(len(found), hours, expected, f"{source['type']} {args.split}")
    unlisted = []
    if hasattr(module, "unlisted"):
        unlisted = module.unlisted(source, args.split, [entry["audio_filepath"] for entry in found])
    listings.write(args.output, found, prints, not args.headers_only, unlisted, source.get("allow_unlisted", False))


if __name__ == "__main__":
    console.run(main, parser())
