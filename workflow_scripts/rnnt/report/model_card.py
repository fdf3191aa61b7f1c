"""The Hugging Face model card of a trained model: figures from the pipeline's own files, no paths, no transcripts."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rnnt.data import languages, overlap
from rnnt.errors import UserError
from rnnt.evaluation import over_seeds, scoring
from rnnt.report import table

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TASK = "automatic-speech-recognition"

# Where the Hub has the corpus: its name, and the configuration that is the release which the pipeline takes.
ON_THE_HUB = {
    "librispeech": ("openslr/librispeech_asr", "all"),
    "common_voice": ("mozilla-foundation/common_voice_9_0", "en"),
    "tedlium": ("LIUM/tedlium", "release3"),
}
DESCRIPTIONS = {
    "librispeech": "LibriSpeech (OpenSLR 12), read English audiobooks",
    "common_voice": "Common Voice 9.0, English, sentences read by volunteers",
    "tedlium": "TED-LIUM 3 (OpenSLR 51) with its legacy splits, English talks",
    "switchboard": "Switchboard-1 Release 2 (LDC97S62) with the ISIP transcripts, English telephone conversations",
    "local": "recordings of its maker, which are not published with it",
}
LICENCES = {
    "librispeech": "LibriSpeech is licensed CC BY 4.0: name its authors (Panayotov et al. 2015) when you pass this on.",
    "common_voice": (
        "Common Voice is CC0 1.0. Whoever downloads it agrees not to try to find out who its speakers are; the same is "
        "asked of you: do not identify speakers."
    ),
    "tedlium": (
        "TED-LIUM is licensed CC BY-NC-ND 3.0: non-commercial use only, with attribution, no derivatives of the "
        "recordings. Clear a commercial use of this model with the rights holders first."
    ),
    "switchboard": (
        "Switchboard and Hub5 are licensed by the Linguistic Data Consortium (LDC). Audio and transcripts are for "
        "licensees alone and no part of this folder; the LDC agreement of whoever trained the model says what may be "
        "done with it."
    ),
    "synthetic": (
        "The speech was made with espeak-ng (GPL-3.0) for a demonstration that says nothing about real speech: no "
        "recordings, no speakers."
    ),
    "local": "The recordings are their owner's own: whoever publishes this model states here on what terms.",
    "hub": "The data set's own licence applies, as its page states it: whoever publishes this model repeats it here.",
}
# Column of the table, heading. One that is empty for every split is left out.
FIGURES = {
    "split": "test split",
    "utterances": "utterances",
    "hours": "hours",
    "reference_words": "words",
    "wer_beam": "WER %",
    "interval": "95 % interval",
    "interval_by": "interval by",
    "wer_beam_normalized": "WER % normalised",
    "wer_greedy": "WER % greedy",
    "wer_zero_shot": "WER % before training",
    "wer_unseen_text": "WER % of texts not trained on",
    "cer_beam": "CER %",
}
NEEDED = {"splits", "model", "filter", "training"}  # sections of the configuration


def write(
    label: str,
    leg: dict,
    summary: dict,
    shared: dict,
    rows: list[dict[str, str]],
    config: dict,
    of_seeds: dict[str, dict] | None = None,
    form: dict | None = None,
) -> str:
    """The content of README.md: metadata and text.

    `leg` is the checkpoint's leg.json, `summary` and `shared` the manifests' summary.json and overlap.json, `rows` the
    lines of the data set's table, of one seed each, `config` its sections of the configuration, defaults filled in,
    with `splits` as config.drawn gives them, `of_seeds` by test split what all seeds made of it (over_seeds.score),
    `form` the check.json of its form for Transformers.
    Raises UserError when they do not belong together, or the table has no WER.
    """
    missing = sorted(NEEDED - config.keys())
    if missing:
        raise UserError(f"--config: no `{missing[0]}`: it takes the data set's sections {', '.join(sorted(NEEDED))}")
    seed, of_seeds = str(config["training"]["seed"]), of_seeds or {}
    rows = [row for row in rows if row.get("dataset") == label and row.get("seed", seed) in ("", seed)]
    if not rows:
        raise UserError(f"--label {label}: the table has no row of this data set")
    for row in rows:
        if row.get("train_steps") != str(leg["step"]):
            raise UserError(
                f"the table's row {label} {row.get('split')} is of a model of {row.get('train_steps')} steps, the "
                f"checkpoint has {leg['step']}: they do not belong together"
            )
    language = _language(config)
    before = [part["source"] for parts in config.get("before", {}).values() for part in parts]
    trained_on = _sources(config, "train")
    told = set(map(_source, trained_on))
    data = _metadata(label, rows, config)
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        label=label,
        leg=leg,
        family=leg.get("family", "RNN-T (transducer) model"),  # an earlier version did not say
        streaming="streaming" in leg.get("family", ""),
        untrained_head=leg.get("ctc_weight") == 0,
        synthetic=all(source["type"] == "synthetic" for source in trained_on),
        source="; and on ".join(dict.fromkeys(map(_source, trained_on))),
        tested_on=list(dict.fromkeys(text for text in map(_source, _sources(config, "test")) if text not in told)),
        changes=[line for name, found in of_seeds.items() if (line := over_seeds.describe_change(name, found))],
        language_model=[
            line for name, found in of_seeds.items() if (line := over_seeds.describe_language_model(name, found))
        ],
        means={name: found for name, found in of_seeds.items() if len(found["seeds"]) > 1},
        base=_base(config["model"], config.get("before", {})),
        reinitialized=config["model"]["reinitialize_decoder"],
        choices=table.choices(leg),
        overrides=config["model"].get("overrides", {}),
        splits=summary,
        shared=overlap.describe(shared, examples=False),
        filter=config["filter"],
        case=config.get("text", {}).get("case"),
        language=language,
        english=languages.primary(language) == "en",
        spaced=languages.has_spaces(language),
        normalizer=scoring.normalizer_name(language),
        training=config["training"],
        figures=table.excerpt(rows, FIGURES),
        beam_strategy=rows[0]["beam_strategy"],
        beam_size=rows[0]["beam_size"],
        beam_lm=rows[0].get("beam_lm"),
        form=form or {"class": None, "why_not": None},
        licences=list(dict.fromkeys(LICENCES[source["type"]] for source in trained_on + before)),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def _sources(config: dict, kind: str) -> list[dict]:
    """The sources that the splits of a kind draw on."""
    return [part["source"] for split, parts in config["splits"].items() if split.startswith(kind) for part in parts]


def _on_the_hub(source: dict) -> tuple[str | None, str | None]:
    """The name of the corpus on the Hub and its configuration there, where it is there."""
    if source["type"] == "hub" and _is_hub_name(source["name"]):
        return source["name"], source.get("config")
    return ON_THE_HUB.get(source["type"], (None, None))


def _metadata(label: str, rows: list[dict[str, str]], config: dict) -> ModelCardData:
    """The card's YAML. It names no licence: that is the choice of whoever publishes the model."""
    datasets = [name for source in _sources(config, "train") if (name := _on_the_hub(source)[0])]
    base = config["model"]["init_from"]
    return ModelCardData(
        language=languages.primary(_language(config)),  # the Hub takes no regions and scripts here
        library_name="nemo",
        pipeline_tag=TASK,
        tags=[TASK, "speech", "transducer", "rnnt", "NeMo", "pytorch"],
        base_model=base if base and _is_hub_name(base) else None,
        datasets=list(dict.fromkeys(datasets)) or None,
        metrics=["wer"],
        model_name=label,
        eval_results=[_result(label, row, config) for row in rows],
    )


def _result(label: str, row: dict[str, str], config: dict) -> EvalResult:
    (part,) = config["splits"].get(row["split"], [{"source": {"type": "local"}, "split": row["split"]}])
    dataset, hub_config = _on_the_hub(part["source"])
    return EvalResult(
        task_type=TASK,
        task_name="Automatic Speech Recognition",
        dataset_type=dataset or label,
        dataset_name=f"{label} {row['split']}",
        dataset_config=hub_config,
        dataset_split=part["split"],
        dataset_revision=part["source"].get("revision"),
        metric_type="wer",
        metric_name=f"WER, %, {row['beam_strategy']}, beam size {row['beam_size']}{_fused(row)}",
        metric_value=_word_error_rate(row),
    )


def _language(config: dict) -> str:
    return config.get("text", {}).get("language", "en")


def _fused(row: dict[str, str]) -> str:
    return f", language model {row['beam_lm']}" if row.get("beam_lm") else ""


def _word_error_rate(row: dict[str, str]) -> float:
    try:
        return float(row["wer_beam"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"the table's row {row['dataset']} {row['split']} has no WER: wer_beam is {row.get('wer_beam')!r}"
        ) from None


def _is_hub_name(name: str) -> bool:
    """Whether this is a repository of the Hub, as USER/NAME: no `.nemo` file, no folder."""
    return bool(HUB_NAME.fullmatch(name)) and not name.endswith(".nemo") and not Path(name).exists()


def _source(source: dict) -> str:
    """What the data are, in words; a folder on somebody's disk is not named."""
    if source["type"] == "synthetic":
        return f"`{source['corpus']}`, synthetic speech made with espeak-ng"
    if source["type"] == "hub":
        if not _is_hub_name(source["name"]):
            return DESCRIPTIONS["local"]
        parts = [f"{key} `{source[key]}`" for key in ("config", "revision") if source.get(key)]
        return ", ".join([f"[{source['name']}](https://huggingface.co/datasets/{source['name']})", *parts])
    return DESCRIPTIONS[source["type"]]


def _base(model: dict, before: dict[str, list[dict]]) -> str | None:
    """What the training started from, in words; None: from scratch.

    `before` has the data sets whose models it started from, the nearest first, and what each was trained on.
    """
    if before:
        return "; that from ".join(
            f"the model `{name}` of the same experiment, trained on "
            + " and ".join(dict.fromkeys(_source(part["source"]) for part in parts))
            for name, parts in before.items()
        )
    name = model["init_from"]
    if not name:
        return None
    if _is_hub_name(name):
        return f"[{name}](https://huggingface.co/{name})"
    return f"`{Path(name).name}`"
