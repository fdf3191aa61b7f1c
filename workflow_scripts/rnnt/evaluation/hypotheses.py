"""The hypotheses of a split with a leg's weights, and what they were found with, as files."""

from __future__ import annotations

import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from rnnt import ahead, console, files

CHECKPOINT = ("model", "leg", "legs", "step", "fingerprint", "code_version", "selected")
SHORT = 900.0  # seconds of audio in a split: what takes longer is better decoded in several processes side by side


def write(
    model,
    leg: dict,
    manifest: Path,
    tokenizer: Path,
    search: dict,
    batch_size: int,
    device: str,
    workers: int,
    hypotheses: Path,
    decoding_file: Path,
    progress: Path | None = None,
    lm: Path | None = None,
    training_texts: Path | None = None,
) -> None:
    """Transcribe a manifest and write it with `pred_text` to `hypotheses`, settings and versions to `decoding_file`.

    `model` (NeMo) has the weights that `leg`, its leg.json, tells of; `tokenizer` is its SentencePiece model and
    `search` a search of the configuration, with what decoding.set_search says of `lm` and `training_texts`. What is
    transcribed so far is kept in the folder `progress`.
    Raises UserError where the search does not work with the model.
    """
    from rnnt.data import manifests
    from rnnt.evaluation import decoding

    entries = manifests.read(manifest)
    settings = decoding.set_search(model, search, lm, training_texts, tokenizer)
    alone = decoding.depends_on_batch(model)
    batch_size = 1 if alone else batch_size
    if alone:
        console.log.warning("%s: each utterance is decoded alone", alone)
    windows = decoding.long_form([entry["duration"] for entry in entries])
    # What was transcribed before a kill is taken up again if nothing that it depends on has changed. And where it goes:
    # the same may be decoded for two at a time.
    unfinished = None
    if progress:
        progress.mkdir(parents=True, exist_ok=True)
        key = ahead.key(
            leg.get("weights", leg["fingerprint"]), {**settings, **windows}, manifest, batch_size, str(hypotheses)
        )
        unfinished = progress / f"{key}.jsonl"
    with tempfile.TemporaryDirectory() as cache:
        texts, seconds = decoding.transcribe(
            model,
            manifest,
            tokenizer,
            Path(cache),
            batch_size,
            device,
            workers=workers,
            label=f"{settings['strategy']} {manifest.stem}",
            progress=unfinished,
        )
    files.write_jsonl(hypotheses, [{**e, "pred_text": text} for e, text in zip(entries, texts, strict=True)])
    files.write_json(
        decoding_file,
        {
            **settings,
            "hypotheses_sha256": files.sha256(hypotheses),
            "batch_size": batch_size,
            "decoded_alone": alone,
            **windows,
            "cuda_graphs": decoding.cuda_graphs(model, device),
            "decoding_seconds": round(seconds, 3),
            "device": device,
            "checkpoint": {key: leg[key] for key in CHECKPOINT if key in leg},
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "nemo_toolkit", "transformers")},
                "code": files.code_version(),
            },
        },
    )
    if unfinished:
        unfinished.unlink(missing_ok=True)


def place(
    progress: Path, leg: dict, manifest: Path, tokenizer: Path, search: dict, batch_size: int, device: str, output: Path
) -> Path:
    """The folder in `progress` where the training leaves what it transcribes ahead, and its job looks for it.

    Told without the model: `device` is the configuration's, `output` the file of hypotheses. A search with a language
    model is never ahead.
    """
    return progress / ahead.key(
        files.code_version(),
        leg.get("weights", leg["fingerprint"]),
        manifest,
        tokenizer,
        search,
        batch_size,
        device,
        str(output),
    )


def is_short(manifest: Path) -> bool:
    """Whether a split is so short that to start another process for it is not worth the while."""
    return sum(entry["duration"] for entry in files.read_jsonl(manifest)) <= SHORT
