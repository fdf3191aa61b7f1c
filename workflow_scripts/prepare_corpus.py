"""Fetch or make the audio of a source; what is already there is kept."""

import hashlib
import json
import os
from pathlib import Path

from rnnt import alone, config, console, corpora, files


def parser():
    p = console.parser(__doc__)
    p.add_argument("--source", type=json.loads, required=True, help="the source's section of the configuration, JSON")
    p.add_argument("--splits", nargs="+", required=True, help="splits of the source that are needed")
    p.add_argument(
        "--folder", type=Path, required=True, help="where downloads go; each source gets a folder of its own"
    )
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    p.add_argument("--output", type=Path, required=True, help="JSON file to write: the source and its folder")
    return p


def main(args):
    # A changed source gets another folder: audio of two sources is never mixed.
    source = {key: value for key, value in args.source.items() if key != "rules"}
    keys = getattr(corpora.module(source), "FOLDER_KEYS", source)
    key = hashlib.sha256(config.as_argument({k: source[k] for k in keys}).encode()).hexdigest()[:10]
    folder = args.folder / f"{source['type']}-{key}"
    source["splits"] = args.splits
    folder.mkdir(parents=True, exist_ok=True)
    with alone.held(folder / ".lock", str(folder)):
        corpora.module(source).prepare(source, folder, args.workers, console.progress)
    files.write_json(args.output, {"source": source, "folder": str(folder)})


if __name__ == "__main__":
    console.run(main, parser())
