"""Make an n-gram language model, an ARPA file over the tokens of a tokenizer, of transcripts or of a text file."""

import gzip
import os
import zlib
from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests, tokenizers, transcripts
from rnnt.errors import UserError
from rnnt.evaluation import ngram


def parser():
    p = console.parser(__doc__)
    p.add_argument("--manifest", type=Path, required=True, help="training manifest: the text, without --text")
    p.add_argument("--validation", type=Path, required=True, help="manifest whose text tells the perplexity")
    p.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.model")
    p.add_argument("--order", type=int, required=True, help="tokens of the longest n-grams")
    p.add_argument("--text", type=Path, help="text file, one sentence a line, plain or .gz")
    p.add_argument("--case", choices=["lower", "keep"], default="lower", help="case of that text")
    p.add_argument("--rules", default="auto", help="cleaning rules of that text; `auto`: those of --kinds")
    p.add_argument(
        "--kinds", nargs="+", default=["none"], help="corpora of the training split, whose rules `auto` takes"
    )
    p.add_argument("--language", default="en", help="BCP 47 tag: how lower case is made")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    p.add_argument("--output", type=Path, required=True, help="ARPA file to write")
    p.add_argument("--about", type=Path, required=True, help="JSON to write: sentences, tokens, n-grams, perplexity")
    return p


def main(args):
    tokenizer = tokenizers.load(args.tokenizer.read_bytes())
    if args.text:
        rows, _ = manifests.clean(
            [{"text": line} for line in read(args.text)], args.case, rules(args), args.language, args.workers
        )
    else:
        rows = manifests.read(args.manifest)
    source = str(args.text) if args.text else "the training transcripts"
    sentences, left = spell(rows, tokenizer)
    if left:
        console.log.warning("%s: %d sentences are left out: the tokenizer has not all their characters", source, left)
    if not sentences:
        raise UserError(
            f"evaluation.beam.lm: {source}: no sentence that the tokenizer can spell: nothing to learn from"
        )
    model = ngram.estimate(sentences, args.order, tokenizer.get_piece_size())
    validation, _ = spell(manifests.read(args.validation), tokenizer)
    about = {
        "text": args.text.name if args.text else "training transcripts",
        "sentences": len(sentences),
        "sentences_left_out": left,
        "tokens": sum(map(len, sentences)),
        "order": len(model.keys),
        "ngrams": [len(keys) for keys in model.keys],
        "validation_perplexity": round(ngram.perplexity(model, validation), 3) if validation else None,
    }
    console.log.info(
        "an n-gram of order %(order)d of %(sentences)d sentences, %(tokens)d tokens; perplexity of validation "
        "%(validation_perplexity)s per token",
        about,
    )
    ngram.write(args.output, model)
    files.write_json(args.about, about)


def read(path):
    """The lines of a text file that are not empty."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            return [line for line in file if line.strip()]
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"evaluation.beam.lm_text: {path}: expected text in UTF-8, gzipped where its name ends in .gz ({error})"
        ) from None


def rules(args):
    """The cleaning rules of the text: `auto` takes those of the training split's source, where it is one with rules."""
    if args.rules != "auto":
        return args.rules
    return args.kinds[0] if len(args.kinds) == 1 and args.kinds[0] in transcripts.RULES else "none"


def spell(rows, tokenizer):
    """The token ids of each text that has some and is spelt without the unknown token, and how many are not."""
    found = [tokenizer.encode(row["text"]) for row in rows if row["text"]]
    kept = [ids for ids in found if tokenizer.unk_id() not in ids]
    return kept, len(found) - len(kept)


if __name__ == "__main__":
    console.run(main, parser())
