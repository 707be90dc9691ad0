"""Aggregation and tables. No torch here."""


rule tables:
    input:
        scores=every_shard("results/{suite}/scores/{dataset}/{shard}"),
        reported=plain(config["tables"]["reported"]) or [],
        thresholds=plain(config["tables"]["thresholds"]) or [],
    output:
        [
            report(
                f"results/{{suite}}/tables/{table}.{ext}",
                caption="../report/tables.rst",
                category="Tables",
                labels={"table": table, "format": ext},
            )
            for table in TABLES
            for ext in ["md", "csv", "tex"]
        ],
        thresholds="results/{suite}/thresholds.csv",
    log:
        "results/{suite}/logs/tables.log",
    benchmark:
        "results/{suite}/benchmarks/tables.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory_of_rows(4000, per_sample=0.04),
        runtime=minutes(60),
    params:
        code=digest("tables"),
        rows=score_rows(),
        pools=suites.score_files(config, "pools.parquet"),
        settings=settings("suite", "split", "seed", "tables")
        | {"segment": {"confidence_threshold": config["segment"]["confidence_threshold"]}},
    script:
        "../workflow_scripts/tables.py"


# The whole configuration is recorded, also what no number depends on: a rule of its own, as it takes a second.
rule provenance:
    input:
        tables="results/{suite}/tables/intervals.csv",
        text="results/{suite}/text.h5",
    output:
        report(
            "results/{suite}/provenance.json",
            caption="../report/provenance.rst",
            category="Provenance",
        ),
    log:
        "results/{suite}/logs/provenance.log",
    benchmark:
        "results/{suite}/benchmarks/provenance.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        code=digest("provenance"),
        config=config,
        stages={stage: digest(stage) for stage in ["features", "text", "factorize", "score", "tables"]},
    script:
        "../workflow_scripts/provenance.py"


# Times differ from run to run: they stand beside tables/, which two runs reproduce byte for byte.
rule costs:
    input:
        features=every_shard("results/{suite}/features/{dataset}/{shard}.h5"),
        proposals=every_shard("results/{suite}/proposals/{dataset}/{shard}.h5"),
        factors=every_shard("results/{suite}/factors/{dataset}/{shard}.json"),
        contributed=[
            receipt
            for name in suites.used_datasets(config)
            for shard in suites.shards(config, name)
            for receipt in suites.prediction_receipts(config, name, shard)
        ],
        scores=every_shard("results/{suite}/scores/{dataset}/{shard}"),
    output:
        **{
            ext: report(
                f"results/{{suite}}/costs.{ext}",
                caption="../report/costs.rst",
                category="Tables",
                labels={"table": "costs", "format": ext},
            )
            for ext in ["csv", "md", "tex"]
        },
    log:
        "results/{suite}/logs/costs.log",
    benchmark:
        "results/{suite}/benchmarks/costs.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        code=digest("costs"),
        rows=score_rows(),
        suite=config["suite"],
        methods={name: suites.methods(config, name) for name in suites.used_datasets(config)},
        labels={
            variant: config["variants"][variant]["label"]
            for task in config["tasks"]
            for _, variant in suites.task_runs(config, task)
        },
        runs={task: (options["dataset"], suites.task_runs(config, task)) for task, options in config["tasks"].items()},
        solved={name: suites.solved_as(config, name) for name in suites.used_datasets(config)},
    script:
        "../workflow_scripts/costs.py"


# One page of a finished run; where the suite's sounds are generated, it also makes the target `hearing`.
rule results_page:
    input:
        tables=[f"results/{config['suite']}/tables/{table}.md" for table in TABLES if table != "extended"],
        intervals=f"results/{config['suite']}/tables/intervals.csv",
        provenance=f"results/{config['suite']}/provenance.json",
        hearing=[f"results/{config['suite']}/hearing.{ext}" for ext in ["png", "md"]] if heard_tasks() else [],
        reported=ROOT / "config/reported.yaml",
    output:
        f"results/{config['suite']}/results.md",
    log:
        f"results/{config['suite']}/logs/results_page.log",
    benchmark:
        f"results/{config['suite']}/benchmarks/results_page.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        code=digest("results_page"),
        suite=config["suite"],
    script:
        "../workflow_scripts/results_page.py"
