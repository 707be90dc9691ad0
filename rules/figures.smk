"""Figures, gallery, and the pictures behind them. Only `examples` and `steps` use torch."""

FIGURES = [
    f"results/{config['suite']}/figures/{name}.{ending}"
    for name in config["figures"]["which"]
    for ending in ["png", "pdf"]
]
GALLERY = f"results/{config['suite']}/gallery"
EXAMPLES = expand("results/{{suite}}/examples/{task}.h5", task=config["tasks"])
STEPS_DATASET = config["tasks"]["ade_sp"]["dataset"]
STEPS_BANK = config["tasks"]["ade_sp"]["default_bank"]
TEMPLATES = [
    str(ROOT / "taco/templates" / name)
    for name in ["gallery.html.j2", "sample.html.j2", "gallery.css", "gallery.js"]
]


def task_dataset(wildcards):
    """Options of the dataset that a task scores."""
    return suites.dataset(config, config["tasks"][wildcards.task]["dataset"])


def task_files(folder):
    """Files of a task's dataset in a folder, one for each shard."""

    def files(wildcards):
        name = config["tasks"][wildcards.task]["dataset"]
        return [f"results/{wildcards.suite}/{folder}/{name}/{shard}.h5" for shard in suites.shards(config, name)]

    return files


def task_factors(sound):
    """Factor files of a task's proposed method, or of its control with exchanged sounds (empty without one)."""

    def files(wildcards):
        task = config["tasks"][wildcards.task]
        variants = [name for name in ["proposed", *task["variants"]] if config["variants"][name]["sound"] == sound]
        chosen = ["proposed"] if sound == "own" else variants[:1]
        return [
            f"results/{wildcards.suite}/factors/{task['dataset']}/{task['default_bank']}/{variant}/{shard}.h5"
            for variant in chosen
            for shard in suites.shards(config, task["dataset"])
        ]

    return files


def proposed_factors(wildcards):
    """Factor files of the proposed method on every binary task's dataset, for the objective's trace."""
    return list(
        dict.fromkeys(
            f"results/{wildcards.suite}/factors/{task['dataset']}/{task['default_bank']}/proposed/{shard}.h5"
            for name, task in config["tasks"].items()
            if not name.endswith("_semantic")
            for shard in suites.shards(config, task["dataset"])
        )
    )


rule examples:
    input:
        manifest=lambda wildcards: f"results/{{suite}}/manifests/{config['tasks'][wildcards.task]['dataset']}.parquet",
        features=task_files("features"),
        proposals=task_files("proposals"),
        own=task_factors("own"),
        shuffled=task_factors("shuffled"),
        text="results/{suite}/text.h5",
    output:
        "results/{suite}/examples/{task}.h5",
    log:
        "results/{suite}/logs/examples/{task}.log",
    benchmark:
        "results/{suite}/benchmarks/examples/{task}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: DEVICE_THREADS
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        code=digest("examples"),
        dataset=task_dataset,
        bank=lambda wildcards: config["tasks"][wildcards.task]["default_bank"],
        words=config["figures"]["words"],
        settings=settings("seed", "seeds", "decoding", "evaluation", "device"),
    script:
        "../workflow_scripts/examples.py"


rule steps:
    input:
        manifest=f"results/{{suite}}/manifests/{STEPS_DATASET}.parquet",
        features=f"results/{{suite}}/features/{STEPS_DATASET}/0.h5",
        proposals=f"results/{{suite}}/proposals/{STEPS_DATASET}/0.h5",
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
    threads: DEVICE_THREADS
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        code=[digest("steps"), digest("factorize")],
        dataset=suites.dataset(config, STEPS_DATASET),
        bank=STEPS_BANK,
        solver=suites.solver_settings(config, STEPS_DATASET, "proposed"),
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
        examples=EXAMPLES,
        factors=proposed_factors,
        text="results/{suite}/text.h5",
        steps="results/{suite}/figures/steps.csv",
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
        examples=EXAMPLES,
        text="results/{suite}/text.h5",
        templates=TEMPLATES,
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
