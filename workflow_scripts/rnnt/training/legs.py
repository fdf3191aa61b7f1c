"""Train one leg of a schedule with the Hugging Face Trainer, so that it can be killed and resumed anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import bitsandbytes
import torch
import transformers

from rnnt import alone, console, disk, files, tracking
from rnnt.data import families
from rnnt.errors import DiskFull, UserError
from rnnt.training import augmentation, averaging, batching, callbacks, checkpoints, models, preflight
from rnnt.training.guard import Guard
from rnnt.training.ranks import Ranks, add_gradients, check_same_weights
from rnnt.training.transducer_loss import nemo_joint_loss


class Transducer(torch.nn.Module):
    """A NeMo transducer as the Trainer wants it: a batch in, the loss out.

    The loss of a CTC head has the share `ctc_weight` in it, as in NeMo; with 0 the head is left alone. `losses` has the
    last batch's two, in nats per utterance.
    """

    def __init__(self, model, transducer: str, fused_batch_size: int = 4, ctc_weight: float = 0.0):
        super().__init__()
        # NVIDIA's models are saved with it set: the joint would want to compute the loss itself.
        model.joint.set_fuse_loss_wer(False)
        models.keep_lstm_out_of_bf16_where_it_fails(model)
        self.model = model
        self.transducer = transducer
        self.fused_batch_size = fused_batch_size
        self.ctc_weight = ctc_weight
        self.names = ("transducer_loss", "ctc_loss") if ctc_weight else ()
        self.losses: dict[str, torch.Tensor] = {}
        if hasattr(model, "ctc_decoder"):
            model.ctc_decoder.requires_grad_(ctc_weight > 0)

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
        """The losses of what `encode` returns and the tokens [B, U]: joint network and transducer loss, CTC head."""
        loss = self._transducer_loss(encoded, frames, decoded, tokens, labels)
        if not self.ctc_weight:
            return loss
        with torch.autocast(encoded.device.type, enabled=False):
            log_probs = self.model.ctc_decoder(encoder_output=encoded.float())
            of_head = self.model.ctc_loss(
                log_probs=log_probs, targets=tokens, input_lengths=frames, target_lengths=labels
            )
        self.losses = dict(zip(self.names, (loss.detach(), of_head.detach()), strict=True))
        return (1 - self.ctc_weight) * loss + self.ctc_weight * of_head

    def _transducer_loss(self, encoded, frames, decoded, tokens, labels) -> torch.Tensor:
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
        joint.set_fuse_loss_wer(False)
        return loss


@dataclass(frozen=True)
class Leg:
    """What a leg is: all that its weights depend on."""

    number: int  # from 1
    legs: int  # in the whole training
    manifest: Path
    tokenizer: Path  # the folder with tokenizer.model
    model: dict  # the config's section
    training: dict  # likewise, without what changes no weights
    length: dict  # `max_steps` or `num_train_epochs`
    base_model: Path | None = None  # the .nemo file of model.init_from
    previous: Path | None = None  # the finished leg before this one

    @property
    def name(self) -> str:
        """What the model is called: a pretrained name, a .nemo file, or an architecture."""
        return self.model["init_from"] or self.model["architecture"]

    @property
    def vocabulary(self) -> Path:
        """The tokenizer's SentencePiece model."""
        return self.tokenizer / "tokenizer.model"

    def fingerprint(self) -> str:
        """A hash of all that it is: JSON values, the contents of files, and the leg before it."""
        # A leg that is written once more, because something beside its weights is asked for, has another file's hash.
        start = self.previous or (self.base_model and self.base_model.parent)
        known = start and (start / "leg.json").is_file()
        before = files.read_json(start / "leg.json") if known else self.base_model
        if known:  # A leg goes on from the last weights; a model that is started from may be their mean.
            before = before["fingerprint"] if self.previous else before.get("weights", before["fingerprint"])
        architecture = None if self.base_model else models.architecture_file(self.model["architecture"])
        parts = {
            "model": self.model,
            "training": self.training,
            "length": self.length,
            "legs": [self.number, self.legs],
            "architecture": architecture,
            "manifest": self.manifest,
            "tokenizer": self.vocabulary,
            "before": before,
        }
        content = {key: files.sha256(value) if isinstance(value, Path) else value for key, value in parts.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def starting_model(leg: Leg):
    """The NeMo model that the whole training starts with: every leg builds it, and loads weights into it by name."""
    overrides = leg.model.get("overrides")
    if leg.base_model:
        model = models.restore(leg.base_model, overrides)
        models.adapt(model, leg.tokenizer, leg.model["reinitialize_decoder"])
    else:
        model = models.build(leg.model["architecture"], leg.tokenizer, overrides)
    if leg.training.get("ctc_weight") and not hasattr(model, "ctc_decoder"):
        models.add_ctc_head(model)
    models.settle_spec_augment(model, leg.training.get("augmentation", {}).get("spec_augment"))
    return model


def settle_ctc_weight(family: families.Family, wanted: float | None) -> float:
    """The share of the CTC head's loss: `training.ctc_weight`, or the model's own; 0 where there is no head."""
    return (family.ctc_weight or 0.0) if wanted is None else wanted


def train(
    leg: Leg,
    model,
    run: Path,
    running: dict,
    device: str,
    workers: int,
    tracked: tracking.Run | None = None,
    ranks: Ranks | None = None,
) -> dict:
    """Train `model`, the `starting_model` of the leg, to the leg's end; return what was done, for leg.json.

    A CTC head that the model has for the training alone is then gone; the rolling checkpoints have it. Of several
    `ranks` each takes a share of each batch, and the gradients are those of the whole batch. The first one writes, the
    others return nothing.

    `run` holds the rolling checkpoints from which a killed leg resumes, `running` is what of the config's `training`
    section changes no weights. The schedule spans all legs; optimizer, scheduler, random state and position in the
    data carry over. `tracked` gets the curves, and the WERs of the legs before, whose evaluation goes on beside.
    Raises UserError when the training was told to stop before the end of the leg, when a batch does not fit the memory,
    when a checkpoint is not whole or of another model, and when too many steps in a row come to nothing.
    """
    ranks = ranks or Ranks()
    options, previous = {**leg.training, **running}, leg.previous
    ranks.agreed(lambda: batching.cache_manifest(leg.manifest, run / "cache"))
    dataset = batching.load_dataset(leg.manifest, leg.vocabulary, model.cfg.sample_rate, run / "cache")
    arguments = _arguments(options, run, device, workers)
    family = models.family(model)
    families.check_training(family, options["transducer"], options.get("ctc_weight"), device)
    ctc_weight = settle_ctc_weight(family, options.get("ctc_weight"))
    if ranks.count > 1:
        models.check_mean_of_utterances(model, ctc_weight)
    step = Transducer(model, options["transducer"], options["fused_batch_size"], ctc_weight).to(device)
    if options["gradient_checkpointing"]:
        models.checkpoint_encoder(model)
    frozen, always_frozen = (number <= options["frozen_encoder_legs"] for number in (leg.number, leg.legs))
    model.encoder.requires_grad_(not always_frozen)
    parts, times = batching.parts(dataset) or (None, None)
    has_own_head = family.ctc_weight is not None
    sizes = slots = batching.sizes(dataset, leg.vocabulary)
    augmented, speeds, changes = dataset, None, options.get("augmentation", {})
    if augmentation.changes_samples(changes):
        augmented = augmentation.of_dataset(dataset, changes, options["seed"], model.cfg.sample_rate)
        speeds = augmentation.Speeds(changes.get("speed", (1,)), sizes[0], times)
        slots = speeds.bounds(*sizes)
    flight = preflight.measure(step, options, *slots, ranks.count, times)
    budget = ranks.agreed(lambda: preflight.settle_budget(flight, run, previous))
    if frozen and not always_frozen:  # The budget has to hold for the legs after it is unfrozen.
        model.encoder.requires_grad_(False)
        flight = preflight.measure(step, options, *slots, ranks.count, times)
    sampler = batching.BatchSampler(flight.buckets(budget), options["seed"], speeds, ranks.index, ranks.count)
    padding = batching.padding(sampler, sizes[0])
    shares = None if parts is None else batching.shares(sampler, sizes[0], parts)
    steps_per_epoch = -(-len(sampler) // arguments.gradient_accumulation_steps)
    arguments.max_steps = total = total_steps(steps_per_epoch, leg.length)
    if total < leg.legs:
        raise UserError(
            f"{total} steps of training can't be cut into {leg.legs} legs: lower evaluation.legs, or train longer"
        )
    end = _end(leg, total)
    share = options.get("averaging")
    start = _end(replace(leg, number=leg.number - 1), total)
    average = averaging.Average(step, averaging.begin(start, end, share)) if share and ranks.first else None
    arguments.logging_steps = max(1, min(10, total // 50))
    newest = ranks.agreed(lambda: (path := checkpoints.newest(run)) and str(path))
    resume = Path(newest) if newest else None
    if not resume and previous:
        resume = previous / "trainer"
        checkpoints.check_whole(resume)
    stop = callbacks.StopRequest()
    guard = Guard(model, options["max_skipped_steps"], ranks)
    progress = callbacks.Progress(leg.number, leg.legs, total, run.parent)
    trainer = LegTrainer(
        leg,
        sampler,
        guard,
        frozen,
        average,
        ranks,
        model=step,
        args=arguments,
        train_dataset=augmented,
        data_collator=batching.collate,
        callbacks=[
            callbacks.Epochs(sampler, steps_per_epoch),
            callbacks.LegEnd(end, stop, ranks),
            progress if ranks.first else callbacks.OwnRandomness(options["seed"], ranks.index),
            *(callbacks.of_trackers(tracked, run.parent, leg.number, padding) if tracked else ()),
        ],
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    started = time.monotonic()
    if not resume or checkpoints.steps_done(resume) < end:
        preflight.report(flight, budget, sampler, padding, shares)
        if ctc_weight:
            fastest = max(changes.get("speed", (1,)))
            preflight.report_ctc(flight, sizes[0] / fastest, batching.ctc_frames(dataset, leg.vocabulary))
        saves = -(-(end - (checkpoints.steps_done(resume) if resume else 0)) // arguments.save_steps)
        preflight.check_disk(flight, run, saves, arguments.save_total_limit)
        preflight.try_worst_batch(flight, budget)
        if changes:
            console.log.info("augmentation: %s", augmentation.describe(changes))
        if resume:
            console.log.info("continue at step %d of %d from %s", checkpoints.steps_done(resume), total, resume)
        with stop, preflight.advice_when_out_of_memory(flight, budget):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            check_same_weights(ranks, step, trainer.state.global_step)  # and all wait until the first one has written
        if trainer.state.global_step < end:
            raise UserError(
                f"stopped at step {trainer.state.global_step} of {end} as asked; the same command continues from there"
            )
    if not ranks.first:
        return {}
    newest = checkpoints.newest(run)
    checkpoints.load_weights(step, newest / checkpoints.WEIGHTS)
    if ctc_weight and not has_own_head:
        models.drop_ctc_head(model)
    return {
        "leg": leg.number,
        "legs": leg.legs,
        "step": end,
        "total_steps": total,
        "utterances": len(dataset),
        "batch_budget": budget,
        "batches_per_epoch": len(sampler),
        "padding": round(padding, 4),
        **({"shares": shares} if shares else {}),
        **({"augmentation": augmentation.describe(changes)} if changes else {}),
        "skipped_steps": checkpoints.skipped_steps(newest),
        "parameters": models.count_parameters(model),
        "seconds": round(time.monotonic() - started, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        **({"processes": ranks.count} if ranks.count > 1 else {}),
        "model": leg.name,
        "family": family.describe(),
        **({"ctc_weight": ctc_weight} if ctc_weight or has_own_head else {}),
    }


def _end(leg: Leg, total: int) -> int:
    """The optimizer step at which a leg of a training of `total` steps ends."""
    return round(total * leg.number / leg.legs)


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
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",  # callbacks.of_trackers sees to it
    )


class LegTrainer(transformers.Trainer):
    """The Trainer with batches of our own, an encoder that may be frozen, and a guard on every step.

    It goes on from a checkpoint by the names of parameters, and from the whole of it or not at all: the Trainer passes
    over weights that are missing, and over files.
    """

    def __init__(
        self,
        leg: Leg,
        sampler: batching.BatchSampler,
        guard: Guard,
        frozen: bool,
        average: averaging.Average | None,
        ranks: Ranks,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.leg, self.sampler, self.guard, self.frozen, self.average = leg, sampler, guard, frozen, average
        self.ranks, self.utterances, self.share = ranks, 0.0, 1.0
        self.losses: dict[str, list[torch.Tensor]] = {}  # of each part of the loss, since the last log
        self.add_callback(guard)
        if average:
            self.add_callback(average)
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
        if self.args.optim == "adamw_8bit":
            # It keeps which weights stay in 32 bits by position, for all optimizers that a process ever makes.
            bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()
        encoder = self.model.model.encoder.requires_grad_(True)
        optimizer = super().create_optimizer(model)
        encoder.requires_grad_(not self.frozen)
        if rate := self.leg.training.get("encoder_learning_rate"):
            ours = {id(parameter) for parameter in encoder.parameters()}
            halves = [
                {**group, "params": [p for p in group["params"] if (id(p) in ours) == inside], "lr": lr}
                for inside, lr in ((False, self.args.learning_rate), (True, rate))
                for group in optimizer.param_groups
            ]
            optimizer.param_groups = halves
        return optimizer

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Without biases and norms: the Trainer misses batch norms that are called otherwise, as ContextNet's are."""
        kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.GroupNorm)
        norms = {id(p) for module in model.modules() if isinstance(module, kinds) for p in module.parameters()}
        parameters = dict(model.named_parameters())
        return [name for name in super().get_decay_parameter_names(model) if id(parameters[name]) not in norms]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        checkpoints.load_weights(self.model, Path(resume_from_checkpoint) / checkpoints.WEIGHTS)
        if self.average:
            self.average.load(Path(resume_from_checkpoint))

    def _save_checkpoint(self, model, trial) -> None:
        """With hashes, which are written last; what was begun is removed where the disk is full."""
        if not self.ranks.first:
            return
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        states = [self.model.state_dict(), *self.optimizer.state.values()]
        size = sum(getattr(value, "nbytes", 0) for state in states for value in state.values())
        try:
            with disk.room(folder.parent, size):
                super()._save_checkpoint(model, trial)
                checkpoints.seal(folder)
        except DiskFull:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.args.should_save:
            folder = Path(output_dir)
            torch.save(checkpoints.optimizer_state(self.optimizer, self.model), folder / checkpoints.OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), folder / checkpoints.SCHEDULER)
            if self.average:
                self.average.save(folder)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint) / checkpoints.OPTIMIZER
        saved = checkpoints.read(path)
        remade = self.leg.model["reinitialize_decoder"] and self.leg.base_model
        first = _end(replace(self.leg, number=1), self.args.max_steps)
        if "shapes" not in saved and remade and checkpoints.steps_done(Path(checkpoint)) > first:
            raise UserError(
                f"{path}: made by an earlier version, which mixed up the state of a decoder that was made anew: "
                f"{checkpoints.ANEW}"
            )
        checkpoints.load_optimizer(self.optimizer, self.model, saved, path)
        checkpoints.load_scheduler(self.lr_scheduler, path.with_name(checkpoints.SCHEDULER))

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(checkpoints.read(Path(checkpoint) / checkpoints.SCALER))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint and not (path := Path(checkpoint) / "rng_state.pth").is_file():
            raise UserError(f"{path}: no such file: {checkpoints.ANEW}")
        super()._load_rng_state(checkpoint)

    def compute_loss(self, model, inputs, *args, **kwargs):
        """The loss of this process's share of a batch, times that share: the sum over processes is the batch's."""
        return super().compute_loss(model, inputs, *args, **kwargs) * self.share

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Forward and backward of one batch; where the loss is not finite, the last finite one is logged for it."""
        ids, audio = inputs.pop("ids"), inputs.get("audio")
        self.guard.before(ids)
        utterances = self.ranks.total(len(ids))
        self.utterances += utterances
        self.share = len(ids) / utterances
        own = torch.zeros((), device=self.args.device)
        parts = {}
        if ids:
            own = super().training_step(model, inputs, num_items_in_batch)
            parts = self.model.losses
        elif self.accelerator.scaler is not None:
            self.accelerator.scaler.scale(own)  # It makes its scale with the first loss.
        zero = torch.zeros_like(own)
        values = torch.stack([own, *(self.share * parts.get(name, zero) for name in self.model.names)])
        self.ranks.add([values])
        loss, *parts = values
        for name, part in zip(self.model.names, parts, strict=True):
            self.losses.setdefault(name, []).append(part)
        logged = self.guard.after(loss, ids, audio, own)
        if self.accelerator.sync_gradients:
            add_gradients(self.ranks, self.model)
            self.guard.share_statistics(self.utterances)
            self.utterances = 0.0
        return logged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the parts of a loss that has several: the means of the batches since the last time that are finite."""
        if "loss" in logs:
            found = {name: torch.stack(parts) for name, parts in self.losses.items()}
            means = {name: parts[parts.isfinite()].mean().item() for name, parts in found.items()}
            logs |= {name: mean for name, mean in means.items() if math.isfinite(mean)}
            self.losses = {}
        super().log(logs, start_time)


@contextlib.contextmanager
def run_directory(run: Path, identity: str) -> Iterator[Path]:
    """Lock `run` for this process; set a run of another fingerprint aside, so that stale weights are never mixed in.

    Waits while another training is at work there.
    """
    with alone.held(run.with_suffix(".lock"), str(run)):
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
    newest = checkpoints.newest(run)
    size = sum(value.nbytes for value in model.state_dict().values())
    # NeMo packs what it has written to a temporary folder.
    with files.whole_folder(output, size) as folder, disk.room(tempfile.gettempdir(), size):
        shutil.copytree(newest, folder / "trainer", copy_function=files.link)
        model.save_to(str(folder / "model.nemo"))
        files.write_json(folder / "leg.json", {**report, "model_sha256": files.sha256(folder / "model.nemo")})
    for older in set(run.glob("checkpoint-*")) - {newest}:
        shutil.rmtree(older)
