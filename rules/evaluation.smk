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
        base_model=lambda w, input: nemo_file(input.base_model),
        name=lambda w: section(w.dataset, "model")["init_from"],
    shell:
        "python {input.script} --base-model {params.base_model:q} --name {params.name:q}"
        " --log {log:q} --output {output.checkpoint:q}"


rule transcribe_split:
    """Transcribe a split with a leg's checkpoint: greedy search after every leg, beam search with the final one."""
    input:
        checkpoint=leg_checkpoint,
        manifest=decoded_manifest,
        tokenizer=tokenizer_of,
        gates=gates,
        lm=language_model,
        lm_weight=language_model_weight,
        texts=training_texts,
        script="workflow_scripts/transcribe_split.py",
    output:
        hypotheses="results/{run}/evaluation/leg_{leg}/{search}/{split}.jsonl",
        decoding="results/{run}/evaluation/leg_{leg}/{search}/{split}.decoding.json",
    log:
        "logs/{run}/transcribe_leg_{leg}_{search}_{split}.log",
    benchmark:
        "benchmarks/{run}/transcribe_leg_{leg}_{search}_{split}.tsv"
    conda:
        "../envs/nemo.yaml"
    threads: model_threads
    resources:
        gpu=gpus,
        runtime=decoding_minutes,
        mem_mb=model_memory,
        # Not params: what changes speed alone must not decode again.
        batch_size=lambda w: section(dataset_of(w), "evaluation")["batch_size"],
        device=config["device"],
    params:
        search=lambda w: as_json(search(w)),
        lm=lambda w, input: f"{option('lm', input.lm)} {option('lm-weight', input.lm_weight)}".strip(),
        texts=lambda w, input: option("training-texts", input.texts),
        label=named,
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
        progress=transcripts,
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --tokenizer {params.tokenizer:q}"
        " --manifest {input.manifest:q} --search {params.search:q} {params.lm} {params.texts}"
        " --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --label {params.label} --log {log:q}"
        " --progress {params.progress:q} --hypotheses {output.hypotheses:q} --decoding {output.decoding:q}"


rule find_suspects:
    """List the transcripts of training and validation that are likely wrong, by what the final model makes of them."""
    input:
        checkpoint=lambda w: final_checkpoint(w.dataset),
        manifests=lambda w: manifests(w.dataset, kinds=("train", "validation")),
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
        runtime=training_minutes,
        mem_mb=model_memory,
        # Not params: what changes speed alone must not score again.
        batch_size=lambda w: section(w.dataset, "evaluation")["batch_size"],
        device=config["device"],
    params:
        splits=lambda w: splits(w.dataset, "train") + splits(w.dataset, "validation"),
        transducer=lambda w: section(w.dataset, "training")["transducer"],
        greedy=lambda w: as_json(section(w.dataset, "evaluation")["greedy"]),
        hours=lambda w: option("hours", section(w.dataset, "evaluation")["suspects_hours"]),
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
        folder=lambda w, input: Path(input.manifests[0]).parent,
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --manifests {params.folder:q}"
        " --splits {params.splits:q} --tokenizer {params.tokenizer:q} --transducer {params.transducer}"
        " --greedy {params.greedy:q} {params.hours} --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --label {wildcards.dataset} --log {log:q}"
        " --output {output.suspects:q} --summary {output.summary:q}"


rule score_hypotheses:
    """Word and character error rate of a file of hypotheses; never needs the model."""
    input:
        hypotheses="results/{run}/evaluation/leg_{leg}/{search}/{split}.jsonl",
        decoding="results/{run}/evaluation/leg_{leg}/{search}/{split}.decoding.json",
        manifest=decoded_manifest,
        overlap=lambda w: f"results/{dataset_of(w)}/manifests/overlap.json",
        glm=lambda w: mapping_file(dataset_of(w), w.split),
        script="workflow_scripts/score_hypotheses.py",
    output:
        metrics="results/{run}/evaluation/leg_{leg}/{search}/{split}.json",
    log:
        "logs/{run}/score_leg_{leg}_{search}_{split}.log",
    conda:
        "../envs/light.yaml"
    threads: 2
    params:
        glm=lambda w, input: option("glm", input.glm),
        name=lambda w: w.split,
        label=named,
        language=lambda w: section(dataset_of(w), "text")["language"],
    shell:
        "python {input.script} --hypotheses {input.hypotheses:q} --decoding {input.decoding:q}"
        " --manifest {input.manifest:q} --overlap {input.overlap:q} --name {params.name}"
        " {params.glm} --language {params.language}"
        " --workers {threads}"
        " --label {params.label} --log {log:q} --output {output.metrics:q}"


rule score_split:
    """A split's word error rate over all seeds, how far it can be trusted, and what training changed."""
    input:
        beam=lambda w: of_split(w.dataset, w.split, "beam"),
        zero_shot=lambda w: of_split(w.dataset, w.split, "zero_shot"),
        without_lm=lambda w: of_split(w.dataset, w.split, "beam_without_lm"),
        glm=lambda w: mapping_file(w.dataset, w.split),
        script="workflow_scripts/score_split.py",
    output:
        metrics="results/{dataset}/evaluation/{split}.json",
    log:
        "logs/{dataset}/score_split_{split}.log",
    conda:
        "../envs/light.yaml"
    params:
        seeds=lambda w: list(runs(w.dataset).values()),
        glm=lambda w, input: option("glm", input.glm),
    shell:
        "python {input.script} --beam {input.beam:q} --zero-shot {input.zero_shot:q} --seeds {params.seeds} {params.glm}"
        " --without-lm {input.without_lm:q}"
        " --label {wildcards.dataset} --log {log:q} --output {output.metrics:q}"


use rule transcribe_split as transcribe_transfer with:
    input:
        checkpoint=lambda w: final_checkpoint(w.run),
        manifest=foreign_manifest,
        tokenizer=tokenizer_of,
        gates=gates,
        lm=language_model,
        lm_weight=language_model_weight,
        texts=training_texts,
        script="workflow_scripts/transcribe_split.py",
    output:
        hypotheses="results/{run}/transfer/{other}/{split}.jsonl",
        decoding="results/{run}/transfer/{other}/{split}.decoding.json",
    log:
        "logs/{run}/transcribe_transfer_{other}_{split}.log",
    benchmark:
        "benchmarks/{run}/transcribe_transfer_{other}_{split}.tsv"


use rule score_hypotheses as score_transfer with:
    input:
        hypotheses="results/{run}/transfer/{other}/{split}.jsonl",
        decoding="results/{run}/transfer/{other}/{split}.decoding.json",
        manifest=foreign_manifest,
        overlap=lambda w: f"results/{dataset_of(w)}/transfer/overlap.json",
        glm=lambda w: mapping_file(w.other, w.split),
        script="workflow_scripts/score_hypotheses.py",
    output:
        metrics="results/{run}/transfer/{other}/{split}.json",
    log:
        "logs/{run}/score_transfer_{other}_{split}.log",
    params:
        glm=lambda w, input: option("glm", input.glm),
        name=lambda w: f"test_{w.other}/{w.split}",
        label=named,
        language=lambda w: section(w.other, "text")["language"],


rule compare_transfer:
    """Find what the training of one data set shares with the test splits of the others."""
    input:
        manifests=lambda w: manifest_files(learned_and_foreign(w.dataset)),
        fingerprints=lambda w: fingerprint_files(learned_and_foreign(w.dataset)),
        script="workflow_scripts/compare_splits.py",
    output:
        overlap="results/{dataset}/transfer/overlap.json",
    log:
        "logs/{dataset}/compare_transfer.log",
    conda:
        "../envs/light.yaml"
    params:
        splits=lambda w: as_json(learned_and_foreign(w.dataset)),
    shell:
        "python {input.script} --splits {params.splits:q} --allow-overlap"
        " --label {wildcards.dataset} --log {log:q} --overlap {output.overlap:q}"
