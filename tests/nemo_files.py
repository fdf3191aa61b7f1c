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


ASR = "nemo.collections.asr"
CONFORMER = {
    "_target_": f"{ASR}.modules.ConformerEncoder", "feat_in": 80, "feat_out": -1, "n_layers": 1, "d_model": 32,
    "subsampling": "striding", "subsampling_factor": 4, "subsampling_conv_channels": 8, "ff_expansion_factor": 2,
    "self_attention_model": "rel_pos", "n_heads": 2, "att_context_size": [-1, -1], "xscaling": True,
    "untie_biases": True, "pos_emb_max_len": 500, "conv_kernel_size": 31, "conv_norm_type": "batch_norm",
    "dropout": 0.1, "dropout_pre_encoder": 0.1, "dropout_emb": 0.0, "dropout_att": 0.1,
}  # fmt: skip
FASTCONFORMER = CONFORMER | {
    "subsampling": "dw_striding", "subsampling_factor": 8, "conv_kernel_size": 9, "xscaling": False, "use_bias": False,
}  # fmt: skip
STREAMING = FASTCONFORMER | {
    "causal_downsampling": True, "att_context_style": "chunked_limited", "att_context_size": [[70, 13], [70, 1]],
    "conv_context_size": "causal", "conv_norm_type": "layer_norm",
}  # fmt: skip
DURATIONS = [0, 1, 2, 3, 4]
TDT = {
    "joint": {"num_extra_outputs": len(DURATIONS)},
    "loss": {"loss_name": "tdt", "tdt_kwargs": {
        "fastemit_lambda": 0.0, "clamp": -1.0, "durations": DURATIONS, "sigma": 0.02, "omega": 0.1,
    }},
    "decoding": {"model_type": "tdt", "durations": DURATIONS},
}  # fmt: skip
CTC = {
    "aux_ctc": {
        "ctc_loss_weight": 0.3, "use_cer": False, "ctc_reduction": "mean_batch",
        "decoder": {"_target_": f"{ASR}.modules.ConvASRDecoder", "feat_in": None, "num_classes": -1, "vocabulary": []},
        "decoding": {"strategy": "greedy"},
    },
}  # fmt: skip
PROMPT = {
    "model_defaults": {"initialize_prompt_feature": True, "num_prompts": 4, "prompt_dictionary": {"en": 0, "de": 1}}
}
# What fine-tuners start from, by what its configuration has that ContextNet's has not.
FAMILIES = {
    "contextnet": [],
    "conformer": [{"encoder": CONFORMER}],
    "fastconformer": [{"encoder": FASTCONFORMER}],
    "streaming": [{"encoder": STREAMING}],
    "8 kHz": [{"encoder": FASTCONFORMER, "sample_rate": 8000}],
    "stateless": [{"encoder": FASTCONFORMER, "decoder": {
        "_target_": f"{ASR}.modules.StatelessTransducerDecoder", "context_size": 2, "normalization_mode": "layer",
        "blank_as_pad": None, "random_state_sampling": None,
    }}],
    "fastconformer tdt": [{"encoder": FASTCONFORMER}, TDT],
    "conformer tdt": [{"encoder": CONFORMER}, TDT],
    "hybrid": [{"encoder": FASTCONFORMER}, CTC],
    "hybrid tdt": [{"encoder": FASTCONFORMER}, TDT, CTC],
    "streaming hybrid": [{"encoder": STREAMING}, CTC],
    "prompt": [{"encoder": STREAMING}, PROMPT],
    "prompt hybrid": [{"encoder": STREAMING}, PROMPT, CTC],
    "hat": [{"encoder": FASTCONFORMER, "joint": {"_target_": f"{ASR}.modules.HATJoint"}}],
    "multi-blank": [{"encoder": FASTCONFORMER, "joint": {"num_extra_outputs": 2}, "loss": {
        "loss_name": "multiblank_rnnt",
        "multiblank_rnnt_kwargs": {"fastemit_lambda": 0.0, "clamp": -1.0, "big_blank_durations": [2, 4], "sigma": 0.05},
    }, "decoding": {"model_type": "multiblank", "big_blank_durations": [2, 4], "strategy": "greedy"}}],
    "aggregate": [{"encoder": FASTCONFORMER}],
}  # fmt: skip


def family(folder: Path, name: str, texts: list[str], vocab_size: int = 24) -> Path:
    """A model of FAMILIES of a few thousand random parameters, its tokenizer trained on `texts`, saved by NeMo.

    An aggregate tokenizer has that of `texts` as `en`, and before it another, as `es`.
    """
    import torch

    models.quiet_nemo()
    from nemo.collections.asr import models as nemo
    from omegaconf import OmegaConf

    tokenizers.write(folder / "tokenizer", tokenizers.train(texts, vocab_size))
    config = OmegaConf.load(models.architecture_file("contextnet_dummy"))
    for changes in FAMILIES[name]:
        if "encoder" in changes:
            del config.encoder
        config = OmegaConf.merge(config, OmegaConf.create(changes))
    for key in [key for key, value in config.decoder.items() if value is None and key != "normalization_mode"]:
        del config.decoder[key]
    config.tokenizer = {"dir": str(folder / "tokenizer"), "type": "bpe"}
    if name == "aggregate":
        tokenizers.write(folder / "es", tokenizers.train(["de la que el en y a los", "se del las un por con"], 22))
        langs = {"es": {"dir": str(folder / "es"), "type": "bpe"}, "en": dict(config.tokenizer)}
        config.tokenizer = {"type": "agg", "langs": langs}
    config.joint.update(fuse_loss_wer=True, fused_batch_size=16)
    kind = f"EncDec{'HybridRNNTCTC' if 'aux_ctc' in config else 'RNNT'}BPEModel"
    torch.manual_seed(5)
    model = getattr(nemo, f"{kind}WithPrompt" if "prompt" in name else kind)(cfg=config)
    path = folder / f"{name.replace(' ', '_')}.nemo"
    model.save_to(str(path))
    return path


def changed(path: Path, to: Path, keys: dict) -> Path:
    """A copy of a `.nemo` file with other values of top keys of its configuration."""
    import io
    import tarfile

    import yaml

    with tarfile.open(path) as old, tarfile.open(to, "w") as new:
        for member in old:
            data = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("model_config.yaml"):
                data = yaml.safe_dump({**yaml.safe_load(data), **keys}).encode()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return to
