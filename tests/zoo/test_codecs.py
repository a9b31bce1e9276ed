"""Codecs on disk: saved and loaded with the same numbers, by folder or by name, and clear lines for what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bahumukha.errors import ModelError
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vqgan import Codec, VqganConfig, build_codec
from bahumukha.zoo.codecs import load_codec, read_codec_config, save_codec
from tests.tiny_models import make_clip_folder

CONFIG = VqganConfig(
    ch=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), z_channels=8, embed_dim=4, groups=4,
    quantizer=QuantizerConfig("vq", codes=12),
)  # fmt: skip


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(0)
    codec = build_codec(CONFIG).train()
    codec(torch.rand(1, 3, 8, 8))  # which fills the codebook and its counts
    return codec


@pytest.fixture
def folder(codec: Codec, tmp_path: Path) -> Path:
    save_codec(codec, tmp_path / "codec", "my/codec", steps=300, weights="float32")
    return tmp_path / "codec"


def test_float32_comes_back_as_it_was(codec: Codec, folder: Path) -> None:
    loaded = load_codec(folder)
    assert loaded.config == codec.config
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in codec.state_dict().items())
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert codec.training, "saving changes nothing"


def test_config_json(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    assert (values["format"], values["kind"], values["name"], values["steps"]) == (1, "vqgan", "my/codec", 300)
    assert values["architecture"]["kind"] == "vqgan" and values["architecture"]["quantizer"]["codes"] == 12
    config = read_codec_config(folder)
    assert (config.name, config.steps, config.architecture) == ("my/codec", 300, values["architecture"])


def test_float16_is_half_the_size_and_nearly_the_same(codec: Codec, folder: Path, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    save_codec(codec, tmp_path / "half", "half", steps=0)
    assert all(torch.equal(tensor, codec.state_dict()[name]) for name, tensor in before.items())
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}
    loaded = load_codec(tmp_path / "half")
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(loaded.encode(x), codec.eval().encode(x), atol=0.01)
    assert loaded.encode(x).dtype == torch.float32


def test_what_float16_cannot_hold_is_refused(codec: Codec, tmp_path: Path) -> None:
    with torch.no_grad():
        codec.get_parameter("decoder.conv_in.bias")[0] = 1e6
    with pytest.raises(ModelError, match=r"decoder\.conv_in\.bias .* float32"):
        save_codec(codec, tmp_path / "half", "half", steps=0)
    assert not (tmp_path / "half").exists()
    save_codec(codec, tmp_path / "whole", "whole", steps=0, weights="float32")


def test_loaded_by_name(codec: Codec, data_home: Path) -> None:
    save_codec(codec, data_home / "models" / "mine" / "small", "mine/small", steps=1)
    assert load_codec("mine/small").codes == 12


def test_a_loaded_codec_can_be_trained_on(folder: Path) -> None:
    codec = load_codec(folder).train().requires_grad_()
    reconstruction, _ = codec(torch.rand(1, 3, 8, 8))
    reconstruction.sum().backward()
    assert codec.last_layer.grad is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dalle"}, "'kind' is 'dalle'"),
        ({"name": ""}, "'name' is ''"),
        ({"steps": -1}, "'steps' is -1"),
        ({"steps": True}, "'steps' is True"),
        ({"architecture": None}, "'architecture' is None"),
        ({"architecture": {"kind": "vae"}}, "'architecture.kind' is 'vae'"),
        ({"architecture": {"kind": "vqgan"}}, "do not fit this architecture"),
        ({"format": 9}, "'format' is 9"),
    ],
)
def test_a_config_that_is_wrong_is_one_line(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message) as raised:
        load_codec(folder)
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_weights_that_are_missing_or_broken(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="not safetensors"):
        load_codec(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="no such file"):
        load_codec(folder)


def test_what_is_no_codec(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pictures become codes with a 'vqgan' model"):
        load_codec(make_clip_folder(tmp_path / "clip"))
    with pytest.raises(ModelError, match="no model 'starter/nothing'"):
        load_codec("starter/nothing")
