"""Soft co-NMF: all seeds of a dataset, word bank and variant."""


rule factorize:
    input:
        manifest="results/{suite}/manifests/{dataset}.parquet",
        features=sounds,
        text="results/{suite}/text.h5",
    output:
        "results/{suite}/factors/{dataset}/{bank}/{variant}/{shard}.h5",
    log:
        "results/{suite}/logs/factorize/{dataset}/{bank}/{variant}/{shard}.log",
    benchmark:
        "results/{suite}/benchmarks/factorize/{dataset}/{bank}/{variant}/{shard}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=4000,
        runtime=240,
    params:
        code=digest("factorize"),
        shards=lambda wildcards: len(suites.shards(config, wildcards.dataset)),
        sound=lambda wildcards: config["variants"][wildcards.variant]["sound"],
        solver=lambda wildcards: suites.solver_settings(config, wildcards.dataset, wildcards.variant),
        settings=settings("seed", "seeds", "device"),
    script:
        "../workflow_scripts/factorize.py"
