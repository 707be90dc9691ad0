"""The first thing to run with real weights: a few samples of each dataset, checked and compared. No part of `all`.

`snakemake verify_paper --configfile config/paper.yaml config/verify.yaml my.yaml` uses the ordinary rules.
"""


rule verify_paper:
    input:
        expand("results/{suite}/checks.md", suite=config["suite"]),
    localrule: True


rule checks:
    input:
        manifests=expand(
            "results/{suite}/manifests/{dataset}.parquet", suite=config["suite"], dataset=suites.used_datasets(config)
        ),
        caches=[
            file for name in suites.used_datasets(config) for files in checked_files(name).values() for file in files
        ],
        scores=lambda wildcards: scores(wildcards, "parquet"),
        histograms=lambda wildcards: scores(wildcards, "histograms.parquet"),
        text="results/{suite}/text.h5",
        reported=config["tables"]["reported"] or [],
        weights=weights("clip", "clap", "fcclip"),
    output:
        csv="results/{suite}/checks.csv",
        md="results/{suite}/checks.md",
    log:
        "results/{suite}/logs/checks.log",
    benchmark:
        "results/{suite}/benchmarks/checks.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        code=[digest("checks"), digest("score")],
        datasets=[
            (
                suites.dataset(config, name),
                {"manifest": f"results/{config['suite']}/manifests/{name}.parquet", **checked_files(name)},
            )
            for name in suites.used_datasets(config)
        ],
        bank=[suites.used_datasets(config)[0], "general"],
        notes=suites.left_out(config),
        settings=settings("suite", "models", "decoding", "evaluation", "tables"),
    script:
        "../workflow_scripts/checks.py"
