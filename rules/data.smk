"""From sources to the manifests of data sets."""


# A checkpoint, as Snakemake overlooks what else is to be done behind an ancient input that is made anew (list_split).
checkpoint prepare_corpus:
    """Fetch or make a source's audio; what is already there is kept."""
    input:
        script="workflow_scripts/prepare_corpus.py",
    output:
        corpus="results/sources/{source}/corpus.json",
    log:
        "logs/sources/{source}/prepare_corpus.log",
    benchmark:
        "benchmarks/sources/{source}/prepare_corpus.tsv"
    conda:
        "../envs/light.yaml"
    threads: 64
    params:
        source=lambda w: as_json(SOURCES[w.source]["source"]),
        splits=lambda w: list(SOURCES[w.source]["splits"].values()),
    shell:
        "python {input.script} --source {params.source:q} --splits {params.splits:q} --folder data"
        " --workers {threads} --label {wildcards.source} --log {log:q} --output {output.corpus:q}"


rule list_split:
    """List the utterances of one split of a source and listen to them; whatever data sets draw on it."""
    input:
        # Another split that is asked for later prepares the corpus anew: nothing of this one changes.
        corpus=ancient("results/sources/{source}/corpus.json"),
        listing=source_listing,
        script="workflow_scripts/list_split.py",
    output:
        utterances="results/sources/{source}/{part}/{heard}/utterances.jsonl",
        about="results/sources/{source}/{part}/{heard}/about.json",
        fingerprints="results/sources/{source}/{part}/{heard}/fingerprints.npz",
    log:
        "logs/sources/{source}/list_{part}_{heard}.log",
    benchmark:
        "benchmarks/sources/{source}/list_{part}_{heard}.tsv"
    conda:
        "../envs/light.yaml"
    threads: 64
    params:
        split=lambda w: SOURCES[w.source]["splits"][w.part],
        headers=lambda w: "--headers-only" if w.heard == "headers" else "",
        folder=lambda w, output: Path(output.about).parent,
    shell:
        "python {input.script} --corpus {input.corpus:q} --split {params.split:q} {params.headers}"
        " --workers {threads} --label {wildcards.source} --log {log:q} --output {params.folder:q}"


rule build_manifest:
    """Clean and filter a split of a data set: training and validation by duration, test never."""
    input:
        utterances=lambda w: listings(w.dataset, w.split, "utterances.jsonl"),
        about=lambda w: listings(w.dataset, w.split, "about.json"),
        script="workflow_scripts/build_manifest.py",
    output:
        manifest="results/{dataset}/manifests/{split}.jsonl",
        summary="results/{dataset}/manifests/summaries/{split}.json",
    log:
        "logs/{dataset}/build_manifest_{split}.log",
    benchmark:
        "benchmarks/{dataset}/build_manifest_{split}.tsv"
    conda:
        "../envs/light.yaml"
    threads: 4
    params:
        parts=lambda w: as_json(parts(w.dataset, w.split)),
        text=lambda w: cleaning_options(w.dataset),
        filter=lambda w: duration_limits(w.dataset, w.split),
    shell:
        "python {input.script} --split {wildcards.split} --parts {params.parts:q} {params.text}"
        " {params.filter} --workers {threads} --label {wildcards.dataset} --log {log:q}"
        " --output {output.manifest:q} --summary {output.summary:q}"


checkpoint compare_splits:
    """Find what a data set's splits share; a recording that is tested on must not be trained on."""
    input:
        manifests=lambda w: manifest_files(own_splits(w.dataset)),
        summaries=lambda w: manifests(w.dataset, "summaries/{split}.json"),
        fingerprints=lambda w: fingerprint_files(own_splits(w.dataset)),
        script="workflow_scripts/compare_splits.py",
    output:
        overlap="results/{dataset}/manifests/overlap.json",
        summary="results/{dataset}/manifests/summary.json",
    log:
        "logs/{dataset}/compare_splits.log",
    benchmark:
        "benchmarks/{dataset}/compare_splits.tsv"
    conda:
        "../envs/light.yaml"
    params:
        splits=lambda w: as_json(own_splits(w.dataset)),
        overlap=lambda w: "--allow-overlap" if section(w.dataset, "filter")["allow_overlap"] else "",
    shell:
        "python {input.script} --splits {params.splits:q} --summaries {input.summaries:q} {params.overlap}"
        " --label {wildcards.dataset} --log {log:q} --overlap {output.overlap:q} --summary {output.summary:q}"
