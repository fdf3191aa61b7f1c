"""What each part of a recipe brings: a data set as it is against itself without the part, on the same utterances."""

from pathlib import Path

import pandas

from rnnt import console, files
from rnnt.evaluation import error_rate, scoring
from rnnt.report import figures, table

COLUMNS = "dataset name split search wer wer_without difference low high p_value seeds interval_by".split()


def parser():
    p = console.parser(__doc__)
    p.add_argument(
        "--recipe", type=Path, nargs="+", required=True, help="DATASET/evaluation/LEG/SEARCH/SPLIT.jsonl of all seeds"
    )
    p.add_argument(
        "--without", type=Path, nargs="+", required=True, help="the same of each DATASET-without-NAME, in any order"
    )
    p.add_argument("--output", type=Path, required=True, help="CSV file to write, the figure beside it")
    return p


def main(args):
    recipe = {(split, search): errors for (_, split, search), errors in gather(args.recipe).items()}
    rows = [
        {**named(dataset), "split": split, "search": search, **compare(recipe[split, search], without)}
        for (dataset, split, search), without in gather(args.without).items()
    ]
    files.write_text(args.output, pandas.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
    figures.save(figures.ablation(rows), args.output.parent, args.output.stem)
    for row in rows:
        console.log.info(
            "%(split)s, %(search)s: %(wer)s %%, without %(name)s %(wer_without)s %%, a difference of %(difference)s "
            "points (%(interval_by)s), p %(p_value)s",
            row,
        )
    if all(row["seeds"] == 1 for row in rows):
        console.log.warning("one seed each: another may turn a small difference round: see training.seeds")


def gather(paths):
    """The errors of all seeds, by data set, split and search, in the order they are given."""
    found = {}
    for path in paths:
        key = table.dataset_of(path.parts[:-4]), path.stem, path.parts[-2]
        rows = sorted(scoring.read(path), key=lambda row: row["id"])
        found.setdefault(key, []).append(error_rate.of(rows))
    return {key: error_rate.Seeds(tuple(rates)) for key, rates in found.items()}


def named(dataset):
    """The data set, and what is left out: of `digits-without-ctc`."""
    return dict(zip(("dataset", "name"), dataset.split("-without-"), strict=True))


def compare(recipe, without):
    found = without.minus(recipe, paired=False)
    return {
        "wer": table.cell(recipe.percent),
        "wer_without": table.cell(without.percent),
        "difference": table.cell(found.difference),
        "low": table.cell(found.interval.low),
        "high": table.cell(found.interval.high),
        "p_value": f"{found.p_value:.3g}",
        "seeds": len(recipe.rates),
        "interval_by": found.interval.by,
    }


if __name__ == "__main__":
    console.run(main, parser())
