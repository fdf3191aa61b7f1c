"""Take the leg with the lowest word error rate of the validation split, the later of two alike."""

import shutil
from pathlib import Path

from rnnt import console, files


def parser():
    p = console.parser(__doc__)
    p.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="the finished legs' folders")
    p.add_argument("--metrics", type=Path, nargs="+", required=True, help="metrics of greedy search after each of them")
    p.add_argument("--output", type=Path, required=True, help="folder to write: the leg's, hard-linked where it can be")
    return p


def main(args):
    legs = [files.read_json(path / "leg.json") for path in args.checkpoints]
    rates = [files.read_sealed(path)["wer"] for path in args.metrics]
    place = min(range(len(legs)), key=lambda number: (rates[number], -legs[number]["leg"]))
    chosen = {str(leg["leg"]): rate for leg, rate in zip(legs, rates, strict=True)}
    # Not the time that Snakemake notes in a folder: it would set that of the leg too.
    ignored = shutil.ignore_patterns(".snakemake_timestamp")
    with files.whole_folder(args.output) as folder:
        shutil.copytree(args.checkpoints[place], folder, copy_function=files.link, ignore=ignored, dirs_exist_ok=True)
        files.write_json(
            folder / "leg.json", {**legs[place], "selected": {"split": args.metrics[0].stem, "wer": chosen}}
        )
    shown = ", ".join(f"leg {leg} {rate:.2f} %" for leg, rate in chosen.items())
    console.log.info("leg %d is taken; WER of %s: %s", legs[place]["leg"], args.metrics[0].stem, shown)


if __name__ == "__main__":
    console.run(main, parser())
