"""The whole method, written down step by step from its description, against the pipeline's own functions.

One image and one sound go through both. On the left the description: tokens → clamp → co-NMF → prompts → map →
resize, in plain code on the libraries' own models (open_clip's tower, msclap's HTS-AT, transformers' Mask2Former)
and an autograd co-NMF. On the right the pipeline: feature and proposal caches, text file, solver, scorer. Every
intermediate is compared, so that a difference names the step in which it arises.

The same body runs with the shipped miniature models, and (``slow``) with the paper's models at full size and
random weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import open_clip
import pandas as pd
import pytest
import reference_conmf
import soundfile
import torch
from models import configuration, random_paper_models, shipped
from open_clip.transform import image_transform
from PIL import Image
from sklearn.cluster import KMeans
from torch.nn import functional as F
from torchaudio.functional import resample

from taco import suites
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.conmf import Anchors, CoNMF, Initial, Projection, Settings
from taco.conmf.settings import stream
from taco.method import evaluate, factorize, features, text
from taco.method.proposals import Kept

LABELS = ["bell", "gong", "bird", "whistle", "drum", "hammer", "engine", "mower", "guitar", "harp", "siren"]
CLASSES = ["background", "bell", "bird", "drum", "engine", "guitar", "siren"]
STEPS, K, SEED, SAMPLE = 20, 8, 0, "s4/clip_0"
HALF = {"rtol": 2**-10, "atol": 1e-4}
"""Half precision, in which tokens and masks are cached: one unit in the last place, and rounding around 0."""
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
"""Twenty steps of descent, and the decoder's embeddings, in single precision on both sides."""
MAPS = {"rtol": 0, "atol": 2e-3}
"""Of a map's range: embeddings are read from the cache, and stretching divides by what may be a narrow range."""


# ---------------------------------------------------------------- the description


def image_pixels(path, side, preparation):
    """RGB resized to side × side and normalised, [1, 3, H, W].

    FC-CLIP's way: bilinear with aligned corners, then zeros below and to the right up to a multiple of 32. On AVSS
    the authors take open_clip's own preprocessing instead: bicubic with antialiasing, no padding.
    """
    image = Image.open(path).convert("RGB")
    if preparation == "openclip":
        return image_transform(side, is_train=False, resize_mode="squash", interpolation="bicubic")(image)[
            None
        ]
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=True)
    mean, std = (
        255 * torch.tensor(v).view(1, 3, 1, 1)
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    padding = math.ceil(side / 32) * 32 - side
    return F.pad((pixels - mean) / std, (0, padding, 0, padding))


def image_tokens(visual, pixels):
    """X_I [h·w, C]: each pixel of the last stage on its own through the CLIP head, clamped; and (h, w)."""
    dense = visual.trunk.forward_features(pixels)
    height, width = dense.shape[-2:]
    rows = [
        visual.head(visual.trunk.head(dense[:, :, row : row + 1, column : column + 1]))[0]
        for row in range(height)
        for column in range(width)
    ]
    return torch.stack(rows).clamp(min=0), (height, width)


def sound_window(path, rate, seconds):
    """The sound at the model's rate, mono: a short one repeated, of a long one the centre; [1, rate · seconds]."""
    wave, native = soundfile.read(path, dtype="float32", always_2d=True)
    wave = resample(torch.from_numpy(wave).mean(1).double(), native, rate).float()
    length = round(rate * seconds)
    if len(wave) < length:
        wave = wave.repeat(math.ceil(length / len(wave)))[:length]
    start = (len(wave) - length) // 2
    return wave[None, start : start + length]


def audio_tokens(htsat, wave):
    """X_A [T, C]: HTS-AT's output before its last average pooling, frequency-major, clamped; and the pooled row."""
    mel = htsat.logmel_extractor(htsat.spectrogram_extractor(wave))
    folded = htsat.reshape_wav2img(htsat.bn0(mel.transpose(1, 3)).transpose(1, 3))
    x = htsat.patch_embed(folded)
    for layer in htsat.layers:
        x = layer(x)[0]
    x = htsat.norm(x)[0]  # [positions of the folded picture, C]
    # The picture holds `freq_ratio` pieces of time one below the other; unfold it into frequency × time.
    side = math.isqrt(len(x))
    pieces = x.view(htsat.freq_ratio, side // htsat.freq_ratio, side, -1)  # piece, frequency, time, C
    unfolded = pieces.permute(1, 0, 2, 3).reshape(len(x), -1)
    return unfolded.clamp(min=0), unfolded.mean(0)


def lloyds_centres(tokens, centres):
    """One more step of k-means: the mean of the tokens nearest to each centre, and the inertia."""
    distance = torch.cdist(tokens.double(), centres.double())
    nearest = distance.argmin(1)
    means = torch.stack([tokens[nearest == k].double().mean(0) for k in range(len(centres))])
    return means.float(), float(distance.amin(1).square().sum())


def proposals(head, visual, pixels):
    """FC-CLIP without prompts: mask logits [Q, h, w], class embeddings and pooled CLIP features [Q, D]."""
    _, stages = visual.trunk.forward_intermediates(pixels)
    levels = [stage.contiguous() for stage in stages[-4:]]
    pixel = head.pixel_decoder(levels, output_hidden_states=False, output_attentions=False, return_dict=True)
    decoded = head.transformer(list(pixel.multi_scale_features), pixel.mask_features)
    masks, queries = decoded.masks_queries_logits[-1], decoded.intermediate_hidden_states[-1].transpose(0, 1)
    inside = head.mask_pooling_proj(mean_inside(pixel.mask_features, masks)) + queries
    dense = visual.trunk.forward_features(pixels)
    out = mean_inside(dense, masks)[0]
    pooled = torch.cat([visual.head(visual.trunk.head(row[None, :, None, None])) for row in out])
    return masks[0], head.class_embed(inside)[0], pooled


def mean_inside(maps, masks):
    """Mean of maps [1, C, h, w] over the pixels where each mask's logit, resized, is above 0: [1, Q, C]."""
    masks = F.interpolate(masks, maps.shape[-2:], mode="bilinear", align_corners=False)
    inside = (masks[0] > 0).flatten(1).float()
    sums = inside @ maps[0].flatten(1).T
    return (sums / inside.sum(1, keepdim=True).clamp(min=1))[None]


def prompted_classes(embeddings, pooled, prompts, void, clip_scale, fcclip_scale):
    """Probability of each of K prompts for each proposal, [Q, K].

    In vocabulary FC-CLIP only says how likely a proposal is nothing; which prompt it is, CLIP says.
    """

    def unit(rows):
        return rows / rows.norm(dim=-1, keepdim=True)

    with_void = torch.cat([unit(prompts), unit(void)[None]])
    nothing = (fcclip_scale * unit(embeddings) @ with_void.T).softmax(-1)[:, -1:]
    named = (clip_scale * unit(pooled) @ unit(prompts).T).softmax(-1)
    named = named.log().softmax(-1) * (1 - nothing)
    return (torch.cat([named, nothing], 1) + 1e-8).log().softmax(-1)[:, :-1]


def semantic_map(classes, masks, padded, size):
    """``Σ_q p[q, k] sigmoid(mask_q)`` [K, H, W]: masks upsampled to the padded input, padding cut away."""
    full = F.interpolate(masks[None], padded, mode="bilinear", align_corners=False)[0].sigmoid()
    return torch.einsum("qk,qhw->khw", classes, full[:, : size[0], : size[1]])


def stretched(channel):
    """A map stretched to 0 … 1 over its image."""
    return (channel - channel.min()) / (channel.max() - channel.min())


def score_map(channel, side):
    """A map as it is scored: stretched, then bicubic to side × side."""
    return F.interpolate(stretched(channel)[None, None], (side, side), mode="bicubic", align_corners=True)[
        0, 0
    ]


def painted(region, class_id, side):
    """A region in its class's id, to side × side by nearest neighbour."""
    return F.interpolate((region.float() * class_id)[None, None], (side, side), mode="nearest")[0, 0].long()


# ---------------------------------------------------------------- both sides


@dataclass
class Case:
    """Models, one image, one sound, and the pipeline's files for them."""

    config: dict
    models: features.Models
    preparation: str
    image: str
    sound: str
    folder: object

    def text(self):
        return text.Text(self.folder / "text.h5")

    def cached(self, kind):
        with open_cache(self.folder / f"{kind}.h5", kind) as cache:
            return {name: torch.from_numpy(np.asarray(cache[name][0])) for name in cache}


@pytest.fixture(scope="module", params=["miniature", pytest.param("paper", marks=pytest.mark.slow)])
def suite(request, tmp_path_factory):
    """Configuration and models of a suite."""
    config = configuration(request.param)
    if request.param == "miniature":
        return config, shipped(config)
    return config, random_paper_models(config, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module", params=["fcclip", "openclip"])
def case(request, suite, tmp_path_factory):
    """The pipeline's caches of one image and one short sound in stereo, of another rate than the model's."""
    config, models = suite
    folder = tmp_path_factory.mktemp("case")
    image, sound = write_inputs(folder)
    frame = pd.DataFrame(
        [{"sample_id": "clip_0", "image": image, "audio": sound, "start": 0.0, "duration": math.nan}]
    )
    how = features.Extraction(request.param, config["features"]["audio_crop"], 1, SEED)
    ids = ["clip_0"]
    with (
        CacheWriter(folder / "features.h5", "features", ids, {}) as tokens,
        CacheWriter(folder / "proposals.h5", "proposals", ids, {}) as masks,
    ):
        features.extract(frame, "s4", models, how, tokens, masks)
    constants = text.model_constants(models.clip, models.clap, models.fcclip)
    banks = {"s4/general": LABELS, f"s4/{text.CLASSES}": CLASSES}
    text.write(folder / "text.h5", banks, config["prompts"], models.clip, models.clap, constants, {})
    return Case(config, models, request.param, image, sound, folder)


def write_inputs(folder):
    """A picture of soft shapes and two thirds of a second of sound."""
    rows, columns = np.mgrid[:90, :120]
    wheel = (rows - 40) ** 2 + (columns - 35) ** 2 < 500
    picture = np.stack([columns * 2, rows * 2, 120 + 60 * np.sin(columns / 7)], -1)
    picture[wheel] = (200, 40, 30)
    Image.fromarray(picture.astype(np.uint8)).save(folder / "image.png")
    time = np.arange(8000) / 12000
    wave = 0.4 * np.sin(2 * np.pi * 440 * time * (1 + 0.2 * time)) * np.exp(-2 * time)
    soundfile.write(folder / "sound.wav", np.stack([wave, 0.5 * wave[::-1]], 1), 12000)
    return str(folder / "image.png"), str(folder / "sound.wav")


@torch.no_grad()
def test_the_pipeline_is_the_description(case):
    config, clip, clap = case.config, case.models.clip.model, case.models.clap.model
    spec = config["models"]
    found, proposed, words = case.cached("features"), case.cached("proposals"), case.text()

    # Step 1: tokens, clamped at 0 and kept in half precision.
    pixels = image_pixels(case.image, spec["clip"]["image_size"], case.preparation)
    x_image, grid = image_tokens(clip.visual, pixels)
    assert tuple(found["grid"].tolist()) == grid
    torch.testing.assert_close(found["image_tokens"].float(), x_image, **HALF)
    wave = sound_window(case.sound, spec["clap"]["sample_rate"], spec["clap"]["window"])
    x_audio, pooled_audio = audio_tokens(clap.audio_encoder.base.htsat, wave)
    torch.testing.assert_close(found["audio_tokens"].float(), x_audio, **HALF)
    heard = clap.audio_encoder.projection(pooled_audio[None])[0]
    torch.testing.assert_close(found["clap_embedding"], heard, rtol=1e-5, atol=1e-5)
    assert 0.05 < (x_image > 0).float().mean() < 0.95 and 0.05 < (x_audio > 0).float().mean() < 0.95
    x_image, x_audio = x_image.half().float(), x_audio.half().float()

    # Step 2: anchors, one sentence per label and modality.
    tokenizer, sentences = case.models.clip.tokenizer, [f"A photo of a {label}" for label in LABELS]
    b_image = clip.encode_text(tokenizer(sentences))
    b_audio = clap.caption_encoder(case.models.clap.tokenize([f"This is a sound of {w}" for w in LABELS]))
    bank = words.labels("s4", "general")
    assert bank.names == LABELS
    torch.testing.assert_close(torch.from_numpy(bank.clip), b_image, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(bank.clap), b_audio, rtol=1e-5, atol=1e-5)

    # Step 3: the start. W from the sample's own stream; V from a complete k-means of the tokens.
    chosen = suites.solver_settings(config, "ade", "proposed")
    settings = Settings(**{**chosen, "steps": STEPS, "halve_at": (10, 15), "init_seed": SEED})
    solver = CoNMF(settings, factorize.anchors_of(words, "s4", "general"))
    # The pipeline takes its tokens from the cache, where they are in half precision.
    tokens = found["image_tokens"][None], found["audio_tokens"][None]
    start = Initial(
        *(solver.initial_factors(x, [SAMPLE], side) for x, side in zip(tokens, ("image", "audio")))
    )
    for x, centres in ((x_image, start.image_factors[0]), (x_audio, start.audio_factors[0])):
        means, inertia = lloyds_centres(x, centres)
        torch.testing.assert_close(centres, means, rtol=0, atol=1e-3)
        plain = KMeans(K, n_init=8, random_state=0).fit(x.double().numpy())
        assert inertia <= 1.2 * plain.inertia_  # the best of eight, from other draws
    w_image, w_audio = (
        torch.randn(len(x), K, generator=stream(SEED, SAMPLE, modality))
        for x, modality in ((x_image, "image"), (x_audio, "audio"))
    )

    # Step 4: soft co-NMF by autograd, against the solver's closed form.
    projection = clap.audio_encoder.projection
    anchors = Anchors(
        b_image,
        b_audio,
        float(clap.logit_scale.exp()),
        Projection(
            projection.linear1.weight,
            projection.linear2.weight,
            projection.layer_norm.weight,
            projection.layer_norm.bias,
            projection.layer_norm.eps,
        ),
    )
    with torch.enable_grad():
        expected = reference_conmf.solve(
            *(t[None] for t in (x_image, x_audio, w_image, w_audio)), *start[:2], anchors, settings
        )
    result = solver.fit(*tokens, [SAMPLE], [SEED])
    for name in ("image_activations", "audio_activations", "image_factors", "audio_factors", "cross_entropy"):
        torch.testing.assert_close(getattr(result, name)[0], expected[name], **CLOSE)
    # Random models leave the entropies of several factors within rounding of the least: any of those is right.
    k_star = result.k_star.item()
    entropies = expected["cross_entropy"][0]
    assert entropies[k_star] <= entropies.min() + 2e-6
    v_image, u_image = expected["image_factors"][0], expected["image_activations"][0]

    # Step 5: proposals, which no prompt has touched. FC-CLIP sees the padded image whatever the tokens come from.
    padded = image_pixels(case.image, spec["clip"]["image_size"], "fcclip")
    masks, embeddings, pooled = proposals(case.models.fcclip.head, clip.visual, padded)
    torch.testing.assert_close(proposed["masks"].float(), masks, **HALF)
    torch.testing.assert_close(proposed["class_embeddings"], embeddings, **CLOSE)
    torch.testing.assert_close(proposed["pooled"], pooled, **CLOSE)
    masks = masks.half().float()

    # Step 6: the rows of V_I are the prompts; FC-CLIP's void stands beside them.
    head = case.models.fcclip.head
    ensemble = (
        head.void_embedding.weight[0],
        float(clip.logit_scale.exp().clamp(max=100)),
        float(head.logit_scale.exp().clamp(max=100)),
    )
    classes = prompted_classes(embeddings, pooled, v_image, *ensemble)

    # Step 7: the map of factor k*, cropped, stretched, resized; and of its activations alone.
    frame, size = tuple(padded.shape[-2:]), 2 * (spec["clip"]["image_size"],)
    maps, side = semantic_map(classes, masks, frame, size), config["evaluation"]["size"]
    taco = score_map(maps[k_star], side)
    u_only = score_map(u_image[:, k_star].view(grid), side)

    # Step 8: A-FC-CLIP prompts with the dataset's own names and keeps the one that CLAP hears.
    ours = words.labels("s4", text.CLASSES)
    b_clip, b_clap = torch.from_numpy(ours.clip), torch.from_numpy(ours.clap)
    label = int(F.cosine_similarity(heard, b_clap).argmax())
    by_name = semantic_map(prompted_classes(embeddings, pooled, b_clip, *ensemble), masks, frame, size)
    by_clamped = semantic_map(
        prompted_classes(embeddings, pooled, b_clip.clamp(min=0), *ensemble), masks, frame, size
    )

    answers = predictions(case, result, "s4")
    for method, expected_map in {
        "TACO": taco,
        "U only": u_only,
        "A-FC-CLIP": score_map(by_name[label], side),
        "A⁺-FC-CLIP": score_map(by_clamped[label], side),
    }.items():
        torch.testing.assert_close(torch.from_numpy(answers[method].scores), expected_map, **MAPS)

    # Step 9, semantic tasks: the region is named after the label whose CLIP text is closest to the factor.
    named = int(F.cosine_similarity(v_image[k_star], b_clip).argmax())
    regions = {"avss": (maps.argmax(0) == k_star), "ade_sp_semantic": stretched(maps[k_star]).round()}
    for task, region in regions.items():
        answer = predictions(case, result, task)["TACO"]
        assert answer.label == CLASSES[named]
        differing = torch.from_numpy(answer.scores) != painted(region, named, side)  # "background" has id 0
        assert differing.float().mean() < 1e-3
    assert (
        len(regions["ade_sp_semantic"].unique()) == 2
    )  # an untrained decoder's arg-max may be one factor everywhere


def predictions(case, result, task):
    """The scorer's answers by method (of A-FC-CLIP the one with all names), from the caches as `score` reads them."""
    with open_cache(case.folder / "proposals.h5", "proposals") as cache:
        kept = Kept(cache, torch.device("cpu"))
        (proposed,) = kept.of(cache.sample_ids)
    found, words = case.cached("features"), case.text()
    how = evaluate.Scoring(
        task=task,
        dataset="s4",
        seed=SEED,
        **{**case.config["evaluation"], "controls": []},
        **{**case.config["decoding"], "prompt_sets": ["list"]},
    )
    run = evaluate.Run(
        "proposed",
        "general",
        [SEED],
        *(getattr(result, name)[:, 0] for name in ("image_activations", "image_factors")),
        result.k_star[:, 0],
    )
    sample = evaluate.Sample(
        SAMPLE,
        proposed,
        found["clap_embedding"],
        tuple(found["grid"].tolist()),
        np.zeros((how.size, how.size), dtype=bool),
        [run],
    )
    scorer = evaluate.Scorer(how, words.labels("s4", text.CLASSES), words.constants, torch.device("cpu"))
    clap_label = scorer._listen(sample.clap_embedding)[1]
    return {answer.method: answer for answer in scorer.predictions(sample, clap_label)}
