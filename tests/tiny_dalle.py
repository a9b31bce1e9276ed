"""A DALL-E folder small enough to draw with in a test, and the codec beside it."""

from __future__ import annotations

from pathlib import Path

import torch

from bahumukha.models.dalle import Dalle, DalleConfig
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vqgan import VqganConfig, build_codec
from bahumukha.zoo.codecs import save_codec
from bahumukha.zoo.dalle import save_dalle
from tests.tiny_models import tokenizer

CODES, GRID, DOWNSAMPLING = 16, (4, 4), 8
STYLES = ("noto", "fluent-emoji")


def make_codec_folder(folder: Path) -> Path:
    """The paper's network, f8, random weights."""
    torch.manual_seed(0)
    quantizer = QuantizerConfig("vq", codes=CODES)
    config = VqganConfig(
        ch=8,
        ch_mult=(1, 1, 1, 2),
        num_res_blocks=1,
        attn_resolutions=(),
        z_channels=8,
        embed_dim=4,
        groups=4,
        quantizer=quantizer,
    )
    save_codec(build_codec(config), folder, "tiny", 5)
    return folder


def make_dalle_folder(folder: Path, codec: str) -> Path:
    """Pictures of 32 x 32 pixels; weights large enough for sentences to matter."""
    torch.manual_seed(0)
    sizes = {"text_length": 32, "padded_to": 4, "width": 16, "layers": 2, "heads": 2}
    model = Dalle(DalleConfig(vocabulary=259, codes=CODES, grid=GRID, **sizes))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    save_dalle(model, tokenizer(), folder, name="tiny", codec=codec, steps=7, styles=STYLES, weights="float32")
    return folder
