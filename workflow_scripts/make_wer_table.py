"""Collect the metrics of the test splits into a table: CSV, Markdown, and the terminal."""

from pathlib import Path

from rnnt import console, files
from rnnt.report import table


def parser():
    p = console.parser(__doc__)
    p.add_argument("--greedy", type=Path, nargs="+", help="metrics: .../DATASET/evaluation/LEG/greedy/SPLIT.json")
    p.add_argument("--beam", type=Path, nargs="+", help="metrics of the same splits: .../beam/SPLIT.json")
    p.add_argument("--zero-shot", type=Path, nargs="*", default=[], help="the same of the model before training")
    p.add_argument("--csv", type=Path, required=True, help="CSV file to write")
    p.add_argument("--markdown", type=Path, help="Markdown file to write")
    p.add_argument("--show", action="store_true", help="print the CSV file that is there; write nothing")
    return p


def main(args):
    if args.show:
        print(table.excerpt(table.load(args.csv), table.ON_THE_TERMINAL), end="")
        return
    rows, versions, remarks = table.read(args.greedy, args.beam, args.zero_shot)
    remarks = table.notes(rows, versions) + remarks
    files.write_text(args.csv, table.as_csv(rows))
    files.write_text(args.markdown, table.as_markdown(rows, remarks))
    for line in table.excerpt(rows, table.ON_THE_TERMINAL).splitlines():
        console.log.info("%s", line)
    for remark in remarks:
        console.log.warning("%s", remark)


if __name__ == "__main__":
    console.run(main, parser())
