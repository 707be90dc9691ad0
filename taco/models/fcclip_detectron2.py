"""The official FC-CLIP, which stands on detectron2, behind the two calls of `taco.models.fcclip`: optional, to compare with.

None of its code is part of this package: detectron2 is installed by the user, and a checkout of FC-CLIP is named by
the environment variable ``FCCLIP_SRC`` (``envs/detectron2.yaml`` says how). The head, the pooling over masks and the
decoding are the official ones; the CLIP tower is the one that `taco.models.clip` has loaded, so that tokens and proposals
come from one pass and nothing is fetched. The parity test holds both implementations together, tower included.
"""

import importlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taco.models.backends import ENVIRONMENT, SOURCE, BackendError, require
from taco.models.clip import PADDING_MULTIPLE, PIXEL_MEAN, PIXEL_STD
from taco.models.fcclip import Backend, Proposals, frame_of, prompts_of_each
from taco.models.fcclip_weights import NOT_OURS, TOWER, check_tower, to_official
from taco.models.weights import WeightsError, check_state, read_state

COMPILED_ATTENTION = "MultiScaleDeformableAttention"


@cache
def official() -> SimpleNamespace:
    """Import the official code: ``model``, ``pixels``, ``decoder``, ``head`` and ``tower`` are its modules."""
    require()
    # The compiled attention is optional: where it fails, the official code computes the same in PyTorch. But the
    # import of its module has to succeed.
    if COMPILED_ATTENTION not in sys.modules and find_spec(COMPILED_ATTENTION) is None:
        sys.modules[COMPILED_ATTENTION] = ModuleType(COMPILED_ATTENTION)
    # The package without its own __init__, which registers data sets from files relative to the working directory.
    if "fcclip" not in sys.modules:
        package = ModuleType("fcclip")
        package.__path__ = [str(Path(os.environ[SOURCE]).resolve() / "fcclip")]
        sys.modules["fcclip"] = package
    names = {
        "model": "fcclip.fcclip",
        "pixels": "fcclip.modeling.pixel_decoder.msdeformattn",
        "decoder": "fcclip.modeling.transformer_decoder.fcclip_transformer_decoder",
        "head": "fcclip.modeling.meta_arch.fcclip_head",
        "tower": "fcclip.modeling.backbone.clip",
    }
    try:
        return SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})
    except ImportError as error:
        raise BackendError(
            f"the official FC-CLIP of {SOURCE}={os.environ[SOURCE]} cannot be imported: {error}. Install what it "
            f"names into the environment of {ENVIRONMENT}."
        ) from error


def build_head(sizes: Mapping[str, Any], channels: Sequence[int], embed_dim: int) -> nn.Module:
    """Build the official head, untrained, from the sizes that `taco.models.fcclip.FCCLIPHead` takes."""
    from detectron2.layers import ShapeSpec

    code = official()
    stages = zip(("res2", "res3", "res4", "res5"), channels, (4, 8, 16, 32), strict=True)
    shapes = {name: ShapeSpec(channels=width, stride=stride) for name, width, stride in stages}
    pixels = code.pixels.MSDeformAttnPixelDecoder(
        shapes,
        transformer_dropout=sizes["dropout"],
        transformer_nheads=sizes["num_attention_heads"],
        transformer_dim_feedforward=sizes["encoder_feedforward_dim"],
        transformer_enc_layers=sizes["encoder_layers"],
        conv_dim=sizes["feature_size"],
        mask_dim=sizes["mask_feature_size"],
        norm="GN",
        transformer_in_features=["res3", "res4", "res5"],
        common_stride=sizes["common_stride"],
    )
    decoder = code.decoder.MultiScaleMaskedTransformerDecoder(
        sizes["feature_size"],
        num_classes=1,
        hidden_dim=sizes["hidden_dim"],
        num_queries=sizes["num_queries"],
        nheads=sizes["num_attention_heads"],
        dim_feedforward=sizes["dim_feedforward"],
        # One prediction is made of the learnt queries alone, before the first layer.
        dec_layers=sizes["decoder_layers"] - 1,
        pre_norm=sizes["pre_norm"],
        mask_dim=sizes["mask_feature_size"],
        enforce_input_project=sizes["enforce_input_projection"],
        clip_embedding_dim=embed_dim,
    )
    return code.head.FCCLIPHead(
        shapes,
        num_classes=1,
        pixel_decoder=pixels,
        transformer_predictor=decoder,
        transformer_in_feature="multi_scale_pixel_decoder",
    )


def build(architecture: str | Path, clip) -> nn.Module:
    """Build the official model, its head untrained, its tower that of a `taco.models.clip.FrozenCLIP`."""
    sizes = json.loads(Path(architecture).read_text())
    head = build_head(sizes, clip.channels, clip.model.text_projection.shape[-1])
    # Its own constructor would build a second tower and fetch its weights.
    tower = official().tower.CLIP.__new__(official().tower.CLIP)
    nn.Module.__init__(tower)
    tower.clip_model, tower.model_name, tower.model_type = clip.model, "convnext", "convnext"
    return _assemble(tower, head)


def _assemble(backbone: nn.Module, head: nn.Module) -> nn.Module:
    """The official model around a backbone and a head, for semantic maps alone, padding to multiples of 32."""
    nameless = SimpleNamespace(stuff_classes=["thing"])
    return (
        official()
        .model.FCCLIP(
            backbone=backbone,
            sem_seg_head=head,
            criterion=None,
            num_queries=0,
            object_mask_threshold=0.0,
            overlap_threshold=0.0,
            train_metadata=nameless,
            test_metadata=nameless,
            size_divisibility=PADDING_MULTIPLE,
            sem_seg_postprocess_before_inference=True,
            pixel_mean=PIXEL_MEAN,
            pixel_std=PIXEL_STD,
            semantic_on=True,
            panoptic_on=False,
            instance_on=False,
            test_topk_per_image=0,
            geometric_ensemble_alpha=0.4,
            geometric_ensemble_beta=0.8,
            ensemble_on_valid_mask=False,
        )
        .eval()
    )


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """The official model's tensors outside CLIP, which its checkpoint has to hold."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(TOWER)}


def load(spec: Mapping[str, Any], clip, device: str | torch.device = "cpu") -> "OfficialFCCLIP":
    """Load the official FC-CLIP on top of a loaded CLIP; arguments and errors as of `taco.models.fcclip.load`.

    Raises
    ------
    BackendError
        Where detectron2 or the checkout is missing.
    taco.models.weights.WeightsError
        When a tensor is missing, unknown, of another shape, or of another tower.
    """
    require()
    if spec.get("precision", "float32") != "float32":
        raise BackendError(
            f"models.fcclip.precision: expected float32 with the backend detectron2, found {spec['precision']}. The "
            "backend transformers knows the others."
        )
    model = build(spec["architecture"], clip)
    expected = own_state(model)
    if Path(spec["weights"]).suffix == ".safetensors":
        state = _named_officially(spec["weights"], expected)
    else:
        state = read_state(spec["weights"])
        check_tower(spec["weights"], state, clip.model.state_dict())
        state = {name: value for name, value in state.items() if not name.startswith(NOT_OURS)}
    check_state(spec["weights"], state, expected)
    model.load_state_dict(state, strict=False)  # of all but the tower, which is loaded already
    return OfficialFCCLIP(model.to(device), clip)


def _named_officially(path: str | Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        return to_official(read_state(path), expected)
    except KeyError as error:
        raise WeightsError(f"{path}: {error.args[0]}") from None


class OfficialFCCLIP(Backend):
    """The official model as `taco.models.fcclip.FCCLIP`; the module's `decode` is its second call.

    Parameters
    ----------
    model : fcclip.fcclip.FCCLIP
        See `build`.
    clip : taco.models.clip.FrozenCLIP
    """

    def __init__(self, model: nn.Module, clip):
        self.model = model.eval().requires_grad_(False)
        self.clip = clip

    def _propose_one(self, pyramid: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        predictor, found = self.model.sem_seg_head.predictor, []
        # Any classes do: the embeddings that meet them are what is wanted.
        void = F.normalize(self.model.void_embedding.weight, dim=-1).expand(2, -1)
        features = {name: value for name, value in pyramid.items() if name != "dense"}
        hook = predictor.class_embed.register_forward_hook(
            lambda module, inputs, output: found.append(output)
        )
        try:
            classes = {"text_classifier": void, "num_templates": [1]}
            masks = self.model.sem_seg_head({**features, **classes})["pred_masks"]
        finally:
            hook.remove()
        dense = pyramid["dense"]
        small = F.interpolate(masks, size=dense.shape[-2:], mode="bilinear", align_corners=False)
        pooled = self.model.mask_pooling(dense, small)
        return masks, found[-1], self.model.backbone.visual_prediction_forward(pooled)

    def constants(self) -> dict[str, Tensor]:
        """See `taco.models.fcclip.Backend.constants`."""
        return {
            "void_embedding": self.model.void_embedding.weight[0].clone(),
            "fcclip_logit_scale": self.model.sem_seg_head.predictor.logit_scale.exp().clamp(max=100.0),
        }


@torch.no_grad()
def decode(
    proposals: Proposals,
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
    """Segment one image by sets of prompts; arguments and result as of `taco.models.fcclip.decode`.

    Notes
    -----
    The official model runs from its own ``forward``, set by set, on a backbone and a head that return the
    proposals. It multiplies probabilities, not their logarithms: where one underflows its map is NaN.
    """
    padded_height, padded_width, height, width = frame_of(proposals)
    groups = torch.arange(prompts.shape[1]) if groups is None else groups.cpu()
    counts = prompts_of_each(groups, prompts.shape[1])
    backbone, head = _ReplayedBackbone(proposals, clip_scale), _ReplayedHead(proposals, fcclip_scale)
    model = _assemble(backbone, head).to(prompts.device)
    model.size_divisibility = 0  # the image stands in for its padded frame
    model.void_embedding.weight.copy_(void[None])
    model.geometric_ensemble_alpha, model.geometric_ensemble_beta = alpha, beta
    inside = torch.zeros(len(counts)) if overlap is None else overlap
    model.category_overlapping_mask, model.test_num_templates = inside.long(), counts
    blank = torch.zeros(3, padded_height, padded_width)
    maps = []
    for classes in prompts[:, groups.argsort(stable=True)]:
        model.test_text_classifier = F.normalize(classes, dim=-1)
        maps.append(model([{"image": blank}])[0]["sem_seg"][:, :height, :width])
    return torch.stack(maps)


class _ReplayedBackbone(nn.Module):
    """Stands where the tower is: the pooled features of proposals are known already."""

    model_name = "convnext"

    def __init__(self, proposals: Proposals, clip_scale: float):
        super().__init__()
        self.proposals = proposals
        self.dim_latent = proposals.pooled.shape[-1]
        self.clip_model = SimpleNamespace(logit_scale=_logarithm(clip_scale))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"clip_vis_dense": self.proposals.masks.new_zeros(1, 1, 1, 1)}

    def visual_prediction_forward(self, features: Tensor) -> Tensor:
        return self.proposals.pooled


class _ReplayedHead(nn.Module):
    """Stands where the head is: masks and embeddings are known already, their classification is the official one."""

    def __init__(self, proposals: Proposals, fcclip_scale: float):
        super().__init__()
        self.proposals, self.scale = proposals, _logarithm(fcclip_scale)

    def forward(self, features: Mapping[str, Any]) -> dict[str, Tensor]:
        logits = official().decoder.get_classification_logits(
            self.proposals.class_embeddings,
            features["text_classifier"],
            self.scale,
            features["num_templates"],
        )
        return {"pred_logits": logits, "pred_masks": self.proposals.masks}


def _logarithm(scale: float) -> Tensor:
    """In double precision, as the official code takes the exponential again."""
    return torch.tensor(math.log(scale), dtype=torch.float64)
