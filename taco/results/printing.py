"""Pages for people from the long frames of `taco.results.tables`: the best number bold, others' numbers beside ours."""

import numpy as np
import pandas as pd

from taco.metrics.tasks import TASKS
from taco.results import gating, negative_audio, negatives
from taco.results.extended import MEASURES
from taco.results.negatives import AUROC, MARKED, MARKED_STRETCHED
from taco.results.ours import OURS, OURS_NOTE
from taco.results.pages import Grid, Page
from taco.results.tables import NO_BANK, SPECS, label, number, suite_title


def table_page(frame, suite, notes=()):
    """A table of the paper.

    Cells read "measured (reported) [release] Δ deviation"; the release's number is shown where it differs from
    the paper's, and the deviation is from the release's number where there is one, else from the paper's. The best
    of each column is bold; bounds, controls and variants that are not of the paper take no part in that.

    Parameters
    ----------
    frame : DataFrame
        from `taco.results.tables.build`
    suite : str
    notes : iterable of str
        printed as footnotes, usually ``reported.notes[table]``

    Returns
    -------
    taco.results.pages.Page
    """
    spec = SPECS[frame["table"].iloc[0]]
    bounds = {(row.method, row.variant) for row in spec.rows if row.bound}
    is_bound = pd.Series([key in bounds for key in zip(frame["method"], frame["variant"])], index=frame.index)
    is_ours = frame["variant"].isin(OURS)
    grids = [_grid(frame[~is_bound & ~is_ours], spec, bold=True)]
    if is_ours.any():
        grids.append(_grid(frame[is_ours], spec, caption="Not of the paper:"))
    if is_bound.any():
        grids.append(_grid(frame[is_bound], spec, caption="For comparison (bounds and controls):"))
    notes = [*_legend(frame), *_of_ours(frame["variant"]), *notes]
    return Page(spec.name, spec.title, suite_title(suite), grids, notes)


def _of_ours(variants):
    """What a page says where it shows variants that are not of the paper; list of str."""
    return [OURS_NOTE] if set(variants) & set(OURS) else []


def submission_page(frame, spec, own, suite):
    """Someone's scores (`taco.results.submission.table`), and below them the suite's own rows for the same task."""
    grids = [_grid(frame, spec)]
    if len(own):
        grids.append(_grid(own, spec, caption="This suite's own rows:"))
    return Page(spec.name, spec.title, suite_title(suite), grids, _legend(frame))


def _grid(frame, spec, bold=False, caption=""):
    columns = [(TASKS[task].title, metric) for task, metric in spec.columns]
    shown = frame["mean"].fillna(frame["reported_mean"]).astype(float).round(2)
    best = shown.groupby([frame["dataset"], frame["metric"]]).transform("max") if bold else shown + np.inf
    texts = [_cell(cell, is_best) for (_, cell), is_best in zip(frame.iterrows(), shown == best, strict=True)]
    frame = frame.assign(text=texts)
    rows = []
    for (method, variant), lines in frame.groupby(["method", "variant"], sort=False):
        for banks, part in _printed_rows(lines):
            cells = {(c["dataset"], c["metric"]): c["text"] for _, c in part.iterrows()}
            seeds = sorted({int(n) for n in part["n_seeds"].dropna()})
            numbers = [cells.get(column, "") for column in columns]
            rows.append([label(method, variant), banks, *numbers, "/".join(map(str, seeds))])
    return Grid([("", "Method"), ("", "Word bank"), *columns, ("", "seeds")], rows, left=2, caption=caption)


def _printed_rows(rows):
    """Rows of one method: one line for each word bank, or one line where each dataset has a single bank."""
    if rows.groupby("dataset")["word_bank"].nunique().max() > 1:
        yield from rows.groupby("word_bank", sort=False)
    else:
        banks = [bank for bank in rows["word_bank"].unique() if bank != NO_BANK]
        yield " / ".join(banks), rows


def _cell(cell, is_best):
    text = number(cell["mean"], cell["std"])
    reported = number(cell["reported_mean"], cell["reported_std"])
    release = number(cell["release_mean"], cell["release_std"])
    parts = [text, reported and f"({reported})", release and release != reported and f"[{release}]"]
    parts = [part for part in parts if part]
    if is_best and parts:
        parts[0] = f"**{parts[0]}**"
    target = cell["release_deviation"]
    target = cell["reported_deviation"] if pd.isna(target) else target
    return " ".join([*parts, *([] if pd.isna(target) else [f"Δ {target:+.2f}"])])


def _legend(frame):
    measured = frame.dropna(subset=["mean"])
    samples = measured.groupby("dataset", sort=False)["n_samples"].first()
    lines = [
        "Percent; mean ± population standard deviation over seeds (none for a deterministic method). "
        "Best of each column in bold, bounds and controls apart. Images: "
        + ", ".join(f"{dataset} {n}" for dataset, n in samples.items())
        + ".",
    ]
    kinds = {task.kind for task in TASKS.values() if task.title in set(frame["dataset"])}
    if "binary" in kinds:
        lines.append("S4, MS3: mask-IoU and F take the threshold that is best for the whole scored set.")
    if "pooled" in kinds:
        lines.append(
            "ADE SP: pooled over a class's pixels, mIoU at the class's best threshold on the scored set."
        )
    if any("corrected" in metric for metric in frame["metric"]):
        lines.append(
            "ADE SP Semantic: the plain columns keep the authors' counting (background counted, last class "
            "lost); (corrected) counts exactly the classes."
        )
    if frame["reported_mean"].notna().any():
        lines.append(
            "(…) is printed in the paper; […] is what the authors' release expects, where it differs. "
            "Δ is our deviation from the release's number (the paper's where it has none) in units of "
            "max(2 · std, 1.0) point: within ±1 is agreement."
        )
    return lines


def intervals_page(frame, suite):
    """The comparisons of `taco.results.tables.intervals`."""
    records = [
        {
            "Dataset": row["dataset"],
            "A": _side(row, "a"),
            "B": _side(row, "b"),
            "Score": row["metric"],
            "A − B": f"{row['difference']:+.2f}",
            "95 % interval": f"[{row['low']:+.2f}, {row['high']:+.2f}]",
            "excludes 0": "yes" if row["excludes_zero"] else "no",
            "p": probability(row["p_value"]),
            "clips": row["n_clips"],
            "images": row["n_samples"],
            "seeds": f"{row['n_seeds_a']}/{row['n_seeds_b']}",
        }
        for row in frame.to_dict("records")
    ]
    draws = ", ".join(f"{n:,}" for n in sorted(set(frame["draws"])))
    notes = [
        (
            f"Percent points; paired bootstrap by clip ({draws} draws), percentile interval. "
            "Each image's score is averaged over seeds."
        ),
        (
            f"p: two-sided paired permutation test, methods exchanged clip by clip ({draws} draws, or all exchanges where "
            "they are fewer); not adjusted for the number of comparisons."
        ),
        (
            "mask-IoU: by image, at each method's own best threshold on the scored set. "
            "mIoU by image: mean over the classes of the union."
        ),
        *_of_ours([*frame["variant_a"], *frame["variant_b"]]),
    ]
    title = "Paired comparisons of methods"
    return Page("intervals", title, suite_title(suite), [Grid.of(records, left=4)], notes)


def probability(p):
    """A p-value in three significant places, or that it is below 0.001.

    Examples
    --------
    >>> probability(0.25), probability(0.0001)
    ('0.250', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _side(row, side):
    return f"{label(row[f'method_{side}'], row[f'variant_{side}'])} ({row[f'word_bank_{side}']})"


def extended_page(frame, suite):
    """The measures of `taco.results.extended.table`: a line for each run and way to choose the threshold."""
    grids = [
        Grid.of(_extended_lines(part), left=3, caption=f"{dataset}:")
        for dataset, part in frame.groupby("dataset", sort=False)
    ]
    samples = frame.groupby("dataset", sort=False)["n_samples"].first()
    notes = [
        "Percent; mean ± population standard deviation over seeds. Images: "
        + ", ".join(f"{dataset} {n}" for dataset, n in samples.items())
        + ".",
        (
            "Threshold: each measure and seed takes its own, the best on the split that the column names; "
            "none where class ids are predicted."
        ),
        (
            "IoU by image: mean over images (an empty truth scores the background left free). IoU by class: pixels of "
            "images with the same sounding classes pooled, mean over the pools with truth; semantic sets: ratios averaged "
            "over a class's images, then over classes. IoU of the whole set: all pixels one pool; semantic sets: "
            "intersections and unions of a class summed, mean over classes."
        ),
        "ADE SP in Table 3 differs from IoU by class here: there each class has a threshold of its own.",
        "Time and space for each sample, which no two runs measure alike, stand in costs.*.",
        *_of_ours(frame["variant"]),
    ]
    title = "IoU by image, by class and of the whole set"
    return Page("extended", title, suite_title(suite), grids, notes, apart=True)


def _extended_lines(frame):
    lines = []
    measures = [*MEASURES, *sorted(set(frame["metric"]) - set(MEASURES))]
    for (method, variant, bank, rule), part in frame.groupby(
        ["method", "variant", "word_bank", "rule"], sort=False
    ):
        cells = {row["metric"]: number(row["mean"], row["std"]) for row in part.to_dict("records")}
        seeds = "/".join(str(n) for n in sorted(set(part["n_seeds"])))
        line = {"Method": label(method, variant), "Word bank": bank, "Threshold": rule}
        lines.append(line | {measure: cells.get(measure, "") for measure in measures} | {"seeds": seeds})
    return lines


def costs_page(frame, suite):
    """The costs of `taco.results.costs.table`."""
    lines = [
        {
            "Dataset": row["dataset"],
            "Method": label(row["method"], row["variant"]),
            "Word bank": row["word_bank"],
            "features (ms)": f"{row['features_ms']:.1f}",
            "decomposition (ms)": f"{row['decomposition_ms']:.1f}" if row["decomposition_ms"] else "",
            "decoding (ms)": f"{row['decoding_ms']:.1f}",
            "sum (ms)": f"{row['total_ms']:.1f}",
            "features (MB)": f"{row['features_mb']:.3f}",
            "factors (MB)": f"{row['factors_mb']:.3f}" if row["factors_mb"] else "",
        }
        for row in frame.to_dict("records")
    ]
    samples = frame.groupby("dataset", sort=False)["n_samples"].first()
    devices, threads, seeds = (sorted(set(frame[name])) for name in ("device", "threads", "n_seeds"))
    notes = [
        (
            "For each sample and seed, measured by the jobs of this run without their start-up and loading of models; jobs may "
            f"have run side by side. Device: {', '.join(devices)}; threads of a job: {', '.join(threads)}. Images: "
            + ", ".join(f"{dataset} {n}" for dataset, n in samples.items())
            + "."
        ),
        (
            "features: reading, image and audio tokens and mask proposals, which all methods share. decomposition: start "
            "included, seeds solved together, divided by their number. decoding: from proposals to one map."
        ),
        (
            "MB: compressed on disk; features with proposals, factors of all seeds "
            f"({', '.join(str(n) for n in seeds if n > 1) or 1})."
        ),
        *_of_ours(frame["variant"]),
    ]
    grouped = pd.DataFrame(lines).groupby("Dataset", sort=False)
    grids = [
        Grid.of(part.drop(columns="Dataset").to_dict("records"), left=2, caption=f"{dataset}:")
        for dataset, part in grouped
    ]
    return Page("costs", "Time and space for each sample", suite_title(suite), grids, notes, apart=True)


def negatives_page(frame, suite, thresholds=None):
    """The test of `taco.results.negatives.table`, and below it what other ways of asking the same find.

    Parameters
    ----------
    frame : DataFrame
        from `taco.results.negatives.table`; may hold the figures of `taco.results.negative_audio` and `taco.results.gating`
    suite : str
    thresholds : mapping method → float or None
        of the gate, if there is one
    """
    grids, notes = [], []
    parts = (
        (_test_lines, TEST_NOTES, TEST),
        (_benchmark_lines, BENCHMARK_NOTES, BENCHMARK),
        (_gate_lines, GATE_NOTES, GATE),
    )
    for lines_of, told, caption in parts:
        if lines := lines_of(frame):
            grids.append(Grid.of(lines, left=4 if lines_of is _test_lines else 3, caption=caption))
            notes += told
    if any(value is not None for value in (thresholds or {}).values()):
        shown = ", ".join(
            f"{method} {value:.4g}" for method, value in thresholds.items() if value is not None
        )
        notes.append(f"Thresholds of the gate: {shown} (segment.confidence_threshold).")
    title = "Sounds that are not of the image"
    grids = grids or [Grid([("", "Dataset")], [], left=1)]
    return Page("negatives", title, suite_title(suite), grids, notes, apart=True)


def _runs(frame):
    """Yield each dataset, method and word bank with its rows and the first columns of its line."""
    for key, part in frame.groupby(["dataset", "method", "word_bank"], sort=False):
        yield dict(zip(("Dataset", "Method", "Word bank"), key, strict=True)), part


def _numbers(part, kind, names):
    """Cells of a kind of negatives, empty where something was not measured."""
    cells = {row["metric"]: row for row in part[part["negatives"] == kind].to_dict("records")}
    return {name: number(cells[name]["mean"], cells[name]["std"]) if name in cells else "" for name in names}


def _counts(part):
    first = part.iloc[0]
    return {"positives": first["n_positive"], "negatives": first["n_negative"], "seeds": first["n_seeds"]}


def _test_lines(frame):
    names = (AUROC, MARKED, MARKED_STRETCHED)
    return [
        {**line, "Negatives": kind, **_numbers(rows, kind, names), **_counts(rows)}
        for line, part in _runs(frame[frame["metric"].isin(names)])
        for kind, rows in part.groupby("negatives", sort=False)
    ]


def _benchmark_lines(frame):
    lines = []
    for line, part in _runs(frame[frame["metric"].isin(negative_audio.NAMES)]):
        kinds = [kind for kind in negatives.KINDS if kind in set(part["negatives"])]
        line |= _numbers(part, negatives.ALL, negative_audio.WHOLE)
        for name in negative_audio.BY_KIND:
            line |= {f"{name}, {kind}": _numbers(part, kind, [name])[name] for kind in negatives.EXCHANGED}
        lines.append(line | {"kinds": len(kinds), "seeds": part.iloc[0]["n_seeds"]})
    return lines


def _gate_lines(frame):
    lines = []
    for line, part in _runs(frame[frame["metric"].isin(gating.NAMES)]):
        line |= _numbers(part, negatives.ALL, (gating.WITHOUT, gating.WITH, gating.KEPT))
        for kind in negatives.KINDS:
            cells = _numbers(part, kind, (gating.MARKED_WITHOUT, gating.MARKED_WITH))
            line[f"marked, {kind}"] = " → ".join(filter(None, cells.values()))
        lines.append(line | {"seeds": part.iloc[0]["n_seeds"]})
    return lines


TEST = "The map before it is stretched:"
BENCHMARK = "Figures of the negative-audio benchmark:"
GATE = "With a gate (ours, not of the paper):"
TEST_NOTES = [
    (
        "Percent; mean ± population standard deviation over seeds. Readout: the greatest value of the map before it is "
        "stretched to 0 … 1."
    ),
    (
        "AUROC: positives (own sound, some truth) against negatives; 50 is chance. The paper says that such a sound's "
        "segmentation is empty; its metric cannot show that, since stretching gives every map a maximum of 1."
    ),
    (
        "falsely marked: share of pixels above a threshold on the un-normalised map, on negatives of held-out clips; the "
        "threshold is chosen on the other clips (greatest mean of IoU on positives and share left free on negatives)."
    ),
    (
        "falsely marked, stretched: the same for the stretched map at the threshold of the best mask-IoU, which is what the "
        "paper's metric uses; it can never be empty."
    ),
    (
        "off-screen sound: another clip's sound, of other classes wherever possible. silence, noise: digital silence, or "
        "white noise at −20 dB, in place of the sound. frames without a source: their own sound, and an empty truth."
    ),
]
BENCHMARK_NOTES = [
    (
        "Negative-audio benchmark (Juanola, Haro and Fuentes, arXiv 2410.01020): un-normalised maps above one universal "
        "threshold, the third quartile of the greatest values of negatives' maps; here found on every second clip and applied "
        "to the others. cIoU: mean IoU over positives. AUC: area under the share of positives with an IoU of at least t, over "
        "t. pIA: mean share of the image that is marked on negatives. AUC_N: area under the share of negatives with a pIA of "
        "at most t. F_LOC: harmonic mean of cIoU and the mean over kinds of 100 − pIA. F_AUC: harmonic mean of AUC and the "
        "mean over kinds of AUC_N. The threshold is on the map's own scale; kinds: how many of silence, noise and off-screen "
        "sound were scored."
    ),
]
GATE_NOTES = [
    (
        "Gate: the mask is empty where the greatest value of the map before stretching is below a threshold chosen on the "
        "validation split (snakemake calibrate: the greatest that costs at most one point of mask-IoU there). mask-IoU of "
        "positives with some truth, at the threshold that is best for them without the gate; kept: the share of them that has "
        "a mask; marked: share of pixels of negatives that are marked, without → with the gate."
    ),
]
