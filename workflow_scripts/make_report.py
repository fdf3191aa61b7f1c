"""Collect the results into one HTML page that needs no network, with figures and audio inside."""

from pathlib import Path

from rnnt import console, files
from rnnt.report import page


def parser():
    p = console.parser(__doc__)
    p.add_argument("--table", type=Path, required=True, help="CSV file from make_wer_table.py")
    p.add_argument("--comparisons", type=Path, help="CSV file with the tests of differences; may be missing")
    p.add_argument("--runs", type=Path, help="CSV file with the rows of each seed; may be missing")
    p.add_argument("--ablation", type=Path, help="CSV file from make_ablation.py; may be missing")
    p.add_argument("--transfer", type=Path, help="CSV file from make_transfer.py; may be missing")
    p.add_argument("--provenance", type=Path, help="JSON file with what the results were made from; may be missing")
    p.add_argument("--results", type=Path, required=True, help="folder with one folder per data set")
    p.add_argument("--datasets", nargs="+", required=True, metavar="NAME", help="data sets to show, in this order")
    p.add_argument(
        "--suspects", type=Path, nargs="*", default=[], help="DATASET/suspects.tsv of the data sets with one"
    )
    p.add_argument(
        "--augmented", type=Path, nargs="*", default=[], help="DATASET/augmentation of the data sets with one"
    )
    p.add_argument("--output", type=Path, required=True, help="HTML file to write")
    p.add_argument("--figures", type=Path, required=True, help="folder for the figures as PNG and SVG files")
    return p


def main(args):
    runs = page.read_comparisons(args.runs, args.datasets)
    content = page.content(args.results, args.datasets, page.read_table(args.table, args.datasets), runs)
    content["ablation"] = page.ablation(args.ablation, content["rows"])
    content["transfer"] = page.transfer(args.transfer)
    content["comparisons"] = page.read_comparisons(args.comparisons, args.datasets)
    content["suspects"] = {path.parent.name: page.suspects(path) for path in args.suspects}
    content["augmented"] = {path.parent.name: page.augmented(path) for path in args.augmented}
    content["provenance"] = page.read_if_there(args.provenance)
    with files.whole_folder(args.figures) as folder:
        files.write_text(args.output, page.render(content, folder))
    console.log.info(
        "%s: %d test splits, %.1f MB; figures in %s",
        args.output,
        len(content["splits"]),
        args.output.stat().st_size / 1e6,
        args.figures,
    )


if __name__ == "__main__":
    console.run(main, parser())
