"""A pair and a short clip of the miniature world for people to try: ``python -m taco.miniature.pairs examples``.

They are scenes of no split: the seed is one that no suite uses.
"""

import sys
from pathlib import Path

import soundfile
from PIL import Image

from taco.data import video
from taco.miniature import scenes, writer

SETTINGS = writer.WorldSettings(seed=11, snr_db=(-8.0, 2.0))
STILL, CLIP = 4, 6  # numbers of a still with a guitar among others, and of a clip


def write(folder: str | Path) -> list[Path]:
    """Write ``<class>.png`` and ``.wav``, and the video ``<class>.mp4``; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    still = writer.draw_clip(SETTINGS, "ade", "test", STILL)
    (name,) = still.sounding
    image, sound = folder / f"{name}.png", folder / f"{name}.wav"
    pixels, _ = scenes.render(still.scene)
    Image.fromarray(pixels).save(image, optimize=True)
    soundfile.write(sound, still.wave.clip(-1, 1), SETTINGS.sample_rate, subtype="PCM_16")
    return [image, sound, _write_clip(folder)]


def _write_clip(folder: Path) -> Path:
    clip = writer.draw_clip(SETTINGS, "s4", "test", CLIP)
    path = folder / f"{clip.sounding[0]}.mp4"
    sound = path.with_suffix(".partial.wav")
    soundfile.write(sound, clip.wave.clip(-1, 1), SETTINGS.sample_rate, subtype="PCM_16")
    try:
        with video.Writer(path, 1 / SETTINGS.frame_seconds, sound) as written:
            for time in clip.times:
                written.add(scenes.render(clip.scene, time)[0])
    finally:
        sound.unlink()
    return path


if __name__ == "__main__":
    print(*write(sys.argv[1]), sep="\n")
