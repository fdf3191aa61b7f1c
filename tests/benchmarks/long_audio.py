"""What hearing an utterance in windows costs: the WER of a split's utterances, and of the same one behind the other.

    python tests/benchmarks/long_audio.py --model results/NAME/model --manifest results/NAME/manifests/test.jsonl

The utterances are put together to recordings of 20, 90 and 600 s, speaker by speaker, without pauses. Those of 20 s,
which go whole, show what the missing pauses cost; what the longer ones have more is due to the windows.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

import numpy as np
import soundfile
import torch

from rnnt import files
from rnnt.data import audio, manifests, tokenizers
from rnnt.evaluation import decoding, error_rate
from rnnt.training import models

SEARCHES = ({"strategy": "greedy_batch"}, {"strategy": "malsd_batch", "beam_size": 4})


def joined(rows, seconds, rate, folder):
    """Manifest lines of recordings of about so many seconds, each of utterances one behind the other."""
    found, heard, texts = [], [], []
    for number, row in enumerate(rows):
        heard.append(
            audio.read(row["audio_filepath"], rate, row.get("offset", 0.0), row["duration"], row.get("channel"))
        )
        texts.append(row["text"])
        length = sum(map(len, heard)) / rate
        if length >= seconds or number == len(rows) - 1:
            name = f"{seconds}-{len(found)}"
            soundfile.write(folder / f"{name}.wav", np.concatenate(heard), rate, subtype="FLOAT")
            line = {"id": name, "audio_filepath": str(folder / f"{name}.wav"), "duration": length}
            found.append({**line, "text": " ".join(texts)})
            heard, texts = [], []
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder with model.nemo and tokenizer/")
    parser.add_argument("--manifest", type=Path, required=True, help="a split")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = models.restore(args.model / "model.nemo")
    rows = sorted(manifests.read(args.manifest), key=lambda row: (row.get("speaker", ""), row["id"]))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "tokenizer.model").write_bytes(tokenizers.from_nemo(args.model / "model.nemo"))
        for seconds in (None, 20, 90, 600):
            lines = joined(rows, seconds, model.cfg.sample_rate, folder) if seconds else rows
            files.write_jsonl(folder / "split.jsonl", lines)
            for search in SEARCHES:
                decoding.set_search(model, search)
                started = time.monotonic()
                texts, _ = decoding.transcribe(
                    model, folder / "split.jsonl", folder / "tokenizer.model", folder, 16, "cpu", workers=0, label=""
                )
                found = error_rate.of([{**line, "pred_text": text} for line, text in zip(lines, texts, strict=True)])
                print(
                    f"{f'{seconds} s' if seconds else 'as they are'}: {len(lines)} recordings, {search['strategy']}: "
                    f"WER {found.percent:.2f} %, {time.monotonic() - started:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
