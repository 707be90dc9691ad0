"""Data and weights: `snakemake stage` brings or asks for all of them, and `doctor` is the first job of a run.

Outputs are receipts. The data themselves are no outputs: Snakemake removes those of a job that fails or runs again,
and 16 GB that were nearly there would be gone. A file's digest says whether it is the right one, so no job runs again
because the code of staging has changed.
"""

from taco.staging import doctor, sources

SOURCES = sources.read_catalogue(config["staging"]["catalogue"])


rule stage:
    input:
        expand(
            "results/{suite}/staged/{source}.json",
            suite=config["suite"],
            source=doctor.required_sources(config),
        ),
    localrule: True


# Plain addresses, by pooch. Staging runs where Snakemake runs: compute nodes often have no network.
rule stage_url:
    output:
        "results/{suite}/staged/{source}.json",
    log:
        "results/{suite}/logs/staged/{source}.log",
    benchmark:
        "results/{suite}/benchmarks/staged/{source}.tsv"
    wildcard_constraints:
        source=sources.brought_by(SOURCES, "url"),
    localrule: True
    conda:
        "../envs/taco.yaml"
    params:
        source="{source}",
        staging=config["staging"],
        datasets=lambda wildcards: doctor.datasets_of(config, SOURCES[wildcards.source]),
        # A parameter that asks for `output` would not count as changed, so the receipt is named here.
        lost=lambda wildcards: sources.lost(
            SOURCES[wildcards.source], f"results/{wildcards.suite}/staged/{wildcards.source}.json"
        ),
    script:
        "../workflow_scripts/stage_source.py"


# Repositories of the Hugging Face hub, at pinned revisions.
use rule stage_url as stage_hub with:
    wildcard_constraints:
        source=sources.brought_by(SOURCES, "hub"),


# Google Drive, by gdown.
use rule stage_url as stage_drive with:
    wildcard_constraints:
        source=sources.brought_by(SOURCES, "drive"),


# Given on request: unpacks what was placed by hand, or says what to ask for and where to place it.
use rule stage_url as stage_by_hand with:
    wildcard_constraints:
        source=sources.brought_by(SOURCES, "hand"),


# Of VGGSound only the clips that ADE SP lists and does not hold.
use rule stage_url as stage_sounds with:
    input:
        "results/{suite}/staged/ade.json",
    wildcard_constraints:
        source=sources.brought_by(SOURCES, "sounds"),


# The first job of a suite: the others wait for it. Nothing that can change is a parameter here, because Snakemake leaves
# out what lies behind an `ancient` input in a run in which that input is made again.
rule doctor:
    output:
        "results/{suite}/doctor.json",
    log:
        "results/{suite}/logs/doctor.log",
    benchmark:
        "results/{suite}/benchmarks/doctor.tsv"
    priority: 100
    localrule: True
    conda:
        "../envs/taco.yaml"
    script:
        "../workflow_scripts/doctor.py"


# The same check again whenever anything that the suite needs has changed on disk. No other job waits for it; a run in
# which it fails has failed.
use rule doctor as doctor_again with:
    input:
        "results/{suite}/doctor.json",
    output:
        "results/{suite}/doctor_again.json",
    log:
        "results/{suite}/logs/doctor_again.log",
    benchmark:
        "results/{suite}/benchmarks/doctor_again.tsv"
    params:
        code=digest("doctor"),
        state=doctor.state(config),
