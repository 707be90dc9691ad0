"""Training of the miniature models on generated scenes and sounds of their own seeds.

CLIP and CLAP see images, sounds and captions only, never masks or class indices; the FC-CLIP head
learns masks on top of the frozen CLIP. Every step draws its batch from (seed, part, step), so a
run that is killed resumes from its checkpoint and continues as if it had not been.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import taco.models.clap
import taco.models.clip
import taco.models.fcclip
from taco.miniature import scenes, sounds, vocabulary
from taco.runtime import atomic_write

log = logging.getLogger("taco")

WORLD_SEED = 90_000_000
"""Training scenes come from this seed on; the suite's own data sets use others."""


@dataclass(frozen=True)
class TrainingSettings:
    """Sizes of the three trainings; the defaults made the shipped weights."""

    seed: int = 0
    image_size: int = 124
    sample_rate: int = 16000
    window: float = 1.0
    clip_scenes: int = 16000
    clip_steps: int = 2400
    clip_batch: int = 96
    clip_learning_rate: float = 2e-3
    clap_sounds: int = 12000
    clap_steps: int = 1800
    clap_batch: int = 64
    clap_learning_rate: float = 2e-3
    clap_easy: float = 0.25
    fcclip_scenes: int = 5000
    fcclip_steps: int = 1500
    fcclip_batch: int = 16
    fcclip_learning_rate: float = 6e-4
    unrelated_texts: int = 24
    checkpoint_every: int = 250


ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = {name: f"config/models/miniature_{name}.json" for name in ("clip", "clap", "fcclip")}
TRAINING_STRIDE = 16
"""CLIP trains at output stride 16 and serves at 8: dilated convolutions give the same features, denser."""


# ---------------------------------------------------------------- tokenizer


def write_tokenizer(folder: str | Path) -> None:
    """Write the word-level tokenizer of the world's vocabulary; CLIP and CLAP share it.

    Padding is ``!`` = 0 as in msclap; end of text is the highest id, where open_clip reads a text's embedding.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["!", "[UNK]", *vocabulary.vocabulary()]
    end = 255
    if len(names) > end:
        raise ValueError(f"the vocabulary has {len(names)} entries, the miniature models hold {end}")
    names += [f"[UNUSED{index}]" for index in range(len(names), end)]
    table = {word: index for index, word in enumerate([*names, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="!",
        unk_token="[UNK]",
        eos_token="<|endoftext|>",
    )
    fast.save_pretrained(str(folder))


# ---------------------------------------------------------------- data


def sample_names(rng: Generator) -> tuple[list[str], list[str]]:
    """Draw one to three distinct classes for a training scene: (sounding, silent)."""
    classes = vocabulary.SOUNDING + vocabulary.SILENT
    count = rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25])
    names = [classes[i] for i in rng.permutation(len(classes))[:count]]
    return [n for n in names if n in vocabulary.SOUNDING], [n for n in names if n in vocabulary.SILENT]


def training_scene(index: int, size: int, stream: int) -> scenes.Scene:
    """Scene number `index` of a training stream."""
    rng = np.random.default_rng((WORLD_SEED, stream, index))
    sounding, silent = sample_names(rng)
    return scenes.sample_scene(rng, sounding=sounding, silent=silent, size=size)


def training_sound(
    index: int, rate: int, window: float, stream: int, easy: bool
) -> tuple[np.ndarray, list[str]]:
    """Sound number `index` of a training stream, and its sources.

    An easy one has a single source, at most lightly noisy; others one to three, mostly under strong noise.
    """
    rng = np.random.default_rng((WORLD_SEED, stream, index))
    count = 1 if easy else rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15])
    names = [vocabulary.SOUNDING[i] for i in rng.permutation(len(vocabulary.SOUNDING))[:count]]
    clean = rng.random() < (0.5 if easy else 0.2)
    snr = None if clean else float(rng.uniform(*((2, 10) if easy else (-11, 4))))
    levels = rng.uniform(-4, 0, count).tolist()
    return sounds.mixture(rng, names, window, rate, snr_db=snr, name_levels_db=levels), names


def unrelated_captions(rng: Generator, count: int, template: str) -> list[str]:
    """Captions of things that are not in the world: negatives that match nothing."""
    return [
        template.format(label=vocabulary.UNRELATED[i])
        for i in rng.permutation(len(vocabulary.UNRELATED))[:count]
    ]


# ---------------------------------------------------------------- loop


def contrastive_loss(items: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss of B items and their B texts; further texts are negatives only.

    Parameters
    ----------
    items : float32 [B, D]
    texts : float32 [B + M, D]
    scale : scalar
    """
    logits = scale * F.normalize(items, dim=-1) @ F.normalize(texts, dim=-1).T
    target = torch.arange(len(items))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(items)].T, target)) / 2


def run(
    name: str,
    model: nn.Module,
    loss_of: Callable[[Generator, float], Tensor],
    *,
    steps: int,
    learning_rate: float,
    checkpoint: Path,
    settings: TrainingSettings,
) -> float:
    """Train by AdamW under a one-cycle schedule, from a checkpoint where there is one.

    Parameters
    ----------
    name : str
        Part, for the progress bar and the random stream.
    model : nn.Module
        Parameters that require a gradient are trained.
    loss_of : callable
        Loss of a batch that it draws from the generator, given the share of steps done.
    steps, learning_rate
    checkpoint : Path
    settings : TrainingSettings

    Returns
    -------
    float
        Seconds spent in training, resumed parts included.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    start, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        start, seconds = saved["step"], saved["seconds"]
        log.info("%s resumes at step %d", name, start)
        if start == steps:
            return seconds
    part = sum(name.encode())
    began, average = time.monotonic(), None
    bar = tqdm(range(start, steps), desc=name, initial=start, total=steps, mininterval=5)
    for step in bar:
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, part, step)).generate_state(1)[0]))
        loss = loss_of(np.random.default_rng((settings.seed, part, step)), step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}", refresh=False)
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == steps:
            log.info("%s step %d of %d: loss %.4f", name, step + 1, steps, average)
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step + 1,
                "seconds": seconds + time.monotonic() - began,
            }
            with atomic_write(checkpoint) as partial:
                torch.save(state, partial)
    return seconds + time.monotonic() - began


def finish(model: nn.Module, folder: Path, part: str, seconds: float, settings: TrainingSettings) -> None:
    """Write ``<part>.safetensors`` and ``<part>.json`` (settings, seconds, versions), whole or not at all."""
    tensors = {key: value.detach().contiguous().clone() for key, value in model.state_dict().items()}
    record = {
        "part": part,
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "settings": asdict(settings),
    }
    text = json.dumps(record, indent=2) + "\n"
    for name, write in (
        (f"{part}.safetensors", lambda path: save_file(tensors, path)),
        (f"{part}.json", lambda path: path.write_text(text)),
    ):
        with atomic_write(folder / name) as partial:
            write(partial)


def prepare_output(output: str | Path) -> Path:
    """Make the output folder with its tokenizer and its checkpoints' folder."""
    folder = Path(output)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer")
    return folder


def train(
    folder: Path,
    part: str,
    model: nn.Module,
    loss_of: Callable[[Generator, float], Tensor],
    settings: TrainingSettings,
) -> None:
    """Run a part's training with its own settings and write what it made."""
    seconds = run(
        part,
        model,
        loss_of,
        steps=getattr(settings, f"{part}_steps"),
        learning_rate=getattr(settings, f"{part}_learning_rate"),
        checkpoint=folder / "checkpoints" / f"{part}.pt",
        settings=settings,
    )
    finish(model, folder, part, seconds, settings)


# ---------------------------------------------------------------- the three parts


def train_clip(output: str | Path, settings: TrainingSettings) -> None:
    """Train CLIP on images and captions; writes ``clip.safetensors``."""
    folder = prepare_output(output)
    torch.manual_seed(settings.seed)
    model = taco.models.clip.build(ROOT / ARCHITECTURES["clip"], output_stride=TRAINING_STRIDE)
    tokenizer = taco.models.clip.load_tokenizer(ROOT / ARCHITECTURES["clip"], folder / "tokenizer")
    pool = [training_scene(i, settings.image_size, 1) for i in tqdm(range(settings.clip_scenes), "scenes")]
    images = np.stack([scenes.render(scene)[0] for scene in tqdm(pool, "images")])
    padding = -settings.image_size % taco.models.clip.PADDING_MULTIPLE

    def loss_of(rng: Generator, progress: float) -> Tensor:
        rows = rng.permutation(len(pool))[: settings.clip_batch]
        captions = [scenes.describe(rng, pool[i]) for i in rows]
        captions += unrelated_captions(rng, settings.unrelated_texts, vocabulary.IMAGE_PROMPT)
        pixels = taco.models.clip.normalise(torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float())
        pixels = F.pad(pixels, (0, padding, 0, padding))
        with torch.autocast("cpu", torch.bfloat16):
            items, texts = (
                model.encode_image(pixels),
                model.encode_text(tokenizer(captions)),
            )
        return contrastive_loss(items.float(), texts.float(), model.logit_scale.exp().clamp(max=100))

    model.train()
    train(folder, "clip", model, loss_of, settings)


def train_clap(output: str | Path, settings: TrainingSettings) -> None:
    """Train CLAP on sounds and captions; writes ``clap.safetensors``.

    Pooled tokens are trained both as they are (CLAP's own embedding) and clamped at zero (what the
    factorisation sees), or the clamp would cost a third of the classes.
    """
    folder = prepare_output(output)
    torch.manual_seed(settings.seed + 1)
    model = taco.models.clap.build(ROOT / ARCHITECTURES["clap"])
    tokenizer = taco.models.clap.load_tokenizer(folder / "tokenizer")
    easy = settings.clap_sounds // 4
    pool = [
        training_sound(i, settings.sample_rate, settings.window, 2, easy=i < easy)
        for i in tqdm(range(settings.clap_sounds), "sounds")
    ]
    waves = np.stack([wave for wave, _ in pool])
    length = model.caption_encoder.base.config.n_positions

    def loss_of(rng: Generator, progress: float) -> Tensor:
        rows = rng.permutation(easy if progress < settings.clap_easy else len(pool))[: settings.clap_batch]
        captions = [sounds.describe(rng, pool[i][1]) for i in rows]
        captions += unrelated_captions(rng, settings.unrelated_texts, vocabulary.SOUND_PROMPT)
        gain = torch.from_numpy(10 ** rng.uniform(-0.6, 0.1, (len(rows), 1))).float()
        shift = int(rng.integers(waves.shape[1]))
        batch = gain * torch.from_numpy(np.roll(waves[rows], shift, axis=1))
        tokens, pooled = taco.models.clap.audio_tokens(model, batch)
        texts = model.caption_encoder(taco.models.clap.tokenize(tokenizer, captions, length))
        project, scale = (
            model.audio_encoder.projection,
            model.logit_scale.exp().clamp(max=100),
        )
        clamped = contrastive_loss(project(tokens.float().clamp(min=0).mean(1)), texts, scale)
        return (clamped + contrastive_loss(project(pooled.float()), texts, scale)) / 2

    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    htsat = model.audio_encoder.base.htsat
    htsat.spec_augmenter = nn.Identity()  # it masks up to half of a one-second spectrogram
    # The spectrogram in front needs full precision, the transformer does not.
    htsat.forward_features = torch.autocast("cpu", torch.bfloat16)(htsat.forward_features)
    train(folder, "clap", model, loss_of, settings)


def mask_loss_config(head: taco.models.fcclip.FCCLIPHead, classes: int):
    """transformers' own Mask2Former loss, at the head's sizes."""
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    config = Mask2FormerConfig(num_labels=classes, train_num_points=1024, no_object_weight=0.1)
    config.num_labels = classes
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    return Mask2FormerLoss(config, weights), weights


def train_fcclip(output: str | Path, settings: TrainingSettings) -> None:
    """Train the FC-CLIP head on masks over the frozen CLIP; writes ``fcclip.safetensors``."""
    folder = prepare_output(output)
    spec = {
        "architecture": str(ROOT / ARCHITECTURES["clip"]),
        "weights": folder / "clip.safetensors",
        "tokenizer": folder / "tokenizer",
        "image_size": settings.image_size,
    }
    clip = taco.models.clip.load(spec)
    torch.manual_seed(settings.seed + 2)
    head = taco.models.fcclip.build(ROOT / ARCHITECTURES["fcclip"], clip)
    classes = vocabulary.SOUNDING + vocabulary.SILENT
    texts = F.normalize(
        clip.encode_text([vocabulary.IMAGE_PROMPT.format(label=name) for name in classes]),
        dim=-1,
    )
    pool = [training_scene(i, settings.image_size, 3) for i in tqdm(range(settings.fcclip_scenes), "scenes")]
    rendered = [scenes.render(scene) for scene in tqdm(pool, "images")]
    labels = [torch.tensor([classes.index(item.name) for item in scene.objects]) for scene in pool]
    loss, weights = mask_loss_config(head, len(classes))

    def loss_of(rng: Generator, progress: float) -> Tensor:
        rows = rng.permutation(len(pool))[: settings.fcclip_batch]
        pixels, _ = clip.prepare([rendered[i][0] for i in rows])
        features = {name: value.clone() for name, value in clip.pyramid(pixels).items()}
        masks, embeddings = head(features)
        prompts = torch.cat([texts, F.normalize(head.void_embedding.weight, dim=-1)])
        scores = head.logit_scale.exp().clamp(max=100) * F.normalize(embeddings, dim=-1) @ prompts.T
        missing = pixels.shape[-1] - settings.image_size
        truth = [F.pad(torch.from_numpy(rendered[i][1]).float(), (0, missing, 0, missing)) for i in rows]
        auxiliary = [{"masks_queries_logits": m, "class_queries_logits": scores} for m in masks[1:-1]]
        parts = loss(masks[-1], scores, truth, [labels[i] for i in rows], auxiliary)
        return sum(
            value * next(w for key, w in weights.items() if key in name) for name, value in parts.items()
        )

    head.train()
    train(folder, "fcclip", head, loss_of, settings)
