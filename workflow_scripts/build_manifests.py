"""List the utterances of every split as NeMo manifests; filter training and validation, never test."""

import json
import os
from dataclasses import replace
from pathlib import Path

from rnnt import console, corpora, files
from rnnt.corpora import published
from rnnt.data import audio, manifests, overlap
from rnnt.errors import UserError

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
    p.add_argument("--corpus", type=Path, required=True, help="what prepare_corpus.py wrote")
    p.add_argument("--splits", type=json.loads, required=True, help="our split: the source's split or splits, JSON")
    p.add_argument("--case", choices=["lower", "keep"], default="lower", help="case of the transcripts")
    p.add_argument("--rules", default="auto", help="cleaning rules, `auto`: those of the source")
    p.add_argument("--language", default="en", help="BCP 47 tag: how lower case is made")
    p.add_argument("--min-duration", type=float, default=0.1, help="shortest training utterance, seconds")
    p.add_argument("--max-duration", type=float, default=20.0, help="longest training utterance, seconds")
    p.add_argument("--headers-only", action="store_true", help="do not decode the audio, believe its headers")
    p.add_argument("--allow-overlap", action="store_true", help="go on where a recording is in test and elsewhere too")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    p.add_argument("--output", type=Path, required=True, help="folder for SPLIT.jsonl, summary.json, overlap.json")
    return p


def main(args):
    corpus = files.read_json(args.corpus)
    source = corpora.module(corpus["source"])
    summaries, splits = {}, {}
    for split, names in args.splits.items():
        found, cleaning = read_split(source, corpus, split, [names] if isinstance(names, str) else names, args)
        if split.startswith("test"):
            kept, dropped = manifests.keep_all(found, split), {}
        else:
            kept, dropped = manifests.filter_for_training(found, args.min_duration, args.max_duration)
        summaries[split] = manifests.summary(kept, dropped, cleaning)
        console.log.info("%s: %s", split, describe(summaries[split]))
        warn(split, dropped, summaries[split])
        if not kept:
            raise UserError(
                f"split {split}: nothing is left of {len(found)} utterances ({describe(summaries[split])}): look at "
                "the source's listing, filter.max_duration and text.rules"
            )
        if split.startswith("test") and not any(entry["text"] for entry in kept):
            raise UserError(f"split {split}: none of its {len(kept)} references has a word: there is nothing to score")
        manifests.write(args.output / f"{split}.jsonl", kept)
        splits[split] = kept
    files.write_json(args.output / "summary.json", summaries)
    tell_overlap(overlap.find(splits), args)


def tell_overlap(found, args):
    """Write overlap.json and say what it has; a recording that is in test and elsewhere ends the run."""
    files.write_json(args.output / "overlap.json", found)
    for line in overlap.describe(found):
        console.log.warning("%s", line)
    shared = overlap.with_test(found)
    if shared and not args.allow_overlap:
        kept = args.output / "overlap.json"
        if args.log:  # Snakemake deletes what a failed job wrote, but not its logs.
            kept = args.log.with_name("overlap.json")
            files.write_json(kept, found)
        raise UserError(
            f"{overlap.describe_pair(shared[0])[0]}: the score would be of what it has learned from: take them out of "
            f"one of the splits ({kept} lists them), or accept it with filter.allow_overlap: true"
        )


def read_split(source, corpus, split, names, args):
    """Entries of one or several splits of the source, compared with their published size, and what cleaning did."""
    entries, cleaning = [], {}
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"splits.{split}: {name} is named twice")
        utterances = source.utterances(corpus["source"], name, Path(corpus["folder"]))
        if len(names) > 1:
            utterances = (replace(utterance, id=f"{name}/{utterance.id}") for utterance in utterances)
        label = f"read headers of {name}" if args.headers_only else f"read {name}"
        found, done = manifests.entries(
            utterances, args.case, args.workers, label, args.rules, args.language, read_samples=not args.headers_only
        )
        expected = getattr(source, "EXPECTED", {}).get(name)
        if expected and not corpus["source"]["allow_subset"]:
            hours = sum(entry.get("duration", 0) for entry in found) / 3600
            published.check_counts(len(found), hours, expected, f"{corpus['source']['type']} {name}")
        if hasattr(source, "unlisted"):
            listed = [entry["audio_filepath"] for entry in found]
            tell_unlisted(source.unlisted(corpus["source"], name, listed), split, corpus["source"])
        entries += found
        for rule, did in done.items():
            total = cleaning.setdefault(rule, {"utterances": 0, "examples": []})
            total["utterances"] += did["utterances"]
            total["examples"] = (total["examples"] + did["examples"])[: manifests.EXAMPLES]
    return sorted(entries, key=lambda entry: entry["id"]), cleaning


def tell_unlisted(audio, split, source):
    """Audio without a row is a warning; of a test split it would be missing from the score."""
    if not audio:
        return
    first = os.fsencode(audio[0]).decode("utf-8", "replace")
    message = f"split {split}: {len(audio)} audio files are in no row of the listing, such as {first}"
    if split.startswith("test") and not source.get("allow_unlisted"):
        raise UserError(
            f"{message}: the test set would be scored without them: list them, move them away, or accept it with "
            "source.allow_unlisted: true"
        )
    console.log.warning("%s", message)


def warn(split, dropped, summary):
    """A line for each file that can't be used, five of a reason, and one for each problem of the sound."""
    for reason, entries in dropped.items():
        lost = [entry for entry in entries if "unreadable" in entry]
        for entry in lost[:5]:
            console.log.warning("%s: dropped: %s", entry["origin"], entry["unreadable"])
        if len(lost) > 5:
            console.log.warning("%s: %d more are dropped: %s", split, len(lost) - 5, reason)
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
