"""Decoding and scoring: one row per sample, method, variant, bank and seed."""


rule score:
    input:
        manifest=lambda wildcards: f"results/{{suite}}/manifests/{config['tasks'][wildcards.task]['dataset']}.parquet",
        features=lambda wildcards: f"results/{{suite}}/features/{config['tasks'][wildcards.task]['dataset']}/{{shard}}.h5",
        proposals=lambda wildcards: f"results/{{suite}}/proposals/{config['tasks'][wildcards.task]['dataset']}/{{shard}}.h5",
        text="results/{suite}/text.h5",
        factors=factors,
    output:
        rows="results/{suite}/scores/{task}/{shard}.parquet",
        histograms="results/{suite}/scores/{task}/{shard}.histograms.parquet",
    log:
        "results/{suite}/logs/score/{task}/{shard}.log",
    benchmark:
        "results/{suite}/benchmarks/score/{task}/{shard}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=4000,
        runtime=120,
    params:
        code=digest("score"),
        task=lambda wildcards: config["tasks"][wildcards.task],
        dataset=lambda wildcards: suites.dataset(config, config["tasks"][wildcards.task]["dataset"]),
        runs=lambda wildcards: suites.task_runs(config, wildcards.task),
        settings=settings("seed", "seeds", "variants", "decoding", "evaluation", "device"),
    script:
        "../workflow_scripts/score.py"
