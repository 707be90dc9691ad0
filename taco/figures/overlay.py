"""A mask over its image, for people's own pictures and videos. Neither torch nor matplotlib."""

import numpy as np
from scipy import ndimage

TINT = np.array([0, 114, 178])  # the colour of predictions in all figures
STRENGTH = 0.35
DIMMED = 0.72
LINE = 250  # one pixel of outline for so many of the image's shorter side


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Tint what is inside a mask, draw a line around it and dim the rest; an empty mask dims everything.

    Parameters
    ----------
    image : uint8 [H, W, 3]
    mask : bool [H, W]

    Returns
    -------
    uint8 [H, W, 3]
    """
    pixels = image.astype(np.float32)
    inside = (1 - STRENGTH) * pixels + STRENGTH * TINT
    picture = np.where(mask[..., None], inside, DIMMED * pixels)
    width = max(1, round(min(mask.shape) / LINE))
    edge = ndimage.binary_dilation(mask, iterations=width) & ~mask
    picture[edge] = 255
    return np.rint(picture).astype(np.uint8)
