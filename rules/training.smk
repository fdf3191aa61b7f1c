"""Training, leg by leg."""


rule train_leg:
    """Train to the end of a leg whose checkpoint is dropped once the next leg and its evaluation are done."""
    input:
        manifests="results/{dataset}/manifests",
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        base_model=base_model,
        architecture=architecture,
        previous=previous_leg,
        script="workflow_scripts/train_leg.py",
    output:
        checkpoint=temp(directory("results/{dataset}/checkpoints/temporary/leg_{leg}")),
    log:
        "logs/{dataset}/train_leg_{leg}.log",
    benchmark:
        "benchmarks/{dataset}/train_leg_{leg}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: model_threads
    resources:
        gpu=gpus,
        # Not params: what does not change the weights must not train them again.
        running=lambda w: as_json(running_options(w.dataset)),
        device=config["device"],
        tracking=tracking(),
    params:
        model=lambda w: as_json(section(w.dataset, "model")),
        training=lambda w: as_json(training_options(w.dataset)),
        length=lambda w: as_json(length(w.dataset)),
        legs=lambda w: legs(w.dataset),
        base_model=lambda w, input: option("base-model", input.base_model),
        previous=lambda w, input: option("previous", input.previous),
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
        run=lambda w: f"results/{w.dataset}/runs/leg_{w.leg}",
    shell:
        "python {input.script} --manifest {input.manifests:q}/train.jsonl --tokenizer {params.tokenizer:q}"
        " --model {params.model:q} --training {params.training:q} --length {params.length:q}"
        " --leg {wildcards.leg} --legs {params.legs} {params.base_model} {params.previous}"
        " --device {resources.device} --threads {threads} --tracking {resources.tracking:q}"
        " --running {resources.running:q} --run {params.run:q}"
        " --label {wildcards.dataset} --log {log:q} --output {output.checkpoint:q}"


use rule train_leg as train_kept_leg with:
    output:
        checkpoint=directory("results/{dataset}/checkpoints/leg_{leg}"),
    log:
        "logs/{dataset}/train_leg_{leg}_kept.log",
    benchmark:
        "benchmarks/{dataset}/train_leg_{leg}_kept.tsv"
