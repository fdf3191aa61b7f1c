"""Memory and time of one whole optimizer step of a large model, for each transducer step, against the prediction.

    python tests/benchmarks/optimizer_step.py [--architecture contextnet_large] [--utterances 8] [--seconds 20]

Forward, backward, clipping and AdamW on noise and random tokens, each transducer step in a process of its own, and once
more `fused` with gradient checkpointing. Columns: seconds of the first step (it makes the optimizer's state) and of its
parts; peak memory above the process before the model was built (resident on a CPU, allocated on CUDA), the peak that
the pre-flight check predicts, and the loss.
"""

import argparse
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

GIB = 2**30
CASES = [("fused", False), ("nemo_fused_batch", False), ("nemo", False), ("fused", True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="contextnet_large", help="default: contextnet_large")
    parser.add_argument("--utterances", type=int, default=8, help="in the batch (default: 8)")
    parser.add_argument("--seconds", type=float, default=20, help="of each utterance (default: 20)")
    parser.add_argument("--tokens", type=int, default=100, help="of each utterance (default: 100)")
    parser.add_argument("--vocab-size", type=int, default=1024, help="tokens of the tokenizer (default: 1024)")
    parser.add_argument("--optimizer", default="adamw_8bit", help="default: adamw_8bit")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    parser.add_argument("--json", type=Path, help="write the rows of the table there too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options, **json.loads(options.worker))
    rows = []
    print(f"{options.architecture}, {options.utterances} x {options.seconds:g} s, {options.tokens} tokens, ", end="")
    print(f"{options.optimizer}, {options.precision}, load average {os.getloadavg()[0]:.1f} before")
    titles = ("step s", "forward", "backward", "optimizer", "peak GiB", "predicted", "loss")
    print(f"{'':32}" + "".join(f"{title:>11}" for title in titles))
    for transducer, checkpointing in CASES:
        case = json.dumps({"transducer": transducer, "checkpointing": checkpointing})
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", case]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        name = transducer + (", checkpointing" if checkpointing else "")
        if done.returncode:
            print(f"{name:32}   failed with exit code {done.returncode}", flush=True)
            continue
        row = {"name": name, **json.loads(done.stdout.splitlines()[-1])}
        rows.append(row)
        print(f"{name:32}" + "".join(f"{row[title]:>11.2f}" for title in titles), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def worker(options, transducer, checkpointing):
    """One optimizer step; prints its row as JSON."""
    import torch

    from rnnt.data import tokenizers
    from rnnt.training import legs, memory, models
    from rnnt.training.batching import Bucket

    models.quiet_nemo()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        letters = random.Random(0)
        words = ["".join(letters.choices(string.ascii_lowercase, k=6)) for _ in range(20000)]
        texts = [" ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
        tokenizers.write(Path(folder), tokenizers.train(texts, options.vocab_size))
        before = status_bytes("VmRSS")
        model = models.build(options.architecture, Path(folder))
    if checkpointing:
        models.checkpoint_encoder(model)
    step = legs.Transducer(model, transducer).to(device).train()
    optimizer = make_optimizer(options.optimizer, step.parameters())
    taken = memory.measure(step, options.optimizer, options.seconds, options.tokens, options.precision)
    bucket = Bucket(None, 1, options.utterances, options.seconds, options.tokens)
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
    else:
        torch.cuda.reset_peak_memory_stats()
    batch = memory.noise(step, options.utterances, options.seconds, options.tokens)
    times = [now(device)]
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.precision)
    with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        loss = step(**batch)["loss"]
    times.append(now(device))
    loss.backward()
    times.append(now(device))
    torch.nn.utils.clip_grad_norm_(step.parameters(), 1.0)
    optimizer.step()
    times.append(now(device))
    peak = status_bytes("VmHWM") - before if device == "cpu" else torch.cuda.max_memory_allocated()
    row = {
        "step s": times[3] - times[0],
        "forward": times[1] - times[0],
        "backward": times[2] - times[1],
        "optimizer": times[3] - times[2],
        "peak GiB": peak / GIB,
        "predicted": (taken.weights + memory.of_training(taken, bucket)) / GIB,
        "loss": loss.item(),
    }
    print(json.dumps(row))


def make_optimizer(name, parameters):
    """AdamW as the Trainer makes it."""
    if name == "adamw_8bit":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(parameters, lr=1e-3)
    import torch

    return torch.optim.AdamW(parameters, lr=1e-3)


def now(device):
    """Seconds, after all that was begun is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def status_bytes(key):
    """A line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


if __name__ == "__main__":
    main()
