"""The report: what the results' files say, gathered and laid out as one HTML page."""

from __future__ import annotations

import base64
import csv
import io
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import jinja2
import jiwer
import pandas
import soundfile
from markupsafe import Markup

from rnnt import console, files
from rnnt.data import audio, overlap
from rnnt.errors import UserError
from rnnt.evaluation import error_rate, over_seeds, scoring
from rnnt.report import figures, table

ALIGNED = 20_000  # utterances per test split, at most
SEED = 1  # of those that are drawn
WORST = 10  # utterances per test split
SUSPECTS = 20  # per data set
AUGMENTED = 3  # utterances as training hears them, per data set
SPEAKERS = 30  # per test split
CONFUSIONS = 15  # of each kind, per test split
ALIGNED_WORDS = 120  # of an utterance: a hypothesis that loops can have thousands
AUDIO_RATE = 16000
AUDIO_SECONDS = 60  # of an utterance: the page must stay small enough to send
MP3_QUALITY = 0.7  # of soundfile's 0 (large) to 1 (small): 3 kB a second, and every browser plays mp3
DURATIONS = (1, 2, 5, 10, 15, 20, 30)  # seconds, where one group ends and the next begins
LENGTHS = (1, 2, 6, 11, 21, 41)  # reference words, likewise
NEEDED = ("dataset", "split", "wer_zero_shot", "wer_greedy", "wer_beam", "rtfx_greedy", "rtfx_beam", "train_steps")
FIRST = ("dataset", "split", "wer_beam", "wer_beam_low", "wer_beam_high", "interval_by", "wer_greedy", "wer_zero_shot")
KINDS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
HEADINGS = {
    "wer_glm": "WER as sclite %",
    "wer_unseen_text": "WER of texts not trained on %",
    "beam_lm": "language model",
    "dataset": "data set",
    "reference_words": "words",
    "wer_zero_shot": "WER before fine-tuning %",
    "wer_greedy": "WER greedy %",
    "wer_beam_sd": "standard deviation of seeds",
    "wer_a": "WER a %",
    "name": "without",
    "wer": "WER %",
    "wer_without": "WER without %",
    "wer_b": "WER b %",
    "wer_beam": "WER beam %",
    "wer_beam_low": "95 % from",
    "wer_beam_high": "95 % to",
    "wer_glm_low": "WER as sclite: 95 % from",
    "wer_glm_high": "95 % to",
    "wer_beam_normalized": "WER normalised %",
    "wer_board": "WER as the Open ASR board %",
    "cer_beam": "CER beam %",
    "rtfx_greedy": "RTFx greedy",
    "rtfx_beam": "RTFx beam",
    "p_value": "p",
    "interval_by": "95 % interval by",
    "low": "95 % from",
    "high": "95 % to",
}


def read_table(path: Path, datasets: list[str]) -> list[dict[str, str]]:
    """The table's rows of `datasets`, in that order. Raises UserError where it lacks a column or a data set."""
    rows = table.load(path)
    missing = [column for column in NEEDED if rows and column not in rows[0]]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}: make the table anew")
    absent = [name for name in datasets if name not in {row["dataset"] for row in rows}]
    if absent:
        raise UserError(f"{path}: no row for {', '.join(absent)}: make the table anew")
    return _of(datasets, rows)


def read_comparisons(path: Path | None, datasets: list[str]) -> list[dict[str, str]]:
    """The comparisons of `datasets`; none without the file."""
    return _of(datasets, table.load(path)) if path and path.exists() else []


def read_if_there(path: Path | None) -> dict | None:
    """A JSON file's content; None without the file."""
    return files.read_json(path) if path and path.exists() else None


def content(
    results: Path, datasets: list[str], rows: list[dict[str, str]], runs: Sequence[dict[str, str]] = ()
) -> dict:
    """All that the page shows of the data sets' folders; `runs` are the table's rows of each seed.

    Of several seeds the utterances are those of the first, whose folder is the data set's.
    """
    splits, legs = [], {}
    seeds: dict[str, list[str]] = {}
    for row in runs:
        if row["seed"] not in seeds.setdefault(row["dataset"], []):
            seeds[row["dataset"]].append(row["seed"])
    for row in rows:
        folder = results / row["dataset"]
        best = row.get("leg", "").startswith(table.BEST)
        leg = "best" if best else last_leg(folder, row)
        legs[row["dataset"]] = leg
        by_seed = [number(run["wer_beam"]) for run in runs if all(run[k] == row[k] for k in ("dataset", "split"))]
        found = one_split(folder / "evaluation" / f"leg_{leg}" / "beam", row)
        of_all = read_if_there(folder / "evaluation" / f"{row['split']}.json")
        change = of_all and over_seeds.describe_change(found["label"], of_all)
        splits.append({**found, "by_seed": by_seed if len(by_seed) > 1 else [], "change": change})
    trainings = {}
    for name in datasets:
        several = len(seeds.get(name, ())) > 1
        for place, seed in enumerate(seeds.get(name, [""])):
            folder = results / name if place == 0 else results / name / f"seed_{seed}"
            if found := training(folder, legs[name]):
                trainings[f"{name}, seed {seed}" if several else name] = found
    return {
        "rows": rows,
        "splits": splits,
        "seeds": {name: found for name, found in seeds.items() if len(found) > 1},
        "worse": [split for split in splits if split["worse"]],
        "training": trainings,
        "manifests": {
            name: found for name in datasets if (found := read_if_there(results / name / "manifests" / "summary.json"))
        },
        "overlap": {
            name: overlap.describe(found)
            for name in datasets
            if (found := read_if_there(results / name / "manifests" / "overlap.json"))
        },
    }


def transfer(path: Path | None) -> dict | None:
    """The matrix of transfer.csv: its test splits, and of each model a cell for each; None without the file."""
    if not path or not path.exists():
        return None
    rows = table.load(path)
    tested = list(dict.fromkeys((row["dataset"], row["split"]) for row in rows))
    models = list(dict.fromkeys(row["trained_on"] for row in rows))
    cells = {(row["trained_on"], row["dataset"], row["split"]): row for row in rows}
    least = {
        key: min(
            (number(r["wer_beam"]) for r in rows if (r["dataset"], r["split"]) == key and r["wer_beam"]), default=0
        )
        for key in tested
    }
    return {
        "tested": [f"{dataset} / {split}" for dataset, split in tested],
        "models": [
            {
                "name": model,
                "cells": [
                    {
                        **row,
                        "own": model == key[0],
                        # The best of a column is the darkest.
                        "shade": round(40 * (least[key] + 1) / (number(row["wer_beam"]) + 1)) if row["wer_beam"] else 0,
                    }
                    if (row := cells.get((model, *key)))
                    else None
                    for key in tested
                ],
            }
            for model in models
        ],
    }


def ablation(path: Path | None, rows: list[dict[str, str]]) -> dict | None:
    """The rows of ablation.csv and the data set they are of; None without the file.

    `rows` are the table's. None, and a warning, where the data set's WERs are others than in them.
    """
    if not path or not path.exists():
        return None
    found = table.load(path)
    dataset = found[0]["dataset"]
    wers = {row["split"]: row["wer_beam"] for row in rows if row["dataset"] == dataset}
    if any(row["wer"] != wers.get(row["split"]) for row in found if row["search"] == "beam"):
        console.log.warning(
            "%s is of earlier results of %s, and left out: `snakemake ablation` renews it", path, dataset
        )
        return None
    return {"dataset": dataset, "rows": found}


def last_leg(folder: Path, row: dict[str, str]) -> int:
    """The leg whose evaluation the table's row tells of: the last that has the row's training steps.

    Not simply the last: one from an earlier run with more legs may still lie there. Raises UserError without any.
    """
    wanted = int(row["train_steps"])
    found = {
        leg: files.read_sealed(path)["checkpoint"]["step"]
        for leg, path in _legs(folder / "evaluation", f"beam/{row['split']}.json")
    }
    same = [leg for leg, step in found.items() if step == wanted]
    if not same:
        raise UserError(f"{folder}/evaluation: no leg with beam/{row['split']}.json after {wanted} steps")
    return max(same)


def one_split(folder: Path, row: dict[str, str]) -> dict:
    """A test split: its numbers of the table, and what its hypotheses with beam search tell.

    Raises UserError where the file of hypotheses is missing or has an utterance without one.
    """
    entries, count = sample(folder / f"{row['split']}.jsonl")
    utterances = aligned(entries)
    values = {name: number(row[f"wer_{name}"]) for name in ("zero_shot", "greedy", "beam")}
    speeds = {name: number(row[name]) for name in ("rtfx_greedy", "rtfx_beam")}
    low, high = number(row.get("wer_beam_low")), number(row.get("wer_beam_high"))
    zero_shot, beam = values["zero_shot"], values["beam"]
    if None in (beam, values["greedy"], *speeds.values()):
        raise UserError(f"{row['dataset']} / {row['split']}: the table lacks a WER or RTFx: make it anew")
    with_speaker = [utterance for utterance in utterances if utterance["entry"].get("speaker") not in (None, "")]
    return {
        "dataset": row["dataset"],
        "split": row["split"],
        "label": f"{row['dataset']} / {row['split']}",
        **values,
        "low": low if high is not None else None,
        "high": high if low is not None else None,
        **speeds,
        "worse": zero_shot is not None and beam > zero_shot,
        "utterances": count,
        "sampled": len(utterances) if len(utterances) < count else None,
        "by_duration": in_ranges(utterances, [float(u["entry"]["duration"]) for u in utterances], DURATIONS, " s"),
        "by_length": in_ranges(utterances, [u["words"] for u in utterances], LENGTHS),
        **by_speaker(with_speaker),
        "confusions": confusions(utterances),
        "worst": [shown(utterance) for utterance in worst(utterances)],
    }


def sample(path: Path) -> tuple[list[dict], int]:
    """Hypotheses, or ALIGNED of them drawn at random and the same each time, in their order; and how many there are."""
    count = sum(1 for _ in scoring.rows(path))
    if count <= ALIGNED:
        return scoring.read(path), count
    wanted = set(random.Random(SEED).sample(range(count), ALIGNED))
    return [row for place, row in enumerate(scoring.rows(path)) if place in wanted], count


def aligned(entries: list[dict]) -> list[dict]:
    """Each utterance's words, reference beside hypothesis as (kind, reference, hypothesis), and its error counts."""
    if not entries:
        return []
    found = jiwer.process_words([e["text"] for e in entries], [e["pred_text"] for e in entries])
    counts = error_rate.of_alignments(found)
    names = ("substitutions", "deletions", "insertions", "errors", "words")
    return [
        {
            "entry": entry,
            "pairs": _pairs(found.references[i], found.hypotheses[i], found.alignments[i]),
            **{name: int(getattr(counts, name)[i]) for name in names},
        }
        for i, entry in enumerate(entries)
    ]


def _pairs(reference: list[str], hypothesis: list[str], chunks: list) -> list[tuple[str, str, str]]:
    pairs = []
    for chunk in chunks:
        ours = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        theirs = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        length = max(len(ours), len(theirs))
        # Only one side of an insertion or deletion has words.
        ours, theirs = (side or [""] * length for side in (ours, theirs))
        pairs += [(chunk.type, a, b) for a, b in zip(ours, theirs, strict=True)]
    return pairs


def sizes(utterances: list[dict], groups: Sequence[str]) -> pandas.DataFrame:
    """Name, utterances, words, errors and WER of each group that `groups`, one an utterance, has, in its order.

    The WER is None where a group has no reference words.
    """
    counts = pandas.DataFrame(utterances, columns=["words", "errors"]).assign(name=groups, utterances=1)
    found = counts.groupby("name", observed=True).sum().reset_index()
    wer = 100 * found["errors"] / found["words"]
    return found.assign(wer=wer.astype(object).where(found["words"] > 0, None))


def in_ranges(utterances: list[dict], values: list[float], borders: tuple[int, ...], unit: str = "") -> list[dict]:
    """The utterances by ranges of a value, empty ranges left out; whole numbers, without unit, to their last one."""
    names = []
    for start, end in pairwise((0, *borders)):
        last = end if unit else end - 1
        names.append(str(start) if last == start else f"{start} to {last}{unit}")
    names.append(f"{borders[-1]} or more{unit}")
    ranges = pandas.cut(values, [0, *borders, math.inf], right=False, labels=names)
    return sizes(utterances, ranges).to_dict("records")


def by_speaker(utterances: list[dict]) -> dict:
    """The speakers with the highest WER, how many there are, and the WER in their middle."""
    found = sizes(utterances, [str(utterance["entry"]["speaker"]) for utterance in utterances])
    # Speakers without reference words have no WER: behind all others.
    found = found.sort_values(["wer", "errors"], ascending=False)
    wers = found["wer"].dropna()
    return {
        "speakers": len(found),
        "speaker_median": float(wers.median()) if len(wers) else None,
        "worst_speakers": found[:SPEAKERS].to_dict("records"),
    }


def confusions(utterances: list[dict]) -> dict[str, list[tuple[str, str, int]]]:
    """The most frequent (reference word, hypothesis word, count) of each kind of error."""
    counts = Counter(pair for utterance in utterances for pair in utterance["pairs"])
    found: dict[str, list] = {kind: [] for kind in KINDS if kind != "equal"}
    # Sorted by word where counts are equal: the same results make the same page.
    for (kind, ours, theirs), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if kind != "equal" and len(found[kind]) < CONFUSIONS:
            found[kind].append((ours, theirs, count))
    return found


def worst(utterances: list[dict]) -> list[dict]:
    """The utterances with the most word errors, at equal numbers those with fewer words first; none without errors."""
    wrong = [utterance for utterance in utterances if utterance["errors"]]
    return sorted(wrong, key=lambda u: (-u["errors"], u["words"], str(u["entry"]["id"])))[:WORST]


def shown(utterance: dict) -> dict:
    """An utterance with its audio and no more words than fit."""
    entry = utterance["entry"]
    mp3, note = embedded_audio(entry)
    return {
        **utterance,
        "pairs": utterance["pairs"][:ALIGNED_WORDS],
        "left_out": max(0, len(utterance["pairs"]) - ALIGNED_WORDS),
        "audio": mp3,
        "audio_note": note,
    }


def suspects(path: Path) -> dict:
    """What find_suspects.py wrote: the first SUSPECTS with audio, how many it lists, and what it looked at by split.

    Raises UserError where the file is none of its own.
    """
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        entries = [
            {
                **row,
                "offset": float(row["offset"] or 0),
                "duration": float(row["duration"]),
                "channel": int(row["channel"]) if row["channel"] else None,
                "pred_text": row["hypothesis"],
            }
            for row in rows[:SUSPECTS]
        ]
        first = [shown(utterance) for utterance in aligned(entries)]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not as find_suspects wrote it: delete it, and it is computed again") from None
    return {"listed": len(rows), "first": first, "scored": files.read_json(path.with_suffix(".json"))}


def augmented(folder: Path) -> list[dict]:
    """What preview_augmentation.py wrote: the first AUGMENTED utterances, with audio.

    Raises UserError where the list is none of its own.
    """
    path = folder / "list.tsv"
    found = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in list(csv.DictReader(file, delimiter="\t"))[:AUGMENTED]:
                entry = {
                    "id": row["id"],
                    "audio_filepath": str(folder / row["file"]),
                    "duration": float(row["seconds"]),
                }
                mp3, note = embedded_audio(entry)
                found.append({"id": row["id"], "done": row["done"], "text": row["text"], "audio": mp3, "note": note})
    except (OSError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: not as preview_augmentation wrote it: delete the folder, and it is made again"
        ) from None
    return found


def embedded_audio(entry: dict) -> tuple[str, str]:
    """An utterance's audio as a data URI, and a remark; no URI where the audio can't be read."""
    seconds = min(float(entry["duration"]), AUDIO_SECONDS)
    try:
        samples = audio.read(
            entry["audio_filepath"], AUDIO_RATE, entry.get("offset", 0.0), seconds, entry.get("channel")
        )
    except UserError as error:
        console.log.warning("%s: no audio in the report: %s", entry["id"], error)
        return "", f"no audio: {error}"
    packed = io.BytesIO()
    soundfile.write(packed, samples, AUDIO_RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=MP3_QUALITY)
    note = f"the first {AUDIO_SECONDS} s" if entry["duration"] > AUDIO_SECONDS else ""
    return "data:audio/mpeg;base64," + base64.b64encode(packed.getvalue()).decode(), note


def training(folder: Path, final: int | str) -> dict | None:
    """Loss, skipped steps and augmentation of the training up to leg `final`, and its interim WERs; None with neither.

    `final` is `best` where validation chose a leg: then up to the last. `choices` say what else it decided.
    """
    report = folder / "checkpoints" / ("best" if final == "best" else f"leg_{final}") / "leg.json"
    about = files.read_json(report) if final == "best" else read_if_there(report) or {}
    last = about["legs"] if final == "best" else final
    states = [(leg, path) for leg, path in _legs(folder / "checkpoints", "trainer/trainer_state.json") if leg <= last]
    history = files.read_json(states[-1][1])["log_history"] if states else []
    loss = [(row["step"], row["loss"]) for row in history if math.isfinite(row.get("loss", math.nan))]
    interim: dict[str, list[tuple[int, float]]] = {}
    for leg, path in _legs(folder / "evaluation", "greedy/validation*.json"):
        # Not NAME.decoding.json, which lies beside.
        if leg <= last and "." not in path.stem:
            metrics = files.read_sealed(path)
            interim.setdefault(path.stem, []).append((metrics["checkpoint"]["step"], metrics["wer"]))
    if not loss and not interim:
        return None
    return {
        "augmentation": about.get("augmentation"),
        "loss": loss,
        "choices": table.choices(about),
        "skipped": {row["step"]: row["skipped"] for row in history if "skipped" in row},
        "interim": {split: sorted(points) for split, points in sorted(interim.items())},
    }


def render(content: dict, folder: Path) -> str:
    """The HTML page; its figures also become files in `folder`."""
    drawn = {
        "wer": Markup(figures.save(figures.wer(content["splits"]), folder, "wer")),
        "speed": Markup(figures.save(figures.speed(content["splits"]), folder, "wer_against_rtfx")),
    }
    if content["comparisons"]:
        figure = figures.differences([_difference(row) for row in content["comparisons"]])
        drawn["differences"] = Markup(figures.save(figure, folder, "differences"))
    if content["ablation"]:
        drawn["ablation"] = Markup(figures.save(figures.ablation(content["ablation"]["rows"]), folder, "ablation"))
    for name, found in content["training"].items():
        figure = figures.training(found["loss"], list(found["skipped"]), found["interim"])
        file = f"training_{name}".replace(", seed ", "_seed_")
        drawn[name, "training"] = Markup(figures.save(figure, folder, file))
    template = environment().get_template("page.html.jinja")
    return template.render(**content, figures=drawn, colors=figures.COLORS, headings=HEADINGS, kinds=KINDS)


def _difference(row: dict[str, str]) -> dict:
    """A line of comparisons.csv as figures.differences wants it."""
    one_model = row["b"] in ("greedy", "beam")
    label = (
        f"{row['dataset']} / {row['split']}: {row['b']} against {row['a']}"
        if one_model
        else f"{row['b']} against {row['a']}"
    )
    return {"label": label, **{name: number(row[name]) for name in ("difference", "low", "high")}}


def environment() -> jinja2.Environment:
    """Templates that escape every value and stop at a name that is not there."""
    result = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters.update(percent=percent, number=number, short=short, columns=columns)
    return result


def columns(rows: list[dict[str, str]]) -> list[str]:
    """The columns of a table that have a value, those first that a phone should show without scrolling."""
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    return sorted(filled, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def percent(value: float | None) -> str:
    """Two decimals, as in the table."""
    return "–" if value is None else f"{value:.2f}"


def number(text: str | None) -> float | None:
    """A cell as a finite number; None where it is empty or none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def short(text: str, length: int = 24) -> str:
    """A long name without its middle: speakers of Common Voice have 128 characters."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-(length // 2 - 1) :]}"


def _legs(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """The files that match in the folders leg_1, leg_2, ..., each with its leg, in their order."""
    found = ((re.fullmatch(r"leg_(\d+)", path.name), path) for path in folder.glob("leg_*"))
    legs = sorted((int(match[1]), path) for match, path in found if match)
    return [(leg, path) for leg, parent in legs for path in sorted(parent.glob(pattern))]


def _of(datasets: list[str], rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for name in datasets for row in rows if row["dataset"] == name]
