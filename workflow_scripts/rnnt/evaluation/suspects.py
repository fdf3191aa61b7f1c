"""Find the transcripts of training and validation that are likely wrong, by what the trained model makes of them.

A transcript is looked at in three ways: the model's loss for it per token, its characters per second, and its tokens
per encoder frame. The first two are compared with the other utterances of the split, by their cube roots, which make
what is positive and skewed nearly normal (Wilson and Hilferty 1931): by how many robust standard deviations (1.4826
times the median absolute deviation) they lie from the median. For the third an RNN-T's lattice sets no limit, as a
frame may have any number of tokens (Graves 2012, arXiv 1211.3711); greedy search does, `max_symbols` in a frame: a
transcript beyond is one that it can't find.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import torch

from rnnt import console, files
from rnnt.data import manifests
from rnnt.evaluation import decoding
from rnnt.training import batching, legs

MOST = 200  # are listed: a quarter of an hour to an hour to listen to
LIKELY = 0.1  # a transcript that the model gives a higher probability is no suspect, however far from the median
OUTLIER = 5  # robust standard deviations from the median
LEAST_SPREAD = 0.03  # of the median: where utterances hardly differ, 10 % (3 % of a cube root) are no sign of anything
SEED = 1  # of the sample
MEASURED = ("loss_per_token", "score", "characters_per_second", "tokens_per_frame")
COLUMNS = [
    "rank",
    "split",
    "id",
    "audio_filepath",
    "offset",
    "duration",
    "channel",
    "speaker",
    "text",
    "hypothesis",
    *MEASURED,
    "reason",
]


def find(
    model,
    splits: dict[str, Path],
    tokenizer: Path,
    cache: Path,
    transducer: str,
    greedy: dict,
    batch_size: int,
    device: str,
    workers: int,
    hours: float | None = None,
) -> tuple[list[dict], dict[str, dict]]:
    """The suspects among the utterances of the manifests `splits`, as rows of COLUMNS, and what was scored.

    `model` is a trained NeMo model, `tokenizer` its SentencePiece model; `transducer` and `greedy` are the
    configuration's, `batch_size` is its number of utterances decoded together. At most `hours` of each split are
    scored, a random sample of it that is the same each time. Of what was scored, a split has its `utterances` and
    `hours` and those `scored`, and the medians of the rows' numbers. Utterances for which greedy search finds the very
    transcript are no suspects.
    """
    # NeMo's fused batch step has no loss for each utterance.
    step = legs.Transducer(model, "fused" if transducer == "fused" else "nemo").to(device).eval()
    rows, scored = [], {}
    for split, manifest in splits.items():
        found, total = measure(step, manifest, tokenizer, cache, batch_size, device, workers, hours, split)
        judged = judge(found, greedy["max_symbols"])
        rows += [{"split": split, **row} for row in judged if row["reason"]]
        scored[split] = {
            **total,
            "scored": len(found),
            "scored_hours": round(sum(row["duration"] for row in found) / 3600, 4),
            "median_loss_per_token": float(np.median([row["loss_per_token"] for row in found])),
            "median_characters_per_second": float(np.median([row["characters_per_second"] for row in found])),
        }
    rows = sorted(rows, key=lambda row: (-row["score"], row["split"], row["id"]))[:MOST]
    decoding.set_search(model, greedy)
    hypotheses = transcribe(model, rows, tokenizer, batch_size, device, workers)
    rows = [{**row, "hypothesis": text} for row, text in zip(rows, hypotheses, strict=True) if text != row["text"]]
    return [{"rank": rank, **row} for rank, row in enumerate(rows, 1)], scored


def measure(
    step,
    manifest: Path,
    tokenizer: Path,
    cache: Path,
    batch_size: int,
    device: str,
    workers: int,
    hours: float | None,
    label: str,
) -> tuple[list[dict], dict]:
    """The manifest's entries, or a sample of `hours` of them, with `loss`, `loss_per_token`, `characters_per_second`
    and `tokens_per_frame`; and how many utterances and hours the manifest has.

    `step` is a legs.Transducer in evaluation mode. Its loss is -ln P(transcript | audio), in nats. It is divided by the
    number of tokens and one for the end, which costs something too: else the shortest transcripts would stand out.
    """
    step.model.loss.reduction = None
    for option in ("omega", "sigma", "fastemit_lambda"):  # which make another loss of it in training
        if hasattr(step.model.loss._loss, option):
            setattr(step.model.loss._loss, option, 0.0)
    dataset = batching.load_dataset(manifest, tokenizer, step.model.cfg.sample_rate, cache)
    durations, tokens = batching.sizes(dataset, tokenizer)
    chosen = sample(durations, hours)
    wanted = np.zeros(len(durations), bool)
    wanted[chosen] = True
    entries = dict(zip(chosen.tolist(), itertools.compress(manifests.rows(manifest), wanted), strict=True))
    # As many seconds of audio as the largest batch that the searches decode: short utterances more at a time.
    options = {"batching": "duration", "batch_cells": None}
    buckets = batching.plan(durations[chosen], tokens[chosen], options, batch_size * durations[chosen].max(), 0.0)
    batches = [chosen[batch].tolist() for bucket in buckets for batch in np.array_split(bucket.indices, bucket.batches)]
    loader = torch.utils.data.DataLoader(
        dataset, batch_sampler=batches, collate_fn=batching.collate, num_workers=workers
    )
    found = {}
    with torch.inference_mode(), console.bar(len(chosen), f"score {label}") as shown:
        for batch, items in zip(batches, loader, strict=True):
            items.pop("ids")
            losses, frames = _losses(step, {key: value.to(device) for key, value in items.items()})
            for index, loss, count in zip(batch, losses, frames, strict=True):
                entry, loss = entries[index], loss if math.isfinite(loss) else math.inf
                found[index] = {
                    **entry,
                    "loss": loss,
                    "loss_per_token": loss / (int(tokens[index]) + 1),
                    "characters_per_second": len(entry["text"]) / entry["duration"],
                    "tokens_per_frame": int(tokens[index]) / count,
                }
            shown.update(len(batch))
    total = {"utterances": len(durations), "hours": round(float(durations.sum()) / 3600, 4)}
    return [found[index] for index in sorted(found)], total


def sample(durations: np.ndarray, hours: float | None) -> np.ndarray:
    """The indices, in order, of utterances drawn at random up to so many hours, but one at least; None: of all."""
    if hours is None or durations.sum() <= 3600 * hours:
        return np.arange(len(durations))
    order = np.random.default_rng(SEED).permutation(len(durations))
    count = np.searchsorted(durations[order].cumsum(), 3600 * hours, side="right")
    return np.sort(order[: max(1, count)])


def _losses(step, batch: dict[str, torch.Tensor]) -> tuple[list[float], list[int]]:
    """The loss and the encoder frames of each utterance of a batch; one that does not fit is computed in halves."""
    count = len(batch["audio"])
    try:
        encoded, frames, decoded, labels = step.encode(**batch)
        # NeMo's step holds all logits: those of one utterance fit wherever training did.
        size, losses = count if step.transducer == "fused" else 1, []
        for part in (slice(start, start + size) for start in range(0, count, size)):
            t, u = frames[part].max(), labels[part].max()
            arguments = encoded[part, :, :t], frames[part], decoded[part, :, : u + 1], batch["tokens"][part, :u]
            losses += step.joint_loss(*arguments, labels[part]).tolist()
        return losses, frames.tolist()
    except torch.OutOfMemoryError:
        if count == 1:
            raise
    console.log.warning("out of memory with %d utterances: score them in halves", count)
    losses, frames = [], []
    for part in (slice(count // 2), slice(count // 2, count)):
        half = {key: value[part] for key, value in batch.items()}
        half["audio"] = half["audio"][:, : half["audio_lengths"].max()]
        half["tokens"] = half["tokens"][:, : half["token_lengths"].max()]
        for found, more in zip((losses, frames), _losses(step, half), strict=True):
            found += more
    return losses, frames


def judge(rows: list[dict], max_symbols: int) -> list[dict]:
    """`measure`'s rows of one split with a `score` and a `reason`, which is empty where nothing stands out.

    The score is how many robust standard deviations the loss per token lies above the split's median, by cube roots.
    """
    losses = np.array([row["loss_per_token"] for row in rows])
    speeds = np.array([row["characters_per_second"] for row in rows])
    scores, by_speed = deviations(losses), deviations(speeds)
    found = []
    for row, score, speed in zip(rows, scores, by_speed, strict=True):
        reasons = []
        if not math.isfinite(score):
            reasons.append("the loss is not finite")
        elif score > OUTLIER and row["loss"] > -math.log(LIKELY):
            reasons.append(f"loss per token {row['loss_per_token']:.3g}, the median is {np.median(losses):.3g}")
        if abs(speed) > OUTLIER:
            kind, rate = "much" if speed > 0 else "little", row["characters_per_second"]
            middle = np.median(speeds)
            reasons.append(f"{kind} text for its length: {rate:.3g} characters a second, the median is {middle:.3g}")
        if row["tokens_per_frame"] > max_symbols:
            reasons.append(
                f"{row['tokens_per_frame']:.3g} tokens a frame, of which greedy search finds at most {max_symbols}"
            )
        found.append({**row, "score": float(score), "reason": "; ".join(reasons)})
    return found


def deviations(values: np.ndarray) -> np.ndarray:
    """How many robust standard deviations the cube root of each value lies above the median; inf for inf."""
    roots = np.cbrt(values)
    finite = roots[np.isfinite(roots)]
    middle, spread = 0.0, 0.0
    if len(finite):
        middle = np.median(finite)
        spread = np.median(abs(finite - middle))
    return (roots - middle) / max(1.4826 * spread, LEAST_SPREAD * middle, np.finfo(float).tiny)


def transcribe(model, rows: list[dict], tokenizer: Path, batch_size: int, device: str, workers: int) -> list[str]:
    """The hypotheses of `model`, with the search that it is set to, for rows of a manifest."""
    if not rows:
        return []
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "suspects.jsonl"
        files.write_jsonl(manifest, rows)
        texts, _ = decoding.transcribe(
            model, manifest, tokenizer, Path(folder), batch_size, device, workers, label="transcribe suspects"
        )
    return texts


def as_tsv(rows: list[dict]) -> str:
    """The rows of `find` with a header, separated by tabs; numbers have four digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = {key: f"{row[key]:.4g}" for key in MEASURED}
        writer.writerow({**row, **shown})
    return text.getvalue()
