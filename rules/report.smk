"""Aggregation and tables. No torch here."""


rule tables:
    input:
        scores=lambda wildcards: scores(wildcards, "parquet"),
        histograms=lambda wildcards: scores(wildcards, "histograms.parquet"),
        text="results/{suite}/text.h5",
        reported=config["tables"]["reported"] or [],
        thresholds=config["tables"]["thresholds"] or [],
    output:
        [
            report(
                f"results/{{suite}}/tables/{table}.{ext}",
                caption="../report/tables.rst",
                category="Tables",
                labels={"table": table, "format": ext},
            )
            for table in TABLES
            for ext in ["md", "csv", "tex"]
        ],
        thresholds="results/{suite}/thresholds.csv",
        provenance="results/{suite}/provenance.json",
    log:
        "results/{suite}/logs/tables.log",
    benchmark:
        "results/{suite}/benchmarks/tables.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=digest("tables"),
        config=config,
        stages={stage: digest(stage) for stage in ["features", "text", "factorize", "score"]},
    script:
        "../workflow_scripts/tables.py"
