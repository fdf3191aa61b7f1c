"""The table of word error rates, from metrics files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pandas

from rnnt import files
from rnnt.errors import UserError
from rnnt.evaluation import over_seeds

COLUMNS = [
    "dataset",
    "split",
    "utterances",
    "hours",
    "reference_words",
    "wer_zero_shot",
    "wer_greedy",
    "wer_beam",
    "wer_beam_low",
    "wer_beam_high",
    "wer_beam_normalized",
    "substitutions",
    "deletions",
    "insertions",
    "cer_beam",
    "rtfx_greedy",
    "rtfx_beam",
    "model",
    "train_steps",
    "beam_strategy",
    "beam_size",
    "code_version",
    "beam_lm",
    "wer_glm",
    "wer_unseen_text",
    "interval_by",
    "wer_glm_low",
    "wer_glm_high",
    "wer_board",
    "leg",
    "seeds",
    "wer_beam_sd",
    "wer_beam_without_lm",
]
OF_ALL_SEEDS = ("seeds", "wer_beam_sd", "wer_beam_without_lm")  # what a row of one seed has not
RUN_COLUMNS = ["dataset", "split", "seed", *(column for column in COLUMNS[2:] if column not in OF_ALL_SEEDS)]
AVERAGED = {
    *("wer", "cer", "wer_normalized", "wer_board", "wer_glm", "wer_unseen_text", "rtfx"),
    *("substitutions", "deletions", "insertions", "lm_weight"),
}
TEXT = {"dataset", "split", "model", "beam_strategy", "code_version", "beam_lm", "interval_by", "leg"}
BEST = "best: "
EARLIER = "scored by an earlier version: `snakemake --forcerun score_hypotheses` does it anew"
ON_THE_TERMINAL = {
    "dataset": "data set",
    "split": "split",
    "hours": "hours",
    "reference_words": "words",
    "wer_greedy": "WER greedy %",
    "wer_zero_shot": "zero-shot %",
    "wer_beam": "WER beam %",
    "wer_beam_without_lm": "without LM %",
    "interval": "95 %",
    "interval_by": "by",
    "wer_beam_sd": "SD of seeds",
    "wer_glm": "GLM %",
    "wer_beam_normalized": "normalised %",
    "wer_board": "board %",
    "wer_unseen_text": "unseen text %",
    "cer_beam": "CER beam %",
    "rtfx_beam": "RTFx beam",
}


class Metrics(NamedTuple):
    """What the table is made of: by data set and split the metrics of each seed, and of all seeds together."""

    greedy: dict[tuple[str, str], list[dict]]
    beam: dict[tuple[str, str], list[dict]]
    zero_shot: dict[tuple[str, str], dict]
    splits: dict[tuple[str, str], dict]


def read(greedy: list[Path], beam: list[Path], zero_shot: list[Path], splits: list[Path] = ()) -> Metrics:
    """Metrics files `.../DATASET/evaluation/LEG/SEARCH/SPLIT.json`, or `.../DATASET/seed_N/evaluation/...`.

    `greedy` and `beam` are of the same splits and seeds, `splits` what score_split.py made of all seeds,
    `.../DATASET/evaluation/SPLIT.json`; without, there is one seed. Raises UserError when a file was changed since it
    was computed, or is of an earlier version.
    """
    found = Metrics({}, {}, {}, {})
    for path in zero_shot:
        found.zero_shot[dataset_of(path.parts[:-4]), path.stem] = files.read_sealed(path)
    for path in splits:
        found.splits[path.parts[-3], path.stem] = files.read_sealed(path)
    for greedy_path, path in zip(greedy, beam, strict=True):
        key = dataset_of(path.parts[:-4]), path.stem
        metrics = files.read_sealed(path)
        if "interval_by" not in metrics:
            raise UserError(f"{path}: {EARLIER}")
        found.greedy.setdefault(key, []).append(files.read_sealed(greedy_path))
        found.beam.setdefault(key, []).append(metrics)
    return found


def dataset_of(folder: tuple[str, ...]) -> str:
    """The data set whose training has this folder, `.../DATASET` or `.../DATASET/seed_N`."""
    return folder[-2] if folder[-1].startswith("seed_") and folder[-1][5:].isdigit() else folder[-1]


def rows(found: Metrics) -> list[dict[str, str]]:
    """The table: a row for each data set and test split, the mean over its seeds."""
    made = []
    for (dataset, split), beam in found.beam.items():
        key = dataset, split
        one = row(dataset, split, mean(found.greedy[key]), mean(beam), found.zero_shot.get(key))
        if key in found.splits:
            of_all = found.splits[key]
            one |= {
                "wer_beam_low": cell(of_all["wer_low"]),
                "wer_beam_high": cell(of_all["wer_high"]),
                "interval_by": of_all["interval_by"],
                "wer_glm_low": cell(of_all.get("wer_glm_low")),
                "wer_glm_high": cell(of_all.get("wer_glm_high")),
                "wer_beam_sd": cell(of_all["wer_sd"]),
                "wer_beam_without_lm": cell(of_all.get("language_model", {}).get("wer_before")),
            }
        one = {"wer_beam_sd": "", "wer_beam_without_lm": "", **one, "seeds": str(len(beam)), "leg": _legs(beam)}
        made.append({column: one[column] for column in COLUMNS})
    return made


def runs(found: Metrics) -> list[dict[str, str]]:
    """A row for each seed of each data set and test split."""
    return [
        row(dataset, split, greedy, beam, found.zero_shot.get((dataset, split))) | {"seed": str(seed)}
        for (dataset, split), beams in found.beam.items()
        for greedy, beam, seed in zip(
            found.greedy[dataset, split],
            beams,
            found.splits[dataset, split]["seeds"] if (dataset, split) in found.splits else [""],
            strict=True,
        )
    ]


def mean(metrics: list[dict]) -> dict:
    """The metrics of several seeds as one: the mean of what is a rate or a count, the first's of what is not."""
    rates = [key for key in metrics[0] if key in AVERAGED and all(one.get(key) is not None for one in metrics)]
    return metrics[0] | {key: sum(one[key] for one in metrics) / len(metrics) for key in rates}


def row(dataset: str, split: str, greedy: dict, beam: dict, zero_shot: dict | None) -> dict[str, str]:
    """A line of the table from the metrics of the same split, decoded greedily and with beam search.

    `zero_shot` is the beam search of the pretrained model before training, where there is one. Percent with two
    decimals, hours with two; a column without a value is empty. A `.nemo` file is named without its folder: the table
    is for others too, and provenance.json has the path.
    """
    model = beam["checkpoint"]["model"]
    return {
        "dataset": dataset,
        "split": split,
        "utterances": str(beam["utterances"]),
        "hours": f"{beam['hours']:.2f}",
        "reference_words": str(beam["reference_words"]),
        "wer_zero_shot": cell(zero_shot["wer"] if zero_shot else None),
        "wer_greedy": f"{greedy['wer']:.2f}",
        "wer_beam": f"{beam['wer']:.2f}",
        "wer_beam_low": cell(beam["wer_low"]),
        "wer_beam_high": cell(beam["wer_high"]),
        "wer_beam_normalized": cell(beam["wer_normalized"]),
        "substitutions": f"{round(beam['substitutions'], 1):g}",
        "deletions": f"{round(beam['deletions'], 1):g}",
        "insertions": f"{round(beam['insertions'], 1):g}",
        "cer_beam": f"{beam['cer']:.2f}",
        "rtfx_greedy": f"{greedy['rtfx']:.1f}",
        "rtfx_beam": f"{beam['rtfx']:.1f}",
        "model": _name_of(model),
        "train_steps": str(beam["checkpoint"]["step"]),
        "beam_strategy": beam["strategy"],
        "beam_size": str(beam["beam_size"]),
        "code_version": beam["versions"]["code"],
        "beam_lm": _language_model(beam, zero_shot),
        "wer_glm": cell(beam.get("wer_glm")),
        "wer_unseen_text": cell(beam.get("wer_unseen_text")),
        "interval_by": beam["interval_by"],
        "wer_glm_low": cell(beam.get("wer_glm_low")),
        "wer_glm_high": cell(beam.get("wer_glm_high")),
        "wer_board": cell(beam.get("wer_board")),
        "leg": _legs([beam]),
    }


def _legs(seeds: list[dict]) -> str:
    """The leg whose weights were decoded, or those of several seeds; `best: ` before it where validation chose it."""
    checkpoints = [metrics["checkpoint"] for metrics in seeds]
    legs = dict.fromkeys(str(checkpoint.get("leg", "")) for checkpoint in checkpoints)
    return BEST * ("selected" in checkpoints[0]) + ", ".join(legs)


def choices(leg: dict) -> list[str]:
    """What validation decided of the weights, by a leg.json: between a leg's last and their mean, and between legs."""
    found = []
    if mean := leg.get("averaging"):
        found.append(
            f"Leg {leg['leg']}: validation WER {mean['last']:.2f} % with its last weights, {mean['averaged']:.2f} % "
            f"with their mean over its end; the {'mean was' if mean['kept'] == 'averaged' else 'last were'} kept"
        )
    if selected := leg.get("selected"):
        rates = ", ".join(f"{rate:.2f} %" for rate in selected["wer"].values())
        found.append(f"Leg {leg['leg']} of {leg['legs']} was taken: validation WER {rates} after the legs")
    return found


def _name_of(model: str) -> str:
    """A model's name: of a file without its folder, of another data set's model here that data set's."""
    if match := re.fullmatch(r"(?:\./)?results/(\w+)/model/model\.nemo", model):
        return match[1]
    return Path(model).stem if model.endswith(".nemo") else model


def cell(value: float | None) -> str:
    """Two decimals; empty for none."""
    return "" if value is None else f"{value:.2f}"


def final_values(row: dict[str, str]) -> dict[str, float]:
    """The error rates of a row of the table, in percent, named after its split: `test/wer_beam`."""
    rates = [column for column in COLUMNS if column.startswith(("wer_", "cer_"))]
    return {f"{row['split']}/{column}": float(row[column]) for column in rates if row.get(column)}


def _language_model(beam: dict, zero_shot: dict | None) -> str:
    if "lm" not in beam:
        return ""
    without = ", not for zero-shot" if zero_shot and "lm" not in zero_shot else ""
    return f"{beam['lm']} x {beam['lm_weight']:g}{without}"


def notes(found: Metrics) -> list[str]:
    """What a reader of the table must know, a line each.

    Splits that training made worse, what a language model changed, recipes of one seed, mixed or changed code, what a
    split shares with training, why a column is empty.
    """
    lines = [line for key in sorted(found.beam) if (line := _worse(found, key))]
    lines += [
        line
        for key in sorted(found.splits)
        if (line := over_seeds.describe_language_model(" ".join(key), found.splits[key]))
    ]
    single = sorted({dataset for (dataset, _), beam in found.beam.items() if len(beam) == 1})
    if single:
        lines.append(
            f"One seed alone was trained of {', '.join(single)}: how far another seed would lie from it is not in the "
            "interval (training.seeds)"
        )
    beams = [metrics for beam in found.beam.values() for metrics in beam]
    versions = sorted({version for m in beams for version in (m["versions"]["code"], m["checkpoint"]["code_version"])})
    if len(versions) > 1:
        lines.append(f"The rows were computed with different versions of the code: {', '.join(versions)}")
    dirty = [version for version in versions if version.endswith("-dirty")]
    if dirty:
        lines.append(f"The code had changes that are in no commit: {', '.join(dirty)}")
    return lines + sorted({remark for key, beam in found.beam.items() for m in beam for remark in _remarks(key, m)})


def _worse(found: Metrics, key: tuple[str, str]) -> str | None:
    """A line where training made a split's WER higher."""
    if key in found.splits:
        return over_seeds.describe_change(" ".join(key), found.splits[key])
    before, after = found.zero_shot.get(key, {}).get("wer"), mean(found.beam[key])["wer"]
    if before is None or after <= before:
        return None
    return f"{' '.join(key)}: {before:.2f} % before training, {after:.2f} % after"


def _remarks(key: tuple[str, str], metrics: dict) -> list[str]:
    name = " ".join(key)
    found = [f"{name}: {line}" for line in metrics.get("shared", [])]
    if metrics.get("not_normalized"):
        found.append(f"{name}: wer_beam_normalized is empty: {metrics['not_normalized']}")
    if metrics.get("wer_board") is None:
        found.append(f"{name}: wer_board is empty: {metrics.get('no_board', EARLIER)}")
    return found


def load(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each cell as it is written. Raises UserError naming the file when it is not one."""
    try:
        return pandas.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    except ValueError as error:
        raise UserError(f"{path}: not a readable CSV file ({str(error).strip()})") from None


def as_csv(rows: list[dict[str, str]], columns: list[str] = COLUMNS) -> str:
    """The table as CSV, sorted by data set and split."""
    return _frame(rows, columns).to_csv(index=False)


def as_markdown(rows: list[dict[str, str]], remarks: list[str]) -> str:
    """The same table as Markdown, with its notes below."""
    below = "".join(f"\n- {remark}" for remark in remarks)
    return _markdown(_frame(rows), {}) + (f"{below}\n" if below else "")


def excerpt(rows: list[dict[str, str]], headings: dict[str, str]) -> str:
    """Of the same table the columns that have headings, and a value anywhere; `interval` has both ends, or a dash."""
    table = _frame(rows)
    low, high = table["wer_beam_low"], table["wer_beam_high"]
    without = table["interval_by"].str.replace(r".+", "–", regex=True)
    table["interval"] = (low + " to " + high).where((low != "") & (high != ""), without)
    return _markdown(table.loc[:, [column for column in headings if (table[column] != "").any()]], headings)


def _frame(rows: list[dict[str, str]], columns: list[str] = COLUMNS) -> pandas.DataFrame:
    frame = pandas.DataFrame(rows, columns=columns, dtype=str).fillna("")
    return frame.sort_values(["dataset", "split"], kind="stable")


def _markdown(table: pandas.DataFrame, headings: dict[str, str]) -> str:
    sides = ["left" if column in TEXT else "right" for column in table]
    return table.rename(columns=headings).to_markdown(index=False, disable_numparse=True, colalign=sides) + "\n"
