"""Convert a trained FastConformer RNN-T or TDT for Hugging Face Transformers, and see that it transcribes as NeMo does.

Other models, and one that transcribes otherwise, have no such form: check.json says why.
"""

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

from rnnt import console, files
from rnnt.data import manifests, tokenizers
from rnnt.evaluation import transformers_form

MOST = 200  # utterances of a split that are compared


def parser():
    p = console.parser(__doc__)
    p.add_argument("--checkpoint", type=Path, required=True, help="a finished leg: folder with model.nemo")
    p.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.model")
    p.add_argument("--manifests", type=Path, nargs="+", required=True, help="splits that are compared: manifests")
    p.add_argument("--greedy", type=json.loads, required=True, help="`greedy` of the configuration, JSON")
    p.add_argument("--batch-size", type=int, default=16, help="utterances decoded together")
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to decode")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="folder to write: check.json and, where it is, the form")
    return p


def main(args):
    source = args.checkpoint / "model.nemo"
    reason = transformers_form.why_not(tokenizers.nemo_config(source))
    check = {"class": None, "why_not": reason and f"Transformers has no class for it, as {reason}", "compared": {}}
    with files.whole_folder(args.output) as folder:
        if not check["why_not"]:
            check |= convert(args, source, folder)
        files.write_json(folder / "check.json", check)
    if check["why_not"]:
        console.log.info("no form for Transformers: %s", check["why_not"])
    else:
        console.log.info("%s: transcribes as NeMo does: %s", check["class"], check["compared"])


def convert(args, source, folder):
    """Write the form to `folder` if it stands the comparison; what to put into check.json."""
    import torch
    import transformers

    from rnnt.evaluation import decoding
    from rnnt.training import batching, models

    # Rounding as coarse as TF32's may choose another token.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    device = models.pick_device(args.device)
    torch.set_num_threads(args.threads)
    model = models.restore(source)
    decoding.set_search(model, args.greedy)
    try:
        form, processor = transformers_form.convert(model, args.greedy.get("max_symbols"))
    except Exception as error:  # There are more settings than those known: the model goes without the form.
        message = str(error).strip().partition("\n")[0]
        return {"why_not": f"Transformers can't hold it ({type(error).__name__}: {message})"}
    form.to(device)
    compared, vocabulary = {}, args.tokenizer / "tokenizer.model"
    with tempfile.TemporaryDirectory() as cache:
        for path in args.manifests:
            rows = manifests.read(path)
            # NeMo's encoder hears longer ones in windows, Transformers' has no such thing.
            short = [row for row in rows if row["duration"] <= decoding.LONG]
            some = sorted(short[:: max(1, -(-len(short) // MOST))], key=lambda row: -row["duration"])
            if not some:
                return {"why_not": f"no utterance of {path.stem} is short enough to compare it with NeMo's"}
            manifest = Path(cache) / path.name
            files.write_jsonl(manifest, some)
            found, _ = decoding.transcribe(
                model, manifest, vocabulary, Path(cache), args.batch_size, device, workers=0, label=f"NeMo {path.stem}"
            )
            dataset = batching.load_dataset(manifest, vocabulary, model.cfg.sample_rate, Path(cache))
            theirs = transformers_form.transcribe(form, processor, dataset, args.batch_size)
            texts = [row["text"] for row in some]
            spelt = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
            for what, pairs in (
                ("transcribes", zip(found, theirs, strict=True)),
                ("spells", zip(model.tokenizer.tokenizer.encode(texts), spelt, strict=True)),
            ):
                if other := sum(ours != other for ours, other in pairs):
                    return {"why_not": f"it {what} {other} of {len(some)} utterances of {path.stem} unlike NeMo"}
            compared[path.stem] = {"utterances": len(some), "of": len(rows)}
    form.to("cpu").save_pretrained(folder)
    processor.save_pretrained(folder)
    return {"class": type(form).__name__, "compared": compared, "transformers": version("transformers")}


if __name__ == "__main__":
    console.run(main, parser())
