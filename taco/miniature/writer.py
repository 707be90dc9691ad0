"""Write the miniature world to disk as four datasets in the file formats of the real ones.

==========  ==================================================================================================
folder      content
==========  ==================================================================================================
s4/         AVSBench S4: clips of 5 frames, one sounding object among others, stereo sound, masks of mode 1
ms3/        AVSBench MS3: clips of 5 frames, 2 or 3 sounding objects, every tenth second silent, palette masks
avss/       AVSBench-semantic v2: clips of 10 frames, 1 or 2 sounding objects, colour-coded classes
ade/        ADE20K Sound Prompted: stills, one sound of two frames' length each, `_seg.png` class codes
world.json  the settings it was written with
==========  ==================================================================================================

Every clip draws from a stream of its own, keyed by seed, dataset, split and number, so splits share nothing and the
count of one split does not change another.
"""

import csv
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator
from PIL import Image

from taco.miniature import scenes, sounds, vocabulary
from taco.runtime import atomic_folder

DATASETS = ("s4", "ms3", "avss", "ade")
SPLITS = ("train", "val", "test")
S4_FRAMES, MS3_FRAMES, AVSS_FRAMES = 5, 5, 10
AVSS_CLASSES: tuple[str, ...] = ("background", *vocabulary.SOUNDING)
"""Class names of the AVSS-like set in the order of the keys of `label2idx.json`."""

ADE_CLASS_IDS: dict[str, int] = {
    name: 41 + 103 * number for number, name in enumerate(vocabulary.SOUNDING + vocabulary.SILENT)
}
"""ADE-like class ids; from the third class on they exceed 255, so both bytes of the code are used."""


@dataclass(frozen=True)
class WorldSettings:
    """Settings of the world, the `world` section of the configuration.

    Attributes
    ----------
    seed : int
        Seed of all scenes and sounds, not negative.
    image_size : int
        Side of the images in pixels, at least 32.
    sample_rate : int
        Hz, at least 8,000.
    frame_seconds : float
        Seconds of sound that belong to one frame.
    snr_db : tuple of float
        Range from which each clip draws its signal-to-noise ratio, lowest first.
    clips : mapping
        Dataset to split to number of clips (stills for ade).

    Raises
    ------
    ValueError
        For a value out of range, naming it.
    """

    seed: int = 0
    image_size: int = 124
    sample_rate: int = 16000
    frame_seconds: float = 1.0
    snr_db: tuple[float, float] = (-22.0, -12.0)
    clips: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {
            "s4": {"train": 8, "val": 14, "test": 40},
            "ms3": {"train": 8, "val": 8, "test": 40},
            "avss": {"train": 8, "val": 4, "test": 24},
            "ade": {"train": 16, "val": 43, "test": 128},
        }
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "snr_db", tuple(self.snr_db))
        checks = {
            "seed": (self.seed >= 0, "an integer from 0"),
            "image_size": (self.image_size >= 32, "at least 32 pixels"),
            "sample_rate": (self.sample_rate >= 8000, "at least 8000 Hz"),
            "frame_seconds": (self.frame_seconds > 0, "a positive number of seconds"),
            "snr_db": (
                len(self.snr_db) == 2 and self.snr_db[0] <= self.snr_db[-1],
                "two numbers, lowest first",
            ),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise ValueError(f"world.{name}: expected {expected}, found {getattr(self, name)!r}")
        for dataset in DATASETS:
            counts = self.clips.get(dataset, {})
            if set(counts) != set(SPLITS) or min(counts.values()) < 1:
                expected = f"at least one clip for each of {', '.join(SPLITS)}"
                raise ValueError(f"world.clips.{dataset}: expected {expected}, found {dict(counts)}")


def write_world(root: Path, settings: WorldSettings | Mapping) -> None:
    """Write all four datasets below `root`, which appears whole or not at all.

    Parameters
    ----------
    root : Path
        Folder to make; an older one of this name is replaced once the new one is complete.
    settings : WorldSettings or mapping
        A mapping holds the fields of `WorldSettings`.

    Notes
    -----
    Equal settings give equal files. Two runs at once do not disturb each other: each writes to a folder of its own.
    """
    if not isinstance(settings, WorldSettings):
        settings = WorldSettings(**settings)
    with atomic_folder(root) as partial:
        _write_s4(partial / "s4", settings)
        _write_ms3(partial / "ms3", settings)
        _write_avss(partial / "avss", settings)
        _write_ade(partial / "ade", settings)
        # The general word bank, in the columns of AudioSet's list.
        bank = ((number, f"/t/{number:03d}", name) for number, name in enumerate(vocabulary.general_bank()))
        _save_table(partial / "class_labels_indices.csv", ("index", "mid", "display_name"), bank)
        (partial / "world.json").write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def write_sounds(root: Path, settings: WorldSettings | Mapping, dataset: str, split: str) -> None:
    """Write the sounds of a dataset's split below `root`, at the places where `write_world` puts them, and nothing else.

    With another `snr_db` each clip sounds as in the world but for the level of its noise: a clip's stream draws as many
    numbers whatever the range, and its place within the range stays.
    """
    if not isinstance(settings, WorldSettings):
        settings = WorldSettings(**settings)
    for number in range(settings.clips[dataset][split]):
        _write_sound(Path(root, dataset), dataset, draw_clip(settings, dataset, split, number), settings)


def clip_stream(seed: int, dataset: str, split: str, number: int) -> Generator:
    """Return the random stream of one clip, a function of its four keys alone.

    Raises
    ------
    ValueError
        For an unknown dataset or split.
    """
    if dataset not in DATASETS or split not in SPLITS:
        raise ValueError(
            f"expected a dataset of {DATASETS} and a split of {SPLITS}, found {dataset!r}, {split!r}"
        )
    keys = [seed, zlib.crc32(dataset.encode()), zlib.crc32(split.encode()), number]
    return np.random.default_rng(np.random.SeedSequence(keys))


@dataclass(frozen=True)
class Clip:
    """A scene with its sound.

    Attributes
    ----------
    name : str
        Unique over all datasets and splits.
    split : str
    scene : scenes.Scene
    sounding : tuple of str
        Classes that sound.
    times : tuple of float
        Scene time of each frame: frame i stands at i + 0.5, one unit of motion per frame.
    silent_frames : tuple of int
        Frames without any sound.
    wave : ndarray of float32, shape (len(times) or 2) · frame_seconds · sample_rate
    pan : float
        Share of the level that moves from the right to the left channel of a stereo file.
    """

    name: str
    split: str
    scene: scenes.Scene
    sounding: tuple[str, ...]
    times: tuple[float, ...]
    silent_frames: tuple[int, ...]
    wave: np.ndarray
    pan: float


def draw_clip(settings: WorldSettings, dataset: str, split: str, number: int) -> Clip:
    """Draw one clip of a dataset; see the module's table for what each dataset shows.

    Every sounding class leads the same number of clips of a split (give or take one).
    """
    rng = clip_stream(settings.seed, dataset, split, number)
    sources = {"s4": 1, "ms3": 2 + int(rng.integers(2)), "avss": 1 + int(rng.integers(2)), "ade": 1}[dataset]
    others = 1 + int(rng.integers(2)) if sources < 3 else int(rng.integers(2))
    frames = {"s4": S4_FRAMES, "ms3": MS3_FRAMES, "avss": AVSS_FRAMES, "ade": 1}[dataset]
    sounding, silent = _cast(rng, number, sources, others)
    moving = dataset != "ade"
    scene = scenes.sample_scene(
        rng, sounding=sounding, silent=silent, size=settings.image_size, moving=moving
    )
    duration = (frames if moving else 2) * settings.frame_seconds
    snr = rng.uniform(*settings.snr_db)
    wave = sounds.mixture(rng, sounding, duration, settings.sample_rate, snr)
    silent_frames = (int(rng.integers(frames)),) if dataset == "ms3" and number % 2 else ()
    second = round(settings.frame_seconds * settings.sample_rate)
    for frame in silent_frames:
        wave[frame * second : (frame + 1) * second] = 0
    times = tuple(frame + 0.5 if moving else 0.0 for frame in range(frames))
    name = f"{dataset}{split}{number:05d}"
    return Clip(name, split, scene, sounding, times, silent_frames, wave, float(rng.uniform(-0.2, 0.2)))


def truth_labels(clip: Clip, masks: np.ndarray, frame: int, values: Mapping[str, int]) -> np.ndarray:
    """Paint the truth of one frame: each sounding object's visible part in its class's value.

    Parameters
    ----------
    clip : Clip
    masks : ndarray of bool, shape (n_objects, H, W)
        As `scenes.render` gives them.
    frame : int
        A silent frame has no foreground.
    values : mapping of str to int
        Value of each class.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        0 where nothing sounds.
    """
    labels = np.zeros(masks.shape[1:], dtype=np.uint8)
    if frame not in clip.silent_frames:
        for item, mask in zip(clip.scene.objects, masks, strict=True):
            if item.sounding:
                labels[mask] = values[item.name]
    return labels


def voc_palette(count: int = 256) -> np.ndarray:
    """Return the colours of PASCAL VOC: the bits of an index, interleaved over red, green and blue.

    Returns
    -------
    ndarray of uint8, shape (count, 3)

    Examples
    --------
    >>> voc_palette(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    index = np.arange(count)
    colours = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def ade_code(class_ids: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Encode class ids as ADE20K does: red is 10 · (id // 256), green id % 256, blue the instance.

    Parameters
    ----------
    class_ids, instances : ndarray of int, shape (H, W)
        Ids below 6,400, instances below 256.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    if class_ids.max(initial=0) >= 6400 or class_ids.min(initial=0) < 0:
        raise ValueError(f"expected class ids of 0 to 6399, found {class_ids.min()} to {class_ids.max()}")
    return np.stack([class_ids // 256 * 10, class_ids % 256, instances], axis=-1).astype(np.uint8)


def _cast(rng: Generator, number: int, sources: int, others: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the sounding classes and the other visible classes, at least one of which could sound."""
    names = vocabulary.SOUNDING
    lead = names[number * 5 % len(names)]  # 5 and 12 share no factor, so all classes take turns
    rest = [name for name in names if name != lead]
    rest = [rest[i] for i in rng.permutation(len(rest))]
    sounding, decoys = (lead, *rest[: sources - 1]), rest[sources - 1 :]
    silent = list(vocabulary.SILENT) + decoys[1:]
    extra = [silent[i] for i in rng.permutation(len(silent))]
    return sounding, tuple([decoys[0], *extra][:others])


def _clips(settings: WorldSettings, dataset: str) -> Iterator[Clip]:
    for split in SPLITS:
        for number in range(settings.clips[dataset][split]):
            yield draw_clip(settings, dataset, split, number)


def _write_s4(root: Path, settings: WorldSettings) -> None:
    base, rows = root / "Single-source", []
    for clip in _clips(settings, "s4"):
        place, (category,) = Path(clip.split) / clip.sounding[0], clip.sounding
        for frame, time in enumerate(clip.times):
            image, masks = scenes.render(clip.scene, time)
            file = place / clip.name / f"{clip.name}_{frame + 1}.png"
            _save(Image.fromarray(image), base / "s4_data/visual_frames" / file)
            if (
                clip.split != "train" or frame == 0
            ):  # like the real set, which labels one frame of a training clip
                truth = truth_labels(clip, masks, frame, {category: 1})
                _save(Image.fromarray(truth * 255).convert("1"), base / "s4_data/gt_masks" / file)
        _write_sound(root, "s4", clip, settings)
        rows.append((clip.name, 0, category, clip.split))
    _save_table(base / "s4_meta_data.csv", ("name", "start", "category", "split"), rows)


def _write_ms3(root: Path, settings: WorldSettings) -> None:
    base, rows, frame_rows = root / "Multi-sources", [], []
    values = dict.fromkeys(vocabulary.SOUNDING, 1)
    for clip in _clips(settings, "ms3"):
        for frame, time in enumerate(clip.times):
            image, masks = scenes.render(clip.scene, time)
            file = f"{clip.name}.mp4_{frame + 1}.png"
            _save(Image.fromarray(image), base / "ms3_data/visual_frames" / clip.name / file)
            truth = _palette_image(truth_labels(clip, masks, frame, values))
            file = f"{clip.name}_{frame + 1}.png"
            _save(truth, base / "ms3_data/gt_masks" / clip.split / clip.name / file)
            heard = () if frame in clip.silent_frames else clip.sounding
            frame_rows.append((f"{clip.name}_{frame + 1}", ", ".join(heard)))
        _write_sound(root, "ms3", clip, settings)
        rows.append((clip.name, clip.split))
    _save_table(base / "ms3_meta_data.csv", ("video_id", "split"), rows)
    _save_table(base / "ms3_frame_classes.csv", None, frame_rows)  # as ACL-SSL lists the real frames


def _write_avss(root: Path, settings: WorldSettings) -> None:
    rows = []
    values = {name: index for index, name in enumerate(AVSS_CLASSES)}
    for clip in _clips(settings, "avss"):
        uid = _avss_uid(clip, settings)
        folder = root / "v2" / uid
        for frame, time in enumerate(clip.times):
            image, masks = scenes.render(clip.scene, time)
            truth = truth_labels(clip, masks, frame, values)
            _save(Image.fromarray(image), folder / "frames" / f"{frame}.jpg", quality=95, subsampling=0)
            _save(_palette_image(truth), folder / "labels_rgb" / f"{frame}.png")
            _save(Image.fromarray(truth), folder / "labels_semantic" / f"{frame}.png")
        _write_sound(root, "avss", clip, settings)
        rows.append((clip.name, uid, 0, 0, "_".join(clip.sounding), clip.split, "v2"))
    _save_table(root / "metadata.csv", ("vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"), rows)
    # Copies of the real file disagree about the values, only the order of the keys counts; these values are useless.
    useless = {name: len(AVSS_CLASSES) - 1 - index for index, name in enumerate(AVSS_CLASSES)}
    (root / "label2idx.json").write_text(json.dumps(useless) + "\n", encoding="utf-8")


def _write_ade(root: Path, settings: WorldSettings) -> None:
    rows, unusable = [], []
    for clip in _clips(settings, "ade"):
        image, masks = scenes.render(clip.scene)
        ids, instances = np.zeros((2, *masks.shape[1:]), dtype=int)
        for instance, (item, mask) in enumerate(zip(clip.scene.objects, masks, strict=True), start=1):
            ids[mask], instances[mask] = ADE_CLASS_IDS[item.name], instance
        _save(Image.fromarray(image), root / "frames" / f"{clip.name}.jpg", quality=95, subsampling=0)
        _save(Image.fromarray(ade_code(ids, instances)), root / "annotations" / f"{clip.name}_seg.png")
        _write_sound(root, "ade", clip, settings)
        (name,) = clip.sounding
        rows.append((f"{clip.name}.jpg", f"vggsound/{clip.name}.wav", ADE_CLASS_IDS[name], name, clip.split))
        if len(unusable) < 2 and clip.split == "test":  # the real list has rows that readers must drop
            location = f"{clip.name}.jpg"
            sound, class_id = ("", ADE_CLASS_IDS[name]) if not unusable else (f"vggsound/{clip.name}.wav", 0)
            unusable.append((location, sound, class_id, name if class_id else "", clip.split))
    header = ("image_location", "vggsound_file", "ade_class_id", "ade_class_name", "split")
    _save_table(root / "prompted_segmentation.csv", header, rows + unusable)


def _palette_image(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().tobytes())
    return image


def _save(image: Image.Image, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def _avss_uid(clip: Clip, settings: WorldSettings) -> str:
    return f"{clip.name}_0_{round(1000 * AVSS_FRAMES * settings.frame_seconds)}"


def _write_sound(root: Path, dataset: str, clip: Clip, settings: WorldSettings) -> None:
    """Write a clip's sound as 16-bit PCM; a wave that is too loud for it is turned down as a whole."""
    path = (
        root
        / {
            "s4": f"Single-source/s4_data/audio_wav/{clip.split}/{clip.sounding[0]}/{clip.name}.wav",
            "ms3": f"Multi-sources/ms3_data/audio_wav/{clip.split}/{clip.name}.wav",
            "avss": f"v2/{_avss_uid(clip, settings)}/audio.wav",
            "ade": f"audio/{clip.name}.wav",
        }[dataset]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    stereo = [clip.wave * (1 + clip.pan), clip.wave * (1 - clip.pan)]
    wave = np.stack(stereo, axis=1) if dataset == "s4" else clip.wave
    wave = wave / max(1.0, np.abs(wave).max())
    soundfile.write(path, wave, settings.sample_rate, subtype="PCM_16")


def _save_table(path: Path, header: Sequence[str] | None, rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header] if header else [])
        writer.writerows(rows)
