"""The table."""


rule make_dataset_table:
    """One data set's rows of the table, once its interim evaluations are done too."""
    input:
        greedy=lambda w: metrics(w.dataset, "greedy"),
        beam=lambda w: metrics(w.dataset, "beam"),
        interim=lambda w: interim_metrics(w.dataset),
        script="workflow_scripts/make_wer_table.py",
    output:
        csv="results/{dataset}/wer_table.csv",
        markdown="results/{dataset}/wer_table.md",
    log:
        "logs/{dataset}/make_dataset_table.log",
    conda:
        "../envs/light.yaml"
    shell:
        "python {input.script} --greedy {input.greedy:q} --beam {input.beam:q} --log {log:q}"
        " --csv {output.csv:q} --markdown {output.markdown:q}"


rule make_wer_table:
    """The word error rates of all data sets."""
    input:
        greedy=[path for name in config["datasets"] for path in metrics(name, "greedy")],
        beam=[path for name in config["datasets"] for path in metrics(name, "beam")],
        interim=[path for name in config["datasets"] for path in interim_metrics(name)],
        script="workflow_scripts/make_wer_table.py",
    output:
        csv="results/wer_table.csv",
        markdown="results/wer_table.md",
    log:
        "logs/make_wer_table.log",
    conda:
        "../envs/light.yaml"
    shell:
        "python {input.script} --greedy {input.greedy:q} --beam {input.beam:q} --log {log:q}"
        " --csv {output.csv:q} --markdown {output.markdown:q}"


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
