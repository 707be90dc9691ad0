"""Dense CLIP: where the image looks like the class that the sound is named. No segmenter, nothing trained.

CLAP names the sound among the dataset's classes; each of CLIP's dense tokens is compared with all class names. It says
what a segmenter adds.
"""

import numpy as np


def predict(sample, state):
    """The heard class's cosine at each token; on semantic tasks the tokens at which it is the closest class."""
    found = sample.features
    heard = int((unit(found.class_sound) @ unit(found.sound_embedding)).argmax())
    cosines = unit(found.image_tokens) @ unit(found.class_image).T  # [rows, columns, J]
    if sample.kind == "binary":
        return cosines[..., heard]
    return (cosines.argmax(-1) == heard) * (heard + sample.first_id)


def unit(vectors):
    """Vectors of length 1 along the last axis; a zero vector stays."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float32).tiny)
