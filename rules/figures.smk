"""Figures, gallery, and the pictures behind them. Only `examples` and `steps` use torch."""


rule examples:
    input:
        manifest=lambda wildcards: f"results/{{suite}}/manifests/{config['tasks'][wildcards.task]['dataset']}.parquet",
        features=lambda wildcards: task_files(wildcards, "features"),
        proposals=lambda wildcards: task_files(wildcards, "proposals"),
        own=lambda wildcards: example_factors(wildcards, wildcards.task, "own"),
        shuffled=lambda wildcards: example_factors(wildcards, wildcards.task, "shuffled"),
        text="results/{suite}/text.h5",
    output:
        "results/{suite}/examples/{task}.h5",
    log:
        "results/{suite}/logs/examples/{task}.log",
    benchmark:
        "results/{suite}/benchmarks/examples/{task}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=4000,
        runtime=60,
    params:
        code=digest("examples"),
        dataset=lambda wildcards: suites.dataset(config, config["tasks"][wildcards.task]["dataset"]),
        bank=lambda wildcards: config["tasks"][wildcards.task]["default_bank"],
        words=config["figures"]["words"],
        settings=settings("seed", "seeds", "decoding", "evaluation", "device"),
    script:
        "../workflow_scripts/examples.py"


rule steps:
    input:
        manifest=lambda wildcards: f"results/{{suite}}/manifests/{config['tasks']['ade_sp']['dataset']}.parquet",
        features=lambda wildcards: f"results/{{suite}}/features/{config['tasks']['ade_sp']['dataset']}/0.h5",
        proposals=lambda wildcards: f"results/{{suite}}/proposals/{config['tasks']['ade_sp']['dataset']}/0.h5",
        text="results/{suite}/text.h5",
        weights=weights("clip", "clap", "fcclip"),
    output:
        "results/{suite}/figures/steps.csv",
    log:
        "results/{suite}/logs/steps.log",
    benchmark:
        "results/{suite}/benchmarks/steps.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=8000,
        runtime=120,
    params:
        code=[digest("steps"), digest("factorize")],
        dataset=lambda wildcards: suites.dataset(config, config["tasks"]["ade_sp"]["dataset"]),
        bank=lambda wildcards: config["tasks"]["ade_sp"]["default_bank"],
        solver=lambda wildcards: suites.solver_settings(config, config["tasks"]["ade_sp"]["dataset"], "proposed"),
        ensemble={key: config["decoding"][key] for key in ["alpha", "beta"]},
        settings=settings("seed", "models", "features", "evaluation", "figures", "device"),
    script:
        "../workflow_scripts/steps.py"


rule figures:
    input:
        scores=lambda wildcards: scores(wildcards, "parquet"),
        histograms=lambda wildcards: scores(wildcards, "histograms.parquet"),
        manifests=expand(
            "results/{{suite}}/manifests/{dataset}.parquet",
            dataset=suites.used_datasets(config),
        ),
        examples=expand("results/{{suite}}/examples/{task}.h5", task=config["tasks"]),
        factors=traced_factors,
        text="results/{suite}/text.h5",
        steps="results/{suite}/figures/steps.csv" if "figure6" in config["figures"]["which"] else [],
    output:
        [
            report(
                f"results/{{suite}}/figures/{name}.png",
                caption=f"../report/figures/{name}.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in config["figures"]["which"]
        ],
        expand(
            "results/{{suite}}/figures/{name}.pdf",
            name=config["figures"]["which"],
        ),
    log:
        "results/{suite}/logs/figures.log",
    benchmark:
        "results/{suite}/benchmarks/figures.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=digest("figures"),
        datasets=suites.used_datasets(config),
        settings=settings("suite", "seed", "models", "figures"),
    script:
        "../workflow_scripts/figures.py"


rule gallery:
    input:
        scores=lambda wildcards: scores(wildcards, "parquet"),
        manifests=expand(
            "results/{{suite}}/manifests/{dataset}.parquet",
            dataset=suites.used_datasets(config),
        ),
        examples=expand("results/{{suite}}/examples/{task}.h5", task=config["tasks"]),
        text="results/{suite}/text.h5",
        templates=expand(
            str(ROOT / "taco/figures/templates/{file}"),
            file=["gallery.html.j2", "sample.html.j2", "gallery.css", "gallery.js"],
        ),
    output:
        directory("results/{suite}/gallery"),
    log:
        "results/{suite}/logs/gallery.log",
    benchmark:
        "results/{suite}/benchmarks/gallery.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=digest("gallery"),
        datasets=suites.used_datasets(config),
        settings=settings("suite", "seed", "models", "gallery"),
    script:
        "../workflow_scripts/gallery.py"
