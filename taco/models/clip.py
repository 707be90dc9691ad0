"""CLIP with a ConvNeXt tower: dense tokens in the shared space, feature pyramid, text embeddings.

The tower is open_clip's own. One pass of its trunk gives all that TACO and the FC-CLIP head need;
a token is one pixel of the last stage, taken alone through the tower's pooling head, norm and
projection, so that it lies in the space shared with text (Sec. 3.3).
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from open_clip.tokenizer import HFTokenizer
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.nn import functional as F

from taco import entries
from taco.data import media
from taco.models.precision import PRECISIONS, products
from taco.models.weights import check_folder, load_weights

PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.3231630)
PADDING_MULTIPLE = 32


def register_backbone(name: str, arguments: Mapping[str, Any]) -> str:
    """Register a ConvNeXt of arbitrary size with timm, as open_clip knows its towers by name only.

    Parameters
    ----------
    name : str
        Stem of the name.
    arguments : mapping
        Arguments of ``timm.models.convnext.ConvNeXt`` (depths, dims, output_stride, ...).

    Returns
    -------
    str
        The name under which ``timm.create_model`` finds it. It depends on the arguments too: a second
        size or stride in the same process must not get the first one's.
    """
    name = f"{name}_{zlib.crc32(json.dumps(arguments, sort_keys=True).encode()):08x}"

    def entrypoint(pretrained: bool = False, **kwargs: Any) -> ConvNeXt:
        if pretrained:
            raise ValueError(f"{name} has no pretrained weights in timm")
        kwargs = {key: value for key, value in kwargs.items() if not key.startswith("pretrained_cfg")}
        kwargs.pop("cache_dir", None)
        model = ConvNeXt(**{**arguments, **kwargs})
        model.default_cfg = {"pool_size": (4, 4)}
        return model

    entrypoint.__name__ = name
    entrypoint.__module__ = __name__
    if not timm.is_model(name):
        timm.models.register_model(entrypoint)
    return name


def build(architecture: str | Path, **backbone: Any) -> open_clip.CLIP:
    """Build an untrained CLIP.

    Parameters
    ----------
    architecture : str or Path
        A name known to open_clip (``convnext_large_d_320``) or a JSON file in open_clip's format,
        with an extra key ``backbone`` holding the sizes of a ConvNeXt to register.
    **backbone
        Overrides of the JSON file's ``backbone`` (training uses another output stride).

    Returns
    -------
    open_clip.CLIP
        In evaluation mode, parameters random.
    """
    if not str(architecture).endswith(".json"):
        return open_clip.create_model(str(architecture), pretrained=None).eval()
    config = json.loads(Path(architecture).read_text())
    tower = config["vision_cfg"]
    tower["timm_model_name"] = register_backbone(
        tower["timm_model_name"], {**config.pop("backbone"), **backbone}
    )
    return open_clip.CLIP(**config).eval()


def load_tokenizer(architecture: str | Path, tokenizer: str | Path | None):
    """Return the callable ``list[str] -> int64 [J, L]`` that belongs to a CLIP."""
    if tokenizer is None:
        return open_clip.get_tokenizer(str(architecture))
    length = json.loads(Path(architecture).read_text())["text_cfg"]["context_length"]
    return HFTokenizer(str(check_folder(tokenizer, "CLIP's tokenizer")), context_length=length)


def load(spec: Mapping[str, Any], device: str | torch.device = "cpu") -> "FrozenCLIP":
    """Load a frozen CLIP, or with a ``loader`` what that makes of the other keys.

    Parameters
    ----------
    spec : mapping
        ``architecture`` (see `build`), ``weights`` (safetensors or a ``weights_only`` checkpoint),
        ``tokenizer`` (folder of a tokenizer, or None for open_clip's own), ``image_size`` (side in
        pixels to which images are resized), ``precision`` (of the trunk).
    device : str or torch.device

    Raises
    ------
    taco.models.weights.WeightsError
        When the file is missing or its keys and shapes are not exactly those of the model.
    """
    if own := entries.own_loader(spec, "models.clip.loader"):
        return own(device)
    model = build(spec["architecture"])
    model.load_state_dict(load_weights(spec["weights"], model.state_dict()))
    tokenizer = load_tokenizer(spec["architecture"], spec.get("tokenizer"))
    return FrozenCLIP(model.to(device), tokenizer, spec["image_size"], spec.get("precision", "float32"))


class FrozenCLIP:
    """A frozen CLIP behind the few calls that TACO needs.

    Parameters
    ----------
    model : open_clip.CLIP
        Its visual tower must be a timm ConvNeXt.
    tokenizer : callable
        ``list[str] -> int64 [J, L]``.
    image_size : int
        Side in pixels to which images are resized before padding.
    precision : {"float32", "tf32", "float16", "bfloat16"}
        Of the trunk's products, see `taco.models.precision`; everything behind the trunk, and all text, is float32.
    """

    def __init__(self, model: open_clip.CLIP, tokenizer, image_size: int, precision: str = "float32"):
        if precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
        self.precision = precision
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.trunk: nn.Module = model.visual.trunk
        self.device = next(model.parameters()).device

    @property
    def logit_scale(self) -> float:
        """Factor of the cosine similarities, at most 100."""
        return min(float(self.model.logit_scale.exp()), 100.0)

    @property
    def channels(self) -> list[int]:
        """Channels of the four stages."""
        return [stage.blocks[-1].mlp.fc2.out_features for stage in self.trunk.stages]

    def prepare(
        self, images: Sequence[np.ndarray], mode: str = "fcclip"
    ) -> tuple[Tensor, list[tuple[int, int]]]:
        """Resize, normalise and pad images.

        Parameters
        ----------
        images : sequence of uint8 [H, W, 3]
            RGB, 0..255, of any size.
        mode : {"fcclip", "openclip"}
            ``fcclip``: bilinear with aligned corners, then zero padding at the bottom and right to a
            multiple of 32. ``openclip``: bicubic with antialiasing, no padding.

        Returns
        -------
        pixels : float32 [B, 3, Hp, Wp]
        sizes : list of (H, W)
            Size of each image inside its padded frame.
        """
        resized = np.stack([media.resize(image, self.image_size, mode) for image in images])
        return self.frame(torch.from_numpy(resized), mode), [(self.image_size, self.image_size)] * len(images)

    def frame(self, resized: Tensor, mode: str = "fcclip") -> Tensor:
        """Normalise images [B, 3, S, S] of `taco.data.media.resize` on the device; pad them where the mode asks for it."""
        pixels = normalise(resized.to(self.device, non_blocking=True).float())
        if mode == "fcclip":
            missing = -self.image_size % PADDING_MULTIPLE
            pixels = F.pad(pixels, (0, missing, 0, missing))
        return pixels

    @torch.no_grad()
    def pyramid(self, pixels: Tensor) -> dict[str, Tensor]:
        """Run the trunk once.

        Parameters
        ----------
        pixels : float32 [B, 3, Hp, Wp]

        Returns
        -------
        dict
            ``res2`` ... ``res5``: the four stages' outputs, and ``dense``: the last one after the
            trunk's closing norm (identity in most ConvNeXts), all contiguous float32 [B, C, h, w].
        """
        with products(self.precision, self.device):
            outputs = pyramid(self.trunk, pixels)
        return {name: value.float() for name, value in outputs.items()}

    @torch.no_grad()
    def tokens(self, dense: Tensor) -> Tensor:
        """Project each pixel of the dense features, on its own, to the shared space.

        Parameters
        ----------
        dense : float32 [B, C, h, w]

        Returns
        -------
        float32 [B, h·w, D]
            Row-major over (h, w), signs as they come: the caller clamps.
        """
        batch, channels, height, width = dense.shape
        flat = dense.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return self.project(flat)

    @torch.no_grad()
    def project(self, features: Tensor) -> Tensor:
        """Take trunk features [B, Q, C] through pooling head and projection to [B, Q, D]."""
        return project(self.model.visual, features)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embed texts; float32 [J, D], not normalised."""
        batches = [list(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]
        return torch.cat([self.model.encode_text(self.tokenizer(batch).to(self.device)) for batch in batches])


def normalise(pixels: Tensor) -> Tensor:
    """Normalise RGB [B, 3, H, W] in 0..255 by FC-CLIP's pixel mean and deviation (CLIP's, times 255)."""
    mean = pixels.new_tensor(PIXEL_MEAN).view(1, 3, 1, 1)
    std = pixels.new_tensor(PIXEL_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std


def pyramid(trunk: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Outputs of a ConvNeXt trunk's stages; see `FrozenCLIP.pyramid`."""
    outputs = {}
    x = trunk.stem(pixels)
    for index, stage in enumerate(trunk.stages):
        # Contiguous: other memory formats select other convolution kernels, and hard mask thresholds flip.
        x = stage(x).contiguous()
        outputs[f"res{index + 2}"] = x
    outputs["dense"] = trunk.norm_pre(x).contiguous()
    return outputs


def project(visual: nn.Module, features: Tensor) -> Tensor:
    """Take features [B, Q, C] of an open_clip timm tower, one by one, to the shared space [B, Q, D]."""
    batch, count, channels = features.shape
    pooled = visual.trunk.head(features.reshape(batch * count, channels, 1, 1))
    return visual.head(pooled).reshape(batch, count, -1)
