"""Train a model to the end of one leg. A killed leg resumes from its rolling checkpoint."""

import json
import os
from pathlib import Path

from rnnt import console, files


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
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to train")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads, some of which read audio")
    p.add_argument("--running", type=json.loads, required=True, help="what of `training` changes no weights, JSON")
    p.add_argument("--tracking", type=json.loads, help="the config's `wandb` and `tensorboard`, JSON")
    p.add_argument("--run", type=Path, required=True, help="folder for rolling checkpoints; survives a kill")
    p.add_argument("--output", type=Path, required=True, help="folder to write when the leg is done")
    return p


def main(args):
    import torch
    import transformers

    from rnnt import tracking
    from rnnt.training import batching, legs, models

    console.add_log_file(args.run.parent / "training.log")
    device = models.pick_device(args.device)
    workers = batching.reader_processes(args.threads, device)
    torch.set_num_threads(args.threads - workers)
    transformers.set_seed(args.training["seed"])
    before = files.read_json(args.previous / "leg.json") if args.previous else None
    identity = legs.fingerprint(
        model=args.model,
        training=args.training,
        length=args.length,
        legs=[args.leg, args.legs],
        architecture=None if args.model["init_from"] else models.architecture_file(args.model["architecture"]),
        manifest=args.manifest,
        tokenizer=args.tokenizer / "tokenizer.model",
        before=before["fingerprint"] if before else args.base_model,
    )
    with legs.run_directory(args.run, identity) as run:
        if args.previous:
            model = models.restore(args.previous / "model.nemo")
        elif args.base_model:
            model = models.restore(args.base_model)
            models.adapt(model, args.tokenizer, args.model["reinitialize_decoder"])
        else:
            model = models.build(args.model["architecture"], args.tokenizer)
        name = args.model["init_from"] or args.model["architecture"]
        console.log.info("%s: %.2fM parameters on %s", name, models.count_parameters(model) / 1e6, device)
        # What was begun must not end for want of a connection.
        begun = args.leg > 1 or legs.newest_checkpoint(run) is not None
        options = args.tracking or tracking.OFF
        with tracking.run(options, args.run.parent, args.label, offline_if_unreachable=begun) as tracked:
            report = legs.train_leg(
                model=model,
                manifest=args.manifest,
                tokenizer=args.tokenizer / "tokenizer.model",
                options={**args.training, **args.running},
                leg=args.leg,
                legs=args.legs,
                length=args.length,
                run=run,
                previous=args.previous,
                device=device,
                workers=workers,
                tracked=tracked,
            )
        legs.load_weights(model, run)
        report |= {"model": name, "fingerprint": identity, "code_version": files.code_version()}
        legs.export(model.cpu(), run, args.output, report)


if __name__ == "__main__":
    console.run(main, parser())
