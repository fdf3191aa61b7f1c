"""One number of a recipe that was trained with several seeds, and of what training changed."""

from __future__ import annotations

from pathlib import Path

from rnnt.corpora import glm
from rnnt.evaluation import error_rate, sclite


def score(hypotheses: list[list[dict]], seeds: list[int], before: list[dict] | None, mapping: Path | None) -> dict:
    """What the models of all seeds make of one test split, in percent: mean WER, standard deviation, interval.

    `hypotheses` are of the same utterances in the same order, one list for each seed; `before` are those of the model
    that training started from: then `change` has the difference to it, after minus before. `mapping` is a GLM, for
    utterances that have an `stm`. Raises UserError when the utterances differ.
    """
    rates = error_rate.Seeds(tuple(error_rate.of(rows) for rows in hypotheses))
    interval = rates.interval()
    found = {
        "seeds": seeds,
        "wer": rates.percent,
        "wer_sd": rates.sd,
        "wer_low": interval.low,
        "wer_high": interval.high,
        "interval_by": interval.by,
        "wer_by_seed": [rate.percent for rate in rates.rates],
        "change": None,
    }
    if mapping and all("stm" in row for row in hypotheses[0]):
        rules = glm.read(mapping)
        counted = tuple(
            sclite.count(
                [row["stm"] for row in rows], [row["pred_text"] for row in rows], rules, error_rate.speakers(rows)
            )
            for rows in hypotheses
        )
        interval = error_rate.Seeds(counted).interval()
        found |= {"wer_glm_low": interval.low, "wer_glm_high": interval.high}
    if before is not None:
        was = error_rate.of(before)
        change = rates.minus(error_rate.Seeds((was,)), paired=True)
        found["change"] = {
            "wer_before": was.percent,
            "difference": change.difference,
            "low": change.interval.low,
            "high": change.interval.high,
            "interval_by": change.interval.by,
            "p_value": change.p_value,
        }
    return found


def describe_change(name: str, found: dict) -> str | None:
    """A line where training made a split's WER higher, and whether by more than its interval; None where it did not.

    `found` is what `score` returns.
    """
    change = found["change"]
    if not change or change["difference"] <= 0:
        return None
    line = (
        f"{name}: {change['wer_before']:.2f} % before training, {found['wer']:.2f} % after, worse by "
        f"{change['difference']:.2f}"
    )
    if change["low"] is None:
        return f"{line} (no interval: {change['interval_by'].removeprefix('none: ')})"
    ends = f"[{change['low']:.2f}, {change['high']:.2f}]"
    return f"{line} {ends}" + ("" if change["low"] > 0 else ", which may be chance")
