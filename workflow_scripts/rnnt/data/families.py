"""What kind of transducer a model is, read off its configuration, and what goes with which kind.

Everything here is known without NeMo: before anything is trained.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from rnnt.data import tokenizers
from rnnt.errors import UserError

CLASSES = ("EncDecRNNTBPEModel", "EncDecHybridRNNTCTCBPEModel")
# NeMo's names of losses that are not RNN-T's.
LOSSES = {
    **dict.fromkeys(("tdt", "tdt_pytorch"), "tdt"),
    **dict.fromkeys(("multiblank_rnnt", "multiblank_rnnt_pytorch"), "multiblank"),
}
SEARCHES = ("greedy", "greedy_batch", "beam", "tsd", "alsd", "maes", "malsd_batch", "maes_batch")
# What NeMo 3.0 raises NotImplementedError for; tests/unit/training/test_families.py tries each with each.
WITHOUT = {
    "a TDT model": ("tsd", "alsd", "maes_batch"),
    "a stateless prediction network": ("malsd_batch", "maes_batch"),
    "a multi-blank model": SEARCHES[2:],
}


class Family(NamedTuple):
    """What of a NeMo model's configuration decides what can be done with it."""

    name: str  # the model's class in NeMo
    loss: str  # rnnt, tdt or multiblank
    stateless: bool  # the prediction network: an embedding of the last tokens, no LSTM
    hat: bool  # the joint network: a sigmoid of its own for the blank (Variani et al. 2020, arXiv 2003.07705)
    ctc_weight: float | None  # of the loss, of the CTC head; None where there is no head
    interctc: bool  # the CTC head computes a loss of the encoder's layers in between too
    streaming: bool  # a cache-aware encoder, of limited look-ahead
    prompt: bool  # wants the language of each utterance

    @property
    def traits(self) -> list[str]:
        """In words what it has that not every search and transducer step goes with."""
        known = {
            "a TDT model": self.loss == "tdt",
            "a multi-blank model": self.loss == "multiblank",
            "a stateless prediction network": self.stateless,
            "a HAT joint network": self.hat,
        }
        return [trait for trait, has in known.items() if has]

    @property
    def searches(self) -> tuple[str, ...]:
        """The searches that NeMo has for it."""
        return tuple(s for s in SEARCHES if not any(s in WITHOUT.get(trait, ()) for trait in self.traits))

    def describe(self) -> str:
        """What it is, for the model card: `cache-aware streaming TDT (transducer) model with a CTC head`."""
        kind = {"rnnt": "HAT" if self.hat else "RNN-T", "tdt": "TDT", "multiblank": "multi-blank RNN-T"}[self.loss]
        head = "" if self.ctc_weight is None else " with a CTC head"
        return f"{'cache-aware streaming ' if self.streaming else ''}{kind} (transducer) model{head}"


def of(config: dict) -> Family:
    """The family of a NeMo model's configuration, as plain dictionaries."""

    def section(*names: str) -> dict:
        found = config
        for name in names:
            found = found.get(name)
            if not isinstance(found, dict):
                return {}
        return found

    weight = section("aux_ctc").get("ctc_loss_weight", 0.5)  # NeMo's default
    known = type(weight) in (int, float) and 0 <= weight < 1
    name = str(config.get("target") or CLASSES["aux_ctc" in config]).rpartition(".")[2]
    return Family(
        name=name,
        loss=LOSSES.get(str(section("loss").get("loss_name")), "rnnt"),
        stateless=str(section("decoder").get("_target_")).endswith("StatelessTransducerDecoder"),
        hat=str(section("joint").get("_target_")).endswith("HATJoint"),
        # Of any other the check of the training knows.
        ctc_weight=None if not section("aux_ctc") else float(weight) if known else math.nan,
        interctc=bool(section("interctc").get("loss_weights")),
        streaming=section("encoder").get("att_context_style") == "chunked_limited",
        prompt=name.endswith("WithPrompt") or bool(section("model_defaults").get("initialize_prompt_feature")),
    )


def of_nemo(path: str | Path) -> Family:
    """The family of the model in a `.nemo` file. Raises UserError when that is none, or none that is known here."""
    return _known(of(tokenizers.nemo_config(path)), path)


def _known(family: Family, path: str | Path) -> Family:
    if family.prompt:
        raise UserError(
            f"{path}: a model with prompts ({family.name}): it wants to be told the language of each utterance, which "
            "is not supported: take a model without"
        )
    if family.name not in CLASSES:
        raise UserError(f"{path}: holds a {family.name}, an RNN-T BPE model is needed: {' or '.join(CLASSES)}")
    return family


def of_architecture(path: Path, overrides: dict | None = None) -> Family:
    """The family of a model config, with `model.overrides`; raises UserError where it is none that is known here."""
    return _known(of(override(architecture(path), overrides or {}, path)), path)


class _Loader(yaml.SafeLoader):
    """Reads as OmegaConf, with which NeMo reads a model config: 1e-5 is a number, a key given twice an error."""

    def construct_mapping(self, node, deep=False):
        """Overrides PyYAML's, which takes the last of two."""
        known = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in known:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            known.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def architecture(path: Path) -> dict:
    """A model config. Raises UserError when it is no YAML mapping, or has a key twice."""
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.constructor.ConstructorError as error:
        raise UserError(f"{path}:{error.problem_mark.line + 1}: {error.problem}") from None
    except tokenizers.NO_YAML:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: no YAML mapping, UTF-8: it takes a NeMo model config")
    return config


def override(config: dict, overrides: dict, path: str | Path, restored: bool = False) -> dict:
    """The configuration of the model in `path` with `model.overrides`: other values at dotted paths.

    `*` in a path is every item of a list. The weights of a `restored` model are for what its configuration says: it
    takes dropouts alone. Raises UserError where a path is not there, naming the nearest, or can't have the value.
    """
    known = dict(_leaves(config))
    for wanted, value in overrides.items():
        key = f"model.overrides.{wanted}"
        found = [name for name in known if re.fullmatch(re.escape(wanted).replace(r"\*", r"\d+"), name)]
        if not found:
            near = difflib.get_close_matches(wanted, known, n=1, cutoff=0)[0]
            raise UserError(f"{key}: {path} has no such value: did you mean {near}?")
        is_dropout = wanted.rpartition(".")[2].startswith("dropout")
        if restored and not is_dropout:
            raise UserError(f"{key}: of a model that training starts from dropouts alone can be changed: take it out")
        if is_dropout and (type(value) not in (int, float) or not 0 <= value < 1):
            raise UserError(f"{key}: expected a number of at least 0 and below 1, got {value!r}")
        numbers = [known[name] for name in found if type(known[name]) in (int, float)]
        if numbers and isinstance(value, str) and "${" not in value:
            raise UserError(
                f"{key}: expected a number as {numbers[0]}, got {value!r} (YAML reads 1e-5 as text: 1.0e-5)"
            )
        for name in found:
            config = _replaced(config, name.split("."), value)
    return config


def _leaves(node, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a configuration that is no section, by its dotted path."""
    if not isinstance(node, dict | list) or not node:
        yield path, node
        return
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _leaves(child, f"{path}.{key}".removeprefix("."))


def _replaced(node, keys: list[str], value):
    """A copy with another value; where YAML's aliases make one section of two, the other stays."""
    if not keys:
        return value
    if isinstance(node, list):
        return [_replaced(one, keys[1:], value) if str(place) == keys[0] else one for place, one in enumerate(node)]
    return {key: _replaced(child, keys[1:], value) if str(key) == keys[0] else child for key, child in node.items()}


def check_search(family: Family, strategy: str) -> None:
    """Raise UserError when NeMo can't search a model of this family so."""
    if strategy in family.searches:
        return
    trait = next(trait for trait in family.traits if strategy in WITHOUT.get(trait, ()))
    known = ", ".join(search for search in family.searches if search not in ("greedy", "greedy_batch"))
    instead = f"take {known}" if known else "it has greedy search alone (workflow_scripts/transcribe.py)"
    raise UserError(f"evaluation.beam: {strategy} does not work with {trait}: {instead}")


def check_training(family: Family, transducer: str, ctc_weight: float | None, device: str | None = None) -> None:
    """Raise UserError when a model of this family can't be trained with these options of `training`.

    `device` is `cpu` or `cuda`, None where it is not known yet.
    """
    if ctc_weight is None and family.ctc_weight is not None and math.isnan(family.ctc_weight):
        raise UserError(
            "training.ctc_weight: aux_ctc.ctc_loss_weight of the model is no share of its loss, a number of at least 0 "
            "and less than 1: set the key to one"
        )
    fused = "fused" if family.loss == "tdt" and not family.hat else None
    if transducer == "fused" and (family.hat or family.loss == "multiblank"):
        raise UserError(
            f"training.transducer: fused does not cover {family.traits[-1]}: set it to nemo_fused_batch or nemo"
        )
    if device == "cpu" and family.loss != "rnnt" and transducer != "fused":
        instead = f"set it to {fused}, or train" if fused else "train"
        raise UserError(
            f"training.transducer: {transducer}: NeMo computes the loss of {family.traits[0]} on a CUDA GPU alone: "
            f"{instead} on one"
        )
