"""Score a file of hypotheses; never needs the model."""

from pathlib import Path

from rnnt import console, files, scoring


def parser():
    p = console.parser(__doc__)
    p.add_argument("--hypotheses", type=Path, required=True, help="manifest with `pred_text`")
    p.add_argument("--decoding", type=Path, required=True, help="how they were made, from transcribe_split.py")
    p.add_argument("--output", type=Path, required=True, help="JSON file for the metrics")
    return p


def main(args):
    metrics = scoring.score(files.read_jsonl(args.hypotheses), files.read_json(args.decoding))
    files.write_json(args.output, metrics)
    console.log.info(
        "%s, %s, step %d: WER %.2f %%, CER %.2f %%, RTFx %.0f",
        args.hypotheses.stem,
        metrics["strategy"],
        metrics["checkpoint"]["step"],
        metrics["wer"],
        metrics["cer"],
        metrics["rtfx"],
    )


if __name__ == "__main__":
    console.run(main, parser())
