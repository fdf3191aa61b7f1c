"""Transcribe a manifest with NeMo's greedy and beam searches."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from rnnt import batching, console, files
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
    progress: Path | None = None,
) -> tuple[list[str], float]:
    """Hypotheses in the manifest's order, and the seconds that encoder and search took (not reading, not loading).

    Utterances are batched by duration, the longest first, so that too large a batch shows at once; one that does not
    fit the memory is decoded in halves. Each batch is written to `progress` as it comes, and a restart with the same
    file goes on behind the last whole batch.
    """
    dataset = batching.load_dataset(manifest, tokenizer, model.cfg.sample_rate, cache)
    plain = dataset.with_format(None)
    order = sorted(range(len(dataset)), key=lambda index: -plain[index]["duration"])
    done = _resume(progress, [plain[index]["id"] for index in order], batch_size)
    texts, seconds = [row["pred_text"] for row in done], sum(row["seconds"] for row in done)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=[order[i : i + batch_size] for i in range(len(done), len(order), batch_size)],
        collate_fn=batching.collate,
        num_workers=workers,
    )
    model = model.to(device).eval()
    with torch.inference_mode(), console.bar(len(dataset), label, initial=len(done)) as shown:
        for number, batch in enumerate(loader):
            audio, lengths = batch["audio"].to(device), batch["audio_lengths"].to(device)
            if number == 0:  # The first call pays for what the libraries set up once.
                second = min(audio.shape[1], model.cfg.sample_rate)
                _search(model, audio[:1, :second], lengths[:1].clamp(max=second))
            _synchronize(device)
            started = time.perf_counter()
            found = _search(model, audio, lengths)
            _synchronize(device)
            taken = time.perf_counter() - started
            texts += found
            seconds += taken
            if progress:
                rows = zip(batch["ids"], found, strict=True)
                _append(progress, [{"id": id, "pred_text": text, "seconds": taken / len(found)} for id, text in rows])
            shown.update(len(found))
    in_order = dict(zip(order, texts, strict=True))
    return [in_order[index] for index in range(len(dataset))], seconds


def _search(model, audio: torch.Tensor, lengths: torch.Tensor) -> list[str]:
    try:
        encoded, encoded_lengths = model.forward(input_signal=audio, input_signal_length=lengths)
        found = model.decoding.rnnt_decoder_predictions_tensor(encoded, encoded_lengths)
        return [(best[0] if isinstance(best, list) else best).text for best in found]
    except torch.OutOfMemoryError:
        if len(audio) == 1:
            raise
    console.log.warning("out of memory with %d utterances: decode them in halves", len(audio))
    half = len(audio) // 2
    longest = [int(part.max()) for part in (lengths[:half], lengths[half:])]
    first = _search(model, audio[:half, : longest[0]], lengths[:half])
    return first + _search(model, audio[half:, : longest[1]], lengths[half:])


def _resume(progress: Path | None, ids: list[str], batch_size: int) -> list[dict]:
    """What `progress` has of whole batches, in this order of utterances; of anything else nothing is taken over."""
    if progress is None or not progress.is_file():
        return []
    rows = []
    for line in progress.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line that was cut off
            break
    rows = rows[: len(rows) if len(rows) == len(ids) else len(rows) // batch_size * batch_size]
    if [row["id"] for row in rows] != ids[: len(rows)]:
        rows = []
    files.write_jsonl(progress, rows)
    if rows:
        console.log.info("go on behind %d of %d utterances that are transcribed", len(rows), len(ids))
    return rows


def _append(progress: Path, rows: list[dict]) -> None:
    with open(progress, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
