"""What each part of a recipe brings, where `ablation` asks for it; no other target does."""


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
