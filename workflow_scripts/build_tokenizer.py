"""Train a SentencePiece BPE tokenizer, or take or extend a pretrained model's; check that it can be trained with."""

import json
from pathlib import Path

from rnnt import console
from rnnt.data import manifests, tokenizers
from rnnt.errors import UserError
from rnnt.streams import Rows

READ = ("id", "text", "duration")  # of a row


def parser():
    p = console.parser(__doc__)
    p.add_argument("--manifest", type=Path, required=True, help="training manifest")
    p.add_argument("--vocab-size", type=int, required=True, help="tokens to train, the unknown token among them")
    p.add_argument("--sample", type=int, default=3_000_000, help="utterances to train it on, at most")
    p.add_argument("--take-from", type=Path, help=".nemo file whose tokenizer to take instead of training one")
    p.add_argument("--extend", action="store_true", help="add the characters of the text that no token has")
    p.add_argument("--language", help="of the text, BCP 47, for a model's tokenizer of several; default: its first")
    p.add_argument("--case", choices=["lower", "keep"], default="keep", help="of the text, for a model that knows both")
    p.add_argument("--base-model", type=Path, help=".nemo file that training starts from: compare its tokenizer")
    p.add_argument("--reinitialize-decoder", action="store_true", help="decoder and joint are drawn anew")
    p.add_argument("--output", type=Path, required=True, help="folder for tokenizer.model, vocab.txt")
    return p


def main(args):
    args.output.mkdir(parents=True, exist_ok=True)
    rows = Rows(args.output, ({key: row[key] for key in READ} for row in manifests.rows(args.manifest)))
    if args.take_from:
        model = tokenizers.from_nemo(args.take_from, args.language)
    else:
        model = tokenizers.train(tokenizers.sample(rows, args.sample), args.vocab_size)
    if args.extend:
        tokenizers.check_extensible(args.take_from)
        model, added = tokenizers.extend(model, (row["text"] for row in rows))
        if added:
            console.log.info("%d tokens added behind those of the model, for %r", len(added), added)
        else:
            console.log.info("every character is in a token of the model: nothing to add, as tokenizer.source: model")
    base = tokenizers.load(tokenizers.from_nemo(args.base_model, args.language)) if args.base_model else None
    outputs = tokenizers.joint_outputs(args.base_model) if args.base_model else None
    if base and args.case == "lower" and not args.reinitialize_decoder:
        for line in tokenizers.cased_warnings(base):
            console.log.warning("%s", line)
    report = tokenizers.check(tokenizers.load(model), {"train": rows}, base, outputs)
    console.log.info("%s", json.dumps(report, ensure_ascii=False))
    problem = tokenizers.verdict(report, args.reinitialize_decoder)
    if problem:
        raise UserError(problem)
    tokenizers.write(args.output, model)


if __name__ == "__main__":
    console.run(main, parser())
