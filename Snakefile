"""TACO-bench: from datasets and frozen models to tables. rules/ holds the stages in reading order."""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/staging.smk"
include: "rules/stage.smk"
include: "rules/features.smk"
include: "rules/factorize.smk"
include: "rules/methods.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"
include: "rules/figures.smk"
include: "rules/verify.smk"
include: "rules/sensitivity.smk"
include: "rules/calibrate.smk"
include: "rules/hearing.smk"


rule all:
    default_target: True
    input:
        filled,
        expand("results/{suite}/doctor_again.json", suite=config["suite"]),
        expand(
            "results/{suite}/tables/{table}.{ext}",
            suite=config["suite"],
            table=TABLES,
            ext=["csv", "md", "tex"],
        ),
        expand("results/{suite}/provenance.json", suite=config["suite"]),
        expand("results/{suite}/costs.{ext}", suite=config["suite"], ext=["csv", "md", "tex"]),
        expand(
            "results/{suite}/figures/{figure}.{ext}",
            suite=config["suite"],
            figure=config["figures"]["which"],
            ext=["png", "pdf"],
        ),
        expand("results/{suite}/gallery", suite=config["suite"]),
    localrule: True
