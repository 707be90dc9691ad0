"""The first thing to run with real weights: a few samples of each dataset, checked and compared. No part of `all`.

`snakemake verify_paper --configfile config/paper.yaml config/verify.yaml my.yaml` uses the ordinary rules.
"""


rule verify_paper:
    input:
        expand("results/{suite}/checks.md", suite=config["suite"]),
    localrule: True


rule checks:
    input:
        manifests=expand(
            "results/{suite}/manifests/{dataset}.parquet", suite=config["suite"], dataset=suites.used_datasets(config)
        ),
        features=every_shard("results/{suite}/features/{dataset}/{shard}.h5"),
        proposals=every_shard("results/{suite}/proposals/{dataset}/{shard}.h5"),
        factors=every_shard("results/{suite}/factors/{dataset}/{shard}.json"),
        scores=every_shard("results/{suite}/scores/{dataset}/{shard}"),
        text="results/{suite}/text.h5",
        reported=plain(config["tables"]["reported"]) or [],
        weights=weights("clip", "clap", "fcclip"),
    output:
        csv="results/{suite}/checks.csv",
        md="results/{suite}/checks.md",
    log:
        "results/{suite}/logs/checks.log",
    benchmark:
        "results/{suite}/benchmarks/checks.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        code=digest("checks"),
        rows=score_rows(),
        pools=suites.score_files(config, "pools.parquet"),
        datasets=[
            (
                suites.dataset(config, name),
                {"manifest": f"results/{config['suite']}/manifests/{name}.parquet", **checked_files(name)},
            )
            for name in suites.used_datasets(config)
        ],
        bank=[suites.used_datasets(config)[0], "general"],
        notes=suites.left_out(config),
        settings=settings("suite", "models", "decoding", "evaluation.size", "tables.reported", "device"),
    script:
        "../workflow_scripts/checks.py"
