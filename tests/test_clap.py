"""CLAP: tokens, embeddings and names equal msclap's own, at the paper's size, with random weights."""

import fnmatch
import json
import re
from argparse import Namespace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from msclap import CLAPWrapper as wrapper_module
from msclap.models import clap as library
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch.nn import functional as F
from transformers import GPT2TokenizerFast

import taco.clap
from taco.media import fit_window, read_sound
from taco.miniature.training import write_tokenizer
from taco.weights import WeightsError

MINIATURE = "config/models/miniature_clap.json"
FULL_SIZE = "config/models/clap_2023.json"
TEXTS = ["This is a sound of a bell", "This is a sound of Gunshot, gunfire"]


def shake(model, seed=0):
    """Make an untrained model's output depend on every parameter; library inits hold zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The front end is a fixed transform, and one table holds most of the values.
            if "extractor" not in name and "wte" not in name:
                parameter += 0.02 * torch.empty_like(parameter).uniform_(-1, 1, generator=generator)
    return model


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory):
    """A byte-level tokenizer like GPT-2's without merges: ``!`` is 0, end of text the last id."""
    folder = tmp_path_factory.mktemp("gpt2")
    table = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    assert table["!"] == 0
    table["<|endoftext|>"] = len(table)
    (folder / "vocab.json").write_text(json.dumps(table))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def full_size(gpt2_folder):
    model = shake(taco.clap.build(FULL_SIZE))
    length = json.loads(Path(FULL_SIZE).read_text())["text_length"]
    return taco.clap.FrozenCLAP(model, taco.clap.load_tokenizer(gpt2_folder), length, 44100, 7.0)


@pytest.fixture(scope="module")
def msclap(full_size, gpt2_folder):
    """msclap's own wrapper around its own model, without its downloads; GPT-2 comes from a configuration."""
    arguments = yaml.safe_load(resources.files("msclap").joinpath("configs/config_2023.yml").read_text())
    wrapper = wrapper_module.CLAPWrapper.__new__(wrapper_module.CLAPWrapper)
    wrapper.args = Namespace(**arguments)
    wrapper.token_keys, wrapper.use_cuda = ["input_ids", "attention_mask"], False
    wrapper.np_str_obj_array_pattern = re.compile(r"[SaUO]")
    wrapper.tokenizer = wrapper_module.AutoTokenizer.from_pretrained(gpt2_folder)
    wrapper.tokenizer.add_special_tokens({"pad_token": "!"})
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


def write_sound(folder, rate):
    """Write three seconds of mono sound."""
    rng = np.random.default_rng(0)
    time = np.arange(3 * rate) / rate
    wave = 0.3 * np.sin(2 * np.pi * 440 * time) * np.exp(-time) + 0.05 * rng.standard_normal(len(time))
    soundfile.write(folder / "sound.wav", wave, rate)
    return folder / "sound.wav"


def encode(clap, path):
    wave = fit_window(read_sound(path, 0.0, np.nan, clap.sample_rate), clap.window)
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


def test_names_and_shapes_are_msclaps(full_size, msclap):
    ours, theirs = full_size.model.state_dict(), msclap.clap.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    gpt2 = full_size.model.caption_encoder.base.config
    assert (gpt2.n_layer, gpt2.n_head, gpt2.n_embd, gpt2.vocab_size) == (12, 12, 768, 50257)


def test_audio_embedding_is_msclaps(msclap, sound, encoded, read_without_decoder):
    expected = msclap.get_audio_embeddings([str(sound)])
    torch.testing.assert_close(encoded[1], expected, rtol=1e-5, atol=1e-5)


def test_resampled_audio_embedding_is_msclaps(full_size, msclap, tmp_path, read_without_decoder):
    """Both resample by torchaudio."""
    path = write_sound(tmp_path, 16000)
    expected = msclap.get_audio_embeddings([str(path)])
    torch.testing.assert_close(encode(full_size, path)[1], expected, rtol=1e-5, atol=1e-5)


def test_text_embeddings_are_msclaps(full_size, msclap):
    torch.testing.assert_close(
        full_size.encode_text(TEXTS), msclap.get_text_embeddings(TEXTS), rtol=1e-5, atol=1e-5
    )


def test_tokens_have_the_papers_shape_and_pool_to_the_embedding(full_size, encoded):
    tokens, embedding = encoded
    assert tokens.shape == (1, 64, 768) and embedding.shape == (1, 1024)
    torch.testing.assert_close(full_size.projection(tokens.mean(1)), embedding, rtol=1e-5, atol=1e-5)
    assert tokens.std(1).min() > 0


def test_tolerated_constants_are_no_parameter_of_this_version(full_size):
    """Only names that the model does not have, so that nothing learned can be missing unnoticed."""
    patterns = json.loads(Path(FULL_SIZE).read_text())["constant_buffers"]
    learned = [name for name, _ in full_size.model.named_parameters()]
    assert patterns and not [name for name in learned for p in patterns if fnmatch.fnmatchcase(name, p)]


def test_paper_configuration_names_these_settings(full_size):
    spec = yaml.safe_load(Path("config/paper.yaml").read_text())["models"]["clap"]
    assert spec["architecture"] == FULL_SIZE
    assert (spec["sample_rate"], spec["window"]) == (full_size.sample_rate, 7.0)
    assert full_size.window == 7 * 44100


# ---------------------------------------------------------------- miniature size


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def miniature(tokenizer):
    model = shake(taco.clap.build(MINIATURE))
    return taco.clap.FrozenCLAP(model, taco.clap.load_tokenizer(tokenizer), 24, 16000, 1.0)


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
    bins, times = seen[0].shape[-2:]
    assert bins * times == tokens.shape[1] == 64 and times > bins > 1
    for frequency, time in [(0, 0), (1, 2), (bins - 1, times - 1)]:
        assert torch.equal(tokens[:, frequency * times + time], seen[0][:, :, frequency, time])


def test_no_hook_is_left_behind(miniature, waves):
    taco.clap.audio_tokens(miniature.model, waves)
    assert not miniature.model.audio_encoder.base.htsat.avgpool._forward_pre_hooks
    with pytest.raises(RuntimeError):
        taco.clap.audio_tokens(miniature.model, waves.long())
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
            torch.testing.assert_close(found[0], expected[index], rtol=1e-4, atol=1e-5)
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
    loaded = taco.clap.load(spec)
    assert torch.equal(loaded.tokens_and_embedding(waves)[1], miniature.tokens_and_embedding(waves)[1])
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())

    # As checkpoints of older transformers versions have it.
    constants = {f"caption_encoder.base.h.{i}.attn.bias": torch.ones(1, 1, 24, 24) for i in range(2)}
    constants |= {f"caption_encoder.base.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    save_file(state | constants, spec["weights"])
    with pytest.raises(WeightsError, match="4 unknown"):
        taco.clap.load(spec)
    tolerant = json.loads(Path(MINIATURE).read_text())
    tolerant["constant_buffers"] = json.loads(Path(FULL_SIZE).read_text())["constant_buffers"]
    (tmp_path / "tolerant.json").write_text(json.dumps(tolerant))
    loaded = taco.clap.load({**spec, "architecture": tmp_path / "tolerant.json"})
    assert torch.equal(loaded.encode_text(["a bell"]), miniature.encode_text(["a bell"]))

    with pytest.raises(WeightsError, match="expected a folder with a GPT-2 style tokenizer"):
        taco.clap.load({**spec, "architecture": tmp_path / "tolerant.json", "tokenizer": tmp_path / "none"})
