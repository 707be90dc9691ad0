"""Contributed methods: one job for each dataset and shard runs all that share an environment.

The output is a receipt; predictions lie beside it, a file for each method, so that a new or edited method costs that
method alone.
"""


rule contribute:
    input:
        manifest="results/{suite}/manifests/{dataset}.parquet",
        features=lambda wildcards: contributed_inputs(wildcards, "results/{suite}/features/{dataset}/{shard}.h5"),
        text=lambda wildcards: contributed_inputs(wildcards, "results/{suite}/text.h5"),
    output:
        update("results/{suite}/predictions/{dataset}/{shard}.{environment}.json"),
    log:
        "results/{suite}/logs/contribute/{dataset}/{shard}.{environment}.log",
    benchmark:
        "results/{suite}/benchmarks/contribute/{dataset}/{shard}.{environment}.tsv"
    wildcard_constraints:
        environment="|".join(environment_files),
    conda:
        lambda wildcards: environment_files[wildcards.environment]
    threads: 1
    resources:
        gpu=lambda wildcards: gpus(wildcards) if any(m["gpu"] for m in contributed(wildcards).values()) else 0,
        mem_mb=4000,
        runtime=240,
    params:
        code=digest("contribute"),
        dataset=lambda wildcards: suites.data_of(config, wildcards.dataset),
        shards=lambda wildcards: len(suites.shards(config, wildcards.dataset)),
        methods=contributed,
        entries=lambda wildcards: entries.digests(m["entry"] for m in contributed(wildcards).values()),
        state=lambda wildcards: receipts.state(
            f"results/{wildcards.suite}/predictions/{wildcards.dataset}/{wildcards.shard}.{wildcards.environment}.json"
        ),
        size=config["evaluation"]["size"],
        rate=config["models"]["clap"]["sample_rate"],
        settings=settings("seed", "seeds", "device"),
    script:
        "../workflow_scripts/contribute.py"
