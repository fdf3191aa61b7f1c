"""The tokenizer, and whether it and the model are fit for what is asked."""


rule fetch_base_model:
    """Download a pretrained model by its name."""
    input:
        script="workflow_scripts/fetch_base_model.py",
    output:
        model="data/base_models/{name}.nemo",
    log:
        "logs/base_models/{name}.log",
    conda:
        "../envs/nemo.yaml"
    shell:
        "python {input.script} --name {wildcards.name:q} --log {log:q} --output {output.model:q}"


rule build_tokenizer:
    """Train a tokenizer, or take or extend the pretrained model's; end where a training would come to nothing."""
    input:
        manifest="results/{dataset}/manifests/train.jsonl",
        base_model=base_model,
        take_from=tokenizer_source,
        script="workflow_scripts/build_tokenizer.py",
    output:
        model="results/{dataset}/tokenizer/tokenizer.model",
        vocab="results/{dataset}/tokenizer/vocab.txt",
    log:
        "logs/{dataset}/build_tokenizer.log",
    benchmark:
        "benchmarks/{dataset}/build_tokenizer.tsv"
    conda:
        "../envs/light.yaml"
    params:
        vocab_size=lambda w: section(w.dataset, "tokenizer")["vocab_size"],
        sample=lambda w: section(w.dataset, "tokenizer")["sample"],
        base_model=lambda w, input: option("base-model", nemo_file(input.base_model)),
        take_from=lambda w, input: option("take-from", nemo_file(input.take_from)),
        extension=lambda w: "--extend" if section(w.dataset, "tokenizer")["source"] == "extend" else "",
        language=language_of_tokenizer,
        case=lambda w: section(w.dataset, "text")["case"],
        reinitialize=lambda w: ("--reinitialize-decoder" if section(w.dataset, "model")["reinitialize_decoder"] else ""),
        folder=lambda w, output: Path(output.model).parent,
    shell:
        "python {input.script} --manifest {input.manifest:q} --vocab-size {params.vocab_size}"
        " --sample {params.sample}"
        " {params.base_model} {params.take_from} {params.extension} {params.language} --case {params.case}"
        " {params.reinitialize}"
        " --label {wildcards.dataset} --log {log:q} --output {params.folder:q}"


checkpoint check_tokenizer:
    """Check how the tokenizer spells the transcripts of every split; its own rule, so that a new test trains nothing."""
    input:
        manifests=lambda w: manifests(w.dataset),
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        base_model=base_model,
        script="workflow_scripts/check_tokenizer.py",
    output:
        check="results/{dataset}/tokenizer/check.json",
    log:
        "logs/{dataset}/check_tokenizer.log",
    conda:
        "../envs/light.yaml"
    params:
        base_model=lambda w, input: option("base-model", nemo_file(input.base_model)),
        language=language_of_tokenizer,
    shell:
        "python {input.script} --manifests {input.manifests:q} --tokenizer {input.tokenizer:q} {params.base_model}"
        " {params.language}"
        " --label {wildcards.dataset} --log {log:q} --output {output.check:q}"


rule check_model:
    """End where the model can't be trained or searched as the configuration asks, and say what it can."""
    input:
        base_model=base_model,
        architecture=architecture,
        script="workflow_scripts/check_model.py",
    output:
        family="results/{dataset}/tokenizer/model.json",
    log:
        "logs/{dataset}/check_model.log",
    # First of all. It is no input of the training, which looks at the same: where it runs again, that need not.
    priority: 10
    conda:
        "../envs/light.yaml"
    params:
        base_model=lambda w, input: option("base-model", nemo_file(input.base_model)),
        architecture=lambda w: section(w.dataset, "model")["architecture"],
        overrides=lambda w: option("overrides", (found := model_options(w.dataset).get("overrides")) and as_json(found)),
        beam=lambda w: section(w.dataset, "evaluation")["beam"]["strategy"],
        transducer=lambda w: section(w.dataset, "training")["transducer"],
        ctc_weight=lambda w: as_json(section(w.dataset, "training")["ctc_weight"]),
    shell:
        "python {input.script} {params.base_model} --architecture {params.architecture} {params.overrides} --beam {params.beam}"
        " --transducer {params.transducer} --ctc-weight {params.ctc_weight}"
        " --label {wildcards.dataset} --log {log:q} --output {output.family:q}"
