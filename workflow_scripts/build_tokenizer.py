"""Train a SentencePiece BPE tokenizer, or take a pretrained model's, and check that it spells the transcripts."""

import json
from pathlib import Path

from rnnt import console
from rnnt.data import manifests, tokenizers
from rnnt.errors import UserError


def parser():
    p = console.parser(__doc__)
    p.add_argument("--manifests", type=Path, required=True, help="folder with a manifest per split")
    p.add_argument("--vocab-size", type=int, required=True, help="tokens to train, the unknown token among them")
    p.add_argument("--take-from", type=Path, help=".nemo file whose tokenizer to take instead of training one")
    p.add_argument("--base-model", type=Path, help=".nemo file that training starts from: compare its tokenizer")
    p.add_argument("--reinitialize-decoder", action="store_true", help="decoder and joint are drawn anew")
    p.add_argument("--output", type=Path, required=True, help="folder for tokenizer.model, vocab.txt, check.json")
    return p


def main(args):
    splits = {path.stem: manifests.read(path) for path in sorted(args.manifests.glob("*.jsonl"))}
    if args.take_from:
        model = tokenizers.from_nemo(args.take_from)
    else:
        model = tokenizers.train([row["text"] for row in splits["train"]], args.vocab_size)
    base = tokenizers.load(tokenizers.from_nemo(args.base_model)) if args.base_model else None
    outputs = tokenizers.joint_outputs(args.base_model) if args.base_model else None
    report = tokenizers.check(tokenizers.load(model), splits, base, outputs)
    console.log.info("%s", json.dumps(report, ensure_ascii=False))
    problem = tokenizers.verdict(report, args.reinitialize_decoder)
    if problem:
        raise UserError(problem)
    for line in tokenizers.warnings(report):
        console.log.warning("%s", line)
    tokenizers.write(args.output, model, report)


if __name__ == "__main__":
    console.run(main, parser())
