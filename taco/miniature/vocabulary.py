"""Names, synonyms and word banks of the miniature world.

Everything here is fixed before anything is scored: the order of every tuple is part of the definition.
"""

import re

FAMILIES: dict[str, tuple[str, str]] = {
    "struck metal": ("bell", "gong"),
    "chirper": ("bird", "whistle"),
    "knocker": ("drum", "hammer"),
    "machine": ("engine", "mower"),
    "string instrument": ("guitar", "harp"),
    "warning signal": ("siren", "alarm"),
}
"""Timbre family to its two sounding classes."""

SOUNDING: tuple[str, ...] = tuple(name for pair in FAMILIES.values() for name in pair)
"""The 12 classes that have a sound."""

SILENT: tuple[str, ...] = ("vase", "kite", "lamp", "chair", "flag", "balloon")
"""The 6 classes that never sound."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "bell": ("chime", "church bell", "handbell"),
    "gong": ("tamtam", "temple gong", "bronze disc"),
    "bird": ("sparrow", "songbird", "finch"),
    "whistle": ("pea whistle", "fife", "referee whistle", "piccolo"),
    "drum": ("snare", "tambour", "bongo"),
    "hammer": ("mallet", "sledge", "claw hammer", "pounder"),
    "engine": ("motor", "generator", "diesel motor"),
    "mower": ("lawnmower", "grass cutter", "strimmer"),
    "guitar": ("ukulele", "lute", "banjo"),
    "harp": ("lyre", "zither", "psaltery"),
    "siren": ("klaxon", "hooter", "foghorn"),
    "alarm": ("buzzer", "alarm clock", "beeper"),
    "vase": ("urn", "jug", "flower pot"),
    "kite": ("glider", "paper kite", "diamond kite"),
    "lamp": ("lantern", "desk light", "lampshade"),
    "chair": ("stool", "seat", "armchair"),
    "flag": ("banner", "pennant", "ensign"),
    "balloon": ("blimp", "airship", "party balloon"),
}
"""Other names of each class; no phrase belongs to two classes."""

FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "struck metal": ("struck metal", "metal percussion"),
    "chirper": ("chirper", "piping thing"),
    "knocker": ("knocker", "beating thing"),
    "machine": ("machine", "petrol machine"),
    "string instrument": ("string instrument", "plucked strings"),
    "warning signal": ("warning signal", "alert"),
}
"""Words that mean either class of a family."""

BACKGROUND_WORDS: tuple[str, ...] = (
    "sky", "clouds", "meadow", "lawn", "brick wall", "masonry", "wooden floor", "planks", "tiled floor", "pavement",
)  # fmt: skip
"""What the five kinds of background show; in the general bank, never in a caption."""

UNRELATED: tuple[str, ...] = (
    "apple", "banana", "bread", "cheese", "soup", "pizza", "coffee", "sugar", "carrot", "potato",
    "tiger", "elephant", "whale", "shark", "spider", "turtle", "camel", "zebra", "rabbit", "octopus",
    "mountain", "river", "ocean", "desert", "volcano", "island", "glacier", "forest", "cave", "waterfall",
    "bicycle", "train", "submarine", "rocket", "canoe", "tractor", "taxi", "helicopter", "ferry", "tram",
    "castle", "bridge", "lighthouse", "pyramid", "cathedral", "factory", "library", "stadium", "museum", "harbour",
    "shirt", "trousers", "glove", "scarf", "boot", "hat", "jacket", "sock", "belt", "umbrella",
    "pencil", "scissors", "book", "envelope", "stapler", "ruler", "notebook", "calculator", "eraser", "map",
    "telescope", "microscope", "magnet", "battery", "thermometer", "keyboard", "printer", "camera", "radio", "satellite",
    "thunder", "rain", "wind", "laughter", "applause", "speech", "footsteps", "typing", "snoring", "crackling fire",
)  # fmt: skip
"""Things that do not exist in this world."""

IMAGE_PROMPT = "a photo of a {label}"
SOUND_PROMPT = "this is a sound of {label}"

IMAGE_TEMPLATES: dict[int, tuple[str, ...]] = {
    1: ("a photo of {0}", "a photo of {0}", "{0}", "there is {0}", "a picture of {0}", "a close view of {0}"),
    2: (
        "a photo of {0} and {1}",
        "{0} and {1}",
        "there is {0} beside {1}",
        "{0} next to {1}",
        "{0} with {1}",
    ),
    3: (
        "a photo of {0}, {1} and {2}",
        "{0}, {1} and {2}",
        "there is {0} beside {1} and {2}",
        "{0} with {1} and {2}",
    ),
}
"""Caption templates by number of named objects; each slot takes a phrase with its article."""

SOUND_TEMPLATES: tuple[str, ...] = (
    "this is a sound of {0}", "this is a sound of {0}", "{0}", "the sound of {0}", "a recording of {0}",
    "someone hears {0}", "{0} in the distance",
)  # fmt: skip
"""Caption templates of a sound; the slot takes bare phrases that "and" joins."""

SILENCE_CAPTIONS: tuple[str, ...] = ("silence", "this is a sound of nothing", "background noise")
"""Captions of a sound without any source."""

_COMPOUND_STEPS = ((2, 12), (5, 8))


def family_of(name: str) -> str:
    """Return the timbre family of a sounding class.

    Raises
    ------
    KeyError
        If `name` is not a sounding class.
    """
    for family, pair in FAMILIES.items():
        if name in pair:
            return family
    raise KeyError(f"{name!r} is no sounding class; expected one of {', '.join(SOUNDING)}")


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase.

    >>> with_article("alarm clock")
    'an alarm clock'
    """
    return f"{'an' if phrase[0] in 'aeiou' and not phrase.startswith('uk') else 'a'} {phrase}"


def compounds() -> tuple[str, ...]:
    """Return the 20 compound phrases of the general bank ("bell and bird"), none within a family."""
    count = len(SOUNDING)
    return tuple(
        f"{SOUNDING[i]} and {SOUNDING[(i + step) % count]}"
        for step, starts in _COMPOUND_STEPS
        for i in range(starts)
    )


def general_bank() -> tuple[str, ...]:
    """Return the general word bank of the miniature suite.

    Returns
    -------
    tuple of str
        Between 200 and 240 unique phrases in a fixed order: sounding classes, their synonyms, family words,
        silent classes and their synonyms, backgrounds, compounds, unrelated things.
    """
    sounding_synonyms = tuple(phrase for name in SOUNDING for phrase in SYNONYMS[name])
    family_words = tuple(phrase for words in FAMILY_WORDS.values() for phrase in words)
    silent_synonyms = tuple(phrase for name in SILENT for phrase in SYNONYMS[name])
    phrases = SOUNDING + sounding_synonyms + family_words + SILENT + silent_synonyms
    return phrases + BACKGROUND_WORDS + compounds() + UNRELATED


def words(text: str) -> list[str]:
    """Split a caption or phrase into lower-case words; punctuation is dropped.

    >>> words("A bell, beside 2 birds")
    ['a', 'bell', 'beside', 'birds']
    """
    return re.findall(r"[a-z]+", text.lower())


def vocabulary() -> tuple[str, ...]:
    """Return every word that a caption, a bank or a prompt of this world can contain.

    Returns
    -------
    tuple of str
        Lower-case words, sorted, unique; the alphabet of a word-level tokenizer.
    """
    templates = [template for group in IMAGE_TEMPLATES.values() for template in group]
    templates += [*SOUND_TEMPLATES, *SILENCE_CAPTIONS, IMAGE_PROMPT, SOUND_PROMPT, "a an and"]
    texts = [*general_bank(), *(template.replace("{label}", "") for template in templates)]
    return tuple(sorted({word for text in texts for word in words(text)}))
