"""Optional target `sensitivity`: scores against K, β_p and the number of steps, on the validation split."""


rule sensitivity_scores:
    input:
        manifest=lambda wildcards: f"results/{{suite}}/manifests/{config['tasks'][wildcards.task]['dataset']}.parquet",
        features=lambda wildcards: task_files(wildcards, "features"),
        proposals=lambda wildcards: task_files(wildcards, "proposals"),
        text="results/{suite}/text.h5",
        weights=proposer_weights(),
    output:
        "results/{suite}/sensitivity/{task}.csv",
    log:
        "results/{suite}/logs/sensitivity/{task}.log",
    benchmark:
        "results/{suite}/benchmarks/sensitivity/{task}.tsv"
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        code=digest("sensitivity_scores"),
        dataset=lambda wildcards: suites.dataset(config, config["tasks"][wildcards.task]["dataset"]),
        bank=lambda wildcards: config["tasks"][wildcards.task]["default_bank"],
        solver=lambda wildcards: untraced(config["tasks"][wildcards.task]["dataset"]),
        ensemble={key: config["decoding"][key] for key in ["alpha", "beta"]},
        settings=settings("seed", "seeds", "models", "evaluation.size", "sensitivity", "device"),
    script:
        "../workflow_scripts/sensitivity_scores.py"


rule sensitivity:
    input:
        validation_scores,
    output:
        **{
            ext: report(
                f"results/{config['suite']}/sensitivity.{ext}",
                caption="../report/sensitivity.rst",
                category="Sensitivity",
                labels={"format": ext},
            )
            for ext in ["csv", "md", "tex", "png", "pdf"]
        },
    log:
        f"results/{config['suite']}/logs/sensitivity.log",
    benchmark:
        f"results/{config['suite']}/benchmarks/sensitivity.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        code=digest("sensitivity"),
        own={key: suites.scheduled(config, config["solver"])[key] for key in config["sensitivity"]},
        settings=settings("suite", "split"),
    script:
        "../workflow_scripts/sensitivity.py"
