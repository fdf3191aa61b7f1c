"""Report, a line each, whether this machine has what the configuration needs. Exit 1 only for what it needs."""

import json
import netrc
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from rnnt import console
from rnnt.errors import UserError

OK, MISSING, NOT_NEEDED = "ok", "MISSING", "not needed"


def parser():
    p = console.parser(__doc__)
    p.add_argument("--needs", type=json.loads, default={}, help='JSON: {"device":…, "optimizers":[…], "wandb":…, …}')
    return p


def main(args):
    needs = {"device": "auto", "optimizers": [], "precisions": [], "wandb": "off", **args.needs}
    failed = []
    for name, check, needed in checks(needs):
        try:
            detail = check()
            verdict = OK
        except Exception as error:
            detail = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            verdict = MISSING if needed else NOT_NEEDED
            failed += [name] if needed else []
        console.log.info("%-11s %-16s %s", verdict, name, detail)
    if failed:
        raise UserError(f"the configuration needs what is missing here: {', '.join(failed)}")


def checks(needs):
    """Name, check (returns a detail, raises what is wrong), and whether the configuration needs it."""
    recordings = needs.get("sources", []) != ["synthetic"]
    cuda = needs["device"] == "cuda" or "fp16" in needs["precisions"]
    return [
        ("python", python, True),
        ("torch", torch_version, True),
        ("cuda", cuda_device, cuda),
        ("nemo", nemo, True),
        ("bf16", bf16, "bf16" in needs["precisions"]),
        ("bitsandbytes", eight_bit_step, "adamw_8bit" in needs["optimizers"]),
        *((f"audio {kind}", lambda kind=kind: decode(kind), True) for kind in ("flac", "wav")),
        *((f"audio {kind}", lambda kind=kind: decode(kind), recordings) for kind in ("mp3", "sphere", "m4a")),
        ("espeak-ng", espeak, "synthetic" in needs.get("sources", [])),
        ("wandb", wandb_login, needs["wandb"] == "online"),
        ("disk", disk, True),
        ("memory", memory, True),
    ]


def python():
    if not (3, 11) <= sys.version_info < (3, 14):
        raise RuntimeError(f"{platform.python_version()}, the lock is for 3.11 to 3.13")
    return f"{platform.python_version()}, {os.cpu_count()} cores"


def torch_version():
    import torch

    return f"{torch.__version__}, built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'the CPU'}"


def cuda_device():
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA GPU that torch can use: training runs on the CPU")
    free, total = (round(b / 2**30, 1) for b in torch.cuda.mem_get_info())
    return f"{torch.cuda.get_device_name()}, {free} of {total} GiB free"


def nemo():
    from rnnt.data import tokenizers
    from rnnt.training import models

    with tempfile.TemporaryDirectory() as folder:
        model = tokenizers.train(["one two three four five six seven eight nine zero"], 20)
        tokenizers.write(Path(folder), model)
        built = models.build("contextnet_dummy", Path(folder))
    from importlib.metadata import version

    return f"{version('nemo_toolkit')}, builds an {type(built).__name__}"


def bf16():
    """Which way it goes here: a matrix product in it, and whether LSTMs are computed in it too."""
    import torch

    from rnnt.training import models

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.autocast(device, dtype=torch.bfloat16):
        product = torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
    if product.dtype != torch.bfloat16 or not bool((product == 8).all()):
        raise RuntimeError(f"a product of ones came back as {product[0, 0]} in {product.dtype}")
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "on the GPU" if native else "emulated, and slow, on this GPU: precision fp16 is faster"
    if models.bf16_lstm_works():
        return "on the CPU"
    return "on the CPU; it has no AVX-512, so the prediction network's LSTM computes in fp32"


def eight_bit_step():
    import bitsandbytes
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    weight = torch.nn.Parameter(torch.ones(64, 128, device=device))
    optimizer = bitsandbytes.optim.AdamW8bit([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    if bool((weight == 1).all()):
        raise RuntimeError("a step of 8-bit AdamW changed nothing")
    return f"{bitsandbytes.__version__}, an 8-bit AdamW step changes a parameter on {device}"


def decode(kind):
    """Write a tone, read it back through the project's reader."""
    import numpy
    import soundfile

    from rnnt.data import audio

    tone = numpy.sin(numpy.arange(16000) / 16000 * 2 * numpy.pi * 440).astype("float32") / 2
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/tone.{kind}"
        if kind == "m4a":
            version = write_m4a(path, tone)
        else:
            soundfile.write(path, tone, 16000, format={"sphere": "NIST"}.get(kind, kind.upper()))
            version = soundfile.__libsndfile_version__
        read = audio.read(path, 16000)
    level = float(numpy.sqrt((read**2).mean()))
    if abs(len(read) - len(tone)) > 3000 or abs(level - 0.354) > 0.02:
        raise RuntimeError(f"a tone of 1 s came back as {len(read) / 16000:.2f} s at level {level:.2f}")
    return f"written and read, {version}"


def write_m4a(path, samples):
    import av

    with av.open(path, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return f"PyAV {av.__version__}"


def espeak():
    import ctypes

    import espeakng_loader

    ctypes.CDLL(espeakng_loader.get_library_path())
    return "the library of the espeakng-loader wheel loads"


def wandb_login():
    import wandb

    host = urlsplit(wandb.Settings().base_url).hostname
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    known = file.is_file() and netrc.netrc(file).authenticators(host)
    if not (os.environ.get("WANDB_API_KEY") or known):
        raise RuntimeError(f"{wandb.__version__} is installed, but not logged in: run `wandb login`")
    return f"{wandb.__version__}, logged in"


def disk():
    free = shutil.disk_usage(".").free / 2**30
    if free < 2:
        raise RuntimeError(f"{free:.1f} GiB free in the working directory, 2 are needed")
    return f"{free:.0f} GiB free in the working directory"


def memory():
    import psutil

    free = psutil.virtual_memory().available / 2**30
    if free < 4:
        raise RuntimeError(f"{free:.1f} GiB free, 4 are needed")
    return f"{free:.0f} GiB free"


if __name__ == "__main__":
    console.run(main, parser())
