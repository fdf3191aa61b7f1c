"""Compare systems on the same test utterances: paired differences of WER, intervals and p-values, over all seeds.

For two runs, kept in two folders: --hypotheses RUN1/digits/evaluation/leg_3/beam/test.jsonl RUN2/digits/...
"""

from itertools import combinations
from pathlib import Path

import pandas

from rnnt import console, files
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, scoring
from rnnt.report import table

COLUMNS = "dataset split a b wer_a wer_b difference low high p_value interval_by".split()
ORDER = ["zero-shot", "greedy", "beam_without_lm", "beam"]
SYSTEMS = {("0", "beam"): "zero-shot"}  # leg and search; others are called by their search


def parser():
    p = console.parser(__doc__)
    p.add_argument(
        "--hypotheses", type=Path, nargs="+", required=True, help="RUN/DATASET/evaluation/LEG/SEARCH/SPLIT.jsonl"
    )
    p.add_argument("--output", type=Path, required=True, help="CSV file to write")
    return p


def main(args):
    systems = gather([load(path) for path in args.hypotheses])
    rows = [compare(a, b) for a, b in combinations(sorted(systems, key=order), 2) if are_compared(a, b)]
    files.write_text(args.output, pandas.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
    if not rows:
        console.log.warning("nothing to compare: no two of these files are of one test set and search")
    for row in rows:
        console.log.info(
            "%(dataset)s %(split)s: %(b)s against %(a)s: %(difference)s points (%(interval)s), p %(p_value)s", row
        )


def load(path):
    *place, _, leg, search, _ = path.absolute().parts
    if len(place) < 2 or search not in ORDER:
        raise UserError(f"{path}: expected RUN/DATASET/evaluation/LEG/greedy or beam/SPLIT.jsonl")
    dataset = table.dataset_of(tuple(place))
    up = 4 if place[-1] == dataset else 5
    rows = sorted(scoring.read(path), key=lambda row: row["id"])
    return {
        "run": str(path.parents[up]) if len(path.parts) > up + 1 else ".",
        "dataset": dataset,
        "split": path.stem,
        "leg": leg,
        "name": SYSTEMS.get((leg.removeprefix("leg_"), search), search),
        "references": [(row["id"], row["text"]) for row in rows],
        "errors": error_rate.of(rows),
    }


def gather(found):
    """One system of the same recipe's seeds, in the order they are given."""
    systems = {}
    for one in found:
        key = (*(one[name] for name in ("run", "dataset", "split", "leg", "name")), tuple(one["references"]))
        systems.setdefault(key, {**one, "errors": []})["errors"].append(one["errors"])
    return [{**one, "errors": error_rate.Seeds(tuple(one["errors"]))} for one in systems.values()]


def order(system):
    return system["dataset"], system["split"], ORDER.index(system["name"])


def are_compared(a, b):
    """Greedy search and the untrained model with the beam search; the same search of two runs, or of two models.

    Of two data sets in one run the beam search alone.
    """
    if a["references"] != b["references"] or not a["errors"].rates[0].words.sum():
        return False
    if of_one_model(a, b):
        return b["name"] == "beam"
    return a["name"] == b["name"] and (b["name"] == "beam" or a["run"] != b["run"])


def of_one_model(a, b):
    return all(a[key] == b[key] for key in ("run", "dataset", "split"))


def label(system, other):
    """What tells it from the other."""
    if of_one_model(system, other):
        return system["name"]
    run = f"{system['run']}/" if system["run"] != other["run"] else ""
    return f"{run}{system['dataset']} {system['split']} {system['name']}"


def compare(a, b):
    found = b["errors"].minus(a["errors"], paired=of_one_model(a, b))
    return {
        "dataset": a["dataset"],
        "split": a["split"],
        "a": label(a, b),
        "b": label(b, a),
        "wer_a": f"{a['errors'].percent:.2f}",
        "wer_b": f"{b['errors'].percent:.2f}",
        "difference": f"{found.difference:.2f}",
        "low": table.cell(found.interval.low),
        "high": table.cell(found.interval.high),
        "p_value": f"{found.p_value:.3g}",
        "interval_by": found.interval.by,
        "interval": found.interval,
    }


if __name__ == "__main__":
    console.run(main, parser())
