"""SentencePiece BPE tokenizers as NeMo reads them, and the checks that keep a training from being in vain."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zlib
from pathlib import Path

import sentencepiece
import yaml

from rnnt import files
from rnnt.errors import UserError


def train(texts: list[str], vocab_size: int) -> bytes:
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


def from_nemo(path: str | Path) -> bytes:
    """The SentencePiece model inside a `.nemo` archive.

    Raises UserError when the file is not a NeMo model, or holds no such tokenizer.
    """
    model = _read(path, "tokenizer.model")
    try:
        if model and load(model):
            return model
    except RuntimeError:
        pass
    raise UserError(f"{path}: tokenizer.model in it is no SentencePiece model: copy or download the file again")


def joint_outputs(path: str | Path) -> int:
    """Outputs of the joint network in a `.nemo` archive: its tokens and the blank.

    Raises UserError when the archive is not that of an RNN-T model.
    """
    joint = _config(path).get("joint")
    classes = joint.get("num_classes") if isinstance(joint, dict) else None
    if type(classes) is not int:
        raise UserError(f"{path}: model_config.yaml in it has no number joint.num_classes: is it an RNN-T BPE model?")
    return classes + 1


def check_nemo(path: str | Path) -> None:
    """Raise UserError unless `path` is a whole `.nemo` archive: a tar file with a config and weights."""
    _config(path)


def nemo_config(path: str | Path) -> dict:
    """The model config in a `.nemo` archive. Raises UserError when the file is none."""
    return _config(path)


def _config(path: str | Path) -> dict:
    try:
        config = yaml.safe_load(_read(path, "model_config.yaml"))
    # The 30th of February, `!!bool x`, `!!timestamp x`, "[" a thousand times.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: model_config.yaml in it is no YAML mapping, UTF-8: copy or download the file again")
    return config


def _read(path: str | Path, name: str) -> bytes:
    """A file inside a `.nemo` archive: a tar file or, from old versions of NeMo, a tar file in gzip."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
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


def load(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """A processor of the serialised model."""
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def tokens(processor: sentencepiece.SentencePieceProcessor) -> list[str]:
    """All tokens by id."""
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def check(
    processor: sentencepiece.SentencePieceProcessor,
    splits: dict[str, list[dict]],
    base: sentencepiece.SentencePieceProcessor | None = None,
    base_joint_outputs: int | None = None,
) -> dict:
    """Figures on how the tokenizer spells the manifests' texts, by split.

    For each split: tokens, unknown tokens, characters that no token covers, utterances whose text does not come
    back from its tokens, and tokens per second of audio. With the tokenizer of a pretrained model as `base`:
    whether the tables are identical, and the outputs of its joint network against those that the tokenizer needs.
    """
    size = processor.get_piece_size()
    report: dict = {"vocab_size": size, "joint_outputs_needed": size + 1, "splits": {}}
    if base is not None:
        report["base_joint_outputs"] = base_joint_outputs
        report["base_vocab_size"] = base.get_piece_size()
        report["same_tokens_as_base"] = tokens(processor) == tokens(base)
    for split, rows in splits.items():
        unknown, count, characters, changed = 0, 0, set(), []
        for row in rows:
            ids = processor.encode(row["text"])
            count += len(ids)
            missing = ids.count(processor.unk_id())
            if missing:
                unknown += missing
                characters |= {c for c in row["text"] if processor.unk_id() in processor.encode(c)}
            if processor.decode(ids) != row["text"]:
                changed.append(row["id"])
        report["splits"][split] = {
            "utterances": len(rows),
            "tokens": count,
            "unknown_tokens": unknown,
            "characters_not_covered": "".join(sorted(characters)),
            "not_restored": len(changed),
            "not_restored_example": changed[0] if changed else None,
            "tokens_per_second": round(count / sum(row["duration"] for row in rows), 3),
        }
    return report


def verdict(report: dict, reinitialize_decoder: bool) -> str | None:
    """Why training must not start with this tokenizer; None when it may.

    The training split must be spelt without loss; elsewhere a character that training has not seen is an error of the
    model's, and counted as one (`warnings` tells). A tokenizer other than the pretrained
    model's gives every token id another meaning: with the old decoder and joint that never learns.
    """
    if report.get("same_tokens_as_base") is False and not reinitialize_decoder:
        return (
            f"the tokenizer ({report['vocab_size']} tokens) is not the one that the model in model.init_from was "
            f"trained with ({report['base_vocab_size']}): its token ids would mean other tokens; set "
            "tokenizer.source: model, or model.reinitialize_decoder: true"
        )
    outputs = report.get("base_joint_outputs", report["joint_outputs_needed"])
    if outputs != report["joint_outputs_needed"] and not reinitialize_decoder:
        return (
            f"the tokenizer needs a joint network of {report['joint_outputs_needed']} outputs, the blank among them; "
            f"that of the model in model.init_from has {outputs}: set model.reinitialize_decoder: true"
        )
    figures = report["splits"]["train"]
    if figures["unknown_tokens"]:
        return (
            f"the tokenizer can't spell train: {figures['unknown_tokens']} unknown tokens, characters "
            f"{figures['characters_not_covered']!r} are in no token: clean the text, or take another tokenizer"
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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    files.write_text(folder / "vocab.txt", "".join(f"{token}\n" for token in tokens(load(model))))
