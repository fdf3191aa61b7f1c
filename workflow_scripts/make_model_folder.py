"""Gather a trained model for use and publication: model.nemo, its tokenizer, a Hugging Face model card, and the form of
Transformers where there is one."""

import json
import shutil
from pathlib import Path

from rnnt import console, files
from rnnt.data import tokenizers
from rnnt.errors import UserError
from rnnt.report import model_card, table


def parser():
    p = console.parser(__doc__)
    p.add_argument("--checkpoint", type=Path, required=True, help="a finished leg: folder with model.nemo, leg.json")
    p.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model, vocab.txt")
    p.add_argument("--manifests", type=Path, required=True, help="folder with summary.json, overlap.json")
    p.add_argument("--table", type=Path, required=True, help="CSV table, a row for each seed, of the data set --label")
    p.add_argument("--splits", type=Path, nargs="*", default=[], help="what score_split.py made of all seeds")
    p.add_argument("--transformers", type=Path, required=True, help="what make_transformers_form.py made")
    p.add_argument("--config", type=json.loads, required=True, help="the data set's sections of the config, JSON")
    p.add_argument(
        "--output", type=Path, required=True, help="folder to write: model.nemo, tokenizer/, transformers/, README.md"
    )
    return p


def main(args):
    check_replaceable(args.output)
    model, vocabulary = args.checkpoint / "model.nemo", args.tokenizer / "tokenizer.model"
    for path in (model, vocabulary, args.tokenizer / "vocab.txt"):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    if tokenizers.from_nemo(model, args.config.get("text", {}).get("language")) != vocabulary.read_bytes():
        raise UserError(f"{vocabulary}: not the tokenizer inside {model}")
    card = model_card.write(
        args.label,
        files.read_json(args.checkpoint / "leg.json"),
        files.read_json(args.manifests / "summary.json"),
        files.read_json(args.manifests / "overlap.json"),
        table.load(args.table),
        args.config,
        {path.stem: files.read_sealed(path) for path in args.splits},
        form=files.read_json(args.transformers / "check.json"),
    )
    write_folder(args.output, model, args.tokenizer, args.transformers, card)
    console.log.info("%s: model.nemo (%.1f MB), tokenizer, README.md", args.output, model.stat().st_size / 1e6)


def check_replaceable(output):
    """Only a folder that this script wrote is replaced, not one that a mistyped option names."""
    ours = (output / "README.md").is_file() and (output / "model.nemo").is_file()
    if output.exists() and not ours and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output}: is there and is not a model folder: not replaced")


def write_folder(output, model, tokenizer, form, card):
    """Write the folder, whole or not at all."""
    with files.whole_folder(output) as temporary:
        (temporary / "tokenizer").mkdir()
        files.link(model, temporary / "model.nemo")
        for name in ("tokenizer.model", "vocab.txt"):
            shutil.copyfile(tokenizer / name, temporary / "tokenizer" / name)
        for path in form.glob("*"):
            if path.name != "check.json":
                (temporary / "transformers").mkdir(exist_ok=True)
                files.link(path, temporary / "transformers" / path.name)
        files.write_text(temporary / "README.md", card)


if __name__ == "__main__":
    console.run(main, parser())
