"""Where the trained CLIP looks: how well its dense tokens tell an object from its background. What the model card says of it."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from taco.miniature import scenes, vocabulary
from taco.models.clip import FrozenCLIP


@dataclass(frozen=True)
class Localisation:
    """Means over images; tokens clamped at 0, as the method sees them. Inside: of an object; outside: of the background.

    Attributes
    ----------
    cosine_auc : float
        Chance, 0 to 1, that a token inside is closer to the object's name than one outside; a half is chance.
    probability_auc : float
        The same of the name's softmax among all names.
    names_cosine : float
        Mean cosine between names.
    mean_inside, mean_outside : float
        Cosine of tokens to the names' mean.
    features_inside, features_outside : float
        Norm of the trunk's features, before the head's normalisation.
    tokens_inside, tokens_outside : float
        Norm of the tokens, behind it.
    images : int
    """

    cosine_auc: float
    probability_auc: float
    names_cosine: float
    mean_inside: float
    mean_outside: float
    features_inside: float
    features_outside: float
    tokens_inside: float
    tokens_outside: float
    images: int

    @classmethod
    def of(cls, records: list[dict[str, float]]) -> Self:
        """Mean of what `look` found in each image."""
        names = [field.name for field in fields(cls) if field.name != "images"]
        return cls(
            **{name: float(np.mean([r[name] for r in records])) for name in names}, images=len(records)
        )


def auc(values: np.ndarray, inside: np.ndarray) -> float:
    """Area under the ROC curve of values [N] for the tokens inside, bool [N]; ties count a half.

    Examples
    --------
    >>> auc(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, False, False, True]))
    0.5
    """
    count = inside.sum()
    return float((rankdata(values)[inside].sum() - count * (count + 1) / 2) / (count * (~inside).sum()))


def localisation(clip: FrozenCLIP, seed: int, count: int = 120) -> Localisation:
    """Measure images with one object each.

    Parameters
    ----------
    clip : FrozenCLIP
    seed : int
        Of the scenes.
    count : int
        Images; the classes take turns.
    """
    names = vocabulary.SOUNDING + vocabulary.SILENT
    prompts = [vocabulary.IMAGE_PROMPT.format(label=name) for name in names]
    texts = F.normalize(clip.encode_text(prompts), dim=-1)
    found = []
    for index in range(count):
        rng = np.random.default_rng((seed, 4, index))
        truth = index % len(names)
        image, masks = scenes.render(scenes.sample_scene(rng, sounding=[names[truth]], size=clip.image_size))
        found.append(look(clip, image, masks[0], texts, truth))
    return Localisation.of(found)


@torch.no_grad()
def look(
    clip: FrozenCLIP, image: np.ndarray, mask: np.ndarray, texts: Tensor, truth: int
) -> dict[str, float]:
    """`Localisation` of one image uint8 [H, W, 3] with the mask [H, W] of its object, text ``truth`` of texts [J, D].

    A token is inside where the object covers more than half of its square, outside where it covers none of it.
    """
    pixels, _ = clip.prepare([image])
    dense = clip.pyramid(pixels)["dense"]
    stride = pixels.shape[-1] // dense.shape[-1]
    missing = (pixels.shape[-2] - mask.shape[0], pixels.shape[-1] - mask.shape[1])
    whole = np.pad(mask.astype(float), [(0, missing[0]), (0, missing[1])])
    rows, columns = dense.shape[-2:]
    covered = whole.reshape(rows, stride, columns, stride).mean((1, 3)).ravel()
    known = (covered == 0) | (covered > 0.5)
    inside = covered[known] > 0.5
    tokens = clip.tokens(dense)[0].clamp(min=0)[known]
    cosines = F.normalize(tokens, dim=-1) @ texts.T
    chances = (clip.logit_scale * cosines).softmax(-1)
    means = {
        "mean": F.normalize(tokens, dim=-1) @ texts.mean(0),
        "features": dense[0].flatten(1).T[known].norm(dim=-1),
        "tokens": tokens.norm(dim=-1),
    }
    pairs = texts @ texts.T
    return {
        "cosine_auc": auc(cosines[:, truth].numpy(), inside),
        "probability_auc": auc(chances[:, truth].numpy(), inside),
        "names_cosine": float((pairs.sum() - pairs.trace()) / (len(texts) * (len(texts) - 1))),
        **{f"{name}_inside": float(values[inside].mean()) for name, values in means.items()},
        **{f"{name}_outside": float(values[~inside].mean()) for name, values in means.items()},
    }


def paragraph(found: Localisation) -> str:
    """What the model card says of it."""
    return f"""## Where the dense tokens look

A token's cosine to the object's own name says hardly where the object is: a token inside is closer to it than one of the
background with a chance of {found.cosine_auc:.2f} (a half is chance; {found.images} held-out images of one object). Only the comparison with the
other names tells: {found.probability_auc:.2f} for the name's softmax among all {len(vocabulary.SOUNDING + vocabulary.SILENT)}. The names share a direction (their mean cosine is {found.names_cosine:.2f}), to
which the background is nearer ({found.mean_outside:.2f}) than the object ({found.mean_inside:.2f}). And the head normalises each token on its own: features
of norm {found.features_outside:.0f} outside and {found.features_inside:.0f} inside the object become tokens of norm {found.tokens_outside:.0f} and {found.tokens_inside:.0f}, so that background weighs as much as
objects do. Training never asked for more: it compared one mean over all tokens with the names.
"""
