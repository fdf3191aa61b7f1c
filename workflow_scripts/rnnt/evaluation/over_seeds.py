"""One number of a recipe that was trained with several seeds, and of what training changed."""

from __future__ import annotations

from pathlib import Path

from rnnt.corpora import glm
from rnnt.evaluation import error_rate, sclite


def score(
    hypotheses: list[list[dict]],
    seeds: list[int],
    before: list[dict] | None,
    mapping: Path | None,
    without_lm: list[list[dict]] = (),
) -> dict:
    """What the models of all seeds make of one test split, in percent: mean WER, standard deviation, interval.

    `hypotheses` are of the same utterances in the same order, one list for each seed; `before` are those of the model
    that training started from: then `change` has the difference to it, after minus before. `without_lm` are those of
    the same searches without their language model, a list for each seed: then `language_model` has the difference to
    them. `mapping` is a GLM, for utterances that have an `stm`. Raises UserError when the utterances differ.
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
        found["change"] = _difference(rates, error_rate.Seeds((error_rate.of(before),)))
    if without_lm:
        without = error_rate.Seeds(tuple(error_rate.of(rows) for rows in without_lm))
        found["language_model"] = _difference(rates, without)
    return found


def _difference(after: error_rate.Seeds, before: error_rate.Seeds) -> dict:
    change = after.minus(before, paired=True)
    return {
        "wer_before": before.percent,
        "difference": change.difference,
        "low": change.interval.low,
        "high": change.interval.high,
        "interval_by": change.interval.by,
        "p_value": change.p_value,
    }


def describe_change(name: str, found: dict) -> str | None:
    """A line where training made a split's WER higher, and whether by more than its interval; None where it did not.

    `found` is what `score` returns.
    """
    change = found["change"]
    if not change or change["difference"] <= 0:
        return None
    line = f"{name}: {change['wer_before']:.2f} % before training, {found['wer']:.2f} % after, worse by "
    return line + _ends(change, 1)


def describe_language_model(name: str, found: dict) -> str | None:
    """A line with what the language model changed of a split's WER; None where the search has none.

    `found` is what `score` returns.
    """
    change = found.get("language_model")
    if not change:
        return None
    line = f"{name}: {change['wer_before']:.2f} % without the language model, {found['wer']:.2f} % with it"
    if not change["difference"]:
        return line
    sign = 1 if change["difference"] > 0 else -1
    return f"{line}, {'worse' if sign > 0 else 'better'} by {_ends(change, sign)}"


def _ends(change: dict, sign: int) -> str:
    """A difference with its interval, and whether it may be chance; of a decrease, with -1, the size."""
    size = f"{sign * change['difference']:.2f}"
    if change["low"] is None:
        return f"{size} (no interval: {change['interval_by'].removeprefix('none: ')})"
    low, high = sorted((sign * change["low"], sign * change["high"]))
    return f"{size} [{low:.2f}, {high:.2f}]" + ("" if low > 0 else ", which may be chance")
