"""Figures and gallery. Only `steps` uses torch."""


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
        mem_mb=memory(8000),
        runtime=minutes(120),
    params:
        code=digest("steps"),
        dataset=lambda wildcards: suites.dataset(config, config["tasks"]["ade_sp"]["dataset"]),
        bank=lambda wildcards: config["tasks"]["ade_sp"]["default_bank"],
        solver=lambda wildcards: untraced(config["tasks"]["ade_sp"]["dataset"]),
        ensemble={key: config["decoding"][key] for key in ["alpha", "beta"]},
        settings=settings("seed", "models", "features.audio_crop", "evaluation.size", "figures.step_samples", "device"),
    script:
        "../workflow_scripts/steps.py"


rule figures:
    input:
        scores=every_shard("results/{suite}/scores/{dataset}/{shard}"),
        manifests=expand(
            "results/{{suite}}/manifests/{dataset}.parquet",
            dataset=suites.used_datasets(config),
        ),
        factors=every_shard("results/{suite}/factors/{dataset}/{shard}.json"),
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
        mem_mb=memory_of_rows(4000, per_sample=0.04),
        runtime=minutes(60),
    params:
        code=digest("figures"),
        rows=score_rows(),
        pools=suites.score_files(config, "pools.parquet"),
        examples=suites.score_files(config, "examples.h5"),
        banks={task["dataset"]: task["default_bank"] for task in reversed(config["tasks"].values())},
        datasets=suites.used_datasets(config),
        settings=settings(
            "suite",
            "seed",
            "models.clap",
            "features.audio_crop",
            "features.stereo",
            "figures.which",
            "figures.rows",
            "figures.words",
        ),
    script:
        "../workflow_scripts/figures.py"


rule gallery:
    input:
        scores=every_shard("results/{suite}/scores/{dataset}/{shard}"),
        manifests=expand(
            "results/{{suite}}/manifests/{dataset}.parquet",
            dataset=suites.used_datasets(config),
        ),
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
        mem_mb=memory_of_rows(4000, per_sample=0.04),
        runtime=minutes(120),
    params:
        code=digest("gallery"),
        rows=score_rows(),
        examples=suites.score_files(config, "examples.h5"),
        datasets=suites.used_datasets(config),
        words=config["figures"]["words"],
        settings=settings("suite", "seed", "models.clap", "features.audio_crop", "features.stereo", "gallery"),
    script:
        "../workflow_scripts/gallery.py"
