"""CLAP: tokens, embeddings and names equal msclap's own; at the paper's size (slow) with random weights."""

import fnmatch
import json
import re
from argparse import Namespace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from models import byte_tokenizer, configuration, random_clap, shake
from msclap import CLAPWrapper as wrapper_module
from msclap.models import clap as library
from safetensors.torch import save_file
from torch.nn import functional as F

import taco.models.clap
from taco.data.media import fit_window, read_sound
from taco.models.weights import WeightsError

MINIATURE = "config/models/miniature_clap.json"
FULL_SIZE = "config/models/clap_2023.json"
TEXTS = ["This is a sound of a bell", "This is a sound of Gunshot, gunfire"]


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    return random_clap(configuration("paper"), tmp_path_factory.mktemp("gpt2"))


def msclap_wrapper(clap, **changes):
    """msclap's own reading of files and texts, without its downloads; its model is still to be set."""
    arguments = yaml.safe_load(resources.files("msclap").joinpath("configs/config_2023.yml").read_text())
    wrapper = wrapper_module.CLAPWrapper.__new__(wrapper_module.CLAPWrapper)
    wrapper.args = Namespace(**{**arguments, **changes})
    wrapper.token_keys, wrapper.use_cuda = ["input_ids", "attention_mask"], False
    wrapper.np_str_obj_array_pattern = re.compile(r"[SaUO]")
    wrapper.tokenizer = clap.tokenizer
    return wrapper


@pytest.fixture(scope="module")
def msclap(full_size):
    """msclap with its own model, whose GPT-2 comes from a configuration."""
    wrapper = msclap_wrapper(full_size)
    arguments = vars(wrapper.args)
    with pytest.MonkeyPatch.context() as patch:
        # Its text tower is transformers' GPT-2, whose weights its checkpoint replaces anyway.
        text = full_size.model.caption_encoder.base
        patch.setattr(library.AutoModel, "from_pretrained", lambda name: text if name == "gpt2" else None)
        keys = [
            "audioenc_name",
            "window_size",
            "hop_size",
            "mel_bins",
            "fmin",
            "fmax",
            "text_model",
            "d_proj",
        ]
        wrapper.clap = library.CLAP(
            **{key: arguments[key] for key in [*keys, "out_emb", "transformer_embed_dim"]},
            sample_rate=arguments["sampling_rate"],
            classes_num=arguments["num_classes"],
        ).eval()
    wrapper.clap.load_state_dict(full_size.model.state_dict())
    return wrapper


def write_sound(folder, rate, seconds=3):
    """Write some seconds of mono sound."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 440 * time) * np.exp(-time) + 0.05 * rng.standard_normal(len(time))
    soundfile.write(folder / "sound.wav", wave, rate)
    return folder / "sound.wav"


def encode(clap, path, start=0.0, duration=np.nan):
    wave = fit_window(read_sound(path, start, duration, clap.sample_rate), clap.window)
    return clap.tokens_and_embedding(torch.from_numpy(wave)[None])


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_sound(tmp_path_factory.mktemp("sound"), 44100)


@pytest.fixture(scope="module")
def encoded(full_size, sound):
    return encode(full_size, sound)


@pytest.fixture
def read_without_decoder(monkeypatch):
    """torchaudio.load needs a decoder that is not among the dependencies; soundfile reads the same samples."""

    def read(path):
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(wave.T.copy()), rate

    monkeypatch.setattr(wrapper_module.torchaudio, "load", read)


# ---------------------------------------------------------------- against msclap, full size


@pytest.mark.slow
def test_names_and_shapes_are_msclaps(full_size, msclap):
    ours, theirs = full_size.model.state_dict(), msclap.clap.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    gpt2 = full_size.model.caption_encoder.base.config
    assert (gpt2.n_layer, gpt2.n_head, gpt2.n_embd, gpt2.vocab_size) == (12, 12, 768, 50257)


@pytest.mark.slow
def test_audio_embedding_is_msclaps(msclap, sound, encoded, read_without_decoder):
    expected = msclap.get_audio_embeddings([str(sound)])
    torch.testing.assert_close(encoded[1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_resampled_audio_embedding_is_msclaps(full_size, msclap, tmp_path, read_without_decoder):
    """Both resample by torchaudio."""
    path = write_sound(tmp_path, 16000)
    expected = msclap.get_audio_embeddings([str(path)])
    torch.testing.assert_close(encode(full_size, path)[1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_text_embeddings_are_msclaps(full_size, msclap):
    torch.testing.assert_close(
        full_size.encode_text(TEXTS), msclap.get_text_embeddings(TEXTS), rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_tokens_have_the_papers_shape_and_pool_to_the_embedding(full_size, encoded):
    tokens, embedding = encoded
    assert tokens.shape == (1, 64, 768) and embedding.shape == (1, 1024)
    torch.testing.assert_close(full_size.projection(tokens.mean(1)), embedding, rtol=1e-5, atol=1e-5)
    assert tokens.std(1).min() > 0


@pytest.mark.slow
def test_tolerated_constants_are_no_parameter_of_this_version(full_size):
    """Only names that the model does not have, so that nothing learned can be missing unnoticed."""
    patterns = json.loads(Path(FULL_SIZE).read_text())["constant_buffers"]
    learned = [name for name, _ in full_size.model.named_parameters()]
    assert patterns and not [name for name in learned for p in patterns if fnmatch.fnmatchcase(name, p)]


@pytest.mark.slow
def test_paper_configuration_names_these_settings(full_size):
    spec = yaml.safe_load(Path("config/paper.yaml").read_text())["models"]["clap"]
    assert spec["architecture"] == FULL_SIZE
    assert (spec["sample_rate"], spec["window"]) == (full_size.sample_rate, 7.0)
    assert full_size.window == 7 * 44100


# ---------------------------------------------------------------- miniature size


@pytest.fixture(scope="module")
def miniature(tokenizer):
    model = shake(taco.models.clap.build(MINIATURE))
    return taco.models.clap.FrozenCLAP(model, taco.models.clap.load_tokenizer(tokenizer), 24, 16000, 1.0)


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_sounds_are_read_as_msclap_reads_them(miniature, tmp_path, rate, read_without_decoder):
    """msclap's own reading in front of the same small model: resampling, repetition to the window."""
    wrapper = msclap_wrapper(miniature, sampling_rate=16000, duration=1)
    wrapper.clap = miniature.model
    path = write_sound(tmp_path, rate, seconds=0.7)
    expected = wrapper.get_audio_embeddings([str(path)])
    torch.testing.assert_close(encode(miniature, path)[1], expected, rtol=1e-5, atol=1e-5)


def test_texts_are_tokenised_as_msclap_tokenises_them(tmp_path):
    tokenizer = taco.models.clap.load_tokenizer(byte_tokenizer(tmp_path))
    wrapper = msclap_wrapper(SimpleNamespace(tokenizer=tokenizer))
    found, expected = taco.models.clap.tokenize(tokenizer, TEXTS, 77), wrapper.preprocess_text(TEXTS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key].reshape(len(TEXTS), 77)) for key in found)


def test_frames_of_a_clip_hear_their_own_second(miniature, tmp_path):
    """One file cut into pieces gives what a file for each piece gives, and the same again."""
    whole = write_sound(tmp_path, 22050, seconds=3)
    samples, _ = soundfile.read(whole, dtype="float32")
    pieces = [encode(miniature, whole, start, 1.0)[0] for start in range(3)]
    for index, piece in enumerate(pieces):
        alone = tmp_path / f"{index}.wav"
        soundfile.write(alone, samples[index * 22050 : (index + 1) * 22050], 22050, subtype="FLOAT")
        assert torch.equal(encode(miniature, alone)[0], piece)
    assert torch.equal(encode(miniature, whole, 1, 1.0)[0], pieces[1])
    assert not torch.allclose(pieces[0], pieces[1], atol=1e-3)


@pytest.fixture(scope="module")
def waves():
    return 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(3))


def test_tokens_are_frequency_major(miniature, waves):
    """Token f·T + t is the pixel (f, t) of the map that the library's classifier convolves."""
    seen = []
    htsat = miniature.model.audio_encoder.base.htsat
    hook = htsat.tscam_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens, _ = miniature.tokens_and_embedding(waves)
    hook.remove()
    seen = torch.cat(seen)
    bins, times = seen.shape[-2:]
    assert bins * times == tokens.shape[1] == 64 and times > bins > 1
    for frequency, time in [(0, 0), (1, 2), (bins - 1, times - 1)]:
        assert torch.equal(tokens[:, frequency * times + time], seen[:, :, frequency, time])


def test_no_hook_is_left_behind(miniature, waves):
    taco.models.clap.audio_tokens(miniature.model, waves)
    assert not miniature.model.audio_encoder.base.htsat.avgpool._forward_pre_hooks
    with pytest.raises(RuntimeError):
        taco.models.clap.audio_tokens(miniature.model, waves.long())
    assert not miniature.model.audio_encoder.base.htsat.avgpool._forward_pre_hooks


def test_projection_is_the_papers_formula(miniature):
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(4))
    projection = miniature.projection
    hidden = x @ projection.linear1.weight.T
    total = hidden + F.gelu(hidden) @ projection.linear2.weight.T
    norm = projection.layer_norm
    expected = F.layer_norm(total, total.shape[-1:], norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(projection(x), expected, rtol=1e-5, atol=1e-6)
    assert not projection.training


def test_results_do_not_depend_on_the_batch(miniature, waves):
    together = miniature.tokens_and_embedding(waves)
    for index in range(len(waves)):
        alone = miniature.tokens_and_embedding(waves[index : index + 1])
        for found, expected in zip(alone, together, strict=True):
            assert torch.equal(found[0], expected[index])
    texts = ["a bell", "This is a sound of guitar", "drum"]
    found = miniature.encode_text(texts, batch_size=2)
    torch.testing.assert_close(found, miniature.encode_text(texts), rtol=1e-4, atol=1e-5)


def test_text_is_closed_by_one_end_token_and_padded_with_zeros(miniature):
    batch = miniature.tokenize(["a bell", "This is a sound of guitar"])
    assert batch["input_ids"].shape == (2, 24)
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        length = int(mask.sum())
        assert (ids[:length] != 0).all() and (ids[length:] == 0).all()
        assert (ids == 255).sum() == 1 and ids[length - 1] == 255


def test_scale_is_that_of_the_weights(miniature):
    assert miniature.logit_scale == pytest.approx(miniature.model.logit_scale.exp().item())


# ---------------------------------------------------------------- loading


def test_load_returns_the_saved_model_and_tolerates_only_known_constants(
    miniature, tokenizer, tmp_path, waves
):
    spec = {"architecture": MINIATURE, "weights": tmp_path / "clap.safetensors", "tokenizer": tokenizer}
    spec |= {"sample_rate": 16000, "window": 1.0}
    state = {key: value.contiguous().clone() for key, value in miniature.model.state_dict().items()}
    save_file(state, spec["weights"])
    loaded = taco.models.clap.load(spec)
    assert torch.equal(loaded.tokens_and_embedding(waves)[1], miniature.tokens_and_embedding(waves)[1])
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())

    # As checkpoints of older transformers versions have it.
    constants = {f"caption_encoder.base.h.{i}.attn.bias": torch.ones(1, 1, 24, 24) for i in range(2)}
    constants |= {f"caption_encoder.base.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    save_file(state | constants, spec["weights"])
    with pytest.raises(WeightsError, match="4 unknown"):
        taco.models.clap.load(spec)
    tolerant = json.loads(Path(MINIATURE).read_text())
    tolerant["constant_buffers"] = json.loads(Path(FULL_SIZE).read_text())["constant_buffers"]
    (tmp_path / "tolerant.json").write_text(json.dumps(tolerant))
    loaded = taco.models.clap.load({**spec, "architecture": tmp_path / "tolerant.json"})
    assert torch.equal(loaded.encode_text(["a bell"]), miniature.encode_text(["a bell"]))

    with pytest.raises(WeightsError, match="expected a folder with a GPT-2 style tokenizer"):
        taco.models.clap.load(
            {**spec, "architecture": tmp_path / "tolerant.json", "tokenizer": tmp_path / "none"}
        )
