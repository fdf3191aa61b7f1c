"""Write utterances of training as its first epoch has them, to listen to, and a list of what was done to each."""

import json
from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests
from rnnt.training import augmentation


def parser():
    p = console.parser(__doc__)
    p.add_argument("--manifest", type=Path, required=True, help="training manifest")
    p.add_argument("--augmentation", type=json.loads, required=True, help="what of `training.augmentation` is on, JSON")
    p.add_argument("--seed", type=int, required=True, help="of the training")
    p.add_argument("--utterances", type=int, default=10, help="how many at most")
    p.add_argument("--output", type=Path, required=True, help="folder to write: flac files, and list.tsv")
    return p


def main(args):
    with files.whole_folder(args.output) as folder:
        rows = augmentation.preview(
            manifests.read(args.manifest), args.augmentation, args.seed, args.utterances, folder
        )
        files.write_text(folder / augmentation.LIST, augmentation.as_tsv(rows))
    console.log.info("%s: %d utterances; %s", args.output, len(rows), augmentation.describe(args.augmentation))


if __name__ == "__main__":
    console.run(main, parser())
