"""Transcribe a manifest with NeMo's greedy and beam searches."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from rnnt import config, console, files
from rnnt.data import families, tokenizers
from rnnt.errors import UserError
from rnnt.evaluation import language_model
from rnnt.training import batching, memory, models

GREEDY = ("greedy", "greedy_batch")
# The encoder hears an utterance longer than LONG s in windows, as long as what most models are trained on: whole, the
# scores of attention take memory by the square of the length, and 10 minutes are unlike anything in training.
LONG, WINDOW, OVERLAP = 60.0, 20.0, 5.0
TOGETHER = 8  # windows
SMALL = 300.0  # seconds of audio in a batch that fit any memory in which the model could be trained
SCORES = 8  # fp32 copies of the scores of full attention that are there at a time


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


def long_form(durations: list[float]) -> dict:
    """For the metrics file: how many utterances of these durations in s the encoder hears in windows, and in which."""
    longer = sum(seconds > LONG for seconds in durations)
    return {"windows": {"utterances": longer, "above_seconds": LONG, "seconds": WINDOW, "overlap_seconds": OVERLAP}}


def depends_on_batch(model) -> str | None:
    """Why the hypothesis of an utterance depends on what else is in its batch, so that each is to be decoded alone."""
    if models.family(model).loss == "multiblank":
        return "a big blank is taken where all of a batch have one"
    return "its encoder hears the padding of a batch" if _hears_padding(model) else None


def _hears_padding(model) -> bool:
    device, rate = next(model.parameters()).device, model.cfg.sample_rate
    noise = 0.1 * torch.randn(2, 2 * rate, generator=torch.Generator().manual_seed(1)).to(device)
    lengths = torch.tensor([rate, 2 * rate], device=device)
    with torch.inference_mode():
        alone, frames = model.eval().forward(input_signal=noise[:1, :rate], input_signal_length=lengths[:1])
        together, _ = model.forward(input_signal=noise, input_signal_length=lengths)
    alone, together = alone[0, :, : frames[0]], together[0, :, : frames[0]]
    return bool((alone - together).abs().max() > 0.02 * alone.abs().max())


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

    Utterances are batched by duration, the longest first, so that too large a batch shows at once. A batch has as many
    as are predicted to fit the memory, `batch_size` at most; one that does not fit after all is decoded in halves. Each
    batch is written to `progress` as it comes, and a restart with the same file goes on behind the last whole batch.
    """
    dataset, order, ends = _batches(model, manifest, tokenizer, cache, batch_size, device)
    ids = dataset.with_format(None)["id"][:]
    done = _resume(progress, [ids[index] for index in order], ends)
    texts, seconds = [row["pred_text"] for row in done], sum(row["seconds"] for row in done)
    loader = _loader(
        dataset, [order[start:end] for start, end in itertools.pairwise(ends) if start >= len(done)], workers
    )
    largest = [0, 0]
    with torch.inference_mode(), console.bar(len(dataset), label, initial=len(done)) as shown:
        for number, batch in enumerate(loader):
            audio, lengths = batch["audio"].to(device), batch["audio_lengths"].to(device)
            # A search captures its CUDA graphs anew for more utterances, or longer ones, than it has seen.
            grown = [max(pair) for pair in zip(largest, audio.shape, strict=True)]
            if number == 0 or (device == "cuda" and grown != largest):
                _warm_up(model, audio, lengths, device)
            largest = grown
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


def search_with_weights(
    model,
    weights: Iterable[float],
    manifest: Path,
    tokenizer: Path,
    cache: Path,
    batch_size: int,
    device: str,
    workers: int,
    label: str,
) -> Iterator[list[str]]:
    """For each weight of the language model that `set_search` has fused the hypotheses, in the manifest's order.

    They are those of `transcribe`; the encoder is run once, its outputs wait in the memory of the CPU.
    """
    dataset, order, ends = _batches(model, manifest, tokenizer, cache, batch_size, device)
    batches = [order[start:end] for start, end in itertools.pairwise(ends)]
    heard = []
    with torch.inference_mode(), console.bar(len(dataset), label) as shown:
        for number, batch in enumerate(_loader(dataset, batches, workers)):
            audio, lengths = batch["audio"].to(device), batch["audio_lengths"].to(device)
            if number == 0:
                _warm_up(model, audio, lengths, device)
            heard.append(_in_halves(lambda *given: _encode_each(model, *given), audio, lengths))
            shown.update(len(audio))
    for weight in weights:
        _set_lm_weight(model, weight)
        texts = []
        with torch.inference_mode():
            for outputs in heard:
                encoded = torch.nn.utils.rnn.pad_sequence([output.T for output in outputs], batch_first=True)
                lengths = torch.tensor([output.shape[1] for output in outputs], device=device)
                texts += _in_halves(lambda *given: _decode(model, *given), encoded.mT.to(device), lengths)
        in_order = dict(zip(order, texts, strict=True))
        yield [in_order[index] for index in range(len(dataset))]


def _set_lm_weight(model, weight: float) -> None:
    computer = model.decoding.decoding.decoding_computer
    if hasattr(computer, "fusion_models_alpha"):
        computer.fusion_models_alpha = [weight]
        computer.reset_cuda_graphs_state()  # they hold the weight that they were captured with
    else:
        computer.ngram_lm_alpha = weight


def _batches(model, manifest: Path, tokenizer: Path, cache: Path, batch_size: int, device: str):
    """The data set of a manifest, its rows from the longest, and where in that order batches end, from 0.

    The model is moved to the device.
    """
    dataset = batching.load_dataset(manifest, tokenizer, model.cfg.sample_rate, cache)
    durations = dataset.with_format(None)["duration"][:]
    order = sorted(range(len(dataset)), key=lambda index: -durations[index])
    model.to(device).eval()
    sizes = batch_sizes(model, [durations[index] for index in order], batch_size, device)
    return dataset, order, list(itertools.accumulate(sizes, initial=0))


def _loader(dataset, batches: list[list[int]], workers: int):
    return torch.utils.data.DataLoader(dataset, batch_sampler=batches, collate_fn=batching.collate, num_workers=workers)


def batch_sizes(model, durations: list[float], most: int, device: str) -> list[int]:
    """Utterances in each batch, for durations in s from the longest: `most`, less where memory will not hold them.

    Those above LONG are alone. What one of the others takes is predicted: what a second of noise takes, by its length,
    and the scores of attention, by its square.
    """
    longer = sum(seconds > LONG for seconds in durations)
    sizes, done = [1] * longer, longer
    taken = room = None
    while done < len(durations):
        size = min(most, len(durations) - done)
        if size * durations[done] > SMALL:
            if taken is None:
                taken = _bytes_a_second(model)
                weights = sum(tensor.nbytes for tensor in model.parameters()) if device == "cuda" else 0
                room = memory.room(device, weights) * memory.HEADROOM[device]
            needed = taken * durations[done] + attention_bytes(model, durations[done])
            size = max(1, min(size, int(room / needed)))
        sizes.append(size)
        done += size
    return sizes


def attention_bytes(model, seconds: float) -> float:
    """What the scores of full attention take for an utterance of so many seconds."""
    encoder = model.encoder
    if getattr(encoder, "self_attention_model", None) not in ("rel_pos", "abs_pos"):
        return 0.0
    frames = seconds / (encoder.subsampling_factor * model.cfg.preprocessor.window_stride)
    return SCORES * 4 * encoder.layers[0].self_attn.h * frames**2


def _bytes_a_second(model) -> int:
    """What features and encoder take at their peak for a second of audio; of attention that is next to nothing."""
    rate, device = model.cfg.sample_rate, next(model.parameters()).device

    def taken(seconds: int) -> int:
        noise = 0.1 * torch.randn(1, seconds * rate, device=device)
        lengths = torch.tensor([seconds * rate], device=device)
        return memory.of_call(model, lambda: model.forward(input_signal=noise, input_signal_length=lengths))

    with torch.inference_mode():
        taken(1)  # pays for what the libraries set up once
        once = taken(1)
        return max(taken(2) - once, 1)


def _encode(model, audio: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoder output [B, D, T] and its lengths [B] of audio [B, samples]; one that is LONG is in a batch of its own."""
    if len(audio) > 1 or audio.shape[1] <= LONG * model.cfg.sample_rate:
        return model.forward(input_signal=audio, input_signal_length=lengths)
    whole = _join(*_encode_windows(model, audio[0]))
    return whole[None], torch.tensor([whole.shape[1]], device=audio.device)


def _encode_windows(model, audio: torch.Tensor) -> tuple[list[int], list[torch.Tensor]]:
    """Windows of audio [samples], each with OVERLAP s of the one before: first frames, and encoder outputs [D, frames].

    They begin at a frame of the encoder, so that the frames of two lie one upon the other.
    """
    rate = model.cfg.sample_rate
    window = audio[: int(WINDOW * rate)][None]
    _, (frames,) = model.forward(
        input_signal=window, input_signal_length=torch.tensor([window.shape[1]]).to(audio.device)
    )
    hop = round(model.cfg.preprocessor.window_stride * rate)
    frame = hop * round(window.shape[1] / hop / int(frames))  # samples: that many hops, a whole number
    size, step, count = (int(seconds * rate / frame) for seconds in (WINDOW, WINDOW - OVERLAP, len(audio) / rate))
    # The last is as long as the others: it has more of the one before.
    starts = [*range(0, count - size, step), count - size]
    outputs = []
    for first in range(0, len(starts), TOGETHER):
        some = starts[first : first + TOGETHER]
        parts = [audio[start * frame : (start + size) * frame if start < starts[-1] else None] for start in some]
        lengths = torch.tensor([len(part) for part in parts], device=audio.device)
        padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        encoded, frames = model.forward(input_signal=padded, input_signal_length=lengths)
        outputs += [output[:, :length] for output, length in zip(encoded, frames.tolist(), strict=True)]
    return starts, outputs


def _join(starts: list[int], outputs: list[torch.Tensor]) -> torch.Tensor:
    """One encoder output [D, T] of those of windows, each cut where it is most like the next.

    At a frame that is heard by both alike a word is in both or in none; a second of each at its ends is left out, where
    it does not know what comes before or after.
    """
    parts, begin = [], 0
    for (start, output), (following, next_output) in itertools.pairwise(zip(starts, outputs, strict=True)):
        shared = start + output.shape[1] - following
        here, there = output[:, -shared:], next_output[:, :shared]
        apart = (here - there).square().sum(0)
        apart = torch.nn.functional.avg_pool1d(apart[None, None], 3, 1, 1)[0, 0]  # over three frames
        margin = shared // 5
        cut = following + margin + int(apart[margin : shared - margin].argmin())
        parts.append(output[:, begin - start : cut - start])
        begin = cut
    return torch.cat([*parts, outputs[-1][:, begin - starts[-1] :]], dim=1)


def _warm_up(model, audio: torch.Tensor, lengths: torch.Tensor, device: str) -> None:
    """The first call pays for what the libraries set up once; where CUDA graphs fail, the search does without."""
    if device == "cuda":
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
    return _in_halves(lambda *given: _decode(model, *_encode(model, *given)), audio, lengths)


def _decode(model, encoded: torch.Tensor, lengths: torch.Tensor) -> list[str]:
    """The hypotheses of encoder outputs [B, D, T]."""
    found = model.decoding.rnnt_decoder_predictions_tensor(encoded, lengths)
    return [(best[0] if isinstance(best, list) else best).text for best in found]


def _encode_each(model, audio: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
    """The encoder output [D, frames] of each utterance, on the CPU."""
    encoded, frames = _encode(model, audio, lengths)
    return [output[:, :length].cpu() for output, length in zip(encoded, frames.tolist(), strict=True)]


def _in_halves(find: Callable, inputs: torch.Tensor, lengths: torch.Tensor) -> list:
    """What `find` makes of each of `inputs` [B, ..., longest], in halves where they do not fit the memory together."""
    try:
        return find(inputs, lengths)
    except torch.OutOfMemoryError:
        if len(inputs) == 1:
            raise
    console.log.warning("out of memory with %d utterances: decode them in halves", len(inputs))
    half = len(inputs) // 2
    longest = [int(part.max()) for part in (lengths[:half], lengths[half:])]
    first = _in_halves(find, inputs[:half, ..., : longest[0]], lengths[:half])
    return first + _in_halves(find, inputs[half:, ..., : longest[1]], lengths[half:])


def _resume(progress: Path | None, ids: list[str], ends: list[int]) -> list[dict]:
    """What `progress` has of the batches with these `ends` in this order of utterances; nothing of anything else."""
    if progress is None or not progress.is_file():
        return []
    rows = []
    for line in progress.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            rows.append({"id": row["id"], "pred_text": str(row["pred_text"]), "seconds": float(row["seconds"])})
        except (ValueError, TypeError, LookupError):  # a line that was cut off, or of something else
            break
    rows = rows[: max(end for end in ends if end <= len(rows))]
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
