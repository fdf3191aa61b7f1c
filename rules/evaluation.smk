"""Transcribe and score."""


rule wrap_base_model:
    """Put the pretrained model beside the trained ones, to be evaluated untouched."""
    input:
        base_model=base_model,
        script="workflow_scripts/wrap_base_model.py",
    output:
        checkpoint=directory("results/{dataset}/checkpoints/pretrained"),
    log:
        "logs/{dataset}/wrap_base_model.log",
    conda:
        "../envs/light.yaml"
    params:
        name=lambda w: section(w.dataset, "model")["init_from"],
    shell:
        "python {input.script} --base-model {input.base_model:q} --name {params.name:q}"
        " --log {log:q} --output {output.checkpoint:q}"


rule transcribe_split:
    """Transcribe a split with a leg's checkpoint: greedy search after every leg, beam search after the last."""
    input:
        checkpoint=leg_checkpoint,
        manifests="results/{dataset}/manifests",
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        lm=language_model,
        script="workflow_scripts/transcribe_split.py",
    output:
        hypotheses="results/{dataset}/evaluation/leg_{leg}/{search}/{split}.jsonl",
        decoding="results/{dataset}/evaluation/leg_{leg}/{search}/{split}.decoding.json",
    log:
        "logs/{dataset}/transcribe_leg_{leg}_{search}_{split}.log",
    benchmark:
        "benchmarks/{dataset}/transcribe_leg_{leg}_{search}_{split}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: model_threads
    resources:
        gpu=gpus,
        # Not params: what changes speed alone must not decode again.
        batch_size=lambda w: section(w.dataset, "evaluation")["batch_size"],
        device=config["device"],
    params:
        search=lambda w: as_json(search(w)),
        lm=lambda w, input: option("lm", input.lm),
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
        progress=lambda w: f"results/{w.dataset}/runs/transcripts",
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --tokenizer {params.tokenizer:q}"
        " --manifest {input.manifests:q}/{wildcards.split}.jsonl --search {params.search:q} {params.lm}"
        " --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --label {wildcards.dataset} --log {log:q}"
        " --progress {params.progress:q} --hypotheses {output.hypotheses:q} --decoding {output.decoding:q}"


rule find_suspects:
    """List the transcripts of training and validation that are likely wrong, by what the final model makes of them."""
    input:
        checkpoint=lambda w: checkpoint(w.dataset, legs(w.dataset)),
        manifests="results/{dataset}/manifests",
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        script="workflow_scripts/find_suspects.py",
    output:
        suspects="results/{dataset}/suspects.tsv",
        summary="results/{dataset}/suspects.json",
    log:
        "logs/{dataset}/find_suspects.log",
    benchmark:
        "benchmarks/{dataset}/find_suspects.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: model_threads
    resources:
        gpu=gpus,
        # Not params: what changes speed alone must not score again.
        batch_size=lambda w: section(w.dataset, "evaluation")["batch_size"],
        device=config["device"],
    params:
        splits=lambda w: splits(w.dataset, "train") + splits(w.dataset, "validation"),
        transducer=lambda w: section(w.dataset, "training")["transducer"],
        greedy=lambda w: as_json(section(w.dataset, "evaluation")["greedy"]),
        hours=lambda w: option("hours", section(w.dataset, "evaluation")["suspects_hours"]),
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --manifests {input.manifests:q}"
        " --splits {params.splits:q} --tokenizer {params.tokenizer:q} --transducer {params.transducer}"
        " --greedy {params.greedy:q} {params.hours} --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --label {wildcards.dataset} --log {log:q}"
        " --output {output.suspects:q} --summary {output.summary:q}"


rule score_hypotheses:
    """Word and character error rate of a file of hypotheses; never needs the model."""
    input:
        hypotheses="results/{dataset}/evaluation/leg_{leg}/{search}/{split}.jsonl",
        decoding="results/{dataset}/evaluation/leg_{leg}/{search}/{split}.decoding.json",
        manifests="results/{dataset}/manifests",
        glm=mapping_file,
        script="workflow_scripts/score_hypotheses.py",
    output:
        metrics="results/{dataset}/evaluation/leg_{leg}/{search}/{split}.json",
    log:
        "logs/{dataset}/score_leg_{leg}_{search}_{split}.log",
    conda:
        "../envs/light.yaml"
    threads: 2
    params:
        glm=lambda w, input: option("glm", input.glm),
        language=lambda w: section(w.dataset, "text")["language"],
    shell:
        "python {input.script} --hypotheses {input.hypotheses:q} --decoding {input.decoding:q}"
        " --manifest {input.manifests:q}/{wildcards.split}.jsonl --overlap {input.manifests:q}/overlap.json"
        " {params.glm} --language {params.language}"
        " --workers {threads}"
        " --label {wildcards.dataset} --log {log:q} --output {output.metrics:q}"
