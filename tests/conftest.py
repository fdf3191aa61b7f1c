"""Fixtures that tests share: small corpora of speech that the tests make themselves, and the real one beside."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

import warm_python

# The models are tiny: more threads only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "workflow_scripts"
SHARED_DATA = ROOT.parent / "shared" / "data"
pytest_plugins = ["fuzzing"]
OFFLINE = ["unshare", "--net"] if shutil.which("unshare") and os.geteuid() == 0 else []  # before a command


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--chaos", type=int, metavar="N", help="so many runs in test_chaos.py, with random seeds, not one")
    parser.addoption("--chaos-seed", type=int, metavar="SEED", help="of the first of them")
    parser.addoption("--matrix", action="store_true", help="every combination of options in test_matrix.py, not a part")


@pytest.fixture(autouse=True)
def own_wandb_service():
    """W&B's client leaves where its service is in the environment: a killed training's would be that of the tests."""
    yield
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture(scope="session")
def speech(tmp_path_factory):
    """A local corpus of espeak speech: train, validation and test folders with metadata.csv."""
    from rnnt import console
    from rnnt.corpora import synthetic

    folder = tmp_path_factory.mktemp("speech")
    source = {"corpus": "spoken_digits", "seed": 7, "utterances": {"train": 40, "validation": 6, "test": 6}}
    synthetic.prepare(source, folder, 2, console.progress)
    return folder


@pytest.fixture(scope="session")
def prepared(speech, tmp_path_factory):
    """A folder with the manifests (nothing over 5 s) and the tokenizer, of 24 tokens, of the small corpus."""
    from rnnt.corpora import local
    from rnnt.data import manifests, tokenizers

    folder = tmp_path_factory.mktemp("prepared")
    for split in ("train", "test"):
        found, _ = entries(local.utterances({"path": str(speech)}, split, Path()), "lower", 1, split)
        kept, _ = manifests.filter_for_training(found, 0.1, 5)
        manifests.write(folder / f"{split}.jsonl", kept)
    texts = [row["text"] for row in manifests.read(folder / "train.jsonl")]
    tokenizers.write(folder / "tokenizer", tokenizers.train(texts, 24))
    return folder


@pytest.fixture(scope="session")
def bases(prepared, tmp_path_factory):
    """The file of each family's model, with random weights, which emit plenty; made when it is asked for."""
    import nemo_files
    from rnnt.data import manifests

    texts = [row["text"] for row in manifests.read(prepared / "train.jsonl")]
    made = {}

    def base(name):
        if name not in made:
            made[name] = nemo_files.family(tmp_path_factory.mktemp("family"), name, texts)
        return made[name]

    return base


@pytest.fixture(scope="module")
def one_thread():
    """For tensors so small that a second thread only waits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """A small `.nemo` file in NVIDIA's form, with a tokenizer that is no other test's."""
    import nemo_files

    texts = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen jugs", "it's what we've"]
    return nemo_files.nvidia_like(tmp_path_factory.mktemp("pretrained"), texts)


@pytest.fixture(scope="session")
def warm():
    """A PATH whose `python` has imported NeMo already and sees no network (warm_python.py); else the real one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not hasattr(os, "pidfd_open"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="warm") as folder, warm_python.server(folder, *OFFLINE):
        yield f"{folder}:{path}"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of so many bytes: called once more it gets another size. Needs root."""
    place = tmp_path / "disk"

    def resize(size, *options):
        again = ["remount"] if place.is_mount() else []
        place.mkdir(exist_ok=True)
        options = ",".join([*again, f"size={size}", *options])
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
        if done is None or done.returncode:
            pytest.skip(f"no disk to fill up: {done.stderr.strip() if done else 'only root can mount one'}")
        return place

    yield resize
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a file may be mapped into memory


def fill(disk, leave=0):
    """Leave so many bytes on a small disk; returns the file that takes the others."""
    with open(disk / "ballast", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return disk / "ballast"


def one_line_of_a_full_disk(stderr, place):
    """The line that is told of a disk that was full below `place`: no other that is an error, and no traceback."""
    found = [line for line in stderr.splitlines() if "rror" in line or "Traceback" in line]
    assert len(found) == 1 and f"error: disk full: {place}" in found[0], stderr
    return found[0]


@pytest.fixture
def log(tmp_path):
    """The file that the messages of this project go to."""
    from rnnt import console

    console.start_logging(tmp_path / "messages.log", "")
    return tmp_path / "messages.log"


@pytest.fixture
def checkout(tmp_path):
    """A copy of the project's files, as `git clone` would make, to run Snakemake in."""
    folder = tmp_path / "checkout"
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def digits():
    """Real spoken digits, where the folder is there."""
    if not (SHARED_DATA / "digits").is_dir():
        pytest.skip("no ../shared/data/digits here")
    return SHARED_DATA / "digits"


def run_script(name, *arguments, cwd=None):
    """Run one of the scripts as a rule would; returns the finished process with its output."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )


def nemo_archive(path, tokenizer, outputs=None, kind="w", changes=None):
    """A tar file with the members that a .nemo file has; the joint has `outputs`, or what the tokenizer needs.

    `changes`, by member: other bytes, a tar type without content (a folder, a link to nowhere), or None for no member.
    """
    from rnnt.data import tokenizers

    outputs = outputs or tokenizers.load(tokenizer).get_piece_size() + 1
    config = f"joint: {{num_classes: {outputs - 1}}}\n".encode()
    members = {
        "0a1b_tokenizer.model": tokenizer,
        "model_config.yaml": config,
        "model_weights.ckpt": random.Random(1).randbytes(200_000),
        **(changes or {}),
    }
    with tarfile.open(path, kind) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f"./{name}")
            if isinstance(data, str):
                member.type, member.linkname, data = data.encode(), "nowhere", b""
            if data is not None:
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def entries(utterances, case, workers, label, rules="auto", language="en", read_samples=False):
    """Manifest entries of a source's utterances, with a `fingerprint` where samples are read, and what cleaning did."""
    from rnnt.data import fingerprints, manifests

    prints = fingerprints.Prints(None) if read_samples else None
    listed = list(manifests.listing(utterances, workers, label, None, prints))
    found, cleaning = manifests.clean((entry for entry, _ in listed), case, rules, language)
    marks = [{"fingerprint": prints[place or (0, 0)]} if read_samples else {} for _, place in listed]
    return [{**entry, **mark} for entry, mark in zip(found, marks, strict=True)], cleaning


def build_manifests(folder, splits, *options, output="manifests"):
    """Run the scripts that make a data set's manifests in `folder`, from corpus.json, to the first error.

    Returns what was printed and the last exit status. `splits` are names, or lists of them.
    """
    corpus_json = folder / "corpus.json"
    options = list(options)
    listing, building, comparing = [], [], []
    while options:
        option = options.pop(0)
        if option == "--headers-only":
            listing.append(option)
        elif option == "--allow-overlap":
            comparing.append(option)
        elif option == "--workers":
            listing += [option, options[0]]
            building += [option, options.pop(0)]
        elif option == "--log":
            comparing += [option, options.pop(0)]
        else:
            building += [option, options.pop(0)]
    place, said, described, seen = folder / output, [], {}, set()

    def run(script, *arguments):
        done = run_script(script, *arguments)
        said.append(done.stderr)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, "".join(said))

    for split, names in splits.items():
        names = [names] if isinstance(names, str) else names
        described[split] = {"manifest": str(place / f"{split}.jsonl"), "parts": []}
        for name in names:
            listed = place / "listings" / name
            if name not in seen:
                done = run("list_split", "--corpus", corpus_json, "--split", name, *listing, "--output", listed)
                if done.returncode:
                    return done
            seen.add(name)
            prefix = f"{name}/" if len(names) > 1 else ""
            described[split]["parts"].append({"label": name, "listing": str(listed), "prefix": prefix})
        parts, summary = json.dumps(described[split]["parts"]), place / f"summaries/{split}.json"
        paths = ("--output", place / f"{split}.jsonl", "--summary", summary)
        done = run("build_manifest", "--split", split, "--parts", parts, *building, *paths)
        if done.returncode:
            return done
    paths = ("--overlap", place / "overlap.json", "--summary", place / "summary.json")
    summaries = [place / f"summaries/{split}.json" for split in splits]
    return run("compare_splits", "--splits", json.dumps(described), "--summaries", *summaries, *comparing, *paths)
