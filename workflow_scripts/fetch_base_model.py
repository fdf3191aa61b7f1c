"""Download a pretrained model by its NeMo or Hugging Face name."""

from pathlib import Path

from rnnt import console


def parser():
    p = console.parser(__doc__)
    p.add_argument("--name", required=True, help="such as stt_en_contextnet_1024")
    p.add_argument("--output", type=Path, required=True, help=".nemo file to write")
    return p


def main(args):
    from rnnt.training import models

    models.fetch(args.name, args.output)


if __name__ == "__main__":
    console.run(main, parser())
