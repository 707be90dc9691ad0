"""FC-CLIP without compiled extensions: class-agnostic proposals once per image, decoding per prompt set.

The head is built of transformers' Mask2Former classes (`config/models/fcclip_cocopan.json` gives the
paper's size); the CLIP tower is the frozen one of `taco.models.clip`. Proposals do not depend on the
prompts, so every seed, variant and word bank costs a few small matrix products (Sec. 3.4).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taco.models.fcclip_weights import read_head
from taco.models.graphs import Captured
from taco.models.precision import TF32, products

PRECISIONS = ("float32", TF32)


@dataclass(frozen=True)
class Proposals:
    """What FC-CLIP knows of images before it is given a prompt.

    Attributes
    ----------
    masks : float32 [B, Q, h, w]
        Mask logits at a quarter of the padded image's resolution.
    class_embeddings : float32 [B, Q, D]
        In-vocabulary embeddings, not normalised.
    pooled : float32 [B, Q, D]
        CLIP features pooled over each mask, in the shared space, not normalised.
    geometry : list of (Hp, Wp, H, W)
        Padded height and width, and the image's own within them.
    """

    masks: Tensor
    class_embeddings: Tensor
    pooled: Tensor
    geometry: list[tuple[int, int, int, int]]


class FCCLIPHead(nn.Module):
    """Pixel decoder, masked-attention decoder and class heads of FC-CLIP.

    Parameters
    ----------
    feature_channels : sequence of int
        Channels of the CLIP trunk's four stages.
    embed_dim : int
        Width of CLIP's shared space.
    **mask2former
        Sizes, as arguments of ``transformers.Mask2FormerConfig``.
    """

    def __init__(self, feature_channels: Sequence[int], embed_dim: int, **mask2former: Any):
        super().__init__()
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former import modeling_mask2former as library

        config = Mask2FormerConfig(**mask2former)
        hidden = config.hidden_dim
        if config.feature_size != hidden or config.enforce_input_projection:
            # The library keeps such projections outside its state dict, so they would stay random after loading.
            raise ValueError(
                f"FC-CLIP head: expected feature_size equal to hidden_dim and no enforced input projection, found "
                f"{config.feature_size}, {hidden} and {config.enforce_input_projection}"
            )
        self.pixel_decoder = library.Mask2FormerPixelDecoder(config, list(feature_channels))
        self.transformer = library.Mask2FormerTransformerModule(config.feature_size, config)
        self.mask_pooling_proj = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden))
        self.class_embed = library.Mask2FormerMLPPredictionHead(hidden, hidden, embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.void_embedding = nn.Embedding(1, embed_dim)
        # transformers leaves this one uninitialised outside from_pretrained.
        nn.init.normal_(self.pixel_decoder.level_embed)

    def forward(self, pyramid: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Predict masks and class embeddings.

        Parameters
        ----------
        pyramid : mapping
            ``res2`` to ``res5``, float32 [B, C, h, w].

        Returns
        -------
        masks : list of float32 [B, Q, h, w]
            Mask logits after each decoder layer; the last is the prediction, the rest serve training.
        class_embeddings : float32 [B, Q, D]
        """
        levels = [pyramid[name] for name in ("res2", "res3", "res4", "res5")]
        pixels = self.pixel_decoder(
            levels,
            output_hidden_states=False,
            output_attentions=False,
            return_dict=True,
        )
        decoded = self.transformer(list(pixels.multi_scale_features), pixels.mask_features)
        masks = list(decoded.masks_queries_logits)
        queries = decoded.intermediate_hidden_states[-1].transpose(0, 1)
        pooled = mask_pooling(pixels.mask_features, masks[-1])
        return masks, self.class_embed(self.mask_pooling_proj(pooled) + queries)


def mask_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """Mean of features over each hard mask.

    Parameters
    ----------
    features : float32 [B, C, h, w]
    masks : float32 [B, Q, h', w']
        Logits; resized bilinearly to the features' size, a pixel belongs where the logit is > 0.

    Returns
    -------
    float32 [B, Q, C]
        An empty mask gives zeros.
    """
    if masks.shape[-2:] != features.shape[-2:]:
        masks = F.interpolate(masks, size=features.shape[-2:], mode="bilinear", align_corners=False)
    inside = (masks.detach() > 0).to(features.dtype)
    weights = inside / (inside.sum(dim=(-1, -2), keepdim=True) + 1e-8)
    return torch.einsum("bchw,bqhw->bqc", features, weights)


def build(architecture: str | Path, clip) -> FCCLIPHead:
    """Build an untrained head for a `taco.models.clip.FrozenCLIP` from a JSON file of Mask2Former sizes."""
    sizes = json.loads(Path(architecture).read_text())
    return FCCLIPHead(clip.channels, clip.model.text_projection.shape[-1], **sizes).eval()


def load(spec: Mapping[str, Any], clip, device: str | torch.device = "cpu") -> "FCCLIP":
    """Load a frozen FC-CLIP on top of a loaded CLIP.

    Parameters
    ----------
    spec : mapping
        ``architecture`` (see `build`), ``weights`` (safetensors with this module's names, or the
        official ``.pth``, whose names are mapped), ``backend`` (``transformers``), ``precision`` (see `FCCLIP`).
    clip : taco.models.clip.FrozenCLIP
    device : str or torch.device

    Raises
    ------
    taco.models.weights.WeightsError
        When a tensor is missing, unknown, of another shape, or of another tower.
    """
    head = build(spec["architecture"], clip)
    head.load_state_dict(read_head(spec["weights"], head.state_dict(), clip.model.state_dict()))
    return FCCLIP(head.to(device), clip, spec.get("precision", "float32"))


class Backend(ABC):
    """A frozen FC-CLIP, whichever code it stands on: `propose` once per image, its module's `decode` per set of prompts."""

    # Not an inference tensor, should the caller be in that mode: a captured graph keeps what it was captured with.
    @torch.inference_mode(False)
    @torch.no_grad()
    def propose(self, pyramid: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]) -> Proposals:
        """Segment everything, without names.

        Parameters
        ----------
        pyramid : mapping
            ``res2`` to ``res5`` and ``dense`` of padded images, float32 [B, C, h, w].
        sizes : sequence of (H, W)
            Each image's size within its padding.

        Returns
        -------
        Proposals

        Notes
        -----
        Images run one by one: the decoder thresholds its masks, so rounding that depends on the
        batch would be amplified, and a result may not depend on its neighbours.
        """
        geometry = geometry_of(pyramid, sizes)
        pyramid = {name: value.float() for name, value in pyramid.items()}
        images = [{name: value[i : i + 1] for name, value in pyramid.items()} for i in range(len(sizes))]
        # In float32 even under a caller's autocast: the decoder thresholds its masks, and its position
        # embeddings are computed in the input's type.
        with torch.autocast(pyramid["dense"].device.type, enabled=False):
            rows = list(map(self._runner(images[0]), images))
        return Proposals(*(torch.cat(column) for column in zip(*rows, strict=True)), geometry)

    def _runner(self, image: Mapping[str, Tensor]) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]:
        """What makes the proposals of images like this one: `_propose_one`, or the same in another way."""
        return self._propose_one

    @abstractmethod
    def _propose_one(self, pyramid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Masks, class embeddings and pooled features of the one image of a float32 pyramid."""

    @abstractmethod
    def constants(self) -> dict[str, Tensor]:
        """``void_embedding`` [D] and ``fcclip_logit_scale`` (at most 100), all that `decode` needs beside proposals."""


class FCCLIP(Backend):
    """FC-CLIP of transformers' classes, frozen.

    Parameters
    ----------
    head : FCCLIPHead
    clip : taco.models.clip.FrozenCLIP
    precision : {"float32", "tf32"}
        Of the head's products on a GPU, see `taco.models.precision`.

    Notes
    -----
    On CUDA the 2,000 kernels of an image are captured as a graph and replayed, as launching them takes longer than they
    do; the host waits for nothing.
    """

    def __init__(self, head: FCCLIPHead, clip, precision: str = "float32"):
        if precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
        self.head = head.eval().requires_grad_(False)
        self.clip = clip
        self.precision = precision
        # For an image's shapes and a precision; those of one suite are all alike, so only the last is kept.
        self._captured: tuple[Any, Captured] | None = None

    def _runner(self, image: Mapping[str, Tensor]) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]:
        return self._graph_for(image) if self.clip.device.type == "cuda" else self._propose_one

    def _graph_for(self, image: Mapping[str, Tensor]) -> Captured:
        """The captured head for images of these shapes."""
        key = (self.precision, {name: tuple(value.shape) for name, value in image.items()})
        if self._captured is None or self._captured[0] != key:
            self._captured = None  # gives its memory back first
            self._captured = key, Captured(self._propose_one, image)
        return self._captured[1]

    def _propose_one(self, pyramid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        # The decoder draws a layer-drop number from the global generator even in evaluation.
        with products(self.precision, self.clip.device), torch.random.fork_rng(devices=[]):
            masks, class_embeddings = self.head(pyramid)
            pooled = self.clip.project(mask_pooling(pyramid["dense"], masks[-1]))
        return masks[-1], class_embeddings, pooled

    def constants(self) -> dict[str, Tensor]:
        """See `Backend.constants`."""
        return {
            "void_embedding": self.head.void_embedding.weight[0].clone(),
            "fcclip_logit_scale": self.head.logit_scale.exp().clamp(max=100.0),
        }


def geometry_of(
    pyramid: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int, int]]:
    """Padded and own size of each image of a pyramid; raises unless every image has a size within its padding."""
    stride = 4
    batch, (height, width) = len(pyramid["res2"]), (side * stride for side in pyramid["res2"].shape[-2:])
    if len(sizes) != batch or any(not (0 < h <= height and 0 < w <= width) for h, w in sizes):
        raise ValueError(
            f"propose: expected the sizes of {batch} images within {height}×{width}, found {list(sizes)}"
        )
    return [(height, width, *size) for size in sizes]


def classify(
    class_embeddings: Tensor,
    pooled: Tensor,
    prompts: Tensor,
    *,
    void: Tensor,
    clip_scale: float,
    fcclip_scale: float,
    alpha: float = 0.4,
    beta: float = 1.0,
    overlap: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Probability of each class for each proposal.

    Parameters
    ----------
    class_embeddings, pooled : float32 [Q, D]
    prompts : float32 [P, K, D]
        P sets of K prompts each, of any norm; a zero prompt has cosine 0 with everything.
    void : float32 [D]
        FC-CLIP's embedding of "nothing".
    clip_scale, fcclip_scale : float
        Factors of the cosines out of and in vocabulary.
    alpha, beta : float
        Weight of the out-of-vocabulary probability in the geometric ensemble, for classes inside and
        outside FC-CLIP's training vocabulary. FC-CLIP's own are 0.4 and 0.8; the authors of TACO
        take ``beta=1`` and every class as outside.
    overlap : bool [G], optional
        Which classes lie inside the training vocabulary; None: none.
    groups : int64 [K], optional
        Class 0 .. G - 1 of each prompt: synonyms of one class share a number, and the best of them counts,
        as in FC-CLIP (which averages a synonym's templates before, as the caller may). None: every prompt
        is a class of its own, G = K.

    Returns
    -------
    float32 [P, Q, G]
        Softmax over G classes and void, void dropped: rows sum to at most 1.

    Notes
    -----
    Computed in log space, where the official form ``log(p_in^(1-b) · p_out^b)`` underflows.
    """
    inside = cosine_logits(class_embeddings, prompts, fcclip_scale, groups)
    outside = cosine_logits(pooled, prompts, clip_scale, groups)
    nothing = cosine_logits(class_embeddings, void[None, None], fcclip_scale).expand(len(prompts), -1, -1)
    p_void = torch.cat([inside, nothing], dim=-1).softmax(-1)[..., -1:]
    weight = prompts.new_full((inside.shape[-1],), beta)
    if overlap is not None:
        weight[overlap] = alpha
    log_classes = weight * outside.log_softmax(-1) + (1 - weight) * inside.log_softmax(-1)
    joint = torch.cat([log_classes.softmax(-1) * (1 - p_void), p_void], dim=-1)
    return (joint + 1e-8).log().softmax(-1)[..., :-1]


def cosine_logits(embeddings: Tensor, prompts: Tensor, scale: float, groups: Tensor | None = None) -> Tensor:
    """Scaled cosine of each proposal with each class; a class's prompts count by their best.

    Parameters
    ----------
    embeddings : float32 [Q, D]
    prompts : float32 [P, K, D]
    scale : float
    groups : int64 [K], optional
        See `classify`.

    Returns
    -------
    float32 [P, Q, G]
    """
    cosines = torch.einsum("qd,pkd->pqk", F.normalize(embeddings, dim=-1), F.normalize(prompts, dim=-1))
    return scale * (cosines if groups is None else best_of_group(cosines, groups))


def best_of_group(logits: Tensor, groups: Tensor) -> Tensor:
    """Maximum over the prompts of each class.

    Parameters
    ----------
    logits : float32 [..., K]
    groups : int64 [K]
        Class of each prompt; every number from 0 to the largest must occur.

    Returns
    -------
    float32 [..., G]
    """
    classes = len(prompts_of_each(groups, logits.shape[-1]))
    empty = logits.new_full((*logits.shape[:-1], classes), -torch.inf)
    return empty.scatter_reduce(-1, groups.expand(logits.shape), logits, "amax")


def prompts_of_each(groups: Tensor, prompts: int) -> list[int]:
    """Count the prompts of each class; raise unless ``groups`` gives each of them one of G classes, none empty."""
    whole = groups.shape == (prompts,) and int(groups.min()) >= 0
    counts = groups.bincount().tolist() if whole else [0]
    if 0 in counts:
        raise ValueError(
            f"groups: expected a class 0 .. G - 1 for each of {prompts} prompts, every class with at "
            f"least one; found {groups.tolist()}"
        )
    return counts


def decode(proposals: Proposals, prompts: Tensor, **ensemble: Any) -> Tensor:
    """Segment one image by many sets of prompts at once.

    Parameters
    ----------
    proposals : Proposals
        Of one image (B = 1).
    prompts : float32 [P, K, D]
    **ensemble
        ``void``, ``clip_scale``, ``fcclip_scale``, ``alpha``, ``beta``, ``overlap``, ``groups``: see `classify`.

    Returns
    -------
    float32 [P, G, H, W]
        ``Σ_q p[q, k] · sigmoid(mask_q)``, masks upsampled bilinearly to the padded input and cropped.
    """
    masks = soft_masks(proposals)
    classes = classify(proposals.class_embeddings[0], proposals.pooled[0], prompts, **ensemble)
    return torch.einsum("pqk,qhw->pkhw", classes, masks)


def soft_masks(proposals: Proposals) -> Tensor:
    """Masks of one image's proposals at full size, float32 [Q, H, W] in 0..1."""
    padded_height, padded_width, height, width = frame_of(proposals)
    full = F.interpolate(
        proposals.masks,
        (padded_height, padded_width),
        mode="bilinear",
        align_corners=False,
    )
    return full[0, :, :height, :width].sigmoid()


def frame_of(proposals: Proposals) -> tuple[int, int, int, int]:
    """Geometry of the one image of proposals; raises unless they are of one."""
    if len(proposals.geometry) != 1:
        raise ValueError(
            f"decode: expected the proposals of one image, found {len(proposals.geometry)} images"
        )
    return proposals.geometry[0]
