"""Small trees in the layouts of the four datasets, written from scratch (nothing here is shared with the writer of the
miniature world), and the dataset dictionaries that read them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from taco.data import manifest

AVSS_CLASSES = ("background", "bird", "dog", "emergency-car", "horse", "man")
# PASCAL VOC's first colours, as they are printed everywhere.
VOC = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128))
ADE_CSV = "prompted_segmentation.csv"
ADE_HEADER = ("image_location", "vggsound_file", "ade_class_id", "ade_class_name")
ADE_NAMES = {41: "dog", 1330: "piano", 2977: "car"}


def write_csv(path: Path, *rows) -> None:
    """Write rows, the first of them the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def add_rows(path: Path, *lines: str) -> None:
    """Append lines to a CSV."""
    with open(path, "a", encoding="utf-8") as stream:
        stream.write("".join(f"{line}\n" for line in lines))


def picture(path: Path, size: tuple[int, int]) -> None:
    """An RGB image of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([rows * 255 // height, columns * 255 // width, np.full(size, 90)], axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def tone(path: Path, seconds: float, rate: int = 16000, channels: int = 1, frequency: float = 440.0) -> None:
    """A sine whose level rises from second to second, so that pieces can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.05 * (1 + np.floor(time)) * np.sin(2 * np.pi * frequency * time)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, subtype="PCM_16")


def square(size: tuple[int, int], frame: int = 0) -> np.ndarray:
    """A bool square inside (height, width) that moves right with the frame."""
    mask = np.zeros(size, dtype=bool)
    mask[size[0] // 4 : size[0] // 2, 2 + frame : 2 + frame + size[1] // 3] = True
    return mask


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def rows(dataset: dict, **options) -> list[dict]:
    """The manifest of a tree, whose options may be changed, as a list of rows."""
    return manifest.build({**dataset, **options}).to_dict("records")


def s4(
    root: Path,
    clips=(("a1b2", "dog_barking", "test"), ("-c3_d4", "race_car", "test"), ("e5", "race_car", "train")),
    size: tuple[int, int] = (24, 24),
    rate: int = 16000,
    channels: int = 2,
) -> dict:
    """S4: 1-bit masks, stereo sound, masks of training clips for the first frame only."""
    base = root / "Single-source"
    write_csv(
        base / "s4_meta_data.csv",
        ("name", "start", "category", "split"),
        *((name, 0, category, split) for name, category, split in clips),
    )
    for name, category, split in clips:
        folder = Path(split, category)
        for n in range(1, 6):
            picture(base / "s4_data/visual_frames" / folder / name / f"{name}_{n}.png", size)
            if split != "train" or n == 1:
                mask = Image.fromarray(square(size, n - 1).astype(np.uint8) * 255).convert("1")
                save(base / "s4_data/gt_masks" / folder / name / f"{name}_{n}.png", mask)
        tone(base / "s4_data/audio_wav" / folder / f"{name}.wav", 5, rate, channels)
    return {"name": "s4", "reader": "s4", "root": str(root), "split": "test"}


def ms3(
    root: Path,
    clips=(("u_0", "test"), ("v_9", "test"), ("w_3", "val")),
    size: tuple[int, int] = (24, 24),
    rate: int = 16000,
) -> dict:
    """MS3: palette masks, the second frame of each clip silent and without truth."""
    base = root / "Multi-sources"
    write_csv(base / "ms3_meta_data.csv", ("video_id", "split"), *clips)
    for name, split in clips:
        for n in range(1, 6):
            picture(base / "ms3_data/visual_frames" / name / f"{name}.mp4_{n}.png", size)
            mask = Image.fromarray(square(size).astype(np.uint8) * (n != 2), mode="P")
            mask.putpalette([0, 0, 0, 128, 0, 0])
            save(base / "ms3_data/gt_masks" / split / name / f"{name}_{n}.png", mask)
        path = base / "ms3_data/audio_wav" / split / f"{name}.wav"
        tone(path, 5, rate)
        wave, _ = soundfile.read(path)
        wave[rate : 2 * rate] = 0
        soundfile.write(path, wave, rate)
    return {"name": "ms3", "reader": "ms3", "root": str(root), "split": "test", "classes": ["dog", "man"]}


def avss(
    root: Path,
    clips=(
        ("x_0_10000", "dog_man", "test", "v2"),
        ("y_5_15000", "emergency-car", "test", "v2"),
        ("z_0_5000", "bird", "test", "v1m"),
    ),
    size: tuple[int, int] = (18, 32),
    rate: int = 44100,
    mode: str = "P",
) -> dict:
    """AVSS: frames at their own, not square size; colours by class; values of label2idx.json that are useless."""
    write_csv(
        root / "metadata.csv",
        ("vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"),
        *((uid.split("_")[0], uid, 0, 0, objects, split, label) for uid, objects, split, label in clips),
    )
    (root / "label2idx.json").write_text(json.dumps(dict.fromkeys(AVSS_CLASSES, 7)))
    for uid, objects, split, label in clips:
        folder = root / label / uid
        frames = 10 if label == "v2" else 5
        for i in range(frames):
            picture(folder / "frames" / f"{i}.jpg", size)
            if label == "v1s" and split == "train" and i > 0:
                continue
            truth = np.zeros(size, dtype=np.uint8)
            for place, name in enumerate(sorted(set(objects.split("_")) & set(AVSS_CLASSES))):
                truth[5 * place : 5 * place + 4, 2 : 12 + i] = AVSS_CLASSES.index(name)
            mask = Image.fromarray(truth, mode="P")
            mask.putpalette([value for colour in VOC for value in colour])
            save(folder / "labels_rgb" / f"{i}.png", mask.convert(mode))
            save(folder / "labels_semantic" / f"{i}.png", Image.fromarray(truth))
        tone(folder / "audio.wav", frames, rate)
    return {"name": "avss", "reader": "avss", "root": str(root), "split": "test"}


def ade(
    root: Path,
    rows=(
        ("a.jpg", "vgg/p_000010.wav", 41),
        ("b.jpg", "vgg/q_000000.wav", 1330),
        ("sub/c.jpg", "r_000030.wav", 2977),
    ),
    size: tuple[int, int] = (32, 24),
    rate: int = 48000,
    names: bool = True,
) -> dict:
    """ADE SP: class = int(R/10)·256 + G, the prompted class on the left, the next one on the right."""
    table = [row + ((ADE_NAMES[row[2]],) if names else ()) for row in rows]
    write_csv(root / ADE_CSV, ADE_HEADER if names else ADE_HEADER[:-1], *table)
    for location, sound, number in rows:
        picture(root / "frames" / location, size)
        ids = np.zeros(size, dtype=int)
        ids[8:24, 4:12] = number
        ids[8:24, 12:20] = number + 5
        save(root / "annotations" / location.replace(".jpg", "_seg.png"), ade_image(ids))
        tone(root / "audio" / sound.split("/")[-1], 2.5, rate)
    return {"name": "ade", "reader": "ade", "root": str(root), "split": "test", "mask_resize": "nearest"}


def ade_image(ids: np.ndarray) -> Image.Image:
    """An annotation of class ids [H, W]."""
    return Image.fromarray(np.stack([ids // 256 * 10 + 3, ids % 256, ids * 0 + 77], axis=-1).astype(np.uint8))


WRITERS = {"s4": s4, "ms3": ms3, "avss": avss, "ade": ade}
