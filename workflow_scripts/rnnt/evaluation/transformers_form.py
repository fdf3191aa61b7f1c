"""A NeMo FastConformer transducer in the form of Hugging Face Transformers: ParakeetForRNNT or ParakeetForTDT.

Made with Transformers' own classes. What these can't express has a reason (`why_not`), and a form is only worth keeping
when it transcribes as NeMo does (make_transformers_form.py sees to it).
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

MAX_SYMBOLS = 10  # NeMo's default of greedy search
UNIGRAM = 1  # SentencePiece's number for this type of model

# NeMo's names of weights, and Transformers'.
NAMES = {
    r"^encoder\.pre_encode\.conv\.": "encoder.subsampling.layers.",
    r"^encoder\.pre_encode\.out\.": "encoder.subsampling.linear.",
    r"\.conv\.batch_norm\.": ".conv.norm.",
    r"\.linear_([qkv])\.": r".\1_proj.",
    r"\.linear_out\.": ".o_proj.",
    r"\.linear_pos\.": ".relative_k_proj.",
    r"\.pos_bias_([uv])$": r".bias_\1",
    r"^decoder\.prediction\.embed\.": "decoder.embedding.",
    r"^decoder\.prediction\.dec_rnn\.lstm\.": "decoder.lstm.",
    r"^joint\.enc\.": "encoder_projector.",
    r"^joint\.pred\.": "decoder.decoder_projector.",
    r"^joint\.joint_net\.\d+\.": "joint.head.",
}
PARTS = ("encoder", "decoder", "joint")

# Of hybrid models the transducer is taken.
MODELS = ("EncDecRNNTBPEModel", "EncDecHybridRNNTCTCBPEModel")
# What Transformers' classes have built in: keys of NeMo's config and the values that say so, None for no such key.
BUILT_IN = {
    ("encoder", "_target_"): ["nemo.collections.asr.modules.ConformerEncoder"],
    ("encoder", "subsampling"): ["dw_striding"],
    ("encoder", "subsampling_factor"): [8],
    ("encoder", "causal_downsampling"): [None, False],
    ("encoder", "reduction"): [None],
    ("encoder", "self_attention_model"): [None, "rel_pos"],
    ("encoder", "untie_biases"): [None, True],
    ("encoder", "att_context_size"): [None, [-1, -1]],
    ("encoder", "conv_norm_type"): [None, "batch_norm"],
    ("encoder", "feat_out"): [None, -1],
    ("encoder", "conv_context_size"): [None],
    ("decoder", "_target_"): ["nemo.collections.asr.modules.RNNTDecoder"],
    ("decoder", "blank_as_pad"): [None, True],
    ("decoder", "normalization_mode"): [None],
    ("decoder", "prednet.rnn_hidden_size"): [None, -1],
    ("joint", "_target_"): ["nemo.collections.asr.modules.RNNTJoint"],
    ("joint", "jointnet.activation"): ["relu"],
    ("loss", "loss_name"): [None, "default", "rnnt", "warprnnt", "warprnnt_numba", "tdt"],
    ("tokenizer", "type"): ["bpe"],
    ("preprocessor", "sample_rate"): [16000],
    ("preprocessor", "normalize"): ["per_feature"],
    ("preprocessor", "window"): [None, "hann"],
    ("preprocessor", "frame_splicing"): [None, 1],
    ("preprocessor", "exact_pad"): [None, False],
    ("preprocessor", "lowfreq"): [None, 0],
    ("preprocessor", "highfreq"): [None],
}


def why_not(config: dict) -> str | None:
    """Why Transformers has no class for the model of a NeMo config; None where it has one."""
    if (kind := config.get("target", "").rpartition(".")[2]) not in MODELS:
        return f"it is a {kind}"
    for (section, key), values in BUILT_IN.items():
        found = config.get(section)
        for part in key.split("."):
            found = (found or {}).get(part)
        if found not in values:
            return f"its {section}.{key} is {found}"
    if config["decoder"]["prednet"]["pred_hidden"] != config["joint"]["jointnet"]["joint_hidden"]:
        return "its prediction network and its joint differ in width"
    return None


def convert(model, max_symbols: int | None = None):
    """The Transformers model and its processor of a NeMo model on the CPU, of which `why_not` knows nothing.

    `max_symbols` is the most tokens that greedy search finds in one frame (10).
    """
    import transformers

    config, vocabulary = model.cfg, model.tokenizer.vocab_size
    loss = config.get("loss") or {}
    durations = list(loss.tdt_kwargs.durations) if loss.get("loss_name") == "tdt" else None
    encoder = config.encoder
    bias = encoder.get("use_bias", True)
    settings = transformers.ParakeetEncoderConfig(
        hidden_size=encoder.d_model,
        num_hidden_layers=encoder.n_layers,
        num_attention_heads=encoder.n_heads,
        intermediate_size=encoder.d_model * encoder.get("ff_expansion_factor", 4),
        attention_bias=bias,
        convolution_bias=bias,
        conv_kernel_size=encoder.conv_kernel_size,
        subsampling_factor=encoder.subsampling_factor,
        subsampling_conv_channels=model.encoder.pre_encode.conv[0].out_channels,
        num_mel_bins=encoder.feat_in,
        dropout=encoder.get("dropout_pre_encoder", 0.1),
        dropout_positions=encoder.get("dropout_emb", 0.0),
        activation_dropout=encoder.get("dropout", 0.1),
        attention_dropout=encoder.get("dropout_att", 0.1),
        layerdrop=encoder.get("stochastic_depth_drop_prob", 0.0),
        max_position_embeddings=encoder.get("pos_emb_max_len", 5000),
        scale_input=encoder.get("xscaling", True),
    )
    shared = {
        "vocab_size": vocabulary + 1,
        "decoder_hidden_size": config.decoder.prednet.pred_hidden,
        "num_decoder_layers": config.decoder.prednet.pred_rnn_layers,
        "max_symbols_per_step": max_symbols or MAX_SYMBOLS,
        "encoder_config": settings,
        # NeMo's vocabularies have no token for padding; the blank writes nothing.
        "pad_token_id": vocabulary,
        "blank_token_id": vocabulary,
    }
    if durations:
        made = transformers.ParakeetForTDT(transformers.ParakeetTDTConfig(durations=durations, **shared))
        # Their outputs stand behind those of the tokens, and are none.
        made.generation_config.suppress_tokens = list(range(vocabulary + 1, vocabulary + 1 + len(durations)))
    else:
        made = transformers.ParakeetForRNNT(transformers.ParakeetRNNTConfig(**shared))
    # Transformers 5.23 goes on at the end of an utterance while others of its batch last, unless there is a token that
    # ends it: one that is never found.
    made.generation_config.update(decoder_start_token_id=vocabulary, eos_token_id=vocabulary + 1)
    made.load_state_dict(_renamed(model.state_dict()), strict=True)
    return made.eval(), _processor(model, "tdt" if durations else "rnnt")


def _renamed(weights: dict) -> dict:
    """NeMo's weights of encoder, decoder and joint by Transformers' names."""
    found = {}
    for name, value in weights.items():
        if name.partition(".")[0] in PARTS and not name.startswith("encoder.pos_enc."):
            for pattern, replacement in NAMES.items():
                name = re.sub(pattern, replacement, name)
            found[name] = value
    return found


def _processor(model, kind: str):
    """Features and tokens as NeMo's."""
    import transformers
    from transformers.convert_slow_tokenizer import ParakeetConverter, SpmConverter

    preprocessor, featurizer = model.cfg.preprocessor, model.preprocessor.featurizer
    features = transformers.ParakeetFeatureExtractor(
        feature_size=preprocessor.features,
        sampling_rate=preprocessor.sample_rate,
        hop_length=featurizer.hop_length,
        n_fft=featurizer.n_fft,
        win_length=featurizer.win_length,
        preemphasis=featurizer.preemph,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(model.tokenizer.tokenizer.serialized_model_proto())
        unigram = SpmConverter(SimpleNamespace(vocab_file=str(path)))  # which fails at BPE; the other makes BPE of all
        converter = unigram if unigram.proto.trainer_spec.model_type == UNIGRAM else ParakeetConverter(str(path))
    tokenizer = transformers.ParakeetTokenizer(
        tokenizer_object=converter.converted(), unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    # First, so that its number is that of the joint's last output.
    tokenizer.add_special_tokens({"pad_token": "<blank>"})
    return transformers.ParakeetProcessor(feature_extractor=features, tokenizer=tokenizer, decoder_type=kind)


def transcribe(form, processor, dataset, batch_size: int) -> list[str]:
    """What the Transformers model finds with its greedy search, on the device it is on, in a data set of batching's."""
    import torch

    texts = []
    for start in range(0, len(dataset), batch_size):
        inputs = processor(dataset[start : start + batch_size]["audio"], sampling_rate=16000)
        with torch.inference_mode():
            found = form.generate(**inputs.to(form.device))
        texts += processor.batch_decode(found.sequences, skip_special_tokens=True)
    return texts
