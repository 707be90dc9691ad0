"""Optional target `calibrate`: thresholds of masks and of the gate (config section `segment`), on the validation split."""


rule calibrate:
    input:
        calibration_scores,
    output:
        csv=f"results/{config['suite']}/calibration.csv",
        overlay=f"results/{config['suite']}/calibration.yaml",
        gate=f"results/{config['suite']}/gate.csv",
        png=f"results/{config['suite']}/gate.png",
        pdf=f"results/{config['suite']}/gate.pdf",
    log:
        f"results/{config['suite']}/logs/calibrate.log",
    benchmark:
        f"results/{config['suite']}/benchmarks/calibrate.tsv"
    conda:
        "../envs/taco.yaml"
    resources:
        mem_mb=memory_of_rows(2000, per_sample=0.06),
        runtime=30,
    params:
        code=digest("calibrate"),
        rows=score_rows(),
        suite=config["suite"],
    script:
        "../workflow_scripts/calibrate.py"
