"""Write down what the table rests on: configuration, hashes, seeds, versions, devices."""

import json
import platform
from pathlib import Path

from rnnt import console, files
from rnnt.report import table

KEYS = ("hypotheses_sha256", "checkpoint", "versions", "device", "scorer", "lm_sha256", "glm_sha256")


def parser():
    p = console.parser(__doc__)
    p.add_argument("--config", type=json.loads, required=True, help="the whole configuration, JSON")
    p.add_argument("--results", type=Path, default=Path("results"), help="folder with a folder for each data set")
    p.add_argument("--metrics", type=Path, nargs="+", required=True, help="every metrics file behind the table")
    p.add_argument("--base-models", type=Path, nargs="*", default=[], help=".nemo files that training started from")
    p.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return p


def main(args):
    datasets = {}
    for path in args.metrics:
        *before, _, leg, search, _ = path.parts
        dataset = table.dataset_of(tuple(before))
        seed = "" if before[-1] == dataset else f"{before[-1]}/"
        folder = args.results / dataset
        metrics = files.read_sealed(path)
        about = datasets.setdefault(
            dataset,
            {
                "manifests": {p.stem: files.sha256(p) for p in sorted((folder / "manifests").glob("*.jsonl"))},
                "tokenizer": files.sha256(folder / "tokenizer/tokenizer.model"),
                "evaluations": {},
            },
        )
        about["evaluations"][f"{seed}{leg}/{search}/{path.stem}"] = {
            key: metrics[key] for key in KEYS if key in metrics
        }
    code = files.code_version()
    files.write_json(
        args.output,
        {
            "code_version": code,
            "code_changed_since_commit": code.endswith("-dirty"),
            "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "base_models": {str(path): files.sha256(path) for path in args.base_models},
            "datasets": datasets,
            "config": args.config,
        },
    )


if __name__ == "__main__":
    console.run(main, parser())
