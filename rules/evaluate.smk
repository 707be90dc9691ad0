"""Decoding and scoring: one row per sample, method, variant, bank and seed; and what figures show of the samples.

The output is a folder: of each task of the dataset, its rows, its pools and its examples.
"""


rule score:
    input:
        manifest="results/{suite}/manifests/{dataset}.parquet",
        features="results/{suite}/features/{dataset}/{shard}.h5",
        proposals="results/{suite}/proposals/{dataset}/{shard}.h5",
        text="results/{suite}/text.h5",
        weights=proposer_weights(),
        factors="results/{suite}/factors/{dataset}/{shard}.json",
        contributed=lambda wildcards: suites.prediction_receipts(config, wildcards.dataset, int(wildcards.shard)),
    output:
        directory("results/{suite}/scores/{dataset}/{shard}"),
    log:
        "results/{suite}/logs/score/{dataset}/{shard}.log",
    benchmark:
        "results/{suite}/benchmarks/score/{dataset}/{shard}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(6000, per_sample=12),
        runtime=minutes(20, gpu=1, cpu=60),
    params:
        code=digest("score"),
        tasks=lambda wildcards: suites.scored_tasks(config, wildcards.dataset),
        labels=lambda wildcards: {
            name: method["label"] for name, method in suites.methods(config, wildcards.dataset).items()
        },
        dataset=lambda wildcards: suites.dataset(config, wildcards.dataset),
        variants=lambda wildcards: suites.shown_variants(config, wildcards.dataset),
        metrics=lambda wildcards: suites.own_metrics(config, wildcards.dataset),
        settings=settings(*suites.SCORE_KEYS),
    script:
        "../workflow_scripts/score.py"
