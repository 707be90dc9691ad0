"""Synthetic sounds of the twelve sounding classes, their mixtures and captions.

The two classes of a family share a timbre (struck metal, chirps, knocks, pulse trains, plucked strings, warning
tones) and differ in register and rhythm. Every class sounds throughout, so any second of a file identifies it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from taco.miniature import vocabulary

RMS = 0.1
"""Root mean square of a clean source, relative to a full scale of 1."""

_TAU = 2 * np.pi


def synthesise(rng: Generator, name: str, duration: float, rate: int) -> np.ndarray:
    """Synthesise one clean source.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws pitch, rhythm and decay.
    name : str
        One of `vocabulary.SOUNDING`.
    duration : float
        Length in seconds, positive.
    rate : int
        Samples per second, at least 8,000.

    Returns
    -------
    ndarray of float32, shape (round(duration · rate),)
        Root mean square `RMS` (less if the peak would exceed 1), peak at most 1.
    """
    if name not in _VOICES:
        raise ValueError(f"{name!r} has no sound; expected one of {', '.join(_VOICES)}")
    samples = _sample_count(duration, rate)
    wave = _VOICES[name](rng, samples, rate)
    wave = wave * (RMS / max(np.sqrt(np.mean(np.square(wave))), 1e-9))
    return _limit(wave).astype(np.float32)


def mixture(
    rng: Generator,
    names: Sequence[str],
    duration: float,
    rate: int,
    snr_db: float | None = None,
    name_levels_db: Sequence[float] | None = None,
) -> np.ndarray:
    """Sum sources and add pink noise.

    Parameters
    ----------
    rng : numpy.random.Generator
    names : sequence of str
        Sounding classes; may be empty.
    duration, rate
        As in `synthesise`.
    snr_db : float, optional
        Power of the summed sources over the power of the noise; None adds no noise.
    name_levels_db : sequence of float, optional
        Level of each source relative to the usual one.

    Returns
    -------
    ndarray of float32, shape (round(duration · rate),)
        Peak at most 1. Without names: noise alone if `snr_db` is given, else digital silence.
    """
    samples = _sample_count(duration, rate)
    levels = [0.0] * len(names) if name_levels_db is None else list(name_levels_db)
    if len(levels) != len(names):
        raise ValueError(f"expected one level per source ({len(names)}), found {len(levels)}")
    wave = np.zeros(samples)
    for name, level in zip(names, levels, strict=True):
        wave += synthesise(rng, name, duration, rate) * 10 ** (level / 20)
    if snr_db is not None:
        power = np.mean(np.square(wave)) if names else RMS**2
        noise = _pink_noise(rng, samples, rate)
        wave += noise * np.sqrt(power / 10 ** ((snr_db if names else 0.0) / 10))
    return _limit(wave).astype(np.float32)


def describe(rng: Generator, names: Sequence[str]) -> str:
    """Write a caption of a sound from names (about 50 %), synonyms (35 %) and family words (15 %).

    One of several sources is left out in about a tenth of the captions; the order is random.
    """
    if not names:
        return vocabulary.SILENCE_CAPTIONS[rng.integers(len(vocabulary.SILENCE_CAPTIONS))]
    named = [names[i] for i in rng.permutation(len(names))]
    if len(named) > 1 and rng.random() < 0.1:
        named = named[:-1]
    phrases = [phrase_for(rng, name) for name in named]
    joined = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    return vocabulary.SOUND_TEMPLATES[rng.integers(len(vocabulary.SOUND_TEMPLATES))].format(joined)


def phrase_for(rng: Generator, name: str) -> str:
    """Draw how a caption calls a class: its name, a synonym, or (sounding classes) a family word."""
    kind = rng.random()
    if kind < 0.5:
        return name
    if kind < 0.85 or name in vocabulary.SILENT:
        options = vocabulary.SYNONYMS[name]
    else:
        options = vocabulary.FAMILY_WORDS[vocabulary.family_of(name)]
    return options[rng.integers(len(options))]


def _sample_count(duration: float, rate: int) -> int:
    samples = round(duration * rate)
    if samples < 1:
        raise ValueError(f"expected a positive duration, found {duration} s at {rate} Hz")
    return samples


def _limit(wave: np.ndarray) -> np.ndarray:
    """Scale a wave down as a whole if its peak exceeds 1, which keeps every ratio of levels."""
    return wave / max(1.0, np.abs(wave).max())


def _pink_noise(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Noise of power 1 whose density falls as 1/f above 20 Hz."""
    spectrum = rng.standard_normal(2 * (samples // 2 + 1)).view(np.complex128)
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    spectrum *= 1 / np.sqrt(np.maximum(frequency, 20.0))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, samples)
    return noise / max(np.sqrt(np.mean(np.square(noise))), 1e-12)


def _onsets(rng: Generator, samples: int, rate: int, per_second: float, jitter: float) -> np.ndarray:
    """Start samples of repeated events at a steady pace with jitter; the first may lie before the file."""
    gap = rate / per_second
    starts = np.arange(-gap * rng.random() - gap, samples, gap)
    return (starts + rng.uniform(-jitter, jitter, len(starts)) * gap).astype(int)


def _overlay(rng: Generator, samples: int, onsets: np.ndarray, events: Sequence[np.ndarray]) -> np.ndarray:
    """Add the events in turn at the onsets, each at a random level; what exceeds the file is cut."""
    wave = np.zeros(samples)
    for index, onset in enumerate(onsets):
        event = events[index % len(events)]
        first, last = max(onset, 0), min(onset + len(event), samples)
        if first < last:
            wave[first:last] += rng.uniform(0.7, 1.0) * event[first - onset : last - onset]
    return wave


def _partials(
    seconds: np.ndarray, pitches: Sequence[float], levels: Sequence[float], decays: Sequence[float]
):
    """Sum of decaying sines."""
    pitches, levels, decays = (np.asarray(x, dtype=float)[:, None] for x in (pitches, levels, decays))
    return (levels * np.exp(-seconds / decays) * np.sin(_TAU * pitches * seconds)).sum(0)


def _bell(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Bright inharmonic partials, sharp attack, two to three strokes a second."""
    seconds = np.arange(int(0.7 * rate)) / rate
    pitch, decay = rng.uniform(900, 1300), rng.uniform(0.14, 0.28)
    ratios = np.array([1.0, 2.0, 2.76, 4.18, 5.2]) * rng.uniform(0.98, 1.02, 5)
    event = _partials(seconds, pitch * ratios, [1, 0.8, 0.8, 0.5, 0.35], decay / np.sqrt(ratios))
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(2.0, 3.2), 0.08), [event])


def _gong(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Low dense partials that swell slowly and overlap into a shimmer."""
    seconds = np.arange(int(1.4 * rate)) / rate
    pitch = rng.uniform(150, 220)
    ratios = np.array([1.0, 1.21, 1.48, 1.87, 2.31, 2.91, 3.4]) * rng.uniform(0.98, 1.02, 7)
    swell = 1 - np.exp(-seconds / rng.uniform(0.1, 0.2))
    event = swell * _partials(seconds, pitch * ratios, [1, 0.8, 1, 0.8, 0.7, 0.6, 0.5], np.full(7, 0.45))
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(1.2, 1.7), 0.08), [event])


def _bird(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Quick rising or falling chirps between 2.8 and 6 kHz."""
    events = []
    for _ in range(3):
        seconds = np.arange(int(rng.uniform(0.05, 0.09) * rate)) / rate
        length = seconds[-1]
        low, high = rng.uniform(2800, 3600), rng.uniform(4300, 6000)
        start, end = (low, high) if rng.random() < 0.5 else (high, low)
        phase = start * seconds + (end - start) * seconds**2 / (2 * length)
        events.append(np.sin(np.pi * seconds / length) * np.sin(_TAU * phase))
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(6, 9), 0.15), events)


def _whistle(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """A held tone near 2 kHz that a pea makes warble, in long blasts with short gaps."""
    seconds = np.arange(int(rng.uniform(0.4, 0.6) * rate)) / rate
    pitch, warble, depth = rng.uniform(1700, 2300), rng.uniform(24, 36), rng.uniform(40, 80)
    phase = pitch * seconds - depth / (_TAU * warble) * np.cos(_TAU * warble * seconds)
    tone = np.sin(_TAU * phase) + 0.25 * np.sin(2 * _TAU * phase)
    edge = np.clip(np.minimum(seconds, seconds[-1] - seconds) / 0.02, 0, 1)
    event = edge * (0.7 + 0.3 * np.sin(_TAU * warble * seconds)) * tone
    return _overlay(rng, samples, _onsets(rng, samples, rate, 0.86 / len(seconds) * rate, 0.02), [event])


def _drum(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Low thumps whose pitch drops, three to five a second."""
    seconds = np.arange(int(0.25 * rate)) / rate
    pitch, drop = rng.uniform(85, 130), rng.uniform(1.2, 2.0)
    phase = pitch * (seconds + drop * 0.03 * (1 - np.exp(-seconds / 0.03)))
    skin = np.exp(-seconds / 0.09) * (np.sin(_TAU * phase) + 0.5 * np.sin(1.59 * _TAU * phase))
    event = skin + 0.25 * np.exp(-seconds / 0.015) * rng.standard_normal(len(seconds))
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(3, 5), 0.1), [event])


def _hammer(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Short hard clicks with a resonance of wood near 1.5 kHz, four to seven a second."""
    seconds = np.arange(int(0.12 * rate)) / rate
    pitch = rng.uniform(1100, 1700)
    body = _partials(seconds, [pitch, 1.71 * pitch, 2.6 * pitch], [1, 0.8, 0.6], [0.025, 0.02, 0.015])
    event = body + 0.9 * np.exp(-seconds / 0.01) * rng.standard_normal(len(seconds))
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(4, 6.5), 0.1), [event])


def _pulses(rng: Generator, samples: int, rate: int, pitch: float, levels: np.ndarray, wobble: float):
    """Harmonics of a slowly wandering pitch; the level vector has one entry per harmonic."""
    seconds = np.arange(samples) / rate
    slow = rng.uniform(1.0, 2.0)
    phase = pitch * (seconds + wobble / (_TAU * slow) * np.sin(_TAU * (slow * seconds + rng.random())))
    fundamental = np.exp(1j * _TAU * phase)
    offsets = np.exp(1j * rng.uniform(0, 0.8, len(levels)))
    wave = np.zeros(samples, dtype=complex)
    for level in (levels * offsets)[::-1]:  # Horner's rule: powers of one oscillator are its harmonics
        wave += level
        wave *= fundamental
    return wave.imag


def _engine(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """A low pulse train of firing strokes, 45 to 65 a second, dull, with a limp of two strokes."""
    pitch = rng.uniform(45, 65)
    harmonics = np.arange(1, 21)
    wave = _pulses(rng, samples, rate, pitch, 1 / harmonics**0.5, 0.02)
    seconds = np.arange(samples) / rate
    return wave * (1 + 0.7 * np.sin(_TAU * pitch / 4 * seconds + _TAU * rng.random()))


def _mower(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """A buzzing pulse train near 170 Hz with its strength between 0.7 and 3 kHz, beaten by a blade."""
    pitch = rng.uniform(150, 200)
    centre = rng.uniform(1100, 1600)
    frequency = pitch * np.arange(1, 19)
    levels = np.exp(-0.5 * (np.log2(frequency / centre) / 0.8) ** 2)
    wave = _pulses(rng, samples, rate, pitch, levels, 0.03)
    seconds = np.arange(samples) / rate
    return wave * (1 + 0.5 * np.sin(_TAU * rng.uniform(11, 16) * seconds + _TAU * rng.random()))


def _pluck(
    rng: Generator, rate: int, pitch: float, length: float, decay: float, brightness: float
) -> np.ndarray:
    """One plucked string: harmonics whose decay shortens with their order."""
    seconds = np.arange(int(length * rate)) / rate
    order = np.arange(1, 7)
    order = order[order * pitch < 0.45 * rate]
    levels = np.abs(np.sin(np.pi * order * rng.uniform(0.18, 0.25))) * brightness ** (order - 1) + 0.05
    return _partials(seconds, pitch * order, levels, decay / order**0.7)


def _guitar(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Strummed chords of low strings, three to four a second."""
    root = rng.uniform(165, 245)
    chord = [_pluck(rng, rate, root * ratio, 0.45, 0.22, 0.85) for ratio in (1.0, 1.2599, 1.4983)]
    delay = int(rng.uniform(0.008, 0.018) * rate)
    strum = np.zeros(len(chord[0]) + 2 * delay)
    for index, string in enumerate(chord):
        strum[index * delay : index * delay + len(string)] += string
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(2.8, 4.0), 0.08), [strum])


def _harp(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Arpeggios of single high strings, eight to eleven notes a second."""
    root = rng.uniform(480, 640)
    scale = (1.0, 1.2599, 1.4983, 2.0, 2.5198, 2.9966)
    if rng.random() < 0.3:
        scale = scale[::-1]
    notes = [_pluck(rng, rate, root * ratio, 0.3, 0.12, 0.35) for ratio in scale]
    return _overlay(rng, samples, _onsets(rng, samples, rate, rng.uniform(8, 11), 0.05), notes)


def _siren(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """A tone that wails up and down between about 550 and 1,400 Hz."""
    seconds = np.arange(samples) / rate
    middle, depth, pace = rng.uniform(900, 1050), rng.uniform(350, 430), rng.uniform(0.9, 1.5)
    phase = middle * seconds - depth / (_TAU * pace) * np.cos(_TAU * (pace * seconds + rng.random()))
    return np.sin(_TAU * phase) + 0.4 * np.sin(2 * _TAU * phase) + 0.2 * np.sin(3 * _TAU * phase)


def _alarm(rng: Generator, samples: int, rate: int) -> np.ndarray:
    """Two hard tones in turn, six to nine changes a second."""
    seconds = np.arange(samples) / rate
    low, change = rng.uniform(750, 900), rng.uniform(6, 9)
    high = low * rng.uniform(1.25, 1.4)
    second_tone = np.floor(change * seconds + 2 * rng.random()) % 2
    phase = np.cumsum(low + (high - low) * second_tone) / rate
    return np.sin(_TAU * phase) + 0.6 * np.sin(3 * _TAU * phase) + 0.4 * np.sin(5 * _TAU * phase)


_VOICES: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "bell": _bell, "gong": _gong, "bird": _bird, "whistle": _whistle, "drum": _drum, "hammer": _hammer,
    "engine": _engine, "mower": _mower, "guitar": _guitar, "harp": _harp, "siren": _siren, "alarm": _alarm,
}  # fmt: skip
