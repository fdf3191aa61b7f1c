"""What each part of a recipe brings, where `ablation` asks for it; no other target does."""


def ablation():
    """What is left out of which data set; ends with one line where nothing is."""
    if not config["ablation"]:
        sys.exit("error: ablation: not set: which data set, and what to leave out of its recipe (config/README.md)")
    return config["ablation"]


def compared_recipe(dataset):
    """What an ablation compares of a data set: test splits with beam search, validation splits with greedy search."""
    validated = [
        f"results/{run}/evaluation/leg_{final_leg(dataset)}/greedy/{split}.jsonl"
        for run in runs(dataset)
        for split in splits(dataset, "validation")
    ]
    return evaluations(dataset, "beam", ".jsonl") + validated


def shown_ablation():
    """What tells the results that the page shows. No input of it: it is not to train what it was made of."""
    path = Path("results/ablation.csv")
    there = config["ablation"] and path.is_file()
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if there else ""


rule make_ablation:
    """Compare a data set's recipe with itself, each part left out in turn."""
    input:
        recipe=lambda w: compared_recipe(ablation()["dataset"]),
        without=lambda w: [path for name in experiment.ablated(config).values() for path in compared_recipe(name)],
        script="workflow_scripts/make_ablation.py",
    output:
        csv=report("results/ablation.csv", "../report/ablation.rst", "Tables", labels={"table": "ablation"}),
        png="results/ablation.png",
        svg="results/ablation.svg",
    log:
        "logs/make_ablation.log",
    conda:
        "../envs/light.yaml"
    params:
        label=lambda w: ablation()["dataset"],
    shell:
        "python {input.script} --recipe {input.recipe:q} --without {input.without:q}"
        " --label {params.label} --log {log:q} --output {output.csv:q}"


rule ablation:
    """What each part of a data set's recipe brings, as `ablation` of the configuration says."""
    input:
        "results/ablation.csv",
