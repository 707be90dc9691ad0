"""Frozen models for tests: the shipped miniature ones, and the paper's at full size with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml
from tokenizers import pre_tokenizers
from transformers import GPT2TokenizerFast

from taco import suites
from taco.method import features
from taco.models import clap, clip, fcclip

ROOT = Path(__file__).resolve().parents[2]


def configuration(suite: str) -> dict:
    """The configuration of the miniature suite, or of the paper's laid over it."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    if suite == "paper":
        config = suites.overlay(config, yaml.safe_load((ROOT / "config/paper.yaml").read_text()))
    return config


def byte_tokenizer(folder: Path) -> Path:
    """A byte-level tokenizer like GPT-2's without merges: ``!`` is 0, end of text the last id."""
    table = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    assert table["!"] == 0
    table["<|endoftext|>"] = len(table)
    (folder / "vocab.json").write_text(json.dumps(table))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return folder


def shake(model, size=0.02, seed=0):
    """Make an untrained model's output depend on every parameter; library inits hold zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The front end is a fixed transform, and one table holds most of the values.
            if "extractor" not in name and "wte" not in name:
                parameter += size * torch.empty_like(parameter).uniform_(-1, 1, generator=generator)
    return model


def shipped(config: dict) -> features.Models:
    """The miniature models with their trained weights."""
    return features.load_models(config["models"], torch.device("cpu"))


def random_paper_models(config: dict, folder: Path) -> features.Models:
    """CLIP, CLAP and FC-CLIP as the paper suite configures them, with random weights; about 3 GiB."""
    tower = random_tower(config)
    return features.Models(tower, random_clap(config, folder), random_fcclip(config, tower))


def random_tower(config: dict) -> clip.FrozenCLIP:
    """CLIP at the paper's size, with random weights."""
    torch.manual_seed(0)
    spec = config["models"]["clip"]
    model = shake(clip.build(spec["architecture"]))
    return clip.FrozenCLIP(model, clip.load_tokenizer(spec["architecture"], None), spec["image_size"])


def random_clap(config: dict, folder: Path) -> clap.FrozenCLAP:
    """CLAP at the paper's size, with random weights and a tokenizer of bytes in ``folder``."""
    spec = config["models"]["clap"]
    length = json.loads((ROOT / spec["architecture"]).read_text())["text_length"]
    tokenizer = clap.load_tokenizer(byte_tokenizer(folder))
    model = shake(clap.build(ROOT / spec["architecture"]))
    return clap.FrozenCLAP(model, tokenizer, length, spec["sample_rate"], spec["window"])


def random_fcclip(config: dict, tower: clip.FrozenCLIP) -> fcclip.FCCLIP:
    """FC-CLIP's head at the paper's size, with random weights, on a tower."""
    return fcclip.FCCLIP(shake(fcclip.build(ROOT / config["models"]["fcclip"]["architecture"], tower)), tower)
