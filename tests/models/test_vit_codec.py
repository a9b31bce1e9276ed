"""The transformer codec: a codec like any other, of any size, whose patches share their seams."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from torch import nn

from bahumukha.errors import UsageError
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vit_codec import Lapped, VitCodec, VitCodecConfig
from bahumukha.models.vqgan import build_codec, codec_config
from bahumukha.protocols import ImageCodec

TINY = {"width": 32, "heads": 2, "fine_width": 16, "encoder_layers": 1, "decoder_layers": 2, "window": 8}
QUANTIZERS = [
    QuantizerConfig("fsq", levels=(4, 3, 3)),
    QuantizerConfig("vq", codes=24, code_dim=6, cosine=True),
    QuantizerConfig("gumbel", codes=24),
]


def tiny(quantizer: QuantizerConfig = QUANTIZERS[0], **more: object) -> VitCodec:
    torch.manual_seed(0)
    codec = build_codec(VitCodecConfig(**{**TINY, "quantizer": quantizer, **more}))  # type: ignore[arg-type]
    assert isinstance(codec, VitCodec)
    return codec


def smooth(count: int, side: int) -> torch.Tensor:
    """Pictures (count, 3, side, side) in [-1, 1] of a few soft spots each."""
    spots = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return nn.functional.interpolate(spots, (side, side), mode="bilinear")


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.kind)
def test_it_is_a_codec(quantizer: QuantizerConfig) -> None:
    codec = tiny(quantizer).eval()
    assert isinstance(codec, ImageCodec) and codec.downsampling == 8
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    made, quantized = codec(x)
    assert made.shape == x.shape and quantized.ids.shape == (2, 8, 12)
    assert quantized.latents.shape == (2, codec.latent_channels, 8, 12)
    assert torch.allclose(codec.decode_ids(quantized.ids.flatten(1), (8, 12)), made, atol=1e-5)
    alone = codec(x[1:])[0]
    assert torch.allclose(alone, made[1:], atol=1e-5)  # pictures of a batch do not see each other


@pytest.mark.parametrize("size", [(64, 64), (72, 200), (8, 8), (136, 64)])
def test_any_multiple_of_a_patch(size: tuple[int, int]) -> None:
    with torch.no_grad():
        made, quantized = tiny()(torch.rand(1, 3, *size))
    assert made.shape[2:] == size and quantized.ids.shape[1:] == (size[0] // 8, size[1] // 8)


def test_other_sizes_are_one_clear_line() -> None:
    with pytest.raises(UsageError, match="100 x 64 pixels; this codec takes multiples of 8"):
        tiny()(torch.rand(1, 3, 64, 100))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: q.kind)
def test_every_weight_learns(quantizer: QuantizerConfig) -> None:
    codec = tiny(quantizer).train()
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    made, quantized = codec(x)
    (sum(quantized.losses.values(), (made - x).square().mean())).backward()
    silent = [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert codec.last_layer is codec.decoder.pixels.weight and codec.last_layer.grad is not None  # type: ignore[union-attr]


def test_the_last_layer_is_a_transposed_convolution() -> None:
    lapped = Lapped(5, 4)
    reference = nn.ConvTranspose2d(5, 3, 8, 4, padding=2, bias=False)
    with torch.no_grad():
        reference.weight.copy_(lapped.weight.T.view(5, 3, 8, 8))
        lapped.bias.zero_()
    x = torch.randn(2, 3, 6, 5)
    assert torch.allclose(lapped(x), reference(x.permute(0, 3, 1, 2)), atol=1e-5)


def test_patches_share_their_seams() -> None:
    """Another code in the middle changes pixels of the patches around it, and the change fades towards its border."""
    codec = tiny().eval()
    ids = torch.zeros(1, 64, dtype=torch.int64)
    other = ids.clone()
    other[0, 27] = 20  # row 3, column 3: pixels 24 to 31
    with torch.no_grad():
        change = (codec.decode_ids(other, (8, 8)) - codec.decode_ids(ids, (8, 8))).abs().sum((0, 1))
    assert change[22:24, 24:32].min() > 0 and change[24:32, 32:34].min() > 0


def test_config_goes_through_json_and_back() -> None:
    config = tiny(QUANTIZERS[1]).config
    assert codec_config(json.loads(json.dumps(asdict(config)))) == config


def test_the_default_is_of_twelve_bits_and_trains_on_a_processor() -> None:
    codec = build_codec(VitCodecConfig())
    assert codec.codes == 4096 and codec.latent_channels == 4 and codec.latent_range == (-1.0, 0.75)
    assert 3e6 < sum(p.numel() for p in codec.parameters()) < 4e6
    with torch.no_grad():
        _, quantized = codec.eval()(smooth(8, 64))
    digits = quantized.latents.transpose(0, 1).flatten(1)
    assert all(len(each.unique()) >= 5 for each in digits)  # at the start already most levels are reached


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("patch", 6, "multiple of 4"),
        ("width", 36, "width 36 is not a multiple"),
        ("encoder_convs", -1, "encoder_convs"),
        ("mlp_ratio", 0.0, "mlp_ratio"),
        ("latent_channels", 0, "latent_channels is 0"),
        ("decoder_layers", 0, "decoder_layers is 0"),
    ],
)
def test_options_that_make_no_sense(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VitCodecConfig(**{option: value})  # type: ignore[arg-type]


def test_it_learns_pictures() -> None:
    codec = tiny(QuantizerConfig("fsq", levels=(8, 8, 8, 8))).train()
    x = smooth(4, 32)
    optimizer = torch.optim.AdamW(codec.parameters(), 3e-3)
    errors = []
    for _ in range(60):
        error = (codec(x)[0] - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    thirds = [sum(errors[i : i + 20]) for i in (0, 20, 40)]
    assert all(later < earlier for earlier, later in pairwise(thirds)) and errors[-1] < errors[0] / 6
