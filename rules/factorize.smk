"""Soft co-NMF: one job for each dataset and shard, with all seeds of every word bank and variant.

The output is a receipt; the factors lie beside it, a file for each run. A job keeps the files that are right and solves
the rest, so that a new variant costs that variant alone and a killed job goes on where it was.
"""


rule factorize:
    input:
        manifest="results/{suite}/manifests/{dataset}.parquet",
        own="results/{suite}/features/{dataset}/{shard}.h5",
        others=others_features,
        text="results/{suite}/text.h5",
    output:
        update("results/{suite}/factors/{dataset}/{shard}.json"),
    log:
        "results/{suite}/logs/factorize/{dataset}/{shard}.log",
    benchmark:
        "results/{suite}/benchmarks/factorize/{dataset}/{shard}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(6000, per_sample=4),
        runtime=minutes(20, gpu=2, cpu=120),
    params:
        code=digest("factorize"),
        shards=lambda wildcards: len(suites.shards(config, wildcards.dataset)),
        runs=lambda wildcards: suites.solved_runs(config, wildcards.dataset),
        files=lambda wildcards: suites.factor_files(config, wildcards.dataset, int(wildcards.shard)),
        state=lambda wildcards: receipts.state(suites.receipt(config, wildcards.dataset, int(wildcards.shard))),
        settings=settings("seed", "seeds", "device"),
    script:
        "../workflow_scripts/factorize.py"
