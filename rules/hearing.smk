"""Optional targets of the generated world, both against the signal-to-noise ratio of its sounds.

`calibrate_world` chooses the world's own range on the validation split, by A-FC-CLIP alone; `hearing` scores TACO and its
variants beside it.
"""


rule hearing_scores:
    input:
        world="results/{suite}/world",
        manifest=lambda wildcards: f"results/{{suite}}/manifests/{config['tasks'][wildcards.task]['dataset']}.parquet",
        features=lambda wildcards: task_files(wildcards, "features"),
        proposals=lambda wildcards: task_files(wildcards, "proposals"),
        text="results/{suite}/text.h5",
        weights=weights("clap") + proposer_weights(),
    output:
        "results/{suite}/{sweep}/{task}.csv",
    log:
        "results/{suite}/logs/{sweep}/{task}.log",
    benchmark:
        "results/{suite}/benchmarks/{sweep}/{task}.tsv"
    wildcard_constraints:
        sweep="hearing|calibrate_world",
    conda:
        "../envs/taco.yaml"
    threads: device_threads
    resources:
        gpu=gpus,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        code=digest("hearing_scores"),
        dataset=lambda wildcards: suites.dataset(config, config["tasks"][wildcards.task]["dataset"]),
        bank=lambda wildcards: config["tasks"][wildcards.task]["default_bank"],
        runs=heard_runs,
        snr_db=lambda wildcards: config[wildcards.sweep]["snr_db"],
        clips=lambda wildcards: config[wildcards.sweep].get("clips", {}).get(wildcards.task),
        batch_size=16,
        ensemble={key: config["decoding"][key] for key in ["alpha", "beta"]},
        settings=settings(
            *["seed", "seeds", "world", "models", "evaluation.size", "device"],
            *["features.audio_crop", "features.stereo"],
        ),
    script:
        "../workflow_scripts/hearing_scores.py"


rule calibrate_world:
    input:
        world_scores,
    output:
        **{
            ext: report(
                f"results/{config['suite']}/calibrate_world.{ext}",
                caption="../report/calibrate_world.rst",
                category="Sensitivity",
                labels={"format": ext},
            )
            for ext in ["csv", "md", "tex"]
        },
    log:
        f"results/{config['suite']}/logs/calibrate_world.log",
    benchmark:
        f"results/{config['suite']}/benchmarks/calibrate_world.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        code=digest("calibrate_world"),
        settings=settings("suite", "split", "calibrate_world.target"),
    script:
        "../workflow_scripts/calibrate_world.py"


rule hearing:
    input:
        lambda wildcards: heard_scores("hearing"),
    output:
        **{
            ext: report(
                f"results/{config['suite']}/hearing.{ext}",
                caption="../report/hearing.rst",
                category="Sensitivity",
                labels={"format": ext},
            )
            for ext in ["csv", "md", "tex", "png", "pdf"]
        },
    log:
        f"results/{config['suite']}/logs/hearing.log",
    benchmark:
        f"results/{config['suite']}/benchmarks/hearing.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        code=digest("hearing"),
        settings=settings("suite", "split", "world.snr_db"),
    script:
        "../workflow_scripts/hearing.py"
