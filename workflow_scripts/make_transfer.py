"""Every model on every test split, a row each: what the model of one data set makes of the test sets of the others."""

from pathlib import Path

import pandas

from rnnt import console, files
from rnnt.data import overlap
from rnnt.evaluation import error_rate, scoring
from rnnt.report import table

COLUMNS = [
    *("trained_on", "dataset", "split", "wer_beam", "wer_beam_low", "wer_beam_high", "interval_by", "seeds"),
    *("wer_beam_sd", "wer_beam_normalized", "best", "remark"),
]


def parser():
    p = console.parser(__doc__)
    p.add_argument(
        "--own", type=Path, nargs="+", required=True, help="DATASET/evaluation/LEG/beam/SPLIT.jsonl, metrics beside"
    )
    p.add_argument(
        "--foreign", type=Path, nargs="*", default=[], help="DATASET/transfer/OTHER/SPLIT.jsonl, metrics beside"
    )
    p.add_argument("--overlap", type=Path, nargs="*", default=[], help="DATASET/transfer/overlap.json")
    p.add_argument(
        "--allow-overlap", nargs="*", default=[], help="data sets that may have learned from test recordings"
    )
    p.add_argument("--output", type=Path, required=True, help="CSV file to write")
    return p


def main(args):
    shared = {path.parts[-3]: files.read_json(path) for path in args.overlap}
    cells = {}
    for path in args.own:
        dataset = table.dataset_of(path.parts[:-4])
        cells.setdefault((dataset, dataset, path.stem), []).append(path)
    for path in args.foreign:
        cells.setdefault((table.dataset_of(path.parts[:-3]), path.parts[-2], path.stem), []).append(path)
    rows = []
    for key in sorted({(dataset, split) for _, dataset, split in cells}):
        column = {model: paths for (model, *tested), paths in sorted(cells.items()) if tuple(tested) == key}
        rows += of_column(*key, column, shared, args.allow_overlap)
    files.write_text(args.output, pandas.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
    for row in rows:
        if row["remark"]:
            console.log.warning("%(trained_on)s on %(dataset)s %(split)s: %(remark)s", row)


def of_column(dataset, split, column, shared, allowed):
    """The rows of one test split: the models' word error rates, and which is the best beyond the interval."""
    found, rows = {}, []
    for model, paths in column.items():
        remark = ""
        if model != dataset and model not in allowed:
            remark = learned(shared[model], f"test_{dataset}/{split}")
        row = {
            "trained_on": model,
            "dataset": dataset,
            "split": split,
            "seeds": len(paths),
            "best": "",
            "remark": remark,
        }
        if not remark:
            rates = [sorted(scoring.read(path), key=lambda row: row["id"]) for path in paths]
            found[model] = error_rate.Seeds(tuple(error_rate.of(rates_of) for rates_of in rates))
            interval = found[model].interval()
            metrics = table.mean([files.read_sealed(path.with_suffix(".json")) for path in paths])
            row |= {
                "wer_beam": table.cell(found[model].percent),
                "wer_beam_low": table.cell(interval.low),
                "wer_beam_high": table.cell(interval.high),
                "interval_by": interval.by,
                "wer_beam_sd": table.cell(found[model].sd),
                "wer_beam_normalized": table.cell(metrics["wer_normalized"]),
            }
        rows.append(row)
    best = min(found, key=lambda model: found[model].percent, default=None)
    others = [found[best].minus(found[model], paired=False).interval for model in found if model != best]
    if others and all(interval.high is not None and interval.high < 0 for interval in others):
        next(row for row in rows if row["trained_on"] == best)["best"] = "yes"
    return rows


def learned(shared, split):
    """Why a model is not scored on a test split: it has learned from recordings of it."""
    pairs = [pair for pair in overlap.with_test(shared) if pair["splits"][1] == split]
    if not pairs:
        return ""
    shared = {name for pair in pairs for _, name, _ in pair["recordings"]}
    places = " and ".join(pair["splits"][0] for pair in pairs)
    return f"not scored: {len(shared)} of its recordings {'is' if len(shared) == 1 else 'are'} in {places}"


if __name__ == "__main__":
    console.run(main, parser())
