"""Models of random weights that find something else in each utterance: what transcribes as they do hears as they do."""

import soundfile
import torch

from rnnt.data import manifests
from rnnt.training import models


def made_to_speak(model, prepared):
    """The model with other weights of its joint: tokens and blanks depend on what it hears."""
    samples, _ = soundfile.read(manifests.read(prepared / "train.jsonl")[0]["audio_filepath"], dtype="float32")
    audio = torch.tensor(samples)[None]
    model.joint.set_fuse_loss_wer(False)
    tokens, bias = model.tokenizer.vocab_size, model.joint.joint_net[-1].bias
    with torch.no_grad():
        model.eval().joint.enc.weight *= 10
        model.joint.joint_net[-1].weight *= 3
        for token in range(tokens):
            text = model.tokenizer.ids_to_text([token])
            bias[token] -= 1000 * (not text.strip() or "⁇" in text)  # else many texts were empty
        encoded, _ = model.forward(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))
        decoded, *_ = model.decoder(targets=torch.zeros(1, 0, dtype=torch.long), target_length=torch.tensor([0]))
        logits = model.joint(encoder_outputs=encoded, decoder_outputs=decoded)[0, :, 0]
        if models.family(model).hat:
            model.joint.blank_pred[-2].bias -= 1
        else:
            bias[tokens] += (logits[:, :tokens].amax(1) - logits[:, tokens]).median()
    return model
