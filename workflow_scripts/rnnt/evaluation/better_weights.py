"""Of the last weights of a leg and their mean over its end, those with which validation goes better."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from omegaconf import open_dict

from rnnt import console
from rnnt.data import manifests
from rnnt.evaluation import decoding, error_rate


def keep(
    model,
    averaged: dict[str, torch.Tensor],
    manifest: Path,
    tokenizer: Path,
    greedy: dict,
    batch_size: int,
    device: str,
    workers: int,
) -> dict:
    """Leave in `model` (NeMo) its weights or `averaged`, whichever have the lower WER; the last ones where it is alike.

    Both transcribe the validation split `manifest` with the `greedy` section of the configuration. Returns for leg.json
    the WERs in percent, `last` and `averaged`, and which were `kept`.
    """
    last = copy.deepcopy(model.state_dict())
    search = copy.deepcopy(model.cfg.decoding)
    entries = manifests.read(manifest)
    decoding.set_search(model, greedy)
    batch_size = 1 if decoding.depends_on_batch(model) else batch_size
    found = {}
    for name, weights in (("last", last), ("averaged", averaged)):
        model.load_state_dict(weights)
        with tempfile.TemporaryDirectory() as cache:
            texts, _ = decoding.transcribe(
                model, manifest, tokenizer, Path(cache), batch_size, device, workers, f"{name} weights"
            )
        rows = [{**entry, "pred_text": text} for entry, text in zip(entries, texts, strict=True)]
        found[name] = error_rate.of(rows).percent
    kept = "averaged" if found["averaged"] < found["last"] else "last"
    model.load_state_dict(averaged if kept == "averaged" else last)
    model.change_decoding_strategy(search, verbose=False)
    with open_dict(model.cfg):
        model.cfg.decoding = search
    console.log.info(
        "%s: WER %.2f %% with the last weights, %.2f %% with their mean over the end of the leg: the %s are kept",
        manifest.stem,
        found["last"],
        found["averaged"],
        kept,
    )
    return {**found, "kept": kept}
