"""Add the interim and final word error rates and the predictions to a data set's tracked run."""

import json
from pathlib import Path

from rnnt import console, files, tracking
from rnnt.errors import UserError
from rnnt.evaluation import scoring
from rnnt.report import table


def parser():
    p = console.parser(__doc__)
    p.add_argument("--greedy", type=Path, nargs="+", help="metrics: .../DATASET/evaluation/LEG/greedy/SPLIT.json")
    p.add_argument("--beam", type=Path, nargs="+", help="metrics of the same splits: .../beam/SPLIT.json")
    p.add_argument("--zero-shot", type=Path, nargs="*", default=[], help="the same of the model before training")
    p.add_argument("--interim", type=Path, nargs="*", default=[], help="metrics of the validation splits, every leg")
    p.add_argument("--hypotheses", type=Path, nargs="+", help="what the predictions are of: .../beam/SPLIT.jsonl")
    p.add_argument("--tracking", type=json.loads, required=True, help="the config's `wandb` and `tensorboard`, JSON")
    p.add_argument("--licensed", action="store_true", help="transcripts are for licensees alone: W&B gets none")
    p.add_argument("--runs", type=Path, required=True, help="folder with the training's runs")
    p.add_argument("--output", type=Path, required=True, help="JSON file to write: what was logged, and where")
    return p


def main(args):
    if not tracking.is_on(args.tracking):
        raise UserError("nothing to track with: set wandb.mode or tensorboard")
    try:
        report = track(args)
    except Exception as error:  # The table waits for this, and is worth more than its copy.
        report = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
    if "error" in report:
        console.log.warning(
            "not all results were tracked: %s: `snakemake --forcerun track_results` tries again", report["error"]
        )
    files.write_json(args.output, report)


def track(args):
    """Log everything; returns what was logged where."""
    rows = table.rows(table.read(args.greedy, args.beam, args.zero_shot))
    step = int(rows[0]["train_steps"])
    interim = [(path.stem, files.read_sealed(path)) for path in args.interim]
    predictions = [row for path in args.hypotheses for row in scoring.predictions(path.stem, scoring.read(path))]
    with tracking.run(args.tracking, args.runs, args.label, offline_if_unreachable=True) as run:
        run.interim(interim)
        for row in rows:
            run.log(table.final_values(row), step)
        run.table("wer_table", rows, step)
        run.table("predictions", predictions, step, leaves_the_machine=not args.licensed)
    return {
        "id": run.identity,
        **{tracker.name: tracker.where for tracker in run.trackers},
        **({"error": "; ".join(f"{name}: {reason}" for name, reason in run.errors.items())} if run.errors else {}),
        "interim": {f"leg_{metrics['checkpoint']['leg']}/{split}": metrics["wer"] for split, metrics in interim},
        "rows": len(rows),
        "predictions": len(predictions),
    }


if __name__ == "__main__":
    console.run(main, parser())
