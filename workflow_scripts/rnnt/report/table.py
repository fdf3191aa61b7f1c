"""The table of word error rates, from metrics files."""

from __future__ import annotations

from pathlib import Path

import pandas

from rnnt import files
from rnnt.errors import UserError

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
]
TEXT = {"dataset", "split", "model", "beam_strategy", "code_version", "beam_lm", "interval_by"}
EARLIER = "scored by an earlier version: `snakemake --forcerun score_hypotheses` does it anew"
ON_THE_TERMINAL = {
    "dataset": "data set",
    "split": "split",
    "hours": "hours",
    "reference_words": "words",
    "wer_greedy": "WER greedy %",
    "wer_zero_shot": "zero-shot %",
    "wer_beam": "WER beam %",
    "interval": "95 %",
    "interval_by": "by",
    "wer_glm": "GLM %",
    "wer_beam_normalized": "normalised %",
    "wer_board": "board %",
    "wer_unseen_text": "unseen text %",
    "cer_beam": "CER beam %",
    "rtfx_beam": "RTFx beam",
}


def read(
    greedy: list[Path], beam: list[Path], zero_shot: list[Path]
) -> tuple[list[dict[str, str]], list[str], list[str]]:
    """The rows of metrics files `.../DATASET/evaluation/LEG/SEARCH/SPLIT.json`, the code versions behind them, and
    what to know of a row: what its split shares with training, why it has no normalised WER, or none as the board's.

    `greedy` and `beam` are of the same splits. Raises UserError when a file was changed since it was computed.
    """
    before = {(path.parts[-5], path.stem): files.read_sealed(path) for path in zero_shot}
    rows, versions, remarks = [], [], []
    for greedy_path, path in zip(greedy, beam, strict=True):
        dataset, split = path.parts[-5], path.stem
        metrics = files.read_sealed(path)
        if "interval_by" not in metrics:
            raise UserError(f"{path}: {EARLIER}")
        rows.append(row(dataset, split, files.read_sealed(greedy_path), metrics, before.get((dataset, split))))
        versions += [metrics["versions"]["code"], metrics["checkpoint"]["code_version"]]
        if metrics.get("not_normalized"):
            remarks.append(f"{dataset} {split}: wer_beam_normalized is empty: {metrics['not_normalized']}")
        if metrics.get("wer_board") is None:
            remarks.append(f"{dataset} {split}: wer_board is empty: {metrics.get('no_board', EARLIER)}")
        remarks += [f"{dataset} {split}: {line}" for line in metrics.get("shared", [])]
    return rows, versions, sorted(remarks)


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
        "substitutions": str(beam["substitutions"]),
        "deletions": str(beam["deletions"]),
        "insertions": str(beam["insertions"]),
        "cer_beam": f"{beam['cer']:.2f}",
        "rtfx_greedy": f"{greedy['rtfx']:.1f}",
        "rtfx_beam": f"{beam['rtfx']:.1f}",
        "model": Path(model).stem if model.endswith(".nemo") else model,
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
    }


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


def notes(rows: list[dict[str, str]], code_versions: list[str]) -> list[str]:
    """What a reader of the table must know: runs that training made worse, and mixed or changed code."""
    found = [
        f"{row['dataset']} {row['split']}: training made it worse: WER {row['wer_zero_shot']} % before, "
        f"{row['wer_beam']} % after"
        for row in _frame(rows).to_dict("records")
        if row["wer_zero_shot"] and float(row["wer_beam"]) > float(row["wer_zero_shot"])
    ]
    versions = sorted(set(code_versions))
    if len(versions) > 1:
        found.append(f"The rows were computed with different versions of the code: {', '.join(versions)}")
    dirty = [version for version in versions if version.endswith("-dirty")]
    if dirty:
        found.append(f"The code had changes that are in no commit: {', '.join(dirty)}")
    return found


def load(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each cell as it is written. Raises UserError naming the file when it is not one."""
    try:
        return pandas.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    except ValueError as error:
        raise UserError(f"{path}: not a readable CSV file ({str(error).strip()})") from None


def as_csv(rows: list[dict[str, str]]) -> str:
    """The table as CSV, sorted by data set and split."""
    return _frame(rows).to_csv(index=False)


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


def _frame(rows: list[dict[str, str]]) -> pandas.DataFrame:
    return pandas.DataFrame(rows, columns=COLUMNS, dtype=str).fillna("").sort_values(["dataset", "split"])


def _markdown(table: pandas.DataFrame, headings: dict[str, str]) -> str:
    sides = ["left" if column in TEXT else "right" for column in table]
    return table.rename(columns=headings).to_markdown(index=False, disable_numparse=True, colalign=sides) + "\n"
