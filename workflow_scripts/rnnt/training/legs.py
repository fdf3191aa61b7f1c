"""Train one leg of a schedule with the Hugging Face Trainer, so that it can be killed and resumed anywhere."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from rnnt import console, files, tracking
from rnnt.errors import UserError
from rnnt.training import batching, callbacks, models, preflight
from rnnt.training.guard import Guard
from rnnt.training.transducer_loss import nemo_joint_loss

STATE = "trainer_state.json"


class Transducer(torch.nn.Module):
    """A NeMo RNN-T model as the Trainer wants it: a batch in, the loss out."""

    def __init__(self, model, transducer: str, fused_batch_size: int = 4):
        super().__init__()
        self.model = model
        self.transducer = transducer
        self.fused_batch_size = fused_batch_size

    def forward(self, audio, audio_lengths, tokens, token_lengths) -> dict[str, torch.Tensor]:
        """The mean loss of a batch (batching.collate gives the shapes), in nats per utterance."""
        encoded, frames, decoded, labels = self.encode(audio, audio_lengths, tokens, token_lengths)
        return {"loss": self.joint_loss(encoded, frames, decoded, tokens, labels)}

    def encode(self, audio, audio_lengths, tokens, token_lengths) -> tuple[torch.Tensor, ...]:
        """Encoder output [B, D, T], its lengths [B], output of the prediction network [B, D, U+1], its lengths [B]."""
        encoded, frames = self.model.forward(input_signal=audio, input_signal_length=audio_lengths)
        decoded, labels, _ = self.model.decoder(targets=tokens, target_length=token_lengths)
        return encoded, frames, decoded, labels

    def joint_loss(self, encoded, frames, decoded, tokens, labels) -> torch.Tensor:
        """The transducer step: joint network and loss of what `encode` returns and the tokens [B, U]."""
        model = self.model
        if self.transducer == "fused":
            return nemo_joint_loss(model.joint, model.loss, encoded, decoded, tokens, frames, labels)
        if self.transducer == "nemo_fused_batch":
            return self._nemo_fused_batch(encoded, decoded, frames, tokens, labels)
        logits = model.joint(encoder_outputs=encoded, decoder_outputs=decoded)
        with torch.autocast(encoded.device.type, enabled=False):
            return model.loss(log_probs=logits.float(), targets=tokens, input_lengths=frames, target_lengths=labels)

    def _nemo_fused_batch(self, encoded, decoded, encoded_lengths, tokens, target_lengths) -> torch.Tensor:
        joint = self.model.joint
        # Set for this call alone: the evaluation and the exported model want the plain joint.
        joint.set_fuse_loss_wer(True, loss=self.model.loss, metric=self.model.wer)
        joint.set_fused_batch_size(self.fused_batch_size)
        loss, *_ = joint(
            encoder_outputs=encoded,
            decoder_outputs=decoded,
            encoder_lengths=encoded_lengths,
            transcripts=tokens,
            transcript_lengths=target_lengths,
            compute_wer=False,
        )
        joint.set_fuse_loss_wer(False, loss=None, metric=None)
        return loss


def train_leg(
    model,
    manifest: Path,
    tokenizer: Path,
    options: dict,
    leg: int,
    legs: int,
    length: dict,
    run: Path,
    previous: Path | None,
    device: str,
    workers: int,
    tracked: tracking.Run | None = None,
) -> dict:
    """Train `model` (NeMo) to the end of `leg` of `legs`; return what was done, for leg.json.

    `options` is the config's `training` section, `length` has `max_steps` or `num_train_epochs`, `run` holds the
    rolling checkpoints from which a killed leg resumes, `previous` is the finished leg before this one. The
    schedule spans all legs; optimizer, scheduler, random state and position in the data carry over. `tracked` gets the
    curves, and the WERs of the legs before, whose evaluation goes on beside.
    Raises UserError when the training was told to stop before the end of the leg, when a batch does not fit the memory,
    and when too many steps in a row come to nothing.
    """
    dataset = batching.load_dataset(manifest, tokenizer, model.cfg.sample_rate, run / "cache")
    arguments = _arguments(options, run, device, workers)
    step = Transducer(model, options["transducer"], options["fused_batch_size"]).to(device)
    if options["gradient_checkpointing"]:
        models.checkpoint_encoder(model)
    frozen, always_frozen = (number <= options["frozen_encoder_legs"] for number in (leg, legs))
    model.encoder.requires_grad_(not always_frozen)
    flight = preflight.measure(step, options, *batching.sizes(dataset, tokenizer), arguments.world_size)
    budget = preflight.settle_budget(flight, run, previous)
    if frozen and not always_frozen:  # The budget has to hold for the legs after it is unfrozen.
        model.encoder.requires_grad_(False)
        flight = preflight.measure(step, options, flight.durations, flight.tokens, arguments.world_size)
    sampler = batching.BatchSampler(flight.buckets(budget), options["seed"], arguments.world_size)
    padding = batching.padding(sampler, flight.durations)
    steps_per_epoch = -(-len(sampler) // (arguments.world_size * arguments.gradient_accumulation_steps))
    arguments.max_steps = total = total_steps(steps_per_epoch, length)
    if total < legs:
        raise UserError(
            f"{total} steps of training can't be cut into {legs} legs: lower evaluation.legs, or train longer"
        )
    end = round(total * leg / legs)
    arguments.logging_steps = max(1, min(10, total // 50))
    resume = newest_checkpoint(run) or (previous / "trainer" if previous else None)
    stop = callbacks.StopRequest()
    guard = Guard(model, options["max_skipped_steps"])
    trainer = LegTrainer(
        sampler,
        guard,
        frozen,
        model=step,
        args=arguments,
        train_dataset=dataset,
        data_collator=batching.collate,
        callbacks=[
            callbacks.Epochs(sampler, steps_per_epoch),
            callbacks.LegEnd(end, stop),
            callbacks.Progress(leg, legs, total),
            *(callbacks.of_trackers(tracked, run.parent, leg, padding) if tracked else ()),
        ],
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    started = time.monotonic()
    if not resume or steps_done(resume) < end:
        preflight.report(flight, budget, sampler, padding)
        preflight.try_worst_batch(flight, budget)
        if resume:
            console.log.info("continue at step %d of %d from %s", steps_done(resume), total, resume)
        with stop, preflight.advice_when_out_of_memory(flight, budget):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if trainer.state.global_step < end:
            raise UserError(
                f"stopped at step {trainer.state.global_step} of {end} as asked; the same command continues from there"
            )
    return {
        "leg": leg,
        "legs": legs,
        "step": end,
        "total_steps": total,
        "utterances": len(dataset),
        "batch_budget": budget,
        "batches_per_epoch": len(sampler),
        "padding": round(padding, 4),
        "skipped_steps": skipped_steps(newest_checkpoint(run)),
        "parameters": models.count_parameters(model),
        "seconds": round(time.monotonic() - started, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def total_steps(steps_per_epoch: int, length: dict) -> int:
    """Optimizer steps of the whole training, from `max_steps` or `num_train_epochs`."""
    if "max_steps" in length:
        return length["max_steps"]
    return max(1, round(steps_per_epoch * length["num_train_epochs"]))


def _arguments(options: dict, run: Path, device: str, workers: int) -> transformers.TrainingArguments:
    if options["precision"] == "fp16" and device != "cuda":
        raise UserError("training.precision: fp16 needs a CUDA GPU, and there is none here: use bf16 or fp32")
    return transformers.TrainingArguments(
        output_dir=str(run),
        gradient_accumulation_steps=options["gradient_accumulation_steps"],
        learning_rate=options["learning_rate"],
        warmup_steps=options["warmup_steps"],
        lr_scheduler_type=options["lr_scheduler"],
        weight_decay=options["weight_decay"],
        max_grad_norm=options["max_grad_norm"],
        optim=options["optimizer"],
        bf16=options["precision"] == "bf16",
        fp16=options["precision"] == "fp16",
        use_cpu=device == "cpu",
        seed=options["seed"],
        save_strategy="steps",
        save_steps=options["checkpoint_every_steps"],
        save_total_limit=2,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        accelerator_config={"even_batches": False},  # the sampler sees to it
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",  # callbacks.of_trackers sees to it
    )


class LegTrainer(transformers.Trainer):
    """The Trainer with batches of our own, an encoder that may be frozen, and a guard on every step."""

    def __init__(self, sampler: batching.BatchSampler, guard: Guard, frozen: bool, **kwargs):
        super().__init__(**kwargs)
        self.sampler, self.guard, self.frozen = sampler, guard, frozen
        self.add_callback(guard)
        guard.scaler = self.accelerator.scaler

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Overrides the Trainer's, which knows batches of a fixed number of utterances alone."""
        workers = self.args.dataloader_num_workers
        loader = torch.utils.data.DataLoader(
            self.train_dataset,
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.args.dataloader_pin_memory,
            # Of its own: each iterator draws a seed for its workers, and a resumed training makes one more.
            generator=torch.Generator(),
        )
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """With the frozen parameters too, which have no state: so the leg that unfreezes them can load it."""
        encoder = self.model.model.encoder.requires_grad_(True)
        optimizer = super().create_optimizer(model)
        encoder.requires_grad_(not self.frozen)
        return optimizer

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Forward and backward of one batch; where the loss is not finite, the last finite one is logged for it."""
        ids, audio = inputs.pop("ids"), inputs["audio"]
        self.guard.before(ids)
        return self.guard.after(super().training_step(model, inputs, num_items_in_batch), ids, audio)


def newest_checkpoint(run: Path) -> Path | None:
    """The newest rolling checkpoint in `run` that was written to its end (the state is what is written last)."""
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in checkpoints:
        try:
            steps_done(path)
        except UserError:
            console.log.warning("%s was cut off while it was written: removed", path)
            shutil.rmtree(path)
        else:
            return path
    return None


def steps_done(checkpoint: Path) -> int:
    """The optimizer step of a Trainer checkpoint. Raises UserError when it is not whole."""
    return files.read_json(checkpoint / STATE)["global_step"]


def skipped_steps(checkpoint: Path) -> int:
    """How many steps were skipped since the training began (rnnt/training/guard.py)."""
    return sum("skipped" in row for row in files.read_json(checkpoint / STATE)["log_history"])


def fingerprint(**parts) -> str:
    """A hash of all that a leg's weights depend on: JSON values, and the contents of files given as paths."""
    content = {key: files.sha256(value) if isinstance(value, Path) else value for key, value in parts.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def run_directory(run: Path, identity: str) -> Iterator[Path]:
    """Lock `run` for this process; set a run of another fingerprint aside, so that stale weights are never mixed in.

    Raises UserError when another training holds the lock.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(run.with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{run}: another training is at work there: wait for it, or stop it") from None
        note = run / "fingerprint.json"
        if run.exists() and (not note.is_file() or files.read_json(note)["fingerprint"] != identity):
            aside = run.with_name(f"{run.name}.aside-{time.strftime('%Y%m%d-%H%M%S')}")
            os.replace(run, aside)
            console.log.info("config or data changed since %s was begun: moved to %s", run, aside)
        run.mkdir(exist_ok=True)
        files.write_json(note, {"fingerprint": identity})
        yield run


def export(model, run: Path, output: Path, report: dict) -> None:
    """Write the finished leg to `output`, whole or not at all: `model.nemo`, the Trainer's state, `leg.json`.

    The state is hard-linked from the last checkpoint in `run`, which stays: a leg that is asked for again, because its
    temporary output is gone and its evaluation is to be repeated, is found done.
    """
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    newest = newest_checkpoint(run)
    shutil.copytree(newest, temporary / "trainer", copy_function=files.link)
    model.save_to(str(temporary / "model.nemo"))
    files.write_json(temporary / "leg.json", report)
    if output.exists():
        shutil.rmtree(output)
    os.replace(temporary, output)
    for older in set(run.glob("checkpoint-*")) - {newest}:
        shutil.rmtree(older)


def load_weights(model, run: Path) -> None:
    """Put the weights of the newest rolling checkpoint into `model`."""
    from safetensors.torch import load_file

    state = load_file(newest_checkpoint(run) / "model.safetensors")
    model.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
