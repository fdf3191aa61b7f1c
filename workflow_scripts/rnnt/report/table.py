"""The table of word error rates, from metrics files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rnnt import files

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
]
ON_THE_TERMINAL = {
    "dataset": "data set",
    "split": "split",
    "hours": "hours",
    "reference_words": "words",
    "wer_greedy": "WER greedy %",
    "wer_zero_shot": "zero-shot %",
    "wer_beam": "WER beam %",
    "interval": "95 %",
    "wer_glm": "GLM %",
    "wer_beam_normalized": "normalised %",
    "cer_beam": "CER beam %",
    "rtfx_beam": "RTFx beam",
}


def read(greedy: list[Path], beam: list[Path], zero_shot: list[Path]) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of metrics files `.../DATASET/evaluation/LEG/SEARCH/SPLIT.json`, and the code versions behind them.

    `greedy` and `beam` are of the same splits. Raises UserError when a file was changed since it was computed.
    """
    before = {(path.parts[-5], path.stem): files.read_sealed(path) for path in zero_shot}
    rows, versions = [], []
    for greedy_path, path in zip(greedy, beam, strict=True):
        dataset, split = path.parts[-5], path.stem
        metrics = files.read_sealed(path)
        rows.append(row(dataset, split, files.read_sealed(greedy_path), metrics, before.get((dataset, split))))
        versions += [metrics["versions"]["code"], metrics["checkpoint"]["code_version"]]
    return rows, versions


def row(dataset: str, split: str, greedy: dict, beam: dict, zero_shot: dict | None) -> dict[str, str]:
    """A line of the table from the metrics of the same split, decoded greedily and with beam search.

    `zero_shot` is the beam search of the pretrained model before training, where there is one. Percent with two
    decimals, hours with two; a column without a value is empty.
    """
    return {
        "dataset": dataset,
        "split": split,
        "utterances": str(beam["utterances"]),
        "hours": f"{beam['hours']:.2f}",
        "reference_words": str(beam["reference_words"]),
        "wer_zero_shot": f"{zero_shot['wer']:.2f}" if zero_shot else "",
        "wer_greedy": f"{greedy['wer']:.2f}",
        "wer_beam": f"{beam['wer']:.2f}",
        "wer_beam_low": f"{beam['wer_low']:.2f}",
        "wer_beam_high": f"{beam['wer_high']:.2f}",
        "wer_beam_normalized": f"{beam['wer_normalized']:.2f}",
        "substitutions": str(beam["substitutions"]),
        "deletions": str(beam["deletions"]),
        "insertions": str(beam["insertions"]),
        "cer_beam": f"{beam['cer']:.2f}",
        "rtfx_greedy": f"{greedy['rtfx']:.1f}",
        "rtfx_beam": f"{beam['rtfx']:.1f}",
        "model": beam["checkpoint"]["model"],
        "train_steps": str(beam["checkpoint"]["step"]),
        "beam_strategy": beam["strategy"],
        "beam_size": str(beam["beam_size"]),
        "code_version": beam["versions"]["code"],
        "beam_lm": _language_model(beam, zero_shot),
        "wer_glm": f"{beam['wer_glm']:.2f}" if "wer_glm" in beam else "",
    }


def final_values(row: dict[str, str]) -> dict[str, float]:
    """The error rates of a row of the table, in percent, named after its split: `test/wer_beam`."""
    rates = [column for column in COLUMNS if column.startswith(("wer_", "cer_"))]
    return {f"{row['split']}/{column}": float(row[column]) for column in rates if row.get(column)}


def _language_model(beam: dict, zero_shot: dict | None) -> str:
    if "lm" not in beam:
        return ""
    without = ", not for zero-shot" if zero_shot and "lm" not in zero_shot else ""
    return f"{beam['lm']} x {beam['lm_weight']:g}{without}"


def notes(rows: list[dict[str, str]], code_versions: list[str]) -> list[str]:
    """What a reader of the table must know: runs that training made worse, and mixed or changed code."""
    found = [
        f"{row['dataset']} {row['split']}: training made it worse: WER {row['wer_zero_shot']} % before, "
        f"{row['wer_beam']} % after"
        for row in _sorted(rows)
        if row["wer_zero_shot"] and float(row["wer_beam"]) > float(row["wer_zero_shot"])
    ]
    versions = sorted(set(code_versions))
    if len(versions) > 1:
        found.append(f"The rows were computed with different versions of the code: {', '.join(versions)}")
    dirty = [version for version in versions if version.endswith("-dirty")]
    if dirty:
        found.append(f"The code had changes that are in no commit: {', '.join(dirty)}")
    return found


def as_csv(rows: list[dict[str, str]]) -> str:
    """The table as CSV, sorted by data set and split."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_sorted(rows))
    return text.getvalue()


def as_markdown(rows: list[dict[str, str]], remarks: list[str]) -> str:
    """The same table as Markdown, with its notes below."""
    below = "".join(f"\n- {remark}" for remark in remarks)
    return _markdown(_sorted(rows), {column: column for column in COLUMNS}) + (f"{below}\n" if below else "")


def for_terminal(rows: list[dict[str, str]]) -> str:
    """The columns that fit a terminal, aligned."""
    shown = [{**row, "interval": f"{row['wer_beam_low']} to {row['wer_beam_high']}"} for row in _sorted(rows)]
    headings = {key: title for key, title in ON_THE_TERMINAL.items() if any(row.get(key) for row in shown)}
    return _markdown(shown, headings)


def _sorted(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: (row["dataset"], row["split"]))


def _markdown(rows: list[dict[str, str]], headings: dict[str, str]) -> str:
    cells = [list(headings.values()), *([row.get(column, "") for column in headings] for row in rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(headings))]
    text_columns = {"dataset", "split", "model", "beam_strategy", "code_version", "beam_lm"}
    left = [column in text_columns for column in headings]
    lines = [_line(line, widths, left) for line in cells]
    rule = (
        "|"
        + "|".join(("-" * (w + 1) + ("-" if is_left else ":")) for w, is_left in zip(widths, left, strict=True))
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _line(cells: list[str], widths: list[int], left: list[bool]) -> str:
    padded = (c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(cells, widths, left, strict=True))
    return "| " + " | ".join(padded) + " |"
