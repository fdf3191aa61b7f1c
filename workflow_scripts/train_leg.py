"""Train a model to the end of one leg. A killed leg resumes from its rolling checkpoint."""

import contextlib
import json
import os
from pathlib import Path

from rnnt import console, files, launch


def parser():
    p = console.parser(__doc__)
    p.add_argument("--manifest", type=Path, required=True, help="training manifest")
    p.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model")
    p.add_argument("--model", type=json.loads, required=True, help="the config's `model` section, JSON")
    p.add_argument("--training", type=json.loads, required=True, help="the config's `training` section, JSON")
    p.add_argument("--length", type=json.loads, required=True, help='{"max_steps": N} or {"num_train_epochs": N}')
    p.add_argument("--base-model", type=Path, help=".nemo file to start from; without, from scratch")
    p.add_argument("--leg", type=int, required=True, help="the leg to train, from 1")
    p.add_argument("--legs", type=int, required=True, help="legs in the whole training")
    p.add_argument("--previous", type=Path, help="the finished leg before this one")
    p.add_argument("--validation", type=Path, help="manifest that decides between the last weights and their mean")
    p.add_argument("--greedy", type=json.loads, help="the search for it: the config's `evaluation.greedy`, JSON")
    p.add_argument("--batch-size", type=int, default=16, help="utterances of it decoded together")
    p.add_argument("--ahead", type=json.loads, help="what to transcribe when it is done, JSON: see transcribe_ahead")
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to train")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads, some of which read audio")
    p.add_argument("--running", type=json.loads, required=True, help="what of `training` changes no weights, JSON")
    p.add_argument("--tracking", type=json.loads, help="the config's `wandb` and `tensorboard`, JSON")
    p.add_argument("--run", type=Path, required=True, help="folder for rolling checkpoints; survives a kill")
    p.add_argument("--output", type=Path, required=True, help="folder to write when the leg is done")
    return p


def main(args):
    """Train here, or start `training.processes` of this script to train together: the first of them writes."""
    wanted = args.running.get("processes", 1)
    place = launch.joined(wanted)
    if place is None or place.index == 0:
        console.add_log_file(args.run.parent / "training.log")
    if place:
        launch.let_one_speak(place)
        args.threads = max(1, args.threads // place.here)
    elif wanted > 1:
        launch.launch(wanted, args.device)
        return
    train(args, place)


def train(args, place):
    """Train as one process, or in its `place` among several."""
    import torch
    import transformers

    from rnnt import tracking
    from rnnt.training import averaging, batching, checkpoints, legs, models
    from rnnt.training.ranks import Ranks, SeveralRanks

    device = models.pick_device(args.device)
    ranks = SeveralRanks(place, device) if place else Ranks()
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    transformers.set_seed(args.training["seed"])
    leg = legs.Leg(
        number=args.leg,
        legs=args.legs,
        manifest=args.manifest,
        tokenizer=args.tokenizer,
        model=args.model,
        training=args.training,
        length=args.length,
        base_model=args.base_model,
        previous=args.previous,
    )
    identity = leg.fingerprint()
    with legs.run_directory(args.run, identity) if ranks.first else contextlib.nullcontext(args.run) as run:
        model = legs.starting_model(leg)
        console.log.info("%s: %.2fM parameters on %s", leg.name, models.count_parameters(model) / 1e6, device)
        # What was begun must not end for want of a connection.
        before = checkpoints.newest(run) if ranks.first else None
        begun = args.leg > 1 or before is not None
        options = args.tracking if args.tracking and ranks.first else tracking.OFF
        with tracking.run(options, args.run.parent, args.label, offline_if_unreachable=begun) as tracked:
            report = legs.train(leg, model, run, args.running, device, workers, tracked, ranks)
        if not ranks.first:
            return
        if args.validation:
            from rnnt.evaluation import better_weights

            averaged = averaging.weights(run, model)
            paths = args.validation, leg.vocabulary
            report["averaging"] = better_weights.keep(
                model, averaged, *paths, args.greedy, args.batch_size, device, workers
            )
        # One training may keep its last weights or their mean, as validation has it.
        mean = report.get("averaging", {}).get("kept") == "averaged"
        report |= {
            "fingerprint": identity,
            "weights": identity + "averaged" * mean,
            "code_version": files.code_version(),
        }
        trained = checkpoints.newest(run) != before
        legs.export(model.cpu(), run, args.output, report)
    if args.ahead and trained:
        del model
        transcribe_ahead(args.ahead, args.output, leg.vocabulary, args.device, device, workers)


def transcribe_ahead(wanted, checkpoint, tokenizer, configured, device, workers):
    """Transcribe short splits with the finished leg; transcribe_split.py takes that up and need not start NeMo.

    `wanted` has that script's `batch_size` and `progress`, and as `splits` its `manifest`, `search` and `hypotheses`;
    `configured` is its `device`.
    """
    from rnnt.evaluation import hypotheses
    from rnnt.training import models

    leg, batch_size, model = files.read_json(checkpoint / "leg.json"), wanted["batch_size"], None
    for split in wanted["splits"]:
        manifest, search, output = Path(split["manifest"]), split["search"], Path(split["hypotheses"])
        try:
            if not hypotheses.is_short(manifest):
                continue
            model = model or models.restore(checkpoint / "model.nemo")
            place = hypotheses.place(
                Path(wanted["progress"]), leg, manifest, tokenizer, search, batch_size, configured, output
            )
            with files.whole_folder(place) as folder:
                paths = [folder / name for name in (output.name, output.with_suffix(".decoding.json").name)]
                hypotheses.write(model, leg, manifest, tokenizer, search, batch_size, device, workers, *paths)
        except Exception as error:  # The training is done; the job that it is of says what is wrong.
            reason = str(error).strip().partition("\n")[0]
            console.log.warning("%s: left to its own job (%s: %s)", output, type(error).__name__, reason)


if __name__ == "__main__":
    console.run(main, parser())
