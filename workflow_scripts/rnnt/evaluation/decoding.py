"""Transcribe a manifest with NeMo's greedy and beam searches."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import torch

from rnnt import config, console, files
from rnnt.data import families, tokenizers
from rnnt.errors import UserError
from rnnt.evaluation import language_model
from rnnt.training import batching, models

GREEDY = ("greedy", "greedy_batch")


def set_search(
    model, search: dict, lm: Path | None = None, training_text: Path | None = None, tokenizer: Path | None = None
) -> dict:
    """Make `model` (NeMo) decode with `search`, the `greedy` or `beam` section of the configuration.

    Returns the settings for the metrics file. What is not set here is NeMo's default, whatever the model was saved
    with: the same search for every model of the table. `lm` is an ARPA file for n-gram fusion; the manifest
    `training_text`, spelt by the SentencePiece model `tokenizer`, shows whether it speaks of the model's tokens
    (rnnt/evaluation/language_model.py).
    Raises UserError when the search does not work with the model, when the beam is wider than the vocabulary, and when
    the file is not of it.
    """
    from omegaconf import OmegaConf

    strategy, vocabulary = search["strategy"], model.tokenizer.vocab_size
    family = models.family(model)
    families.check_search(family, strategy)
    section = {key: value for key, value in search.items() if key not in ("strategy", "lm_weight")}
    settings = dict(search)
    if strategy not in GREEDY:
        if (width := config.beam_width(search)) > vocabulary:
            raise UserError(
                f"evaluation.beam: {strategy} with beam_size {section['beam_size']} looks at {width} tokens at a time, "
                f"the vocabulary has {vocabulary}: lower beam_size"
            )
        section["return_best_hypothesis"] = True
    if "alsd_max_target_len" in section:  # NeMo takes an integer for a number of tokens.
        section["alsd_max_target_len"] = float(section["alsd_max_target_len"])
    if strategy == "tsd" and "max_symbols" in section:
        section["tsd_max_sym_exp"] = section.pop("max_symbols")
    if lm:
        language_model.check_file(lm, vocabulary)
        section |= {"ngram_lm_model": str(lm), "ngram_lm_alpha": search["lm_weight"]}
        settings |= {"lm": lm.name, "lm_sha256": files.sha256(lm)}
    name = "greedy" if strategy in GREEDY else "beam"
    # Of a hybrid it is the transducer's; where the blank of a multi-blank model is, NeMo knows by this key alone.
    wanted = {"strategy": strategy, "model_type": family.loss, name: section}
    with language_model.explain_errors(lm) if lm else contextlib.nullcontext():
        model.change_decoding_strategy(OmegaConf.create(wanted), verbose=False)
    if lm and training_text:
        computer = model.decoding.decoding.decoding_computer
        fused = computer.fusion_models[0] if strategy == "malsd_batch" else computer.ngram_lm_batch
        processor = tokenizers.load(tokenizer.read_bytes())
        perplexity = language_model.check_tokens(fused, lm, processor, training_text)
        console.log.info("%s: perplexity %.1f per token of the training text", lm.name, perplexity)
    return settings


def cuda_graphs(model, device: str) -> str:
    """How the search of `model` uses CUDA graphs: `full_graph`, `no_while_loops` (parts of it), or `off`."""
    computer = getattr(model.decoding.decoding, "decoding_computer", None)
    mode = getattr(computer, "cuda_graphs_mode", None)
    return mode.value if mode is not None and device == "cuda" else "off"


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
            if number == 0:
                _warm_up(model, audio, lengths, device)
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


def _warm_up(model, audio: torch.Tensor, lengths: torch.Tensor, device: str) -> None:
    """The first call pays for what the libraries set up once; where CUDA graphs fail, the search does without."""
    if device == "cuda":  # Graphs are captured for the largest batch, which is the first.
        console.log.info("CUDA graphs of the search: %s", cuda_graphs(model, device))
    else:
        second = min(audio.shape[1], model.cfg.sample_rate)
        audio, lengths = audio[:1, :second], lengths[:1].clamp(max=second)
    try:
        _search(model, audio, lengths)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        disable = getattr(model.decoding.decoding, "disable_cuda_graphs", None)
        if disable is None or not disable():
            raise
        console.log.warning("CUDA graphs do not work here: decode without them (%s)", str(error).partition("\n")[0])
        _search(model, audio, lengths)


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
    for line in progress.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            rows.append({"id": row["id"], "pred_text": str(row["pred_text"]), "seconds": float(row["seconds"])})
        except (ValueError, TypeError, LookupError):  # a line that was cut off, or of something else
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
