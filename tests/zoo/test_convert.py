"""Tiny random models of OpenCLIP and transformers: their features and ours must agree, there and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bahumukha.errors import ModelError
from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.zoo.architectures import from_open_clip, from_transformers, to_open_clip, to_transformers
from bahumukha.zoo.convert import Layout, from_ours, keys, to_ours
from tests import public_models as public

END = 59


def texts() -> torch.Tensor:
    """Three texts of OpenCLIP's kind: an end-of-text token, then zeros."""
    ids = torch.randint(1, 58, (3, 16), generator=torch.Generator().manual_seed(2))
    for row, end in enumerate((5, 15, 3)):
        ids[row, end], ids[row, end + 1 :] = END, 0
    return ids


def converted(theirs: Any, config: ClipConfig, layout: Layout) -> Clip:
    ours = Clip(config).eval()
    state = to_ours(theirs.state_dict(), keys(config, layout))
    if isinstance(config.image, ImageTowerConfig):
        state["image.mean"] = torch.zeros_like(ours.image.mean)
    ours.load_state_dict(state)
    return ours


def assert_alike(ours: Clip, theirs: Any, size: int = 32) -> None:
    pixels, ids = torch.randn(3, 3, size, size), texts()
    with torch.inference_mode():
        if hasattr(theirs, "encode_image"):
            images, words = theirs.encode_image(pixels), theirs.encode_text(ids)
        else:
            images = theirs.get_image_features(pixels).pooler_output
            words = theirs.get_text_features(ids).pooler_output
        assert words.std(0).min() > 1e-3, "texts must differ, or agreement says nothing"
        assert (ours.encode_image(pixels) - images).abs().max() < 1e-4
        assert (ours.encode_text(ids, torch.ones_like(ids)) - words).abs().max() < 1e-4
        assert float(ours.logit_scale) == pytest.approx(min(100, float(theirs.logit_scale.exp())))


def assert_returns(ours: Clip, theirs: Any, layout: Layout) -> None:
    back = from_ours(ours.state_dict(), keys(ours.config, layout))
    expected = {name: tensor for name, tensor in theirs.state_dict().items() if "position_ids" not in name}
    assert back.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(back[name], tensor.reshape(back[name].shape)), name


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_open_clip(quick_gelu):
    config = public.open_clip_config(quick_gelu=quick_gelu)
    theirs = public.build_open_clip(config)
    ours = converted(theirs, from_open_clip(config, "tiny"), "open_clip")
    assert_alike(ours, theirs)
    assert_returns(ours, theirs, "open_clip")
    again = to_open_clip(ours.config, "tiny")
    assert from_open_clip(again, "tiny") == ours.config
    rebuilt = public.build_open_clip(again)
    rebuilt.load_state_dict(from_ours(ours.state_dict(), keys(ours.config, "open_clip")))
    assert_alike(ours, rebuilt)


def test_the_other_gelu_would_show():
    theirs = public.build_open_clip(public.open_clip_config(quick_gelu=True))
    wrong = converted(theirs, from_open_clip(public.open_clip_config(quick_gelu=False), "tiny"), "open_clip")
    pixels = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        assert (wrong.encode_image(pixels) - theirs.encode_image(pixels)).abs().max() > 1e-3


@pytest.mark.parametrize("tanh", [True, False])
def test_siglip_of_open_clip(tanh):
    public.register_siglip_trunk()
    config = public.open_clip_siglip_config(tanh=tanh)
    theirs = public.build_open_clip(config)
    ours = converted(theirs, from_open_clip(config, "tiny"), "open_clip")
    assert ours.config.image.pool == "attention" and ours.config.text.pool == "last"
    assert_alike(ours, theirs)
    assert_returns(ours, theirs, "open_clip")
    again = to_open_clip(ours.config, "tiny")
    assert again["vision_cfg"]["timm_model_name"] == public.SIGLIP_TRUNK
    assert from_open_clip(again, "tiny") == ours.config


def test_timm_trunk_of_open_clip():
    config = public.open_clip_timm_config()
    theirs = public.build_open_clip(config)
    ours = converted(theirs, from_open_clip(config, "tiny"), "open_clip")
    assert_alike(ours, theirs, 64)
    assert_returns(ours, theirs, "open_clip")
    assert from_open_clip(to_open_clip(ours.config, "tiny"), "tiny") == ours.config


def test_text_tower_that_looks_both_ways_and_ends_at_a_token():
    """MobileCLIP's: padding counts, read off at the end-of-text token."""
    config = public.open_clip_config() | {"custom_text": True}
    config["text_cfg"] = config["text_cfg"] | {"no_causal_mask": True}
    theirs = public.build_open_clip(config)
    assert_alike(converted(theirs, from_open_clip(config, "tiny"), "open_clip"), theirs)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
def test_clip_of_transformers(activation):
    theirs = public.transformers_clip(activation=activation)
    ours = converted(theirs, from_transformers(theirs.config.to_dict(), "tiny"), "transformers")
    assert_alike(ours, theirs)
    assert_returns(ours, theirs, "transformers")
    assert from_transformers(full(to_transformers(ours.config, "tiny")), "tiny") == ours.config


def test_an_old_configuration_ends_at_the_highest_token():
    theirs = public.transformers_clip(end=2)
    assert from_transformers(theirs.config.to_dict(), "tiny").text.end_token == END
    assert_alike(converted(theirs, from_transformers(theirs.config.to_dict(), "tiny"), "transformers"), theirs)


def test_siglip_of_transformers():
    theirs = public.transformers_siglip()
    ours = converted(theirs, from_transformers(theirs.config.to_dict(), "tiny"), "transformers")
    assert_alike(ours, theirs)
    assert ours.logit_bias.item() == theirs.logit_bias.item()
    assert_returns(ours, theirs, "transformers")
    assert from_transformers(full(to_transformers(ours.config, "tiny")), "tiny") == ours.config


def full(described: dict[str, Any]) -> dict[str, Any]:
    from transformers import CLIPConfig, SiglipConfig

    kind = {"clip": CLIPConfig, "siglip": SiglipConfig}[described["model_type"]]
    return kind.from_dict(described).to_dict()


def test_the_same_siglip_under_both_names():
    """transformers -> ours -> OpenCLIP's names -> ours: one part of a matrix out of place would show."""
    theirs = public.transformers_siglip()
    ours = converted(theirs, from_transformers(theirs.config.to_dict(), "tiny"), "transformers")
    through = to_ours(from_ours(ours.state_dict(), keys(ours.config, "open_clip")), keys(ours.config, "open_clip"))
    assert through.keys() == ours.state_dict().keys()
    assert all(torch.equal(through[name], tensor) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("RN50", "modified ResNet"),
        ("coca_ViT-B-32", "CoCa"),
        ("roberta-ViT-B-32", "roberta-base from transformers"),
        ("MobileCLIP-S1", "fastvit_mci1 with pool 'avg' and projection None"),
        ("ViT-M-16-alt", "ls_init_value = 0.0001"),
        ("ViT-L-14-CLIPA", "pool_type = 'avg'"),
        ("convnext_large_d", "projection 'mlp'"),
    ],
)
def test_what_the_towers_cannot_hold_is_refused_in_one_line(architecture, reason):
    import open_clip

    with pytest.raises(ModelError, match="what can be imported: ViT models of CLIP, OpenCLIP and SigLIP") as caught:
        from_open_clip(open_clip.get_model_config(architecture), architecture)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_most_of_open_clips_architectures_are_held():
    import open_clip

    held = set()
    for name in open_clip.list_models():
        try:
            from_open_clip(open_clip.get_model_config(name), name)
        except ModelError:
            continue
        held.add(name)
    wanted = {"ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-L-14-336-quickgelu", "ViT-H-14", "ViT-g-14",
              "ViT-bigG-14", "ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP-384", "ViT-gopt-16-SigLIP2-256",
              "convnext_base_w"}  # fmt: skip
    assert wanted <= held


@pytest.mark.parametrize("image", [ViTConfig(width=64, heads=4, layers=1, size=32, patch=8, pool="mean")])
def test_towers_that_others_lack_are_not_exported(image):
    config = from_open_clip(public.open_clip_config(), "tiny")
    with pytest.raises(ModelError, match="mine: OpenCLIP has no such image tower"):
        to_open_clip(ClipConfig(24, image, config.text), "mine")
    with pytest.raises(ModelError, match="mine: neither CLIPModel nor SiglipModel"):
        to_transformers(ClipConfig(24, image, config.text), "mine")
    with pytest.raises(ModelError, match="mine: OpenCLIP has no such towers"):
        to_open_clip(ClipConfig(), "mine")
    wide = replace(config, text=replace(config.text, projection_hidden=8))
    for export, message in ((to_open_clip, "OpenCLIP has no such towers"), (to_transformers, "neither CLIPModel nor")):
        export(config, "mine")
        with pytest.raises(ModelError, match=f"mine: {message}"):
            export(wide, "mine")


def test_missing_and_unknown_tensors_are_named():
    config = public.open_clip_config()
    theirs = public.build_open_clip(config)
    state = theirs.state_dict() | {"visual.odd": torch.zeros(1)}
    del state["visual.proj"]
    with pytest.raises(ModelError, match=r"1 missing \(visual\.proj\) and 1 unknown \(visual\.odd\)"):
        to_ours(state, keys(from_open_clip(config, "tiny"), "open_clip"))
