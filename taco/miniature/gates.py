"""What trained miniature models must reach on held-out scenes and sounds before they are shipped."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

import taco.models.clap
import taco.models.clip
import taco.models.fcclip
from taco.miniature import dense, scenes, sounds, vocabulary
from taco.miniature.training import ARCHITECTURES, ROOT, WORLD_SEED, TrainingSettings, sample_names

HELD_OUT_SEED = 70_000_000
"""Held-out scenes and sounds come from this seed; neither training nor the suite's data sets use it."""


@dataclass(frozen=True)
class Gate:
    """A measured quantity and the least value it must have."""

    name: str
    value: float
    least: float
    n: int

    @property
    def passed(self) -> bool:
        return self.value >= self.least


def specs(folder: str | Path, settings: TrainingSettings) -> dict[str, dict]:
    """The three models' specs for `taco.models.clip.load` and its like, for weights in `folder`."""
    folder = Path(folder)
    common = {
        name: {
            "architecture": str(ROOT / ARCHITECTURES[name]),
            "weights": folder / f"{name}.safetensors",
        }
        for name in ARCHITECTURES
    }
    common["clip"] |= {
        "tokenizer": folder / "tokenizer",
        "image_size": settings.image_size,
    }
    common["clap"] |= {
        "tokenizer": folder / "tokenizer",
        "sample_rate": settings.sample_rate,
        "window": settings.window,
    }
    return common


def anchors(encode: Callable, names, prompt: str) -> torch.Tensor:
    """Normalised text embeddings [J, D] of class names in a prompt."""
    return F.normalize(encode([prompt.format(label=name) for name in names]), dim=-1)


def clip_gates(clip: taco.models.clip.FrozenCLIP, per_class: int = 20) -> list[Gate]:
    """Zero-shot accuracy on single objects, and dense arg-max accuracy inside masks over chance."""
    names = vocabulary.SOUNDING + vocabulary.SILENT
    texts = anchors(clip.encode_text, names, vocabulary.IMAGE_PROMPT)
    right, dense = [], []
    for index in range(per_class * len(names)):
        rng = np.random.default_rng((HELD_OUT_SEED, 1, index))
        truth = index % len(names)
        image, masks = scenes.render(scenes.sample_scene(rng, sounding=[names[truth]], size=clip.image_size))
        pixels, _ = clip.prepare([image])
        with torch.no_grad():
            right.append(int((clip.model.encode_image(pixels) @ texts.T).argmax()) == truth)
        features = clip.pyramid(pixels)["dense"]
        choice = (clip.tokens(features).clamp(min=0)[0] @ texts.T).argmax(-1).view(features.shape[-2:])
        stride = pixels.shape[-1] // features.shape[-1]
        centres = torch.from_numpy(masks[0][stride // 2 :: stride, stride // 2 :: stride])
        choice = choice[: centres.shape[0], : centres.shape[1]]
        dense.append(float((choice[centres] == truth).float().mean()))
    count = len(right)
    return [
        Gate(
            "CLIP zero-shot accuracy, single objects (18 classes)",
            float(np.mean(right)),
            0.98,
            count,
        ),
        Gate(
            "CLIP dense arg-max inside masks, times chance",
            float(np.mean(dense)) * len(names),
            8.0,
            count,
        ),
    ]


def clap_gates(clap: taco.models.clap.FrozenCLAP, snr_db=(-8.0, 2.0), per_class: int = 40) -> list[Gate]:
    """Top-1 accuracy of clamped tokens, clean and at signal-to-noise ratios within those of the training.

    The world's sounds are noisier than these (`world.snr_db`): there CLAP is to be unsure.
    """
    names = vocabulary.SOUNDING
    texts = anchors(clap.encode_text, names, vocabulary.SOUND_PROMPT)
    gates = []
    for label, least, noisy in (
        ("clean", 0.99, False),
        (f"{snr_db[0]:g} to {snr_db[1]:g} dB", 0.90, True),
    ):
        waves, truth = [], []
        for index in range(per_class * len(names)):
            rng = np.random.default_rng((HELD_OUT_SEED, 2, index))
            truth.append(index % len(names))
            snr = float(rng.uniform(*snr_db)) if noisy else None
            duration = clap.window / clap.sample_rate
            waves.append(sounds.mixture(rng, [names[truth[-1]]], duration, clap.sample_rate, snr_db=snr))
        tokens, _ = clap.tokens_and_embedding(torch.from_numpy(np.stack(waves)))
        with torch.no_grad():
            embedding = clap.projection(tokens.clamp(min=0).mean(1))
        right = (embedding @ texts.T).argmax(-1) == torch.tensor(truth)
        gates.append(
            Gate(
                f"CLAP top-1 after the clamp, {label} (12 classes)",
                right.float().mean().item(),
                least,
                len(truth),
            )
        )
    return gates


def fcclip_gates(fcclip: taco.models.fcclip.FCCLIP, count: int = 120) -> list[Gate]:
    """Mask-IoU of the best proposal for each object."""
    clip, best = fcclip.clip, []
    for index in range(count):
        rng = np.random.default_rng((HELD_OUT_SEED, 3, index))
        sounding, silent = sample_names(rng)
        scene = scenes.sample_scene(rng, sounding=sounding, silent=silent, size=clip.image_size)
        image, masks = scenes.render(scene)
        pixels, sizes = clip.prepare([image])
        proposals = taco.models.fcclip.soft_masks(fcclip.propose(clip.pyramid(pixels), sizes)) > 0.5
        for mask in torch.from_numpy(masks):
            intersection = (proposals & mask).sum((-1, -2))
            union = (proposals | mask).sum((-1, -2))
            best.append(float((intersection / union.clamp(min=1)).max()))
    return [
        Gate(
            "best-of-queries mask-IoU of the proposals",
            float(np.mean(best)),
            0.80,
            len(best),
        )
    ]


def measure(folder: str | Path, settings: TrainingSettings) -> list[Gate]:
    """Measure every gate for the weights in `folder`."""
    spec = specs(folder, settings)
    clip = taco.models.clip.load(spec["clip"])
    gates = clip_gates(clip) + clap_gates(taco.models.clap.load(spec["clap"]))
    return gates + fcclip_gates(taco.models.fcclip.load(spec["fcclip"], clip))


def require(gates: list[Gate]) -> None:
    """Raise RuntimeError naming every gate that was missed."""
    missed = [f"{g.name}: {g.value:.3f} < {g.least:g}" for g in gates if not g.passed]
    if missed:
        raise RuntimeError("miniature models are not good enough to ship: " + "; ".join(missed))


def model_card(folder: str | Path, gates: list[Gate], found: dense.Localisation) -> str:
    """Markdown card of trained models: configuration, seeds, training time, gates, where dense tokens look.

    Parameters
    ----------
    folder : str or Path
        With ``<part>.safetensors`` and ``<part>.json`` of each part.
    gates : list of Gate
    found : Localisation
    """
    folder = Path(folder)
    records = [json.loads((folder / f"{name}.json").read_text()) for name in ARCHITECTURES]
    parts = pd.DataFrame(
        {
            "part": record["part"],
            "architecture": ARCHITECTURES[record["part"]],
            "parameters": f"{record['parameters']:,}",
            "file": f"{(folder / (record['part'] + '.safetensors')).stat().st_size / 2**20:.1f} MiB",
            "training": f"{record['seconds'] / 60:.0f} min, {record['threads']} thread(s)",
        }
        for record in records
    )
    results = pd.DataFrame(
        {
            "gate": gate.name,
            "reached": f"{gate.value:.3f}",
            "required": f"{gate.least:g}",
            "n": gate.n,
            "passed": "yes" if gate.passed else "NO",
        }
        for gate in gates
    )
    settings = "\n".join(f"{key}: {value}" for key, value in records[0]["settings"].items())
    return f"""# Models of the miniature suite

Small models of the real libraries' classes, trained by `snakemake train_miniature_models` on generated
scenes and sounds. CLIP and CLAP saw images, sounds and captions only, never masks or class indices; the
FC-CLIP head learned masks of the same kind of scenes over the frozen CLIP. They know 18 things that a
program draws, and nothing else: they serve to run the benchmark's code, never to judge the method.
No result made with them is the paper's.

{parts.to_markdown(index=False)}

Measured on held-out scenes and sounds (seed {HELD_OUT_SEED}; training started from seed {WORLD_SEED}):

{results.to_markdown(index=False)}

The gates of CLAP hold at signal-to-noise ratios like those of its training (-11 to 4 dB, and none). The world's own sounds are
noisier (`world.snr_db`): there CLAP is meant to be unsure, so it is not trained on them.

{dense.paragraph(found)}
Settings of the training (torch {records[0]["torch"]}; bfloat16 autocast in CLIP's towers and HTS-AT, float32 elsewhere):

```
{settings}
```

Licence: MIT, as the code. `tokenizer/` is a word-level tokenizer of the world's vocabulary.
"""
