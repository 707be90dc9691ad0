"""Tokens, embeddings and mask proposals of each sample: one pass of the frozen models."""


rule features:
    input:
        manifest="results/{suite}/manifests/{dataset}.parquet",
        weights=weights("clip", "clap", "fcclip"),
    output:
        features="results/{suite}/features/{dataset}/{shard}.h5",
        proposals="results/{suite}/proposals/{dataset}/{shard}.h5",
    log:
        "results/{suite}/logs/features/{dataset}/{shard}.log",
    benchmark:
        "results/{suite}/benchmarks/features/{dataset}/{shard}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(12000),
        runtime=minutes(20, gpu=2, cpu=90),
    params:
        code=digest("features"),
        dataset=lambda wildcards: {
            key: suites.dataset(config, wildcards.dataset)[key] for key in ["name", "image_tokens", "shards"]
        },
        crop_seed=config["seed"] if config["features"]["audio_crop"] == "random" else 0,
        settings=settings("models", "features", "device"),
    script:
        "../workflow_scripts/features.py"


# Each of N shards would else wait for the files of N shards, which Snakemake goes through one by one.
rule gather:
    input:
        lambda wildcards: expand(
            "results/{suite}/features/{dataset}/{shard}.h5",
            shard=suites.shards(config, wildcards.dataset),
            allow_missing=True,
        ),
    output:
        "results/{suite}/features/{dataset}.json",
    log:
        "results/{suite}/logs/gather/{dataset}.log",
    benchmark:
        "results/{suite}/benchmarks/gather/{dataset}.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        code=digest("gather"),
    script:
        "../workflow_scripts/gather.py"
