"""Show how far each training is: leg, step, loss, WER, time left, where it runs. Reads files alone, writes none."""

from pathlib import Path

import pandas

from rnnt import console
from rnnt.report import status


def parser():
    p = console.parser(__doc__)
    p.add_argument("--results", type=Path, default="results", help="folder of the results")
    return p


def main(args):
    table = pandas.DataFrame(status.rows(args.results), columns=status.HEADINGS)
    print(table.loc[:, (table != "").any()].to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    console.run(main, parser())
