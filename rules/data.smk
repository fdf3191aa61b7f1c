"""From the source to manifests."""


rule prepare_corpus:
    """Fetch or make a data set's audio; what is already there is kept."""
    input:
        listings=source_listings,
        script="workflow_scripts/prepare_corpus.py",
    output:
        corpus="results/{dataset}/corpus.json",
    log:
        "logs/{dataset}/prepare_corpus.log",
    benchmark:
        "benchmarks/{dataset}/prepare_corpus.tsv"
    conda:
        "../envs/light.yaml"
    threads: 64
    params:
        source=lambda w: as_json(section(w.dataset, "source")),
        splits=lambda w: source_splits(w.dataset),
    shell:
        "python {input.script} --source {params.source:q} --splits {params.splits:q} --folder data"
        " --workers {threads} --label {wildcards.dataset} --log {log:q} --output {output.corpus:q}"


rule build_manifests:
    """List the utterances of every split and listen to them; filter training and validation by duration, never test."""
    input:
        corpus="results/{dataset}/corpus.json",
        script="workflow_scripts/build_manifests.py",
    output:
        manifests=directory("results/{dataset}/manifests"),
    log:
        "logs/{dataset}/build_manifests.log",
    benchmark:
        "benchmarks/{dataset}/build_manifests.tsv"
    conda:
        "../envs/light.yaml"
    threads: 64
    params:
        splits=lambda w: as_json(section(w.dataset, "splits")),
        text=lambda w: cleaning_options(w.dataset),
        filter=lambda w: section(w.dataset, "filter"),
        headers=lambda w: "" if section(w.dataset, "filter")["read_samples"] else "--headers-only",
        overlap=lambda w: "--allow-overlap" if section(w.dataset, "filter")["allow_overlap"] else "",
    shell:
        "python {input.script} --corpus {input.corpus:q} --splits {params.splits:q} {params.text}"
        " --min-duration {params.filter[min_duration]} --max-duration {params.filter[max_duration]} {params.headers}"
        " {params.overlap}"
        " --workers {threads} --label {wildcards.dataset} --log {log:q} --output {output.manifests:q}"
