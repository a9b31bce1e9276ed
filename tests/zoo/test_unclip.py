"""unCLIP on disk: parts saved and loaded with the same numbers, put together, and clear lines for what is broken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bahumukha.errors import ModelError, UsageError
from bahumukha.zoo.folder import available
from bahumukha.zoo.importing import aside
from bahumukha.zoo.unclip import (
    Sight,
    load_decoder,
    load_prior,
    load_unclip,
    load_upsampler,
    put_together,
    save_decoder,
    save_prior,
    save_unclip,
    save_upsampler,
)
from tests.tiny_dalle import make_dalle_folder
from tests.tiny_models import make_clip_folder
from tests.tiny_unclip import tiny_denoiser, tiny_prior, tiny_token_prior

SIGHT = Sight("starter/clip", "abc")


def write_parts(folder: Path, *, weights: Any = "float32") -> Path:
    """prior/, tokens/, decoder/ and upsampler/."""
    save_prior(tiny_prior(), folder / "prior", name="p", sight=SIGHT, steps=3, styles=("noto",), weights=weights)
    save_prior(tiny_token_prior(), folder / "tokens", name="t", sight=SIGHT, steps=4, weights=weights)
    save_decoder(tiny_denoiser(), folder / "decoder", name="d", sight=SIGHT, codec="", steps=5, weights=weights)
    large = tiny_denoiser(given=3, dim=0, text_width=0)
    save_upsampler(large, folder / "upsampler", name="u", factor=2, steps=6, weights=weights)
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "parts")


def test_float32_comes_back_as_it_was(parts: Path) -> None:
    prior, tokens = load_prior(parts / "prior"), load_prior(parts / "tokens")
    decoder, upsampler = load_decoder(parts / "decoder"), load_upsampler(parts / "upsampler")
    assert (prior.steps, prior.styles, prior.sight) == (3, ("noto",), SIGHT)
    assert (tokens.steps, decoder.codec, upsampler.factor, upsampler.steps) == (4, "", 2, 6)
    pairs: list[tuple[Any, Any]] = [
        (prior.model, tiny_prior()),
        (tokens.model, tiny_token_prior()),
        (decoder.model, tiny_denoiser()),
        (upsampler.model, tiny_denoiser(given=3, dim=0, text_width=0)),
    ]
    for loaded, model in pairs:
        assert loaded.config == model.config and not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


def test_float16_is_nearly_the_same(tmp_path: Path) -> None:
    loaded = load_decoder(write_parts(tmp_path / "half", weights="float16") / "decoder").model.state_dict()
    assert all(torch.allclose(loaded[k], v, atol=2e-3) for k, v in tiny_denoiser().state_dict().items())


def test_put_together_under_one_name(parts: Path, data_home: Path) -> None:
    folder = data_home / "models" / "mine"
    save_unclip(folder, name="mine", prior=parts / "prior", decoder=parts / "decoder", upsampler=parts / "upsampler")
    assert "mine" in available() and not any("prior" in name for name in available())
    loaded = load_unclip("mine")
    assert (loaded.name, loaded.prior.steps, loaded.decoder.steps) == ("mine", 3, 5)
    assert loaded.upsampler is not None and loaded.upsampler.factor == 2
    save_unclip(data_home / "models" / "small", name="small", prior=parts / "tokens", decoder=parts / "decoder")
    assert load_unclip("small").upsampler is None
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prior": str(parts / "tokens")}))
    assert load_unclip("mine").prior.steps == 4, "a part may be a model of its own"


def test_a_part_may_be_named_by_its_unclip(parts: Path, tmp_path: Path) -> None:
    save_unclip(tmp_path / "whole", name="whole", prior=parts / "tokens", decoder=parts / "decoder")
    assert load_prior(tmp_path / "whole").steps == 4 and load_decoder(tmp_path / "whole").steps == 5
    with pytest.raises(ModelError, match="'kind' is 'unclip'; pictures become larger with a 'upsampler' model"):
        load_upsampler(tmp_path / "whole")


def test_a_sketch_is_named_and_not_copied(parts: Path, tmp_path: Path, data_home: Path) -> None:
    options: dict[str, Any] = {"prior": parts / "prior", "decoder": parts / "decoder"}
    folder = put_together(**options, sketch="starter/dalle", name="mine")
    assert load_unclip("mine").sketch == "starter/dalle" and not (folder / "sketch").exists()
    assert load_unclip(put_together(**options, name="plain")).sketch == ""
    dalle = make_dalle_folder(tmp_path / "dalle", "starter/dalle-codec")
    assert load_unclip(put_together(**options, sketch=str(dalle), name="own")).sketch == str(dalle.resolve())
    with pytest.raises(ModelError, match="'kind' is 'prior'; sketches are drawn with a 'dalle' model"):
        put_together(**options, sketch=str(parts / "prior"), name="wrong")
    assert "wrong" not in available()
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sketch": 3}))
    with pytest.raises(ModelError, match="'sketch' is 3; it must name a DALL-E, or be left out"):
        load_unclip("mine")


def test_parts_of_different_clips_do_not_fit(parts: Path, tmp_path: Path) -> None:
    other = Sight("ViT-B-32/openai", "xyz")
    save_decoder(tiny_denoiser(), tmp_path / "other", name="d", sight=other, codec="", steps=5)
    save_unclip(tmp_path / "both", name="both", prior=parts / "prior", decoder=tmp_path / "other")
    with pytest.raises(ModelError, match="prior was trained with starter/clip, its decoder with ViT-B-32/openai"):
        load_unclip(tmp_path / "both")


@pytest.mark.parametrize(
    ("part", "load", "change", "message"),
    [
        ("prior", load_prior, {"kind": "clip"}, "captions become embeddings with a 'prior' model"),
        ("prior", load_prior, {"network": "gan"}, "'network' is 'gan'; it must be 'diffusion' or 'tokens'"),
        ("prior", load_prior, {"network": "tokens"}, "the weights do not fit 'architecture'|'architecture' does not"),
        ("prior", load_prior, {"clip": ""}, "'clip' is ''; it must say which CLIP"),
        ("prior", load_prior, {"styles": "noto"}, "'styles' is 'noto'"),
        ("prior", load_prior, {"steps": -1}, "'steps' is -1"),
        ("decoder", load_decoder, {"codec": None}, "'codec' is None"),
        ("decoder", load_decoder, {"architecture": {"width": 31}}, "'architecture' does not fit .width is 31"),
        ("upsampler", load_upsampler, {"factor": 1}, "'factor' is 1"),
    ],
)
def test_a_config_that_is_wrong_is_one_line(
    parts: Path, part: str, load: Callable[[Path], Any], change: dict[str, Any], message: str
) -> None:
    path = parts / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message) as raised:
        load(parts / part)
    assert str(parts) in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_no_unclip(tmp_path: Path, parts: Path) -> None:
    with pytest.raises(ModelError, match="pictures of an embedding are drawn with a 'unclip' model"):
        load_unclip(make_clip_folder(tmp_path / "clip"))
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text('{"format": 1, "kind": "unclip", "name": "x", "decoder": "d"}')
    with pytest.raises(ModelError, match="'prior' is None; it must name a folder in this one"):
        load_unclip(folder)
    save_decoder(tiny_denoiser(), tmp_path / "d", name="d", sight=SIGHT, codec="", steps=1)
    (tmp_path / "d" / "config.json").write_text(
        (tmp_path / "d" / "config.json").read_text().replace('"decoder"', '"upsampler"').replace('"codec"', '"factor"')
    )
    with pytest.raises(ModelError, match="'factor' is ''"):
        load_upsampler(tmp_path / "d")


# --- what is replaced, and what is not


def test_only_a_model_is_ever_replaced(parts: Path, tmp_path: Path, data_home: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"mine")
    options = {"prior": parts / "prior", "decoder": parts / "decoder"}
    with pytest.raises(UsageError, match="photos: is there and is no model, so it is not replaced"):
        put_together(**options, out=photos, replace=True)
    assert (photos / "a.jpg").read_bytes() == b"mine"
    (data_home / "models" / "openai" / "dvae").mkdir(parents=True)
    with pytest.raises(UsageError, match="openai: is there and is no model"):
        put_together(**options, name="openai", replace=True)
    folder = put_together(**options, name="mine")
    with pytest.raises(ModelError, match="mine: a model is there already; --replace puts another in its place"):
        put_together(**options, name="mine")
    assert put_together(**options, name="mine", replace=True) == folder and load_unclip("mine").prior.steps == 3
    with pytest.raises(UsageError, match="--name mine/inner: mine is a model itself"):
        put_together(**options, name="mine/inner")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        put_together(**options, out=tmp_path / "file" / "x")


def test_a_model_that_cannot_come_to_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "config.json").write_text("old")
    replace = os.replace

    def fails(source: Path, to: Path) -> None:
        if Path(source).name == "new":
            raise OSError("no space")
        replace(source, to)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"), aside(target) as folder:
        (folder / "config.json").write_text("new")
    assert (target / "config.json").read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["model"]


def test_numbers_that_float16_cannot_hold_are_named(tmp_path: Path) -> None:
    model = tiny_denoiser()
    with torch.no_grad():
        model.tell.bias[0] = 1e6
    with pytest.raises(ModelError, match="tell.bias has numbers that float16 cannot hold"):
        save_decoder(model, tmp_path / "d", name="d", sight=Sight("starter/clip", "x"), codec="", steps=1)
