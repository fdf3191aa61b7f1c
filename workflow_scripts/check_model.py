"""Check that the model can be trained and searched as the configuration asks: before anything is trained."""

import json
from pathlib import Path

from rnnt import console, files
from rnnt.data import families, tokenizers
from rnnt.training import models


def parser():
    p = console.parser(__doc__)
    p.add_argument("--base-model", type=Path, help=".nemo file that training starts from")
    p.add_argument("--architecture", required=True, help="what is built where there is no base model: config/models/")
    p.add_argument("--overrides", type=json.loads, default={}, help="other values of the model's configuration, JSON")
    p.add_argument("--beam", required=True, help="the strategy of the beam search")
    p.add_argument("--transducer", required=True, help="the transducer step")
    p.add_argument("--ctc-weight", type=json.loads, required=True, help="share of the CTC head's loss, or null")
    p.add_argument("--output", type=Path, required=True, help="JSON file to write: what kind of model it is")
    return p


def main(args):
    if args.base_model:
        family = families.of_nemo(args.base_model)
        families.override(tokenizers.nemo_config(args.base_model), args.overrides, args.base_model, restored=True)
    else:
        family = families.of_architecture(models.architecture_file(args.architecture), args.overrides)
    families.check_training(family, args.transducer, args.ctc_weight)
    families.check_search(family, args.beam)
    if family.interctc:
        console.log.warning(
            "the model's configuration has CTC losses of intermediate layers (interctc): training here leaves them out"
        )
    console.log.info("%s; searches: %s", family.describe(), ", ".join(family.searches))
    files.write_json(
        args.output,
        {
            **family._asdict(),
            "ctc_weight": args.ctc_weight if args.ctc_weight is not None else family.ctc_weight,
            "searches": family.searches,
        },
    )


if __name__ == "__main__":
    console.run(main, parser())
