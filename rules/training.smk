"""Training, leg by leg."""


rule train_leg:
    """Train to the end of a leg whose checkpoint is dropped once the next leg and its evaluation are done."""
    input:
        manifest=lambda w: f"results/{dataset_of(w)}/manifests/train.jsonl",
        tokenizer=tokenizer_of,
        gates=gates,
        base_model=base_model,
        architecture=architecture,
        previous=previous_leg,
        validation=deciding_manifest,
        script="workflow_scripts/train_leg.py",
    output:
        checkpoint=temp(directory("results/{run}/checkpoints/temporary/leg_{leg}")),
    log:
        "logs/{run}/train_leg_{leg}.log",
    benchmark:
        "benchmarks/{run}/train_leg_{leg}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: lambda w: processes(w) * model_threads(w)
    resources:
        gpu=lambda w: processes(w) * gpus(w),
        runtime=training_minutes,
        mem_mb=training_memory,
        # Not params: what does not change the weights must not train them again.
        running=lambda w: as_json(running_options(dataset_of(w))),
        device=config["device"],
        tracking=tracking(),
        ahead=lambda w: as_json(ahead(w)),
    params:
        model=lambda w: as_json(model_options(dataset_of(w))),
        training=lambda w: as_json(training_options(dataset_of(w), seed_of(w))),
        length=lambda w: as_json(length(dataset_of(w))),
        legs=lambda w: legs(dataset_of(w)),
        label=named,
        base_model=lambda w, input: option("base-model", nemo_file(input.base_model)),
        previous=lambda w, input: option("previous", input.previous),
        validation=lambda w, input: deciding_options(w, input.validation),
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
        run=lambda w: f"results/{w.run}/runs/leg_{w.leg}",
    shell:
        "python {input.script} --manifest {input.manifest:q} --tokenizer {params.tokenizer:q}"
        " --model {params.model:q} --training {params.training:q} --length {params.length:q}"
        " --leg {wildcards.leg} --legs {params.legs} {params.base_model} {params.previous}"
        " {params.validation}"
        " --device {resources.device} --threads {threads} --tracking {resources.tracking:q}"
        " --running {resources.running:q} --ahead {resources.ahead:q} --run {params.run:q}"
        " --label {params.label} --log {log:q} --output {output.checkpoint:q}"


use rule train_leg as train_kept_leg with:
    output:
        checkpoint=directory("results/{run}/checkpoints/leg_{leg}"),
    log:
        "logs/{run}/train_leg_{leg}_kept.log",
    benchmark:
        "benchmarks/{run}/train_leg_{leg}_kept.tsv"


rule preview_augmentation:
    """Ten utterances as the first epoch of training has them, to listen to, where `training.augmentation` is on."""
    input:
        manifest=previewed,
        script="workflow_scripts/preview_augmentation.py",
    output:
        folder=directory("results/{dataset}/augmentation"),
    log:
        "logs/{dataset}/preview_augmentation.log",
    conda:
        "../envs/light.yaml"
    params:
        augmentation=lambda w: as_json(augmentation(w.dataset)),
        seed=lambda w: runs(w.dataset)[w.dataset],
    shell:
        "python {input.script} --manifest {input.manifest:q} --augmentation {params.augmentation:q} --seed {params.seed}"
        " --label {wildcards.dataset} --log {log:q} --output {output.folder:q}"


rule select_leg:
    """Take the leg that transcribes the validation split best, where `evaluation.select` asks for it."""
    input:
        checkpoints=lambda w: [checkpoint(w.run, leg) for leg in every_leg(dataset_of(w))],
        metrics=lambda w: [
            f"results/{w.run}/evaluation/leg_{leg}/greedy/validation.json" for leg in every_leg(dataset_of(w))
        ],
        script="workflow_scripts/select_leg.py",
    output:
        checkpoint=directory("results/{run}/checkpoints/best"),
    log:
        "logs/{run}/select_leg.log",
    conda:
        "../envs/light.yaml"
    params:
        label=named,
    shell:
        "python {input.script} --checkpoints {input.checkpoints:q} --metrics {input.metrics:q}"
        " --label {params.label} --log {log:q} --output {output.checkpoint:q}"
