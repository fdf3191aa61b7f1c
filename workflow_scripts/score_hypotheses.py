"""Score a file of hypotheses; never needs the model."""

from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests, overlap
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, scoring


def parser():
    p = console.parser(__doc__)
    p.add_argument("--hypotheses", type=Path, required=True, help="manifest with `pred_text`")
    p.add_argument("--manifest", type=Path, required=True, help="the split that was transcribed")
    p.add_argument("--overlap", type=Path, help="what the splits share, from compare_splits.py")
    p.add_argument("--name", help="what the split is called there (default: as --manifest)")
    p.add_argument("--glm", type=Path, help="mapping file to score by as sclite does, for utterances with an `stm`")
    p.add_argument("--language", default="en", help="BCP 47 tag of the transcripts: how they are normalised")
    p.add_argument("--workers", type=int, default=1, help="processes")
    p.add_argument("--decoding", type=Path, required=True, help="how they were made, from transcribe_split.py")
    p.add_argument("--output", type=Path, required=True, help="JSON file for the metrics")
    return p


def main(args):
    rows = scoring.read(args.hypotheses)
    scoring.check_complete(rows, manifests.read(args.manifest), str(args.hypotheses))
    decoding = files.read_json(args.decoding)
    if decoding.get("hypotheses_sha256") != files.sha256(args.hypotheses):
        raise UserError(f"{args.hypotheses}: changed since it was decoded: {scoring.AGAIN}")
    shared = files.read_json(args.overlap) if args.overlap else overlap.NOTHING
    split = args.name or args.manifest.stem
    seen = overlap.seen_texts(shared, split)
    metrics = scoring.score(rows, decoding, args.workers, args.glm, args.language, seen)
    metrics["shared"] = overlap.describe_split(shared, split)
    files.write_sealed(args.output, metrics)
    console.log.info(
        "%s, %s, step %d: WER %.2f %% (%s), CER %.2f %%, RTFx %.0f",
        args.hypotheses.stem,
        metrics["strategy"],
        metrics["checkpoint"]["step"],
        metrics["wer"],
        error_rate.Interval(metrics["wer_low"], metrics["wer_high"], metrics["interval_by"]),
        metrics["cer"],
        metrics["rtfx"],
    )


if __name__ == "__main__":
    console.run(main, parser())
