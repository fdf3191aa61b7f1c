"""The n-gram language model of the beam search, where `evaluation.beam.lm` asks for one, and its weight."""


rule build_language_model:
    """Make an n-gram of the training transcripts, or of `evaluation.beam.lm_text`, over the tokens of the tokenizer."""
    input:
        manifest="results/{dataset}/manifests/train.jsonl",
        validation=lambda w: f"results/{w.dataset}/manifests/{splits(w.dataset, 'validation')[0]}.jsonl",
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        text=language_model_text,
        script="workflow_scripts/build_language_model.py",
    output:
        arpa="results/{dataset}/language_model/ngram.arpa",
        about="results/{dataset}/language_model/ngram.json",
    log:
        "logs/{dataset}/build_language_model.log",
    benchmark:
        "benchmarks/{dataset}/build_language_model.tsv"
    conda:
        "../envs/light.yaml"
    threads: 4
    params:
        order=lambda w: section(w.dataset, "evaluation")["beam"]["lm_order"],
        text=lambda w, input: option("text", input.text),
        cleaning=lambda w, input: cleaning_of_text(w.dataset) if input.text else "",
    shell:
        "python {input.script} --manifest {input.manifest:q} --validation {input.validation:q}"
        " --tokenizer {input.tokenizer:q} --order {params.order} {params.text} {params.cleaning} --workers {threads}"
        " --label {wildcards.dataset} --log {log:q} --output {output.arpa:q} --about {output.about:q}"


rule tune_language_model:
    """Find the weight with which the language model makes the fewest errors in the first validation split."""
    input:
        checkpoint=lambda w: final_checkpoint(w.run),
        manifest=lambda w: f"results/{dataset_of(w)}/manifests/{splits(dataset_of(w), 'validation')[0]}.jsonl",
        tokenizer=tokenizer_of,
        gates=gates,
        lm=language_model,
        texts=training_texts,
        script="workflow_scripts/tune_language_model.py",
    output:
        weight="results/{run}/language_model/weight.json",
    log:
        "logs/{run}/tune_language_model.log",
    benchmark:
        "benchmarks/{run}/tune_language_model.tsv"
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
        label=named,
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --tokenizer {params.tokenizer:q}"
        " --manifest {input.manifest:q} --search {params.search:q} --lm {input.lm:q} --training-texts {input.texts:q}"
        " --batch-size {resources.batch_size} --device {resources.device} --threads {threads}"
        " --label {params.label} --log {log:q} --output {output.weight:q}"
