"""Time, memory and accuracy of one joint-and-loss step, forward and backward: ours against those that there are.

    python tests/benchmarks/transducer_step.py --shape 8,250,100,1025,640 --json step.json
    python tests/benchmarks/transducer_step.py --shape 8,250,100,1025,640 --durations 0,1,2,3,4

Methods: `fused` (ours), `nemo` (NeMo's joint and warprnnt_numba), `nemo_fused_batch` (NeMo's fused joint step on
sub-batches of 4), `nemo_graph` (NeMo's graph loss with Triton, CUDA alone), `transformers` (NeMo's joint and the
`tdt_loss` of Transformers), `float64` (ours, with the projections the others have but all that follows in float64).
With --durations the model is a TDT: of NeMo's losses there is a kernel for CUDA alone. All get the same random tensors,
lengths spread evenly from half to full. Every method runs in a process of its own, so that none inherits memory from
another, after a warm-up on a tiny batch that compiles numba. The reference is `transformers` for TDT, else `nemo`.
Time: median of the repeats, seconds. Memory: peak of the first repeat above inputs and parameters, MiB (resident memory
on the CPU, allocated tensors on CUDA). Errors against the reference: relative for the loss; for the gradients of
encoder output, prediction output and joint parameters norm of the difference over norm, of all of them and of the
worst. The last column is that of all of them against `float64`: it tells whose rounding the difference is.
"""

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

METHODS = ("fused", "nemo", "nemo_fused_batch", "nemo_graph", "transformers", "float64")
DEFAULT_SHAPES = ["8,250,100,1025,640", "16,38,23,33,128"]
FUSED_BATCH_SIZE = 4
MIB = 2**20
COLUMNS = [  # title, width, key of the row, format
    ("time s", 9, "seconds", ".3f"),
    ("ref/time", 10, "times_faster", ".1f"),
    ("peak MiB", 10, "peak_mib", ".1f"),
    ("ref/peak", 10, "times_smaller", ".1f"),
    ("loss err", 10, "loss_error", ".1e"),
    ("grad err", 10, "gradient_error", ".1e"),
    ("worst grad", 12, "worst_gradient_error", ".1e"),
    ("grad err f64", 14, "gradient_error_float64", ".1e"),
]


def main():
    options = parse_arguments()
    sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))
    if options.worker:
        worker(**json.loads(options.worker))
        return
    rows = []
    available = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.repeats} repeats, float32, "
        f"load average {os.getloadavg()[0]:.1f} before"
    )
    for device in [options.device] if options.device else available:
        for shape in options.shape:
            rows += compare(device, shape, options)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shape",
        nargs="+",
        type=parse_shape,
        default=[parse_shape(shape) for shape in DEFAULT_SHAPES],
        metavar="B,T,U,V,H",
        help="utterances, encoder frames, labels, outputs with blank, joint width "
        f"(default: {' '.join(DEFAULT_SHAPES)})",
    )
    parser.add_argument("--durations", type=parse_numbers, default=[], metavar="0,1,...", help="a TDT's, in frames")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: all there are")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each method (default: 3)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all that there are for it")
    parser.add_argument(
        "--memory-budget-mib", type=float, help="chunk buffers of `fused`, MiB (default: its own default)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows of the table there too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def parse_numbers(text):
    return [int(number) for number in text.split(",")]


def parse_shape(text):
    sizes = parse_numbers(text)
    if len(sizes) != 5 or min(sizes) < 1:
        raise ValueError(text)
    return sizes


def known(device, durations):
    """The methods that there are for a device, of RNN-T or of TDT."""
    without = {"transformers"} if not durations else {"nemo_graph"}
    if device == "cpu":
        without |= {"nemo_graph"} | ({"nemo", "nemo_fused_batch"} if durations else set())
    return [method for method in METHODS if method not in without]


def compare(device, shape, options):
    """Run every method on one shape, print its table, return its rows."""
    rows, results = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for method in options.methods or known(device, options.durations):
            file = os.path.join(folder, method)
            task = {
                "device": device,
                "shape": shape,
                "method": method,
                "file": file,
                "repeats": options.repeats,
                "budget": options.memory_budget_mib,
                "durations": options.durations,
            }
            command = [sys.executable, __file__, "--worker", json.dumps(task)]
            process = subprocess.run(command, capture_output=True, text=True)
            if process.returncode:
                print(f"{method} failed on {device}, {shape}:\n{process.stderr[-2000:]}", file=sys.stderr)
            else:
                results[method] = torch.load(file)
    reference, exact = results.get("transformers", results.get("nemo")), results.get("float64")
    of_tdt = f", durations {options.durations}" if options.durations else ""
    print(f"\n{device}, B,T,U,V,H = {','.join(map(str, shape))}{of_tdt}")
    print(f"{'method':18}" + "".join(f"{title:>{width}}" for title, width, _, _ in COLUMNS))
    for method, result in results.items():
        row = {
            "device": device,
            "shape": shape,
            "durations": options.durations,
            "method": method,
            "all_seconds": result["seconds"],
        }
        row["seconds"] = statistics.median(result["seconds"])
        row["peak_mib"] = result["peak_bytes"] / MIB
        if reference:
            row["times_faster"] = statistics.median(reference["seconds"]) / row["seconds"]
            row["times_smaller"] = reference["peak_bytes"] / max(1, result["peak_bytes"])
            row["loss_error"], row["gradient_error"], row["worst_gradient_error"] = errors(result, reference)
        if exact:
            row["loss_error_float64"], row["gradient_error_float64"], _ = errors(result, exact)
        print(f"{method:18}" + "".join(f"{row.get(key, math.nan):{width}{form}}" for _, width, key, form in COLUMNS))
        rows.append(row)
    return rows


def errors(result, reference):
    """Relative errors of the loss, of all gradients together and of the worst tensor's gradient."""
    pairs = [*zip(result["gradients"], reference["gradients"], strict=True)]
    return (
        relative_error([result["loss"]], [reference["loss"]]),
        relative_error(result["gradients"], reference["gradients"]),
        max(relative_error([ours], [theirs]) for ours, theirs in pairs),
    )


def relative_error(ours, theirs):
    difference = sum((a.double() - b.double()).norm() ** 2 for a, b in zip(ours, theirs, strict=True)) ** 0.5
    return (difference / sum(b.double().norm() ** 2 for b in theirs) ** 0.5).item()


def worker(device, shape, method, file, repeats, budget, durations):
    """Measure one method and leave times, peak memory, loss and gradients in `file`."""
    step, _ = prepare(device, (2, 6, 3, 8, 8), method, budget, durations)
    step()
    step, wanted = prepare(device, shape, method, budget, durations)
    seconds, peak = [], None
    for _ in range(repeats):
        gc.collect()
        before = reset_peak(device)
        start = time.perf_counter()
        loss = step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        peak = peak or read_peak(device) - before
        gradients = [x.grad for x in wanted]
        for x in wanted:
            x.grad = None
    torch.save(
        {
            "seconds": seconds,
            "peak_bytes": peak,
            "loss": loss.detach().cpu(),
            "gradients": [x.cpu() for x in gradients],
        },
        file,
    )


def prepare(device, shape, method, budget, durations):
    """The step of a method, a function that leaves gradients and returns the loss; the tensors with gradients."""
    from nemo.collections.asr.losses.rnnt import RNNTLoss
    from nemo.collections.asr.modules.rnnt import RNNTJoint

    from rnnt.training.transducer_loss import fused_transducer_loss, nemo_joint_loss

    batch, frames, labels, outputs, width = shape
    torch.manual_seed(0)
    joint = RNNTJoint(
        {"encoder_hidden": width, "pred_hidden": width, "joint_hidden": width, "activation": "relu"},
        num_classes=outputs - 1,
        num_extra_outputs=len(durations),
        fuse_loss_wer=method == "nemo_fused_batch",
        fused_batch_size=FUSED_BATCH_SIZE,
    ).to(device)
    name = "graph_rnnt" if method == "nemo_graph" else "tdt" if durations else "warprnnt_numba"
    loss = RNNTLoss(outputs - 1, "mean_batch", name, loss_kwargs={"durations": durations} if durations else None)
    encoder = torch.randn(batch, width, frames, device=device, requires_grad=True)
    decoder = torch.randn(batch, width, labels + 1, device=device, requires_grad=True)
    targets = torch.randint(0, outputs - 1, (batch, labels), device=device)
    frame_counts = torch.linspace(frames / 2, frames, batch, device=device).ceil().long()
    label_counts = torch.linspace(labels / 2, labels, batch, device=device).ceil().long()

    def forward():
        if method == "fused":
            return nemo_joint_loss(joint, loss, encoder, decoder, targets, frame_counts, label_counts, budget)
        if method == "float64":
            projected = joint.enc(encoder.transpose(1, 2)), joint.pred(decoder.transpose(1, 2))
            tensors = (x.double() for x in (*projected, joint.joint_net[-1].weight, joint.joint_net[-1].bias))
            lengths = frame_counts, label_counts
            return fused_transducer_loss(*tensors, targets, *lengths, blank=outputs - 1, durations=durations)
        if method == "transformers":
            from transformers.loss.loss_tdt import tdt_loss

            # not NeMo's log-softmax of all of them, which it has on a CPU
            joint.log_softmax = False
            logits = joint(encoder_outputs=encoder, decoder_outputs=decoder).split([outputs, len(durations)], -1)
            lengths = frame_counts, label_counts
            return tdt_loss(*logits, targets, *lengths, outputs - 1, durations, reduction="mean_batch")
        if method in ("nemo", "nemo_graph"):
            return loss(
                log_probs=joint(encoder_outputs=encoder, decoder_outputs=decoder),
                targets=targets,
                input_lengths=frame_counts,
                target_lengths=label_counts,
            )
        joint.set_fuse_loss_wer(True, loss, metric=object())
        return joint(
            encoder_outputs=encoder,
            decoder_outputs=decoder,
            encoder_lengths=frame_counts,
            transcripts=targets,
            transcript_lengths=label_counts,
            compute_wer=False,
        )[0]

    def step():
        value = forward()
        value.backward()
        return value

    return step, [encoder, decoder, *joint.parameters()]


def reset_peak(device):
    """Start a new peak; bytes in use now."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def read_peak(device):
    return torch.cuda.max_memory_allocated() if device == "cuda" else status_bytes("VmHWM")


def status_bytes(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


if __name__ == "__main__":
    main()
