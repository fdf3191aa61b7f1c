"""SentencePiece BPE tokenizers as NeMo reads them, and the checks that keep a training from being in vain."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import unicodedata
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator
from itertools import compress
from pathlib import Path

import numpy as np
import sentencepiece
import yaml

from rnnt import files
from rnnt.data import languages
from rnnt.errors import UserError

CASED = 0.01  # share of a model's tokens with upper case: some that write none have one or two
SEED = 1  # of the sample
NORMAL, UNUSED = 1, 5  # kinds of pieces in SentencePiece's models


# What the parser raises for: the 30th of February, `!!bool x`, `!!timestamp x`, "[" a thousand times.
NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


def sample(rows: Collection[dict], most: int) -> Iterator[str]:
    """The texts of `rows`, or of so many of them drawn at random, the same each time, in their order.

    To what is drawn the first text is added that has a character which none of it has: the tokenizer must know it.
    """
    if len(rows) <= most:
        return (row["text"] for row in rows)
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        first |= dict.fromkeys(set(row["text"]) - first.keys(), place)
    drawn = np.zeros(len(rows), bool)
    drawn[np.random.default_rng(SEED).choice(len(rows), most, replace=False)] = True
    known = set().union(*(row["text"] for row in compress(rows, drawn)))
    drawn[[place for character, place in first.items() if character not in known]] = True
    return (row["text"] for row in compress(rows, drawn))


def train(texts: Iterable[str], vocab_size: int) -> bytes:
    """Train a BPE model (Sennrich et al. 2016; SentencePiece) with every character covered; its serialised bytes.

    `vocab_size` counts the unknown token; there are no sentence or padding tokens, as in NeMo's tokenizers.
    Raises UserError when the text does not allow `vocab_size` tokens.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            # The same text gives the same tokenizer on any number of cores.
            num_threads=1,
            shuffle_input_sentence=False,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(_explain(str(error), vocab_size)) from None
    return model.getvalue()


def _explain(message: str, vocab_size: int) -> str:
    too_large = re.search(r"value <= (\d+)", message)
    if too_large:
        return f"tokenizer.vocab_size {vocab_size} is larger than the text allows: at most {too_large[1]}"
    too_small = re.search(r"required_chars\D*\d+ vs (\d+)|smaller than required_chars\D+(\d+)", message)
    if too_small:
        needed = too_small[1] or too_small[2]
        return f"tokenizer.vocab_size {vocab_size} is smaller than the characters of the text: at least {needed}"
    return f"tokenizer.vocab_size {vocab_size}: SentencePiece can't train on this text ({message.strip()})"


def from_nemo(path: str | Path, language: str | None = None) -> bytes:
    """The SentencePiece model inside a `.nemo` archive.

    Of an aggregate tokenizer (one for each language, their tokens one behind the other) all tokens, of which those of
    `language`, a BCP 47 tag, spell: the ids are the model's. Without a language the first one's do.
    Raises UserError when the file is not a NeMo model, or holds no such tokenizer.
    """
    parts = _aggregate(path)
    if not parts:
        return _sentencepiece(path, "tokenizer.model")
    chosen = next(iter(parts)) if language is None else _of_language(parts, language, path)
    return b"".join(
        model if name == chosen else _unused(load(model), name)
        for name, model in ((name, _sentencepiece(path, file)) for name, file in parts.items())
    )


def check_extensible(path: str | Path) -> None:
    """Raise UserError where the tokenizer in a `.nemo` archive can't get more tokens: an aggregate one."""
    if _aggregate(path):
        raise UserError(
            f"tokenizer.source: extend: {path} has an aggregate tokenizer, which can't be extended: set it to model, "
            "or to train with model.reinitialize_decoder: true"
        )


def extend(model: bytes, texts: Iterable[str]) -> tuple[bytes, str]:
    """`model` with a token for each character of `texts` that it can't spell; and those characters.

    The new tokens follow the old ones, which spell every text that they could spell as before: no merge gives a single
    character, and where tokens compete by their scores (unigram models), the new ones lose by more than a text gains.
    """
    processor = load(model)
    missing = set()
    for text in texts:
        if processor.unk_id() in (ids := processor.encode(text)):
            pieces = processor.encode(text, out_type=str)
            missing.update(*(piece for id, piece in zip(ids, pieces, strict=True) if id == processor.unk_id()))
    lowest = min(processor.get_score(index) for index in range(processor.get_piece_size()))
    added = "".join(sorted(missing))
    return model + b"".join(_piece(character, lowest - 1000, NORMAL) for character in added), added


def _aggregate(path: str | Path) -> dict[str, str]:
    """The languages of a `.nemo` archive's aggregate tokenizer in the order of their ids, and the file of each."""
    tokenizer = nemo_config(path).get("tokenizer")
    langs = tokenizer.get("langs") if isinstance(tokenizer, dict) else None
    if not isinstance(langs, dict) or not langs or str(tokenizer.get("type")).lower() != "agg":
        return {}
    found = {}
    for name, own in langs.items():
        file = own.get("model_path") if isinstance(own, dict) else None
        if not isinstance(file, str):
            raise UserError(f"{path}: model_config.yaml in it has no tokenizer.langs.{name}.model_path")
        found[str(name)] = file.removeprefix("nemo:")
    return found


def _of_language(parts: dict[str, str], language: str, path: str | Path) -> str:
    """The name under which an aggregate tokenizer has a language."""
    known = {name.lower(): name for name in parts}
    for tag in (language.lower(), languages.primary(language)):
        if tag in known:
            return known[tag]
    raise UserError(
        f"{path}: its tokenizer has no text.language {language}: it has {', '.join(parts)}: set text.language to one "
        "of them, or tokenizer.source: train and model.reinitialize_decoder: true"
    )


def _sentencepiece(path: str | Path, name: str) -> bytes:
    model = _read(path, name)
    try:
        if model and load(model):
            return model
    except RuntimeError:
        pass
    raise UserError(f"{path}: {name} in it is no SentencePiece model: copy or download the file again")


def _unused(processor: sentencepiece.SentencePieceProcessor, name: str) -> bytes:
    """The tokens as ones that never spell anything, in the order of their ids."""
    return b"".join(_piece(f"<{name}>{token}", -1e6, UNUSED) for token in tokens(processor))


def _piece(text: str, score: float, kind: int) -> bytes:
    """An entry of a serialised SentencePiece model; those of two models put together are one table.

    The field `pieces` of ModelProto in sentencepiece_model.proto, and of SentencePiece `piece`, `score` and `type`.
    """

    def field(content: bytes) -> bytes:  # number 1, with its length, which has 7 bits a byte
        size, length = len(content), b""
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return b"\x0a" + length + bytes([size]) + content

    return field(field(text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))


def joint_outputs(path: str | Path) -> int:
    """Outputs of the joint network in a `.nemo` archive: its tokens and the blank.

    Raises UserError when the archive is not that of an RNN-T model.
    """
    joint = nemo_config(path).get("joint")
    classes = joint.get("num_classes") if isinstance(joint, dict) else None
    if type(classes) is not int:
        raise UserError(f"{path}: model_config.yaml in it has no number joint.num_classes: is it an RNN-T BPE model?")
    return classes + 1


def check_nemo(path: str | Path) -> None:
    """Raise UserError unless `path` is a whole `.nemo` archive: a tar file with a config and weights."""
    nemo_config(path)


def nemo_config(path: str | Path) -> dict:
    """The model's configuration in a `.nemo` archive. Raises UserError when it is no whole archive."""
    try:
        config = yaml.safe_load(_read(path, "model_config.yaml"))
    except NO_YAML:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: model_config.yaml in it is no YAML mapping, UTF-8: copy or download the file again")
    return config


def _read(path: str | Path, name: str) -> bytes:
    """A file inside a `.nemo` archive: a tar file or, from old versions of NeMo, a tar file in gzip."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    _check_hash(Path(path))
    try:
        with open(path, "rb") as file:
            mode = "r:gz" if file.read(2) == b"\x1f\x8b" else "r:"
        with tarfile.open(path, mode) as archive:
            # All of them: that of the weights, cut off, shows where the next should begin. NeMo skips links too.
            members = {os.path.normpath(member.name): member for member in archive if member.isfile()}
            if not {"model_config.yaml", "model_weights.ckpt"} <= members.keys():
                raise UserError(f"{path}: not a NeMo model: expected a tar of model_config.yaml, model_weights.ckpt")
            # NeMo writes a hash before the names of a tokenizer's files.
            found = [member for key, member in members.items() if key == name or key.endswith(f"_{name}")]
            if not found:
                raise UserError(f"{path}: holds no {name}: is it an RNN-T BPE model?")
            return archive.extractfile(found[0]).read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: not a NeMo model, or a damaged one ({error}): copy or download it again") from None


def _check_hash(path: Path) -> None:
    """Raise UserError where the `leg.json` beside a model says that another file was written."""
    note = path.with_name("leg.json")
    about = files.read_json(note) if path.name == "model.nemo" and note.is_file() else {}
    if "model_sha256" in about and files.sha256_once(path) != about["model_sha256"]:
        # The file of `best` is that of its leg.
        folders = " and ".join(sorted({path.parent.name, f"leg_{about['leg']}"}))
        raise UserError(f"{path}: damaged, it is not what was written: delete {folders} there, and it is made anew")


def load(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """A processor of the serialised model."""
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def cased_warnings(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """A line for a model whose tokens have upper case, where it is to be trained on text in lower case."""
    idle = processor.is_control, processor.is_unused, processor.is_unknown
    pieces = [token for index, token in enumerate(tokens(processor)) if not any(is_one(index) for is_one in idle)]
    upper = sum(any(c.isupper() for c in piece) for piece in pieces) / len(pieces)
    marks = sum(any(_is_mark(c) for c in piece) for piece in pieces) / len(pieces)
    if upper < CASED:
        return []
    return [
        f"{upper:.1%} of the tokens of the model in model.init_from have upper case, {marks:.1%} punctuation: what it "
        "writes so counts as errors before training, and training on text.case: lower takes it from the model: set "
        "text.case: keep where the transcripts have both"
    ]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in "'’-"


def tokens(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """All tokens by id."""
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def check(
    processor: sentencepiece.SentencePieceProcessor,
    splits: dict[str, Iterable[dict]],
    base: sentencepiece.SentencePieceProcessor | None = None,
    base_joint_outputs: int | None = None,
) -> dict:
    """Figures on how the tokenizer spells the manifests' texts, by split.

    For each split: tokens, unknown tokens, characters that no token covers, utterances whose text does not come
    back from its tokens, and tokens per second of audio. With the tokenizer of a pretrained model as `base`:
    whether the tables are identical, how many tokens follow those of the pretrained model (None: it does not begin with
    them), and the outputs of its joint network against those that the tokenizer needs.
    """
    size = processor.get_piece_size()
    report: dict = {"vocab_size": size, "joint_outputs_needed": size + 1, "splits": {}}
    if base is not None:
        report["base_joint_outputs"] = base_joint_outputs
        report["base_vocab_size"] = base.get_piece_size()
        ours, theirs = tokens(processor), tokens(base)
        report["same_tokens_as_base"] = ours == theirs
        report["tokens_behind_base"] = len(ours) - len(theirs) if ours[: len(theirs)] == theirs else None
    for split, rows in splits.items():
        unknown, count, characters, changed, example = 0, 0, set(), 0, None
        durations = array("d")
        for row in rows:
            durations.append(row["duration"])
            ids = processor.encode(row["text"])
            count += len(ids)
            missing = ids.count(processor.unk_id())
            if missing:
                unknown += missing
                characters |= {c for c in row["text"] if processor.unk_id() in processor.encode(c)}
            if processor.decode(ids) != row["text"]:
                changed, example = changed + 1, example or row["id"]
        report["splits"][split] = {
            "utterances": len(durations),
            "tokens": count,
            "unknown_tokens": unknown,
            "characters_not_covered": "".join(sorted(characters)),
            "not_restored": changed,
            "not_restored_example": example,
            "tokens_per_second": round(count / sum(durations), 3),
        }
    return report


def verdict(report: dict, reinitialize_decoder: bool) -> str | None:
    """Why training must not start with this tokenizer; None when it may.

    The training split must be spelt without loss; elsewhere a character that training has not seen is an error of the
    model's, and counted as one (`warnings` tells). A tokenizer other than the pretrained
    model's gives every token id another meaning: with the old decoder and joint that never learns. More tokens behind
    its own are no others.
    """
    added = report.get("tokens_behind_base", 0)
    if added is None and not reinitialize_decoder:
        return (
            f"the tokenizer ({report['vocab_size']} tokens) is not the one that the model in model.init_from was "
            f"trained with ({report['base_vocab_size']}): its token ids would mean other tokens; set "
            "tokenizer.source: model or extend, or model.reinitialize_decoder: true"
        )
    outputs = report.get("base_joint_outputs", report["joint_outputs_needed"])
    if not reinitialize_decoder and outputs != report["joint_outputs_needed"] - added:
        return (
            f"the tokenizer needs a joint network of {report['joint_outputs_needed'] - added} outputs, the blank among "
            f"them; that of the model in model.init_from has {outputs}: set model.reinitialize_decoder: true"
        )
    figures = report["splits"]["train"]
    if figures["unknown_tokens"]:
        return (
            f"the tokenizer can't spell train: {figures['unknown_tokens']} unknown tokens, characters "
            f"{figures['characters_not_covered']!r} are in no token: clean the text, or take another tokenizer "
            "(tokenizer.source: extend adds what a pretrained model's lacks)"
        )
    if figures["not_restored"]:
        return (
            f"the tokenizer changes {figures['not_restored']} texts of train, such as {figures['not_restored_example']}"
        )
    return None


def warnings(report: dict) -> list[str]:
    """A line for each split but train with characters that no token covers: the model can't write them."""
    return [
        f"{split}: characters {figures['characters_not_covered']!r} in no token, {figures['unknown_tokens']} times: "
        "the model can't write them"
        for split, figures in report["splits"].items()
        if figures["unknown_tokens"] and split != "train"
    ]


def write(folder: Path, model: bytes) -> None:
    """Write tokenizer.model and vocab.txt (a token a line, by id)."""
    files.write_bytes(folder / "tokenizer.model", model)
    files.write_text(folder / "vocab.txt", "".join(f"{token}\n" for token in tokens(load(model))))
