"""The convolutional codec: shapes at any size, gradients, errors, and a few steps that learn something."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import ModelError, UsageError
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vqgan import Codec, Vqgan, VqganConfig, build_codec, codec_config
from bahumukha.protocols import ImageCodec

QUANTIZERS = {
    "vq": QuantizerConfig("vq", codes=20),
    "low dimension": QuantizerConfig("vq", codes=20, code_dim=4, cosine=True),
    "fsq": QuantizerConfig("fsq", levels=(5, 5, 4)),
    "gumbel": QuantizerConfig("gumbel", codes=20),
}


def tiny(**changes: Any) -> VqganConfig:
    options: dict[str, Any] = dict(
        ch=8, ch_mult=(1, 1, 2, 2), num_res_blocks=1, attn_resolutions=(8,), resolution=64, z_channels=16, embed_dim=6,
        groups=4, quantizer=QUANTIZERS["vq"],
    )  # fmt: skip
    return VqganConfig(**options | changes)


@pytest.fixture(scope="module", params=QUANTIZERS)
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    return build_codec(tiny(quantizer=QUANTIZERS[request.param])).eval()


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- what a codec promises


@torch.inference_mode()
@pytest.mark.parametrize("size", [(64, 64), (8, 24), (72, 136)])
def test_any_size_that_is_a_multiple(codec: Codec, size: tuple[int, int]) -> None:
    assert isinstance(codec, ImageCodec)
    height, width = size
    x = pictures(2, 3, height, width)
    reconstruction, quantized = codec(x)
    grid = height // 8, width // 8
    assert reconstruction.shape == x.shape
    assert quantized.latents.shape == (2, codec.latent_channels, *grid) and quantized.ids.shape == (2, *grid)
    assert torch.equal(codec.decode_ids(quantized.ids.flatten(1), grid), reconstruction)
    latents, ids, losses = codec.quantize(codec.encode(x))
    assert torch.equal(ids, quantized.ids) and torch.equal(codec.decode(latents), reconstruction)
    assert set(losses) == set(quantized.losses)


def test_every_weight_has_a_gradient(codec: Codec) -> None:
    codec.zero_grad()
    reconstruction, quantized = codec(pictures(1, 3, 16, 16))
    (reconstruction.square().sum() + sum(quantized.losses.values())).backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert codec.last_layer.grad is not None and codec.last_layer.shape[0] == 3


def test_the_last_layer_makes_the_pixels(codec: Codec) -> None:
    bias = codec.get_parameter("decoder.conv_out.bias")
    kept = codec.last_layer.detach().clone()
    with torch.no_grad():
        codec.last_layer.zero_()
        pixels = codec.decode(torch.randn(1, codec.latent_channels, 2, 2))
        assert torch.equal(pixels, bias.view(1, 3, 1, 1).expand(1, 3, 16, 16))
        codec.last_layer.copy_(kept)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 64, 60), "a picture of 60 x 64 pixels; this codec takes multiples of 8"),
        ((1, 3, 0, 64), "a picture of 64 x 0 pixels"),
        ((3, 64, 64), r"pictures of shape \(3, 64, 64\)"),
        ((1, 1, 64, 64), r"pictures of shape \(1, 1, 64, 64\)"),
    ],
)
def test_pictures_that_do_not_fit(codec: Codec, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        codec(torch.zeros(shape))


def test_ids_that_do_not_fit(codec: Codec) -> None:
    with pytest.raises(UsageError, match=r"ids of shape \(1, 5\) do not fill a grid of 2 x 3"):
        codec.decode_ids(torch.zeros(1, 5, dtype=torch.int64), (2, 3))
    for wrong in (-1, codec.codes):
        ids = torch.zeros(1, 6, dtype=torch.int64)
        ids[0, 2] = wrong
        with pytest.raises(UsageError, match=f"this codec's go from 0 to {codec.codes - 1}"):
            codec.decode_ids(ids, (2, 3))


# --- the networks


def test_attention_stands_where_taming_has_it() -> None:
    config = tiny(ch_mult=(1, 1, 2, 2), attn_resolutions=(16,), resolution=64, num_res_blocks=2)
    names = Vqgan(config).state_dict()
    where = {name.rpartition(".attn.")[0] for name in names if ".attn." in name}
    assert where == {"encoder.down.2", "decoder.up.2"}
    assert {name.split(".attn.")[1][0] for name in names if name.startswith("decoder.up.2.attn.")} == {"0", "1", "2"}


def test_it_learns_a_picture_by_heart() -> None:
    torch.manual_seed(0)
    codec = build_codec(tiny(ch_mult=(1, 2), quantizer=QuantizerConfig("vq", codes=16), attn_resolutions=()))
    x = F.interpolate(pictures(2, 3, 4, 4), scale_factor=2, mode="nearest")
    optimizer = torch.optim.Adam(codec.parameters(), 1e-2)
    errors = []
    for _ in range(60):
        reconstruction, quantized = codec(x)
        error = F.mse_loss(reconstruction, x)
        optimizer.zero_grad()
        (error + sum(quantized.losses.values())).backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 4


# --- configurations


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_config_survives_its_json(kind: str) -> None:
    config = tiny(quantizer=QUANTIZERS[kind], dropout=0.1)
    assert codec_config(json.loads(json.dumps(asdict(config)))) == config
    assert build_codec(json.loads(json.dumps(asdict(config)))).config == config


def test_the_default_is_the_papers_f16() -> None:
    config = VqganConfig()
    with torch.device("meta"):
        codec = Vqgan(config)
    assert (codec.downsampling, codec.codes, codec.latent_channels, config.n_embed) == (16, 1024, 256, 1024)
    assert [config.has_attention(level) for level in range(5)] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ch": 0}, "ch is 0"),
        ({"ch_mult": ()}, r"ch_mult is \[\]"),
        ({"ch_mult": (1, 0)}, r"ch_mult is \[1, 0\]"),
        ({"ch": 10}, "ch 10 is not a multiple of groups 4"),
        ({"embed_dim": -1}, "embed_dim is -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_options_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "'architecture.kind' is None; it must be one of vqgan, vit"),
        ({"kind": "vae"}, "'architecture.kind' is 'vae'"),
        ({"kind": "vqgan", "chs": 3}, "'architecture': .*'chs'"),
        ({"kind": "vqgan", "quantizer": {"levls": [1]}}, "'architecture': .*'levls'"),
        ({"kind": "vqgan", "ch": 33}, "'architecture': ch 33"),
        ({"kind": "vqgan", "ch": "wide"}, "'architecture': "),
        ({"kind": "vqgan", "quantizer": 3}, "'architecture': "),
    ],
)
def test_dictionaries_that_describe_no_codec(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_codec(values)
