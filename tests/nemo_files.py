"""Pretrained models in the form in which NVIDIA publishes them, small enough to be made on the spot.

What a published `.nemo` has and one of ours has not: a joint that computes loss and WER itself, the data sets and the
optimizer of its own training, a tokenizer of its own.
"""

from pathlib import Path

from rnnt.data import tokenizers
from rnnt.training import models

# As in stt_en_contextnet_1024's model_config.yaml. The paths are those of another machine: nothing is there.
DATA = {"manifest_filepath": "/data/train/tarred_audio_manifest.json", "sample_rate": 16000, "batch_size": 16}
TRAIN = {"is_tarred": True, "tarred_audio_filepaths": "/data/train/audio__OP_0..4095_CL_.tar", "shuffle": True,
         "max_duration": 20.0, "min_duration": 0.1, "trim_silence": False, "shuffle_n": 2048}  # fmt: skip
OPTIMIZER = {"name": "novograd", "lr": 0.05, "betas": [0.9, 0.0], "weight_decay": 0.001,
             "sched": {"name": "CosineAnnealing", "warmup_steps": 5000, "min_lr": 1e-6}}  # fmt: skip


def nvidia_like(folder: Path, texts: list[str], vocab_size: int = 40) -> Path:
    """A ContextNet of 0.03 million random parameters with a tokenizer trained on `texts`, saved by NeMo."""
    import torch

    models.quiet_nemo()
    from nemo.collections.asr.models import EncDecRNNTBPEModel
    from omegaconf import OmegaConf, open_dict

    tokenizers.write(folder / "tokenizer", tokenizers.train(texts, vocab_size))
    config = OmegaConf.load(models.architecture_file("contextnet_dummy"))
    config.tokenizer = {"dir": str(folder / "tokenizer"), "type": "bpe"}
    config.joint.update(fuse_loss_wer=True, fused_batch_size=16)
    config.loss.loss_name = "default"
    config.update(log_prediction=True, skip_nan_grad=False)
    torch.manual_seed(5)
    model = EncDecRNNTBPEModel(cfg=config)
    with open_dict(model.cfg):  # Afterwards: NeMo would look for the data when it builds the model.
        model.cfg.train_ds = DATA | TRAIN
        model.cfg.validation_ds = DATA | {"shuffle": False}
        model.cfg.optim = OPTIMIZER
    path = folder / "stt_en_contextnet_small.nemo"
    model.save_to(str(path))
    return path
