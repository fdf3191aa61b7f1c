"""Check how a tokenizer spells the transcripts of every split: unknown tokens, characters that no token covers."""

from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests, tokenizers


def parser():
    p = console.parser(__doc__)
    p.add_argument("--manifests", type=Path, nargs="+", required=True, help="manifest of each split")
    p.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.model")
    p.add_argument("--base-model", type=Path, help=".nemo file that training starts from: compare its tokenizer")
    p.add_argument("--language", help="of the text, BCP 47, for a model's tokenizer of several; default: its first")
    p.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return p


def main(args):
    splits = {path.stem: manifests.rows(path) for path in args.manifests}
    base = tokenizers.load(tokenizers.from_nemo(args.base_model, args.language)) if args.base_model else None
    outputs = tokenizers.joint_outputs(args.base_model) if args.base_model else None
    report = tokenizers.check(tokenizers.load(args.tokenizer.read_bytes()), splits, base, outputs)
    for line in tokenizers.warnings(report):
        console.log.warning("%s", line)
    files.write_json(args.output, report)


if __name__ == "__main__":
    console.run(main, parser())
