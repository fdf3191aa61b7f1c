"""NeMo RNN-T BPE models: built from a config, or restored from a `.nemo` file."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

from rnnt import gpus, tokenizers
from rnnt.errors import UserError

ARCHITECTURES = Path(__file__).resolve().parents[2] / "config" / "models"


def quiet_nemo() -> None:
    """Import NeMo without the pages of notices that would bury ours. Takes 8 to 10 s."""
    warnings.filterwarnings("ignore")
    for name in ("nv_one_logger", "torch", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("NEMO_TESTING", "True")  # Keeps NeMo from opening log files in the working directory.
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(logging.ERROR)


def build(architecture: str, tokenizer: Path):
    """A model with random weights after `config/models/{architecture}.yaml` and the tokenizer in that folder.

    Raises UserError when there is no such architecture.
    """
    path = architecture_file(architecture)
    quiet_nemo()
    from nemo.collections.asr.models import EncDecRNNTBPEModel
    from omegaconf import OmegaConf

    config = OmegaConf.load(path)
    config.tokenizer = {"dir": str(tokenizer), "type": "bpe"}
    return EncDecRNNTBPEModel(cfg=config)


def architecture_file(architecture: str) -> Path:
    """`config/models/{architecture}.yaml`. Raises UserError when there is none."""
    path = ARCHITECTURES / f"{architecture}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in ARCHITECTURES.glob("*.yaml")))
        raise UserError(f"model.architecture: no {architecture}.yaml in config/models (there are: {known})")
    return path


def restore(path: str | Path):
    """The model in a `.nemo` file, on the CPU.

    Raises UserError when the file is none, or holds another kind of model.
    """
    tokenizers.check_nemo(path)
    quiet_nemo()
    from nemo.collections.asr.models import ASRModel, EncDecRNNTBPEModel

    try:
        model = ASRModel.restore_from(str(path), map_location="cpu")
    except Exception as error:
        raise UserError(f"{path}: NeMo can't restore it ({type(error).__name__}: {_first_line(error)})") from None
    if not isinstance(model, EncDecRNNTBPEModel):
        raise UserError(f"{path}: holds a {type(model).__name__}, an RNN-T BPE model is needed")
    return model


def adapt(model, tokenizer: Path, reinitialize_decoder: bool) -> None:
    """Give a restored model the tokenizer in that folder.

    With `reinitialize_decoder` prediction network and joint are drawn anew, even when the tokenizer is the same.
    Without, the tokenizer must be the model's own (tokenizers.verdict has seen to it) and nothing changes.
    """
    if reinitialize_decoder:
        model.change_vocabulary(new_tokenizer_dir=str(tokenizer), new_tokenizer_type="bpe")


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
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.name}.tmp")
    shutil.copyfile(path, temporary)
    tokenizers.check_nemo(temporary)
    os.replace(temporary, destination)


def count_parameters(model) -> int:
    """Trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def pick_device(wanted: str) -> str:
    """`cuda` or `cpu` for `auto`, `cuda` or `cpu`; a GPU is leased for this process.

    Raises UserError when CUDA is wanted and not there.
    """
    if wanted != "cpu":
        gpus.lease()
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is set, but torch sees no CUDA GPU here (snakemake check_environment tells more)")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
