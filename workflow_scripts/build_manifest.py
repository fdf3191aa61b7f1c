"""Make the NeMo manifest of one split of a data set: clean its texts, filter training and validation, never test."""

import json
import os
from itertools import chain, islice
from pathlib import Path

from rnnt import console, files
from rnnt.data import audio, listings, manifests, transcripts
from rnnt.errors import UserError
from rnnt.streams import Rows

# What is kept, and may be meant so.
PROBLEMS = {
    "silent": "silence, every sample the same",
    "channels cancel each other": "channels that cancel each other when they are mixed, so that nothing is heard: "
    "`ffmpeg -i IN -af 'pan=mono|c0=c0' OUT.flac` takes the first",
    "clipped": f"clipped, more than {audio.CLIPPED:.1%} of the samples at full scale",
    manifests.UNSTATED: "in a file that does not say how long it is (written to a pipe?), so that nobody can tell "
    "whether it is whole; `ffmpeg -i IN OUT.flac` makes one that does",
}


def parser():
    p = console.parser(__doc__)
    p.add_argument("--split", required=True, help="our split: `test...` is kept whole")
    p.add_argument(
        "--parts",
        type=json.loads,
        required=True,
        help="JSON list of the splits of sources that it is made of: `label`, `listing` (what list_split.py wrote), "
        "`prefix` of the ids; for a share `hours` or `weight`; `rules`",
    )
    p.add_argument("--case", choices=["lower", "keep"], default="lower", help="case of the transcripts")
    p.add_argument("--rules", default="auto", help="cleaning rules, `auto`: those of each source")
    p.add_argument("--language", default="en", help="BCP 47 tag: how lower case is made")
    p.add_argument("--min-duration", type=float, default=0.1, help="shortest training utterance, seconds")
    p.add_argument("--max-duration", type=float, default=20.0, help="longest training utterance, seconds")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    p.add_argument("--output", type=Path, required=True, help="manifest to write")
    p.add_argument("--summary", type=Path, required=True, help="JSON file: what was kept, dropped and cleaned")
    return p


def main(args):
    kept, dropped, cleaning, cases, folder = [], {}, {}, {}, args.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        entries, cleaned = read_part(part, args)
        if args.split.startswith("test"):
            lost, entries = {}, Rows(folder, entries)
            manifests.keep_all(entries, args.split)
        else:
            limits = args.min_duration, args.max_duration
            entries, lost = manifests.filter_for_training(entries, *limits, folder)
            entries = Rows(folder, entries)
        if args.case == "keep":
            texts = (entry.get("text", "") for entry in chain(entries, *lost.values()))
            cases[part["label"]] = transcripts.case_of(texts)
        for rule, did in cleaned.items():
            total = cleaning.setdefault(rule, {"utterances": 0, "examples": []})
            total["utterances"] += did["utterances"]
            total["examples"] = (total["examples"] + did["examples"])[: manifests.EXAMPLES]
        if "hours" in part:
            entries, others = manifests.draw(entries, part["hours"], part["label"], folder)
            lost[f"not drawn, {part['hours']:g} hours of {part['label']}"] = others
        for reason, rows in lost.items():
            dropped.setdefault(reason, []).append(rows)
        kept.append(entries)
    weights = [part.get("weight") for part in args.parts]
    for entries, part in zip(kept, args.parts, strict=True):
        if not entries and (any(weights) or part.get("hours")):
            raise UserError(f"splits.{args.split}: {part['label']}: nothing is left of it to draw from")
    notes = weigh(kept, args.parts, weights) if any(weights) else [{}] * len(kept)
    dropped = {reason: Rows(folder, manifests.merge(parts)) for reason, parts in dropped.items()}
    summary = manifests.summary(manifests.check_ids(merged(kept, notes)), dropped, cleaning)
    if args.case == "keep":
        summary["case"] = cases
    console.log.info("%s: %s", args.split, describe(summary))
    warn(args.split, dropped, summary)
    if not any(kept):
        found = sum(map(len, dropped.values()))
        raise UserError(
            f"split {args.split}: nothing is left of {found} utterances ({describe(summary)}): look at the source's "
            "listing, filter.max_duration and text.rules"
        )
    if args.split.startswith("test") and not any(entry["text"] for entry in chain(*kept)):
        raise UserError(
            f"split {args.split}: none of its {summary['utterances']} references has a word: there is nothing to score"
        )
    manifests.write(args.output, merged(kept, notes))
    files.write_json(args.summary, summary)


def read_part(part, args):
    """Cleaned entries of a split of a source, one by one, and what cleaning did so far."""
    listing = listings.read(Path(part["listing"]))
    tell_unlisted(listing, args.split)
    rules = part.get("rules", "auto") if args.rules == "auto" else args.rules
    entries, cleaning = manifests.clean(listing.entries, args.case, rules, args.language, args.workers)
    if part.get("prefix"):
        entries = ({**entry, "id": part["prefix"] + entry["id"]} for entry in entries)
    return entries, cleaning


def merged(kept, notes):
    """The entries of all parts, each with what is to be noted in those of its part, sorted by id."""
    return manifests.merge(map(noted, kept, notes))


def noted(entries, note):
    return ({**entry, **note} for entry in entries) if note else entries


def weigh(kept, parts, weights):
    """What to note in the entries of each part: which it is, and how often an epoch has them."""
    notes = []
    for part, times in zip(parts, manifests.weigh(list(zip(kept, weights, strict=True))), strict=True):
        notes.append({"part": part["label"], "times": round(times, 6)})
        if times > 1:
            console.log.info("%s: an epoch has each utterance %.2f times, for its weight", part["label"], times)
    return notes


def tell_unlisted(listing, split):
    """Audio without a row is a warning; of a test split it would be missing from the score."""
    if not listing.unlisted:
        return
    example = listing.unlisted_example
    message = f"split {split}: {listing.unlisted} audio files are in no row of the listing, such as {example}"
    if split.startswith("test") and not listing.allow_unlisted:
        raise UserError(
            f"{message}: the test set would be scored without them: list them, move them away, or accept it with "
            "source.allow_unlisted: true"
        )
    console.log.warning("%s", message)


def warn(split, dropped, summary):
    """A line for each file that can't be used, five of a reason, and one for each problem of the sound."""
    for reason, entries in dropped.items():
        lost = (entry for entry in entries if "unreadable" in entry)
        for entry in islice(lost, 5):
            console.log.warning("%s: dropped: %s", entry["origin"], entry["unreadable"])
        if more := sum(1 for _ in lost):
            console.log.warning("%s: %d more are dropped: %s", split, more, reason)
    for problem, found in summary["sound"].items():
        more = ", ..." if found["utterances"] > len(found["examples"]) else ""
        console.log.warning(
            "%s: %d of %d utterances: %s: %s%s",
            split,
            found["utterances"],
            summary["utterances"],
            PROBLEMS[problem],
            ", ".join(found["examples"]),
            more,
        )


def describe(summary):
    dropped = ", ".join(f"{size['utterances']} {reason}" for reason, size in summary["dropped"].items())
    return f"{summary['utterances']} utterances, {summary['hours']:.2f} h kept; dropped: {dropped or 'none'}"


if __name__ == "__main__":
    console.run(main, parser())
