"""A test split's word error rate over all seeds, its interval, and what training changed; never needs a model."""

from pathlib import Path

from rnnt import console, files
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, over_seeds, scoring


def parser():
    p = console.parser(__doc__)
    p.add_argument("--beam", type=Path, nargs="+", required=True, help="hypotheses of each seed's model, SPLIT.jsonl")
    p.add_argument("--seeds", type=int, nargs="+", required=True, help="their seeds, in that order")
    p.add_argument("--zero-shot", type=Path, nargs="*", default=[], help="hypotheses of the model before training")
    p.add_argument("--without-lm", type=Path, nargs="*", default=[], help="those of --beam without language model")
    p.add_argument("--glm", type=Path, help="mapping file to score by as sclite does, for utterances with an `stm`")
    p.add_argument("--output", type=Path, required=True, help="JSON file for the metrics")
    return p


def main(args):
    if len(args.beam) != len(args.seeds):
        raise UserError(f"--seeds: {len(args.seeds)} seeds of {len(args.beam)} files of hypotheses")
    given = args.beam, args.zero_shot, args.without_lm
    rows, before, without_lm = ([by_id(path) for path in paths] for paths in given)
    found = over_seeds.score(rows, args.seeds, before[0] if before else None, args.glm, without_lm)
    found["hypotheses_sha256"] = [files.sha256(path) for paths in given for path in paths]
    files.write_sealed(args.output, found)
    interval = error_rate.Interval(found["wer_low"], found["wer_high"], found["interval_by"])
    console.log.info("%s: WER %.2f %% (%s)", args.output.stem, found["wer"], interval)
    if line := over_seeds.describe_change(args.output.stem, found):
        console.log.warning("%s", line)
    if line := over_seeds.describe_language_model(args.output.stem, found):
        console.log.info("%s", line)


def by_id(path):
    return sorted(scoring.read(path), key=lambda row: row["id"])


if __name__ == "__main__":
    console.run(main, parser())
