"""Make a leg of the pretrained model as it is, so that it is evaluated like every other."""

from pathlib import Path

from rnnt import console, files


def parser():
    p = console.parser(__doc__)
    p.add_argument("--base-model", type=Path, required=True, help=".nemo file")
    p.add_argument("--name", required=True, help="what the configuration calls it")
    p.add_argument("--output", type=Path, required=True, help="folder to write: model.nemo, leg.json")
    return p


def main(args):
    about = {"model": args.name, "leg": 0, "legs": 0, "step": 0, "fingerprint": files.sha256(args.base_model)}
    with files.whole_folder(args.output) as folder:
        files.link(args.base_model, folder / "model.nemo")
        files.write_json(folder / "leg.json", {**about, "code_version": files.code_version()})


if __name__ == "__main__":
    console.run(main, parser())
