"""Datasets, miniature world and models, manifests, text anchors."""


rule world:
    output:
        directory("results/{suite}/world"),
    log:
        "results/{suite}/logs/world.log",
    benchmark:
        "results/{suite}/benchmarks/world.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(30),
    params:
        code=digest("world"),
        settings=config["world"],
    script:
        "../workflow_scripts/world.py"


rule manifest:
    input:
        world,
        ancient("results/{suite}/doctor.json"),
    output:
        "results/{suite}/manifests/{dataset}.parquet",
        files="results/{suite}/manifests/{dataset}.files.parquet",
    log:
        "results/{suite}/logs/manifest/{dataset}.log",
    benchmark:
        "results/{suite}/benchmarks/manifest/{dataset}.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        code=digest("manifest"),
        dataset=lambda wildcards: suites.data_of(config, wildcards.dataset),
        limit=config["limit"],
    script:
        "../workflow_scripts/manifest.py"


rule text:
    input:
        ancient("results/{suite}/doctor.json"),
        world="results/{suite}/world" if suites.uses_world(config) else [],
        words=word_files(),
        weights=weights("clip", "clap", "fcclip"),
    output:
        "results/{suite}/text.h5",
    log:
        "results/{suite}/logs/text.log",
    benchmark:
        "results/{suite}/benchmarks/text.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(4000),
        runtime=minutes(30),
    params:
        code=digest("text"),
        datasets=[
            {**suites.class_options(config, name), "drop_labels": config["datasets"][name]["drop_labels"]}
            for name in suites.used_datasets(config)
        ],
        banks=BANKS,
        settings=settings("suite", "seed", "models", "prompts", "device"),
    script:
        "../workflow_scripts/text.py"


# Optional target: it made the shipped weights. It writes beside the other results; copy the files to weights/ to use them.
rule train_miniature_models:
    output:
        weights=expand(
            "results/{suite}/models/{part}.safetensors", suite=config["suite"], part=["clip", "clap", "fcclip"]
        ),
        card=f"results/{config['suite']}/models/README.md",
        sums=f"results/{config['suite']}/models/SHA256SUMS",
    log:
        f"results/{config['suite']}/logs/train_miniature_models.log",
    benchmark:
        f"results/{config['suite']}/benchmarks/train_miniature_models.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(4000),
        runtime=minutes(240),
    params:
        **settings("models.clip.image_size", "models.clap.sample_rate", "models.clap.window"),
        code=digest("train_miniature_models"),
        seed=config["seed"],
    script:
        "../workflow_scripts/train_miniature_models.py"
