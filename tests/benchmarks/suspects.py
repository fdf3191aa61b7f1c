r"""How many of the transcripts that find_suspects lists first are wrong, when it is known which are.

    python tests/benchmarks/suspects.py [--digits ../shared/data/digits] [--share 0.02] [--folder DIR]

Gives --share of the training transcripts of real digits to one another, trains as config/local_example.yaml says, lists
the suspects and prints the precision among the first k and the share of the wrong ones that is found. A training that
is done in --folder with the same options is taken from there.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, whose coverage.py is not the package of that name
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow_scripts"))

import numpy as np
import yaml

from rnnt import config, console
from rnnt.corpora import local
from rnnt.data import manifests, tokenizers
from rnnt.evaluation import suspects
from rnnt.training import batching, legs, models

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT.parent / "shared/data/digits"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--digits", type=Path, default=ROOT.parent / "shared/data/digits", help="with train, validation"
    )
    parser.add_argument("--share", type=float, default=0.02, help="of the transcripts made wrong (default: 0.02)")
    parser.add_argument("--seed", type=int, default=1, help="which are made wrong (default: 1)")
    parser.add_argument("--folder", type=Path, help="keeps the trained model (default: a temporary one)")
    options = parser.parse_args()
    console.start_logging(None, "")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        experiment = read_experiment(options.digits)
        wrong = prepare(folder, experiment, options.share, options.seed)
        model, device = train(folder, experiment), models.pick_device("auto")
        started = time.monotonic()
        found, scored = suspects.find(
            model,
            {split: folder / f"{split}.jsonl" for split in ("train", "validation")},
            folder / "tokenizer/tokenizer.model",
            folder / "cache",
            experiment["training"]["transducer"],
            experiment["evaluation"]["greedy"],
            experiment["evaluation"]["batch_size"],
            device,
            batching.reader_processes(1, device),
        )
    print(f"{sum(row['scored'] for row in scored.values())} scored in {time.monotonic() - started:.0f} s on {device}")
    print(f"{len(wrong)} of {scored['train']['utterances']} training transcripts are wrong, {len(found)} are listed")
    hits = [row["split"] == "train" and row["id"] in wrong for row in found]
    for k in sorted({5, 10, len(wrong), len(found)}):
        print(f"first {k:3}: precision {np.mean(hits[:k]):.3f}, recall {sum(hits[:k]) / max(len(wrong), 1):.3f}")
    for row, hit in zip(found, hits, strict=True):
        if not hit:
            print(f"not made wrong: {row['rank']} {row['split']} {row['id']} {row['text']!r} {row['hypothesis']!r} "
                  f"{row['reason']}")  # fmt: skip


def read_experiment(digits):
    """The sections of the shipped configuration for that folder of recordings."""
    given = yaml.safe_load((ROOT / "config/local_example.yaml").read_text())
    given["datasets"]["digits"]["source"]["path"] = str(digits)
    whole = config.validate(given, config.load_schema(ROOT / "config/schema.yaml"))
    names = ("source", "model", "tokenizer", "filter", "training", "evaluation", "max_steps")
    return config.dataset_config(whole, "digits", *names)


def prepare(folder, experiment, share, seed):
    """Manifests and tokenizer as the rules make them, but for the transcripts; returns the ids of the wrong ones."""
    limits = experiment["filter"]["min_duration"], experiment["filter"]["max_duration"]
    kept = {}
    for split in ("train", "validation"):
        utterances = local.utterances(experiment["source"], split, folder)
        found, _ = manifests.clean((entry for entry, _ in manifests.listing(utterances, 1, split)), "lower")
        kept[split] = list(manifests.filter_for_training(found, *limits)[0])
    random, train = np.random.default_rng(seed), kept["train"]
    chosen = random.choice(len(train), round(share * len(train)), replace=False)
    texts = [train[index]["text"] for index in chosen]
    others = texts
    while any(text == other for text, other in zip(texts, others, strict=True)):
        others = random.permutation(texts).tolist()
    for index, text in zip(chosen, others, strict=True):
        train[index]["text"] = text
    for split, rows in kept.items():
        manifests.write(folder / f"{split}.jsonl", rows)
    size = experiment["tokenizer"]["vocab_size"]
    tokenizers.write(folder / "tokenizer", tokenizers.train([row["text"] for row in train], size))
    return {train[index]["id"] for index in chosen}


def train(folder, experiment):
    """The trained model. In one leg: legs add up to the same training."""
    import transformers

    leg = legs.Leg(
        number=1,
        legs=1,
        manifest=folder / "train.jsonl",
        tokenizer=folder / "tokenizer",
        model=experiment["model"],
        training=experiment["training"],
        length={"max_steps": experiment["max_steps"]},
    )
    device = models.pick_device("auto")
    transformers.set_seed(experiment["training"]["seed"])
    with legs.run_directory(folder / "run", leg.fingerprint()) as run:
        model = legs.starting_model(leg)
        legs.train(leg, model, run, {}, device, batching.reader_processes(1, device))
    return model


if __name__ == "__main__":
    main()
