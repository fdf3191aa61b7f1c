"""Collect the metrics of the test splits into a table: CSV, Markdown, and the terminal."""

from pathlib import Path

from rnnt import console, files
from rnnt.report import table


def parser():
    p = console.parser(__doc__)
    p.add_argument("--greedy", type=Path, nargs="+", help="metrics: .../DATASET/evaluation/LEG/greedy/SPLIT.json")
    p.add_argument("--beam", type=Path, nargs="+", help="metrics of the same splits: .../beam/SPLIT.json")
    p.add_argument("--zero-shot", type=Path, nargs="*", default=[], help="the same of the model before training")
    p.add_argument(
        "--splits", type=Path, nargs="*", default=[], help="what score_split.py made of the seeds of a split"
    )
    p.add_argument("--csv", type=Path, required=True, help="CSV file to write")
    p.add_argument("--markdown", type=Path, help="Markdown file to write")
    p.add_argument("--runs", type=Path, help="CSV file to write with a row for each seed")
    p.add_argument("--show", action="store_true", help="print the CSV file that is there; write nothing")
    return p


def main(args):
    if args.show:
        print(table.excerpt(table.load(args.csv), table.ON_THE_TERMINAL), end="")
        return
    found = table.read(args.greedy, args.beam, args.zero_shot, args.splits)
    rows, remarks = table.rows(found), table.notes(found)
    files.write_text(args.csv, table.as_csv(rows))
    files.write_text(args.markdown, table.as_markdown(rows, remarks))
    if args.runs:
        files.write_text(args.runs, table.as_csv(table.runs(found), table.RUN_COLUMNS))
    for line in table.excerpt(rows, table.ON_THE_TERMINAL).splitlines():
        console.log.info("%s", line)
    for remark in remarks:
        console.log.warning("%s", remark)


if __name__ == "__main__":
    console.run(main, parser())
