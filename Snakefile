"""Fine-tune RNN-T models per data set and tabulate their word error rates.

snakemake --cores 8 results/wer_table.csv     the table of all data sets
snakemake --cores 8 NAME                      one data set's rows
snakemake --dry-run                           what would be done
"""

from snakemake.utils import min_version

min_version("9.27")


include: "rules/common.smk"
include: "rules/splits.smk"
include: "rules/legs.smk"
include: "rules/searches.smk"
include: "rules/resources.smk"
include: "rules/data.smk"
include: "rules/tokenizer.smk"
include: "rules/training.smk"
include: "rules/language_model.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"
include: "rules/ablation.smk"


wildcard_constraints:
    source="|".join(SOURCES),
    part=r"\w[\w.-]*",
    heard="samples|headers",
    dataset="|".join(DATASETS),
    other="|".join(config["datasets"]),
    run=f"(?:{'|'.join(DATASETS)})(?:/seed_[0-9]+)?",
    split="[a-z0-9_]+",
    leg=r"0|[1-9]\d*|best",
    search="greedy|beam|beam_without_lm",
    target="[A-Za-z0-9_-]+",


rule all:
    """The table of word error rates of all data sets, the page about it, and the models."""
    default_target: True
    input:
        "results/wer_table.csv",
        "results/report.html",
        expand("results/{dataset}/model", dataset=config["datasets"]),


check_places()
check_names()


onstart:
    exclude_other_runs()


for dataset in config["datasets"]:

    rule:
        """One data set's rows of the table."""
        name:
            dataset
        input:
            f"results/{dataset}/wer_table.csv",
