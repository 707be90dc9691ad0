"""Draw all figures from score rows, example maps, objective traces and the run over steps."""

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from job import run

from taco.cache import receipts
from taco.cache.hdf5 import open_cache
from taco.figures import drawing, exhibits
from taco.figures.examples import open_sources
from taco.metrics.tasks import TASKS
from taco.results import pools, score_files

log = logging.getLogger("taco")


def traces(paths, banks, rows):
    """Objective of the proposed method by dataset's title: (steps, values [R, S, L]); the word bank is the first task's."""
    parts = {}
    for path in paths:
        files = receipts.read(path)
        with open_cache(files[banks[Path(path).parent.name], "proposed"], "factors", verify=False) as cache:
            values = np.stack([cache["objective"][i] for i in range(len(cache.sample_ids))], axis=1)
            parts.setdefault(cache.attributes["dataset"], []).append(
                (cache.attributes["objective_steps"], values)
            )
    # A dataset of two tasks bears the first one's title.
    pairs = set(zip(rows["dataset"], rows["task"], strict=True))
    titles = {dataset: TASKS[task].title for task in reversed(TASKS) for dataset, of in pairs if of == task}
    order = [task.title for task in TASKS.values()]
    return {
        titles[name]: (
            shards[0][0],
            np.concatenate([values for _, values in shards], axis=1),
        )
        for name, shards in sorted(parts.items(), key=lambda item: order.index(titles[item[0]]))
    }


def main(snakemake):
    inputs, params = snakemake.input, snakemake.params
    rows = score_files.load_rows(params.rows, snakemake.config["memory"]["rows"])
    with ExitStack() as stack:
        evidence = exhibits.Evidence(
            suite=params.settings["suite"],
            sources=open_sources(
                stack,
                params.examples,
                dict(zip(params.datasets, inputs.manifests, strict=True)),
                inputs.text,
                rows,
                params.settings["models"]["clap"],
                params.settings["features"],
                params.settings["figures"]["words"],
                params.settings["seed"],
            ),
            rows=rows,
            pools=pools.load(params.pools),
            traces=traces(inputs.factors, params.banks, rows),
            steps=pd.read_csv(inputs.steps) if inputs.steps else None,
            n_rows=params.settings["figures"]["rows"],
            seed=params.settings["seed"],
        )
        for name in params.settings["figures"]["which"]:
            paths = [path for path in snakemake.output if path.rsplit("/", 1)[1].rsplit(".", 1)[0] == name]
            drawing.save(exhibits.FIGURES[name](evidence), paths)
            log.info("%s drawn", name)


if __name__ == "__main__":
    run(main, snakemake)
