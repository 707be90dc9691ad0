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
