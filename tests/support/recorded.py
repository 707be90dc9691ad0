"""Sounds and videos made on the spot, by libsndfile and ffmpeg (PyAV)."""

from fractions import Fraction

import av
import numpy as np


def tone(seconds, rate, frequency=440.0, channels=1):
    """A tone of half of full scale, float32 [T, channels]."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time))[:, None].repeat(channels, axis=1).astype(np.float32)


def write_aac(path, wave, rate, layout="mono", codec="aac"):
    """Samples [T, channels] in a container by its ending (m4a, mp4, ...)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        _encode_sound(container, stream, wave, rate, layout)


def _encode_sound(container, stream, wave, rate, layout):
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), format="fltp", layout=layout)
    frame.sample_rate = rate
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(
        format=stream.codec_context.format.name, layout=layout, rate=stream.codec_context.sample_rate, frame_size=size
    )  # fmt: skip
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def write_video(path, pictures, times, *, wave=None, rate=16000, rotation=0):
    """An MP4 of pictures [H, W, 3] shown at ``times`` (seconds), with a mono sound where one is given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = *pictures[0].shape[1::-1], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=rate, layout="mono") if wave is not None else None
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _encode_sound(container, sound, wave, rate, "mono")
    return path
