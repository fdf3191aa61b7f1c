"""The table, and what it rests on."""


rule track_results:
    """Log a training's word error rates and predictions in its run; only where W&B or TensorBoard is on."""
    input:
        greedy=lambda w: of_run(w.run, "greedy"),
        beam=lambda w: of_run(w.run, "beam"),
        zero_shot=lambda w: of_run(w.run, "zero_shot"),
        interim=lambda w: interim_metrics(w.run),
        hypotheses=lambda w: of_run(w.run, "beam", ".jsonl"),
        script="workflow_scripts/track_results.py",
    output:
        tracked="results/{run}/tracked.json",
    log:
        "logs/{run}/track_results.log",
    conda:
        "../envs/nemo.yaml"
    params:
        # Here it is one: a tracker that is turned on later is to get the results.
        tracking=lambda w: tracking(),
        licensed=lambda w: "--licensed" if is_licensed(dataset_of(w)) else "",
        runs=lambda w: f"results/{w.run}/runs",
        label=named,
    shell:
        "python {input.script} --greedy {input.greedy:q} --beam {input.beam:q} --zero-shot {input.zero_shot:q}"
        " --interim {input.interim:q} --hypotheses {input.hypotheses:q} --tracking {params.tracking:q}"
        " {params.licensed} --runs {params.runs:q} --label {params.label} --log {log:q} --output {output.tracked:q}"


rule make_dataset_table:
    """One data set's rows of the table, once its interim evaluations are done too."""
    input:
        greedy=lambda w: evaluations(w.dataset, "greedy"),
        beam=lambda w: evaluations(w.dataset, "beam"),
        zero_shot=lambda w: evaluations(w.dataset, "zero_shot"),
        splits=lambda w: summaries(w.dataset),
        interim=lambda w: all_interim_metrics(w.dataset),
        tracked=lambda w: tracked(w.dataset),
        family="results/{dataset}/tokenizer/model.json",
        script="workflow_scripts/make_wer_table.py",
    output:
        csv="results/{dataset}/wer_table.csv",
        markdown="results/{dataset}/wer_table.md",
        runs="results/{dataset}/runs.csv",
    log:
        "logs/{dataset}/make_dataset_table.log",
    conda:
        "../envs/light.yaml"
    shell:
        "python {input.script} --greedy {input.greedy:q} --beam {input.beam:q} --zero-shot {input.zero_shot:q}"
        " --splits {input.splits:q}"
        " --log {log:q} --csv {output.csv:q} --markdown {output.markdown:q} --runs {output.runs:q}"


rule make_wer_table:
    """The word error rates of all data sets, and beside them what they rest on."""
    input:
        greedy=of_all("greedy"),
        beam=of_all("beam"),
        zero_shot=of_all("zero_shot"),
        splits=[path for name in config["datasets"] for path in summaries(name)],
        interim=all_interim_metrics(),
        tracked=tracked(),
        families=[f"results/{name}/tokenizer/model.json" for name in config["datasets"]],
        comparisons="results/comparisons.csv",
        base_models=lambda w: base_models(),
        script="workflow_scripts/make_wer_table.py",
        provenance_script="workflow_scripts/make_provenance.py",
    output:
        csv=report("results/wer_table.csv", "../report/wer_table.rst", "Tables", labels={"table": "word error rates"}),
        markdown="results/wer_table.md",
        runs="results/runs.csv",
        provenance="results/provenance.json",
    log:
        "logs/make_wer_table.log",
    conda:
        "../envs/light.yaml"
    resources:
        # Not a param: what changes no result must not make the table anew.
        config=as_json(config),
    params:
        base_models=lambda w, input: [nemo_file(path) for path in input.base_models],
    shell:
        "python {input.script} --greedy {input.greedy:q} --beam {input.beam:q} --zero-shot {input.zero_shot:q}"
        " --splits {input.splits:q}"
        " --log {log:q} --csv {output.csv:q} --markdown {output.markdown:q} --runs {output.runs:q} &&"
        " python {input.provenance_script} --metrics {input.greedy:q} {input.beam:q} {input.zero_shot:q}"
        " --config {resources.config:q} --base-models {params.base_models:q} --output {output.provenance:q}"


rule make_comparisons:
    """Paired differences: greedy and zero-shot against beam search, and data sets that share a test set."""
    input:
        hypotheses=[
            path for search in ("greedy", "beam", "zero_shot", "beam_without_lm") for path in of_all(search, ".jsonl")
        ],
        script="workflow_scripts/make_comparisons.py",
    output:
        comparisons=report(
            "results/comparisons.csv", "../report/comparisons.rst", "Tables", labels={"table": "paired differences"}
        ),
    log:
        "logs/make_comparisons.log",
    conda:
        "../envs/light.yaml"
    shell:
        "python {input.script} --hypotheses {input.hypotheses:q} --log {log:q} --output {output.comparisons:q}"


rule make_transfer:
    """Every model on the test splits of all data sets, where `evaluation.transfer` asks for it."""
    input:
        own=of_all("beam", ".jsonl"),
        own_metrics=of_all("beam"),
        foreign=[path for name in config["datasets"] for path in transfers(name, ".jsonl")],
        metrics=[path for name in config["datasets"] for path in transfers(name, ".json")],
        overlap=[f"results/{name}/transfer/overlap.json" for name in transferring()],
        script="workflow_scripts/make_transfer.py",
    output:
        transfer=report("results/transfer.csv", "../report/transfer.rst", "Tables", labels={"table": "transfer"}),
    log:
        "logs/make_transfer.log",
    conda:
        "../envs/light.yaml"
    params:
        allowed=[name for name in config["datasets"] if section(name, "filter")["allow_overlap"]],
    shell:
        "python {input.script} --own {input.own:q} --foreign {input.foreign:q} --overlap {input.overlap:q}"
        " --allow-overlap {params.allowed:q} --log {log:q} --output {output.transfer:q}"


rule make_report:
    """The page: the table drawn, curves, what was dropped, where the errors are, what to listen to."""
    input:
        table="results/wer_table.csv",
        comparisons="results/comparisons.csv",
        provenance="results/provenance.json",
        hypotheses=of_all("greedy", ".jsonl") + of_all("beam", ".jsonl"),
        metrics=of_all("greedy") + of_all("beam"),
        splits=[path for name in config["datasets"] for path in summaries(name)],
        runs="results/runs.csv",
        transfer=transfer_table(),
        interim=all_interim_metrics(),
        checkpoints=[
            path
            for name in config["datasets"]
            for run in runs(name)
            for path in {checkpoint(run, legs(name)), final_checkpoint(run)}
        ],
        summaries=expand("results/{dataset}/manifests/summary.json", dataset=config["datasets"]),
        overlap=expand("results/{dataset}/manifests/overlap.json", dataset=config["datasets"]),
        suspects=suspects(),
        scored=suspects(".json"),
        augmented=previews(),
        script="workflow_scripts/make_report.py",
    output:
        page=report("results/report.html", "../report/page.rst", "Page", labels={"page": "everything"}),
        figures=directory("results/figures"),
    log:
        "logs/make_report.log",
    conda:
        "../envs/light.yaml"
    params:
        datasets=" ".join(config["datasets"]),
        transfer=lambda w, input: option("transfer", input.transfer),
        ablation=lambda w: option("ablation", shown_ablation() and "results/ablation.csv"),
        ablation_hash=lambda w: shown_ablation(),
    shell:
        "python {input.script} --table {input.table:q} --runs {input.runs:q} --comparisons {input.comparisons:q}"
        " {params.transfer} {params.ablation}"
        " --provenance {input.provenance:q} --results results --datasets {params.datasets}"
        " --augmented {input.augmented:q} --suspects {input.suspects:q} --log {log:q}"
        " --output {output.page:q} --figures {output.figures:q}"


rule make_transformers_form:
    """A data set's final model in the form of Hugging Face Transformers, where that has a class for it."""
    input:
        checkpoint=lambda w: final_checkpoint(w.dataset),
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        manifests=lambda w: manifests(w.dataset, kinds=("test",)),
        script="workflow_scripts/make_transformers_form.py",
    output:
        form=directory("results/{dataset}/transformers"),
    log:
        "logs/{dataset}/make_transformers_form.log",
    conda:
        "../envs/nemo.yaml"
    threads: model_threads
    resources:
        gpu=gpus,
        runtime=decoding_minutes,
        mem_mb=model_memory,
        # Not params: what changes speed alone must not convert again.
        batch_size=lambda w: section(w.dataset, "evaluation")["batch_size"],
        device=config["device"],
    params:
        greedy=lambda w: as_json(section(w.dataset, "evaluation")["greedy"]),
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --tokenizer {params.tokenizer:q}"
        " --manifests {input.manifests:q} --greedy {params.greedy:q} --batch-size {resources.batch_size}"
        " --device {resources.device} --threads {threads} --label {wildcards.dataset} --log {log:q}"
        " --output {output.form:q}"


rule make_model_folder:
    """A data set's final model with its tokenizer and model card, for use and publication."""
    input:
        checkpoint=lambda w: final_checkpoint(w.dataset),
        tokenizer="results/{dataset}/tokenizer/tokenizer.model",
        summary="results/{dataset}/manifests/summary.json",
        overlap="results/{dataset}/manifests/overlap.json",
        runs="results/{dataset}/runs.csv",
        splits=lambda w: summaries(w.dataset),
        form="results/{dataset}/transformers",
        script="workflow_scripts/make_model_folder.py",
    output:
        model=directory("results/{dataset}/model"),
    log:
        "logs/{dataset}/make_model_folder.log",
    conda:
        "../envs/light.yaml"
    params:
        config=lambda w: as_json(card_options(w.dataset)),
        manifests=lambda w, input: Path(input.summary).parent,
        tokenizer=lambda w, input: Path(input.tokenizer).parent,
    shell:
        "python {input.script} --checkpoint {input.checkpoint:q} --tokenizer {params.tokenizer:q}"
        " --manifests {params.manifests:q} --table {input.runs:q} --splits {input.splits:q}"
        " --transformers {input.form:q} --config {params.config:q}"
        " --label {wildcards.dataset} --log {log:q} --output {output.model:q}"


rule publish_model:
    """Upload a data set's model folder to the Hugging Face Hub, as publish.repository says."""
    input:
        model="results/{dataset}/model",
        script="workflow_scripts/publish_model.py",
    output:
        url="results/{dataset}/published.txt",
    log:
        "logs/{dataset}/publish_model.log",
    conda:
        "../envs/light.yaml"
    params:
        repository=repository,
        private="--private" if config["publish"]["private"] else "",
    shell:
        "python {input.script} --model {input.model:q} --repo {params.repository:q} {params.private}"
        " --label {wildcards.dataset} --log {log:q} > {output.url:q}"


rule publish:
    """Upload the models of all data sets; never part of another target."""
    input:
        expand("results/{dataset}/published.txt", dataset=config["datasets"]),


rule check_environment:
    """Report whether this machine has what the configuration needs; exit 1 only for what it needs."""
    input:
        script="workflow_scripts/check_environment.py",
    log:
        "logs/check_environment.log",
    conda:
        "../envs/nemo.yaml"
    params:
        needs=lambda w: as_json(needs()),
    shell:
        "python {input.script} --needs {params.needs:q} --log {log:q}"


rule unknown_target:
    """Say which data sets there are when a target's name is none."""
    input:
        no_such_target,
    output:
        "{target}",
