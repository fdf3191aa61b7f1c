"""Find the recordings, texts and speakers that splits share; a recording that is tested on must not be learned."""

import heapq
import json
from operator import itemgetter
from pathlib import Path

from rnnt import console, files
from rnnt.data import listings, manifests, overlap
from rnnt.errors import UserError


def parser():
    p = console.parser(__doc__)
    p.add_argument(
        "--splits",
        type=json.loads,
        required=True,
        help="JSON: of each split its `manifest` and its `parts`, the splits of sources as for build_manifest.py",
    )
    p.add_argument("--allow-overlap", action="store_true", help="go on where a recording is in test and elsewhere too")
    p.add_argument("--summaries", type=Path, nargs="*", default=[], help="what build_manifest.py wrote of each split")
    p.add_argument("--summary", type=Path, help="JSON file: all of them together")
    p.add_argument("--overlap", type=Path, required=True, help="JSON file: what each two splits share")
    return p


def main(args):
    if args.summary:
        summaries = {path.stem: files.read_json(path) for path in args.summaries}
        files.write_json(args.summary, summaries)
        if line := describe_cases(summaries):
            console.log.warning("%s", line)
    args.overlap.parent.mkdir(parents=True, exist_ok=True)
    splits = {name: entries(Path(split["manifest"]), split["parts"]) for name, split in args.splits.items()}
    found = overlap.find(splits, args.overlap.parent)
    files.write_json(args.overlap, found)
    for line in overlap.describe(found):
        console.log.warning("%s", line)
    shared = overlap.with_test(found)
    if shared and not args.allow_overlap:
        kept = args.overlap
        if args.log:  # Snakemake deletes what a failed job wrote, but not its logs.
            kept = args.log.with_name("overlap.json")
            files.write_json(kept, found)
        raise UserError(
            f"{overlap.describe_pair(shared[0])[0]}: the score would be of what it has learned from: take them out of "
            f"one of the splits ({kept} lists them), or accept it with filter.allow_overlap: true"
        )
    if args.log and args.summary:
        args.log.with_name("overlap.json").unlink(missing_ok=True)


def entries(manifest, parts):
    """The entries of a manifest one by one, with their fingerprints where the audio was listened to."""
    found = [prefixed(listings.fingerprints(Path(part["listing"])), part["prefix"]) for part in parts]
    prints = heapq.merge(*found, key=itemgetter(0))  # as the manifest, sorted by id
    name, frames = next(prints, (None, None))
    before = ""
    for row in manifests.rows(manifest):
        if row["id"] < before:
            raise UserError(f"{manifest}: {row['id']} follows {before}: not a manifest of this pipeline, sorted by id")
        before = row["id"]
        while name is not None and name < row["id"]:
            name, frames = next(prints, (None, None))
        yield {**row, "fingerprint": frames} if name == row["id"] else row
    for _ in prints:  # to the end, where what is damaged or of another listing shows
        pass


def prefixed(prints, prefix):
    return ((prefix + name, frames) for name, frames in prints)


def describe_cases(summaries):
    """A line where some transcripts have capitals or small letters that others lack, and the case is kept."""
    cases = {}
    for split, summary in summaries.items():
        for label, case in summary.get("case", {}).items():
            cases.setdefault(case, []).append(f"{split} ({label})")
    if len(cases) < 2:
        return ""
    found = "; ".join(f"{case}: {', '.join(names)}" for case, names in sorted(cases.items()))
    return f"text.case is keep, and transcripts differ in case, which counts as errors: {found}"


if __name__ == "__main__":
    console.run(main, parser())
