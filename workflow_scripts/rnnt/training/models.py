"""NeMo's transducers: built from a config, or restored from a `.nemo` file and given another vocabulary."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from rnnt import files, gpus, launch
from rnnt.data import families, tokenizers
from rnnt.errors import UserError

ARCHITECTURES = Path(__file__).resolve().parents[3] / "config" / "models"


def quiet_nemo() -> None:
    """Import NeMo without the pages of notices that would bury ours. Takes 8 to 10 s."""
    warnings.filterwarnings("ignore")
    for name in ("nv_one_logger", "torch", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("NEMO_TESTING", "True")  # Keeps NeMo from opening log files in the working directory.
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(logging.ERROR)
    from nemo.collections.asr.parts.submodules import rnnt_beam_decoding, tdt_beam_decoding

    # Ours counts utterances; theirs appears anew for each batch.
    rnnt_beam_decoding.tqdm = tdt_beam_decoding.tqdm = functools.partial(tqdm, disable=True)


def build(architecture: str, tokenizer: Path, overrides: dict | None = None):
    """A model with random weights after `config/models/{architecture}.yaml` and the tokenizer in that folder.

    `overrides` are other values of the file (families.override). Raises UserError when there is no such architecture.
    """
    path = architecture_file(architecture)
    quiet_nemo()
    from nemo.collections.asr import models as nemo
    from omegaconf import OmegaConf

    config = families.override(families.architecture(path), overrides or {}, path)
    config = {**config, "tokenizer": {"dir": str(tokenizer), "type": "bpe"}}
    return getattr(nemo, families.of(config).name)(cfg=OmegaConf.create(config))


def architecture_file(architecture: str) -> Path:
    """`config/models/{architecture}.yaml`. Raises UserError when there is none."""
    path = ARCHITECTURES / f"{architecture}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in ARCHITECTURES.glob("*.yaml")))
        raise UserError(f"model.architecture: no {architecture}.yaml in config/models (there are: {known})")
    return path


def restore(path: str | Path, overrides: dict | None = None):
    """The model in a `.nemo` file, on the CPU, with other dropouts where `overrides` says so (families.override).

    Raises UserError when the file is none, or holds another kind of model.
    """
    families.of_nemo(path)
    quiet_nemo()
    from nemo.collections.asr.models import ASRModel
    from omegaconf import OmegaConf

    config = overrides and OmegaConf.create(families.override(tokenizers.nemo_config(path), overrides, path, True))
    try:
        model = ASRModel.restore_from(str(path), override_config_path=config or None, map_location="cpu")
    except Exception as error:
        raise UserError(f"{path}: NeMo can't restore it ({type(error).__name__}: {_first_line(error)})") from None
    if model.tokenizer_type == "agg":
        # NeMo leaves the space before the first word, which is an error to a count of characters.
        to_text = model.tokenizer.ids_to_text
        model.tokenizer.ids_to_text = lambda ids: to_text(ids).removeprefix(" ")
    return model


def family(model) -> families.Family:
    """What kind of transducer a NeMo model is."""
    from omegaconf import OmegaConf

    return families.of(OmegaConf.to_container(model.cfg))


def adapt(model, tokenizer: Path, reinitialize_decoder: bool) -> None:
    """Give a restored model the tokenizer in that folder.

    With `reinitialize_decoder` prediction network, joint and CTC head are drawn anew, even when the tokenizer is the
    same. Without, the tokenizer must be the model's own (tokenizers.verdict has seen to it) and nothing changes, or
    have more tokens behind those: then all weights stay, and the new tokens get some.
    """
    if reinitialize_decoder:
        _change_vocabulary(model, tokenizer)
    elif tokenizers.load((tokenizer / "tokenizer.model").read_bytes()).get_piece_size() > model.tokenizer.vocab_size:
        _extend(model, tokenizer)


def _extend(model, tokenizer: Path) -> None:
    """Give `model` a tokenizer that has more tokens behind its own.

    The new rows of embeddings and output layers are the means of the old tokens' (Hewitt 2021, Initializing new word
    embeddings for pretrained language models): a new token's logit is the mean of the old ones', so that in no cell it
    is more probable than an old one is on an average. Nothing is drawn: every leg makes the same model.
    """
    known = model.tokenizer.vocab_size
    parts = [name for name in ("decoder", "joint", "ctc_decoder") if hasattr(model, name)]
    before = {name: getattr(model, name).state_dict() for name in parts}
    _change_vocabulary(model, tokenizer)
    for name, state in before.items():
        part = getattr(model, name)
        added = {key: len(value) - len(state[key]) for key, value in part.state_dict().items() if value.dim()}
        part.load_state_dict({k: _with_rows(v, known, added[k]) if added.get(k) else v for k, v in state.items()})


def _with_rows(tensor, known: int, added: int):
    """A tensor of a row for each token, and perhaps more (blank, durations), with rows of new tokens in between."""
    import torch

    new = tensor[:known].mean(0, keepdim=True).expand(added, *tensor.shape[1:])
    return torch.cat([tensor[:known], new, tensor[known:]])


def _change_vocabulary(model, tokenizer: Path) -> None:
    """NeMo's change of vocabulary, which draws anew what depends on it, with the loss as the model's file has it."""
    from nemo.collections.asr.losses.rnnt import RNNTLoss
    from omegaconf import open_dict

    with open_dict(model.cfg.tokenizer):  # NeMo would set `dir`, which an aggregate tokenizer has not
        model.change_vocabulary(new_tokenizer_dir=str(tokenizer), new_tokenizer_type="bpe")
    name, options = model.extract_rnnt_loss_cfg(model.cfg.get("loss"))
    reduction = model.cfg.get("rnnt_reduction", "mean_batch")
    outputs = (
        model.joint.num_classes_with_blank - 1 - (model.joint.num_extra_outputs if family(model).loss == "tdt" else 0)
    )
    model.loss = RNNTLoss(num_classes=outputs, loss_name=name, loss_kwargs=options, reduction=reduction)


def add_ctc_head(model) -> None:
    """Put a CTC head on the encoder of a transducer that has none, as NeMo's hybrids have it: a linear layer, drawn.

    Its loss is reduced as the transducer's, so that a share of both means the same; of an utterance that has fewer
    frames than CTC needs it is 0.
    """
    from nemo.collections.asr.losses.ctc import CTCLoss
    from nemo.collections.asr.modules import ConvASRDecoder

    tokens = model.tokenizer.vocab_size
    model.ctc_decoder = ConvASRDecoder(feat_in=model.encoder._feat_out, num_classes=tokens)
    model.ctc_loss = CTCLoss(tokens, zero_infinity=True, reduction=model.loss.reduction or "mean_batch")


def drop_ctc_head(model) -> None:
    """Take away what `add_ctc_head` added: the model is the plain transducer that it was."""
    del model.ctc_decoder, model.ctc_loss


def fetch(name: str, destination: Path) -> None:
    """Download a pretrained model by its NeMo or Hugging Face name and write it to `destination`.

    Raises UserError when it can't be had.
    """
    import shutil

    quiet_nemo()
    from nemo.collections.asr.models import ASRModel

    try:
        path = ASRModel.from_pretrained(name, return_model_file=True)
    except Exception as error:
        raise UserError(
            f"model.init_from: {name}: neither a .nemo file nor a pretrained model that can be downloaded "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from None
    tokenizers.check_nemo(path)  # and not the copy: NeMo would go on with what it has stored there
    with files.whole(destination, Path(path).stat().st_size) as temporary:
        shutil.copyfile(path, temporary)


def encoder_blocks(model) -> list:
    """The repeated blocks of a model's encoder: ContextNet's, Conformer's or FastConformer's.

    Raises UserError for another kind of encoder.
    """
    encoder = model.encoder
    blocks = getattr(encoder, "layers", None) or getattr(encoder, "encoder", None)
    if blocks is None:
        raise UserError(
            f"training.gradient_checkpointing: not for the encoder {type(encoder).__name__}: set it to false"
        )
    return list(blocks)


def checkpoint_encoder(model) -> None:
    """Keep only the input of each encoder block for the backward pass, which computes the block again.

    Chen et al. 2016, arXiv 1604.06174. The second pass leaves batch norm's running statistics alone.
    """
    from torch.utils.checkpoint import checkpoint

    def checkpointed(block):
        forward = block.forward

        def call(*args, **kwargs):
            contexts = lambda: (contextlib.nullcontext(), _without_statistics(block))  # noqa: E731
            # All as positional arguments: checkpoint looks for the device of the random state in those alone.
            return checkpoint(
                lambda args, kwargs: forward(*args, **kwargs), args, kwargs, use_reentrant=False, context_fn=contexts
            )

        return call

    for block in encoder_blocks(model):
        block.forward = checkpointed(block)


@functools.cache
def bf16_lstm_works() -> bool:
    """Whether this CPU computes an LSTM in bf16: oneDNN does so with AVX-512 alone."""
    import torch

    lstm = torch.nn.LSTM(8, 8)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lstm(torch.zeros(2, 1, 8))[0].sum().backward()
    except RuntimeError:
        return False
    return True


def settle_spec_augment(model, wanted: dict | None) -> None:
    """Give a model the SpecAugment (arXiv 1904.08779) of `training.augmentation.spec_augment`; null: leave its own.

    Of its own what NeMo draws with Python is drawn from the state that a checkpoint has, not from one of NeMo's own.
    """
    if wanted:
        from omegaconf import open_dict

        with open_dict(model.cfg):
            model.cfg.spec_augment = {
                "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
                "freq_masks": wanted["frequency_masks"],
                "freq_width": wanted["frequency_width"],
                "time_masks": wanted["time_masks"],
                "time_width": float(wanted["time_width"]),  # of an integer NeMo makes frames
            }
        model.spec_augmentation = model.from_config_dict(model.cfg.spec_augment)
    for module in model.modules():
        if isinstance(getattr(module, "_rng", None), random.Random):
            module._rng = random.randint.__self__  # the instance behind Python's own functions


def keep_lstm_out_of_bf16_where_it_fails(model) -> None:
    """Make the LSTMs of `model`, which are in its prediction network, compute in fp32 within autocast on such a CPU."""
    import torch

    def in_fp32(forward):
        def call(input, hx=None):
            if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or bf16_lstm_works():
                return forward(input, hx)
            with torch.autocast("cpu", enabled=False):
                return forward(input.float(), hx and tuple(state.float() for state in hx))

        return call

    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            module.forward = in_fp32(module.forward)


@contextlib.contextmanager
def _without_statistics(block) -> Iterator[None]:
    norms = _batch_norms(block)
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # and not None for the statistics: autograd would save fewer tensors than before
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


class BatchNormStatistics:
    """A copy of a model's batch norm statistics, to go back to."""

    def __init__(self, model):
        self.tensors = [
            tensor
            for norm in _batch_norms(model)
            for tensor in (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        ]
        self.copies = [tensor.clone() for tensor in self.tensors]

    def update(self) -> None:
        """Copy what the model has now."""
        for copy, tensor in zip(self.copies, self.tensors, strict=True):
            copy.copy_(tensor)

    def restore(self) -> None:
        """Put the copy back into the model."""
        for copy, tensor in zip(self.copies, self.tensors, strict=True):
            tensor.copy_(copy)


def _batch_norms(model) -> list:
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    return [module for module in model.modules() if isinstance(module, kind) and module.track_running_stats]


def count_parameters(model) -> int:
    """Trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def check_mean_of_utterances(model, ctc_weight: float) -> None:
    """Raise UserError where a loss is no mean over utterances: those of shares of a batch don't add up to its own."""
    reductions = {"rnnt_reduction": model.loss.reduction}
    if ctc_weight:
        reductions["aux_ctc.ctc_reduction"] = model.ctc_loss.config_reduction
    for key, reduction in reductions.items():
        if reduction not in ("mean_batch", "mean"):
            raise UserError(
                f"training.processes: the model's configuration has {key}: {reduction}, with which several processes "
                "train another model than one does: expected mean_batch; train with one process"
            )


def pick_device(wanted: str) -> str:
    """`cuda` or `cpu` for `auto`, `cuda` or `cpu`; a GPU is leased for this process, unless launch.py has done that.

    Raises UserError when CUDA is wanted and not there.
    """
    if wanted != "cpu" and not launch.is_launched():
        gpus.lease()
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is set, but torch sees no CUDA GPU here (snakemake check_environment tells more)")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
