"""CLAP: audio tokens before the last pooling, the global embedding, text embeddings, the projection.

Built from msclap's own classes at any size; only the constructor differs, because msclap's fetches
GPT-2's weights although its checkpoint holds them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from msclap.models.audio import HTSATWrapper
from msclap.models.clap import CLAP, AudioEncoder, Projection, TextEncoder
from msclap.models.htsat import HTSAT_Swin_Transformer
from torch import Tensor, nn
from transformers import AutoTokenizer, GPT2Config, GPT2Model

from taco import entries
from taco.models.weights import check_folder, load_weights


def assemble(cls: type[nn.Module], **parts: Any) -> nn.Module:
    """Make an instance of a library's module from given parts, without its constructor."""
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def build(architecture: str | Path) -> CLAP:
    """Build an untrained CLAP.

    Parameters
    ----------
    architecture : str or Path
        JSON file with ``audio`` (arguments of HTS-AT), ``spectrogram`` (its front end), ``text``
        (arguments of ``GPT2Config``), ``projection`` (width of the shared space); for `load` and its
        like also ``text_length`` and ``constant_buffers`` (patterns of the buffers that only some versions
        of the libraries save).

    Returns
    -------
    msclap.models.clap.CLAP
        In evaluation mode, parameters random, names as in msclap's checkpoints.
    """
    config = json.loads(Path(architecture).read_text())
    front_end = SimpleNamespace(
        **config["spectrogram"],
        enable_tscam=True,
        enable_repeat_mode=False,
        htsat_attn_heatmap=False,
        loss_type="clip_bce",
    )
    htsat = HTSAT_Swin_Transformer(config=front_end, **config["audio"])
    width = config["projection"]
    audio = assemble(
        AudioEncoder,
        base=assemble(HTSATWrapper, htsat=htsat),
        projection=Projection(htsat.num_features, width),
    )
    gpt2 = GPT2Model(GPT2Config(**config["text"]))
    text = assemble(
        TextEncoder,
        text_model="gpt2",
        base=gpt2,
        projection=Projection(gpt2.config.n_embd, width),
    )
    logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
    return assemble(CLAP, audio_encoder=audio, caption_encoder=text, logit_scale=logit_scale).eval()


def load(spec: Mapping[str, Any], device: str | torch.device = "cpu") -> "FrozenCLAP":
    """Load a frozen CLAP, or with a ``loader`` what that makes of the other keys.

    Parameters
    ----------
    spec : mapping
        ``architecture`` (see `build`), ``weights``, ``tokenizer`` (folder), ``sample_rate`` in Hz,
        ``window`` in seconds.
    device : str or torch.device

    Raises
    ------
    taco.models.weights.WeightsError
        When the file is missing or its keys and shapes are not exactly those of the model.
    """
    if own := entries.own_loader(spec, "models.clap.loader"):
        return own(device)
    model = build(spec["architecture"])
    config = json.loads(Path(spec["architecture"]).read_text())
    constants = config.get("constant_buffers", ())
    model.load_state_dict(load_weights(spec["weights"], model.state_dict(), constants))
    tokenizer = load_tokenizer(spec["tokenizer"])
    return FrozenCLAP(model.to(device), tokenizer, config["text_length"], spec["sample_rate"], spec["window"])


def load_tokenizer(folder: str | Path):
    """Load a GPT-2 style tokenizer from disk; its padding token is ``!``, as in msclap."""
    folder = check_folder(folder, "a GPT-2 style tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    tokenizer.add_special_tokens({"pad_token": "!"})
    return tokenizer


class FrozenCLAP:
    """A frozen CLAP behind the few calls that TACO needs.

    Parameters
    ----------
    model : msclap.models.clap.CLAP
    tokenizer : transformers tokenizer
    text_length : int
        Tokens to which every text is padded.
    sample_rate : int
        In Hz.
    window : float
        Length of the sound that the model takes, in seconds.
    """

    def __init__(self, model: CLAP, tokenizer, text_length: int, sample_rate: int, window: float):
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.text_length = text_length
        self.sample_rate = sample_rate
        self.window = round(window * sample_rate)
        self.device = model.logit_scale.device

    @property
    def logit_scale(self) -> float:
        """τ, the factor of the cosine similarities."""
        return float(self.model.logit_scale.exp())

    @property
    def projection(self) -> Projection:
        """The map from pooled tokens to the space shared with text (linear, GELU, linear, residual, norm)."""
        return self.model.audio_encoder.projection

    @torch.no_grad()
    def tokens_and_embedding(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Encode sounds.

        Parameters
        ----------
        waves : float32 [B, window]
            Mono, -1..1.

        Returns
        -------
        tokens : float32 [B, T, C_A]
            HTS-AT's output before its final average pooling, frequency-major, signs as they come.
        embedding : float32 [B, D]
            CLAP's own global embedding, after the projection.
        """
        # A CPU's products round otherwise for few rows than for many. One by one, a sound's company changes no bit.
        parts = waves.split(1) if self.device.type == "cpu" else [waves]
        heard = [audio_tokens(self.model, part.to(self.device)) for part in parts]
        tokens, embeddings = zip(*((one, self.projection(pooled)) for one, pooled in heard), strict=True)
        return torch.cat(tokens), torch.cat(embeddings)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embed texts after the projection; float32 [J, D], not normalised."""
        batches = [list(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]
        return torch.cat([self.model.caption_encoder(self.tokenize(batch)) for batch in batches])

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and attention mask [B, text_length], closed by the end-of-text token as in msclap."""
        return tokenize(self.tokenizer, texts, self.text_length, self.device)


def tokenize(tokenizer, texts: Sequence[str], length: int, device="cpu") -> dict[str, Tensor]:
    """Tokenise texts as msclap does; see `FrozenCLAP.tokenize`."""
    batch = tokenizer(
        [f"{text} <|endoftext|>" for text in texts],
        add_special_tokens=False,
        max_length=length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    return {key: batch[key].to(device) for key in ("input_ids", "attention_mask")}


def audio_tokens(model: CLAP, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Return HTS-AT's tokens [B, T, C] and their mean [B, C], read off the input of its average pooling."""
    htsat = model.audio_encoder.base.htsat
    seen: list[Tensor] = []
    # The first call per forward pass pools the tokens, a later one the class scores.
    hook = htsat.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        output = htsat(waves)
    finally:
        hook.remove()
    return seen[0].transpose(1, 2), output["latent_output"]
