"""A small made-up run for tests of figures and gallery: images, sounds, maps, caches and score rows, without torch."""

from contextlib import ExitStack

import numpy as np
import pandas as pd
import soundfile
from PIL import Image

from taco import metrics
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.data import manifest, media
from taco.figures.examples import Source
from taco.method.text import Labels

SIZE, GRID, SOUND_GRID, RATE = 32, (8, 8), (2, 8), 8000
WORDS = ["bell", "bird", "drum", "bell and bird", "kite"]
CLASSES = ["bell", "bird", "drum"]


def disc(row, column, radius, size=SIZE):
    """Bool [size, size], True inside a circle."""
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def write_media(folder, number):
    """An image, an ADE20K-like annotation with two classes, and a sound; their paths."""
    rng = np.random.default_rng(number)
    folder.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"{number}.png")
    code = np.zeros((40, 48, 3), dtype=np.uint8)
    code[:20, :, 1] = 3
    code[20:, :10, 1] = 7 if number % 2 else 3
    Image.fromarray(code).save(folder / f"{number}_seg.png")
    soundfile.write(folder / f"{number}.wav", 0.3 * rng.standard_normal(RATE // 2), RATE)
    return {
        "image": str(folder / f"{number}.png"),
        "mask": str(folder / f"{number}_seg.png"),
        "audio": str(folder / f"{number}.wav"),
    }


def samples_of(folder, clips=4, frames=2, several=True):
    """Manifest of clips × frames samples; every second clip has two sources where there may be several."""
    rows = []
    for clip in range(clips):
        for frame in range(frames):
            files = write_media(folder, clip * frames + frame)
            classes = [CLASSES[clip % 3]] + ([CLASSES[(clip + 1) % 3]] if several and clip % 2 else [])
            rows.append(
                {
                    "sample_id": f"c{clip}/{frame}",
                    "clip_id": f"c{clip}",
                    "frame": frame,
                    **files,
                    "start": 0.0,
                    "duration": 0.4,
                    "classes": classes,
                    "class_id": 3,
                    "split": "test",
                }
            )
    return manifest.from_rows(rows)


HEARING = media.Hearing(8000, 4000, "centre", 0)
OTHER = "mine <b>"  # a contributed method


def maps_of(number, semantic):
    """Truth, and a map for each method: right by degrees."""
    truth = disc(10, 10, 6) | (disc(24, 24, 5) if number % 2 else False)
    near, far = disc(10, 10, 6) * 0.9, disc(24, 6, 4) * 0.9
    half = 0.6 * near + 0.3 * disc(12, 12, 7)
    if semantic:
        answers = {"TACO": near.astype(bool) * 2, "A-FC-CLIP": far.astype(bool) * 1}
        return truth * 2, answers | {OTHER: half.astype(bool) * 3}
    return truth, {"TACO": near, "U only": half, "A-FC-CLIP": far, "shuffled": far, OTHER: half}


def rows_of(task, samples, seeds=(0, 1, 2)):
    """Score rows of a task, three seeds for TACO and U only."""
    semantic = task in ("avss", "ade_sp_semantic")
    rows = []
    for number, sample in enumerate(samples.to_dict("records")):
        truth, maps = maps_of(number, semantic)
        for name, answer in maps.items():
            method, variant = ("TACO", "shuffled audio") if name == "shuffled" else (name, "proposed")
            named, other = method == "A-FC-CLIP", method == OTHER
            counts = (
                metrics.semantic_row(answer, truth, len(CLASSES), 1)
                if semantic
                else metrics.binary_row(answer, truth)
            )
            rows += [
                {
                    "task": task,
                    "dataset": task.split("_")[0],
                    "sample_id": sample["sample_id"],
                    "clip_id": sample["clip_id"],
                    "class_name": ", ".join(sample["classes"]),
                    "method": method,
                    "variant": "list" if named else "contributed" if other else variant,
                    "word_bank": "none" if other else "specific" if named or semantic else "general",
                    "seed": seed,
                    **counts,
                    "k_star": 1,
                    "label": "bell",
                    "clap_label": sample["classes"][0],
                    "clap_confidence": 0.2 + 0.1 * number,
                }
                for seed in ((-1,) if named or other else seeds)
            ]
    return pd.DataFrame(rows)


def write_examples(path, task, samples):
    """The cache of example maps that belongs to `rows_of`."""
    semantic = task in ("avss", "ade_sp_semantic")
    bank = "specific" if semantic else "general"
    attributes = {"task": task, "dataset": task.split("_")[0], "bank": bank, "seed": 0}
    attributes["contributed"] = [OTHER]
    rng = np.random.default_rng(0)
    with CacheWriter(path, "examples", samples["sample_id"].tolist(), attributes) as writer:
        for index in range(len(samples)):
            truth, maps = maps_of(index, semantic)
            writer.put("truth", index, truth.astype(np.int16) if semantic else truth)
            compact = {
                name: answer.astype(np.int16) if semantic else np.rint(255 * answer).astype(np.uint8)
                for name, answer in maps.items()
            }
            writer.put("contributed/0", index, compact[OTHER])
            for prefix, method in (("", "TACO"), ("shuffled/", "TACO" if semantic else "shuffled")):
                stored = compact[method]
                arrays = {
                    "prediction": stored,
                    "image_activation": rng.random(GRID, dtype=np.float32).astype(np.float16),
                    "audio_activation": rng.random(SOUND_GRID[0] * SOUND_GRID[1], dtype=np.float32).astype(
                        np.float16
                    ),
                    "image_factors": rng.random((4, len(WORDS)), dtype=np.float32),
                    "k_star": np.int32(1),
                    "cross_entropy": rng.random(4, dtype=np.float32),
                }
                for name, value in arrays.items():
                    writer.put(prefix + name, index, value)


def make_source(stack: ExitStack, folder, task, clips=4, frames=2):
    """A `Source` on made-up data, and its score rows."""
    samples = samples_of(folder / "media", clips, frames, several=task in ("ms3", "avss"))
    rows = rows_of(task, samples)
    write_examples(folder / f"{task}.h5", task, samples)
    cache = stack.enter_context(open_cache(folder / f"{task}.h5", "examples"))
    labels = Labels(WORDS, np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32))
    source = Source(
        task,
        samples,
        rows,
        [cache],
        labels,
        CLASSES,
        words="general",
        hearing=HEARING,
        grid=SOUND_GRID,
        seed=0,
    )
    return source, rows
