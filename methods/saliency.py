"""Saliency without sound: the spectral residual of the image (Hou and Zhang, CVPR 2007).

It never listens, so it says how far a benchmark can be won by looking at what stands out.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 64  # pixels; the paper's scale
AVERAGE = 3  # side of the mean filter over the log spectrum
BLUR = 2.5  # pixels; standard deviation of the final smoothing


def predict(sample, state):
    """What the image's log spectrum has beyond its local mean, back in the image; float [64, 64]."""
    grey = np.asarray(Image.fromarray(sample.image).convert("L").resize((SIDE, SIDE)), dtype=np.float64)
    spectrum = np.fft.fft2(grey)
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - ndimage.uniform_filter(log_amplitude, AVERAGE, mode="wrap")
    salient = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return ndimage.gaussian_filter(salient, BLUR)
