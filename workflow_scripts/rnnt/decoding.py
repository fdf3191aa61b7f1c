"""Transcribe a manifest with NeMo's greedy and beam searches."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from rnnt import batching, console
from rnnt.errors import UserError

GREEDY = ("greedy", "greedy_batch")


def set_search(model, strategy: str, beam_size: int | None = None) -> dict:
    """Make `model` (NeMo) decode with `strategy`; returns the settings for the metrics file.

    `beam_size` is for the beam searches: hypotheses kept. What is not set here is NeMo's default, whatever the
    model was saved with: the same search for every model of the table.
    Raises UserError when the beam is wider than the vocabulary.
    """
    from omegaconf import OmegaConf

    settings = {"strategy": strategy}
    config: dict = {"strategy": strategy}
    if strategy not in GREEDY:
        if beam_size > model.tokenizer.vocab_size:
            raise UserError(f"evaluation.beam_size {beam_size} exceeds the vocabulary of {model.tokenizer.vocab_size}")
        settings["beam_size"] = beam_size
        config["beam"] = {"beam_size": beam_size, "return_best_hypothesis": True}
    model.change_decoding_strategy(OmegaConf.create(config), verbose=False)
    return settings


def transcribe(
    model,
    manifest: Path,
    tokenizer: Path,
    cache: Path,
    batch_size: int,
    device: str,
    workers: int,
    label: str,
) -> tuple[list[str], float]:
    """Hypotheses in the manifest's order, and the seconds that encoder and search took (not reading, not loading).

    Utterances are batched by duration, the longest first, so that too large a batch shows at once.
    """
    dataset = batching.load_dataset(manifest, tokenizer, model.cfg.sample_rate, cache)
    durations = dataset.with_format(None)["duration"]
    order = sorted(range(len(dataset)), key=lambda index: -durations[index])
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=[order[i : i + batch_size] for i in range(0, len(order), batch_size)],
        collate_fn=batching.collate,
        num_workers=workers,
    )
    model = model.to(device).eval()
    texts: list[str] = []
    seconds = 0.0
    with torch.inference_mode(), console.bar(len(dataset), label) as shown:
        for batch in loader:
            audio, lengths = batch["audio"].to(device), batch["audio_lengths"].to(device)
            _synchronize(device)
            started = time.perf_counter()
            encoded, encoded_lengths = model.forward(input_signal=audio, input_signal_length=lengths)
            found = model.decoding.rnnt_decoder_predictions_tensor(encoded, encoded_lengths)
            _synchronize(device)
            seconds += time.perf_counter() - started
            texts += [(best[0] if isinstance(best, list) else best).text for best in found]
            shown.update(len(found))
    in_order = dict(zip(order, texts, strict=True))
    return [in_order[index] for index in range(len(dataset))], seconds


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
