"""Captions and embeddings that a tiny prior can learn: what each word means is drawn once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from bahumukha.generate.unclip import Unclip
from bahumukha.models.clip import Clip, ClipConfig
from bahumukha.models.denoiser import Denoiser, DenoiserConfig
from bahumukha.models.embedding_tokens import TokenPrior, TokenPriorConfig
from bahumukha.models.prior import DiffusionPrior, PriorConfig
from bahumukha.models.spaces import Latents, Pixels
from bahumukha.models.text import TextFeatures, TextTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.zoo.fake import ColourEncoder
from bahumukha.zoo.unclip import (
    LoadedDecoder,
    LoadedPrior,
    LoadedUnclip,
    LoadedUpsampler,
    Sight,
    save_decoder,
    save_prior,
    save_unclip,
    save_upsampler,
)
from tests import tiny_models

DIM, TEXT_WIDTH = 8, 6


def captions(lengths: list[int], seed: int = 0) -> TextFeatures:
    """Random captions of so many tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    seen = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    embedding = F.normalize(torch.randn(len(lengths), DIM, generator=generator), dim=-1)
    return TextFeatures(embedding, torch.randn(*shape, TEXT_WIDTH, generator=generator), seen)


def pictures_of(text: TextFeatures, spread: float = 0.3) -> Tensor:
    """Embeddings near what the first token means, in a cone of their own."""
    meaning = torch.randn(TEXT_WIDTH, DIM, generator=torch.Generator().manual_seed(9))
    at = F.normalize(text.tokens[:, 0] @ meaning, dim=-1)
    away = torch.ones(DIM) / DIM**0.5
    return F.normalize(at + 2 * away + spread * torch.randn(at.shape) / DIM**0.5, dim=-1)


def make_clip(folder: Path, *, seed: int = 0) -> Path:
    """A model folder whose pictures are embedded by a tiny ONNX tower and whose texts by one of PyTorch."""
    torch.manual_seed(seed)
    text = TextTowerConfig(259, tiny_models.CONTEXT, width=TEXT_WIDTH, layers=1, heads=2)
    image = ViTConfig(tiny_models.SIZE, patch=16, width=8, layers=1, heads=2)
    model = Clip(ClipConfig(tiny_models.DIM, image, text))
    tiny_models.make_clip_folder(folder, seed=seed, architecture=model.config.to_dict())
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def make_unclip_folder(folder: Path) -> Path:
    """FOLDER/clip, FOLDER/unclip of 8 x 8 pixels, 16 x 16 when enlarged, and FOLDER/tokens, a prior of the other kind;
    weights large enough for captions to matter. Returns the second."""
    clip = make_clip(folder / "clip")
    sight = Sight(str(clip), "tiny-0")
    sizes: dict[str, Any] = {"dim": tiny_models.DIM, "text_length": tiny_models.CONTEXT}
    styles: dict[str, Any] = {"sight": sight, "steps": 3, "styles": ("noto", "fluent-emoji"), "weights": "float32"}
    save_prior(tiny_prior(**sizes), folder / "prior", name="p", **styles)
    save_prior(tiny_token_prior(**sizes), folder / "tokens", name="t", **styles)
    decoder = tiny_denoiser(spread=0.1, predicts="velocity", **sizes)
    save_decoder(decoder, folder / "decoder", name="d", sight=sight, codec="", steps=5, weights="float32")
    large = tiny_denoiser(given=3, dim=0, text_width=0, spread=0.1)
    save_upsampler(large, folder / "upsampler", name="u", factor=2, steps=6, weights="float32")
    parts = {part: folder / part for part in ("prior", "decoder", "upsampler")}
    save_unclip(folder / "unclip", name="tiny", **parts)
    return folder / "unclip"


def tiny_prior(**changes: Any) -> DiffusionPrior:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dim": DIM, "text_width": TEXT_WIDTH, "text_length": 7, "width": 32, "layers": 2}
    model = DiffusionPrior(PriorConfig(**sizes | {"heads": 2} | changes))
    _enlarge(model)
    return model


def tiny_token_prior(**changes: Any) -> TokenPrior:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dim": DIM, "text_width": TEXT_WIDTH, "text_length": 7, "width": 32, "layers": 2}
    sizes |= {"heads": 2, "axes": 6, "buckets": 9, "matches": 4}
    model = TokenPrior(TokenPriorConfig(**sizes | changes))
    _enlarge(model)
    return model


def _enlarge(model: torch.nn.Module) -> None:
    """Weights so large that all inputs matter."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)


def tiny_denoiser(*, spread: float = 0.3, **changes: Any) -> Denoiser:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"grid": 8, "patch": 2, "dim": DIM, "text_width": TEXT_WIDTH, "text_length": 7}
    sizes |= {"image_tokens": 2, "width": 16, "layers": 3, "heads": 2}
    model = Denoiser(DenoiserConfig(**sizes | changes))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=spread)
    return model


def tiny_unclip(*, codec: Any = None, upsampler: bool = False, **changes: Any) -> Unclip:
    """Of random networks that know `ColourEncoder`'s space; pictures of 8 x 8 pixels, or 16 x 16 with a codec."""
    encoder = ColourEncoder()
    sight = Sight("fake/colours", encoder.fingerprint)
    space = Latents(codec) if codec is not None else Pixels()
    sizes: dict[str, Any] = {"dim": encoder.dim, "predicts": "velocity", "spread": 0.1, "channels": space.channels}
    if codec is not None:
        sizes |= {"grid": 16 // space.downsampling, "patch": 1}
    decoder = LoadedDecoder(tiny_denoiser(**sizes | changes).eval().requires_grad_(False), sight, "", 1)
    prior = LoadedPrior(tiny_prior(dim=encoder.dim).eval().requires_grad_(False), sight, 1)
    large = tiny_denoiser(given=3, dim=0, text_width=0, spread=0.1).eval().requires_grad_(False)
    loaded = LoadedUnclip("tiny", prior, decoder, LoadedUpsampler(large, 2, 1) if upsampler else None)

    def read(texts: Any) -> TextFeatures:
        """A token for each letter, the same one each time."""
        table = torch.randn(128, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))
        ids = [[ord(letter) % 128 for letter in text][:7] for text in texts]
        longest = max(map(len, ids))
        tokens = torch.stack([table[torch.tensor(row + [0] * (longest - len(row)))] for row in ids])
        seen = torch.tensor([[at < len(row) for at in range(longest)] for row in ids])
        return TextFeatures(torch.from_numpy(encoder.encode_texts(texts)), tokens, seen)

    return Unclip(loaded, encoder, read, space)
