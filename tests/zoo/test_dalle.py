"""DALL-E on disk: saved and loaded with the same numbers, and clear lines for what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bahumukha.errors import ModelError
from bahumukha.models.dalle import Dalle, DalleConfig
from bahumukha.zoo.dalle import load_dalle, save_dalle
from tests.tiny_models import make_clip_folder, tokenizer

CONFIG = DalleConfig(
    vocabulary=259, codes=12, grid=(2, 3), text_length=8, width=16, layers=2, heads=2, attention=("row", "column")
)


@pytest.fixture
def model() -> Dalle:
    torch.manual_seed(0)
    return Dalle(CONFIG)


@pytest.fixture
def folder(model: Dalle, tmp_path: Path) -> Path:
    folder = tmp_path / "dalle"
    styles = ("noto", "openmoji")
    save_dalle(
        model, tokenizer(), folder, name="mine", codec="starter/vqgan", steps=30, styles=styles, weights="float32"
    )
    return folder


def test_float32_comes_back_as_it_was(model: Dalle, folder: Path) -> None:
    loaded = load_dalle(folder)
    assert (loaded.codec, loaded.steps, loaded.model.config) == ("starter/vqgan", 30, CONFIG)
    assert loaded.styles == ("noto", "openmoji")
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    texts, ids = loaded.encode(["a fish", "a longer sentence"]), torch.arange(12).reshape(2, 6)
    assert texts.shape == (2, 8) and texts[0, 0] == 1 and texts[0].tolist()[7] == 2
    assert torch.equal(loaded.model(texts, ids)[1], model.eval()(texts, ids)[1])
    assert set(load_file(folder / "model.safetensors")) == set(model.state_dict())


def test_config_json(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    assert (values["format"], values["kind"], values["name"]) == (1, "dalle", "mine")
    assert values["architecture"]["attention"] == ["row", "column"]


def test_float16_is_nearly_the_same(model: Dalle, tmp_path: Path) -> None:
    save_dalle(model, tokenizer(), tmp_path / "half", name="half", codec="c", steps=0)
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}
    loaded = load_dalle(tmp_path / "half").model
    texts, ids = torch.tensor([[1, 3, 2]]), torch.arange(6)[None]
    assert torch.allclose(loaded(texts, ids)[1], model.eval()(texts, ids)[1], atol=1e-2)


def test_loaded_by_name(model: Dalle, data_home: Path) -> None:
    save_dalle(model, tokenizer(), data_home / "models" / "mine", name="mine", codec="c", steps=0)
    assert load_dalle("mine").codec == "c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tokens"}, "'kind' is 'tokens'; sentences become pictures with a 'dalle' model"),
        ({"codec": ""}, "'codec' is ''; it must name the codec"),
        ({"steps": -1}, "'steps' is -1"),
        ({"styles": "noto"}, "'styles' is 'noto'; it must be a list of names"),
        ({"architecture": None}, "'architecture' does not fit"),
        ({"architecture": {"codes": 3}}, "'architecture' does not fit .*vocabulary"),
        ({"architecture": CONFIG.to_dict() | {"kernel": 2}}, "'architecture' does not fit .kernel is 2"),
        ({"architecture": CONFIG.to_dict() | {"layers": 3}}, "the weights do not fit 'architecture'"),
    ],
)
def test_a_config_that_is_wrong_is_one_line(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message) as raised:
        load_dalle(folder)
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_a_tokenizer_that_is_missing_broken_or_of_another_model(folder: Path, tmp_path: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ModelError, match="tokenizer.json: not a tokenizer"):
        load_dalle(folder)
    path.unlink()
    with pytest.raises(ModelError, match="tokenizer.json: missing"):
        load_dalle(folder)
    small = Dalle(DalleConfig.from_dict(CONFIG.to_dict() | {"vocabulary": 100}))
    save_dalle(small, tokenizer(), tmp_path / "small", name="small", codec="c", steps=0)
    with pytest.raises(ModelError, match=r"has \d+ tokens; the model of .* knows 100"):
        load_dalle(tmp_path / "small")


def test_what_is_no_dalle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sentences become pictures with a 'dalle' model"):
        load_dalle(make_clip_folder(tmp_path / "clip"))
