"""The Vision Transformer: shortcuts that must be exact, and what training adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bahumukha.models.text import TextTower, TextTowerConfig
from bahumukha.models.vit import ViT, ViTConfig

TINY = ViTConfig(size=32, patch=8, width=32, layers=2, heads=4)


def tower(config: ViTConfig = TINY, dim: int = 16) -> ViT:
    torch.manual_seed(0)
    made = ViT(config, dim)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.eval()


@pytest.mark.parametrize("pool", ["class", "mean", "attention"])
def test_shapes(pool):
    made = tower(replace(TINY, pool=pool, class_token=pool == "class"))
    assert made(torch.randn(3, 3, 32, 32)).shape == (3, 16)
    assert made.tokens(torch.randn(3, 3, 32, 32)).shape == (3, 16 + (pool == "class"), 32)


def test_the_last_block_for_the_class_token_alone_is_exact():
    made, pixels = tower(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        whole = made.tokens(pixels)[:, 0]
        assert torch.allclose(made.features(pixels), whole, atol=1e-5)


def test_patches_are_those_of_the_convolution():
    made, pixels = tower(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = made.patches(pixels).flatten(2).transpose(1, 2)
        made.norm_pre = torch.nn.Identity()
        assert torch.allclose(made.embed(pixels)[:, 1:] - made.position[1:], expected, atol=1e-5)


def test_other_sizes_interpolate_the_positions():
    made = tower()
    assert made(torch.randn(2, 3, 48, 40)).shape == (2, 16)
    with torch.no_grad():
        made.position[1:] = made.position[1]  # the same everywhere, so also in between
        assert torch.allclose(made._positions(6, 5)[1:], made.position[1].expand(30, -1), atol=1e-5)


def test_patch_dropout_leaves_out_patches_in_training_only():
    made, pixels = tower(replace(TINY, patch_dropout=0.75)), torch.randn(4, 3, 32, 32)
    assert made.embed(pixels).shape == (4, 17, 32)
    assert torch.equal(made(pixels), made(pixels))
    made.train()
    kept = made.embed(pixels)
    assert kept.shape == (4, 5, 32)
    whole = made.eval().embed(pixels)
    for row in range(4):
        distances = torch.cdist(kept[row], whole[row])
        assert distances.argmin(1)[0] == 0, "the class token stays first"
        assert distances.min(1).values.max() < 1e-4 and len(set(distances.argmin(1).tolist())) == 5


def test_patch_dropout_chooses_anew_for_each_picture():
    made = tower(replace(TINY, patch_dropout=0.5)).train()
    pixels = torch.randn(1, 3, 32, 32).expand(6, -1, -1, -1)
    embedded = made.embed(pixels)
    assert len({tuple(row.sum(1).sort().values.round(decimals=3).tolist()) for row in embedded}) > 1


@pytest.mark.parametrize("pool", ["class", "attention"])
def test_checkpointing_changes_no_gradient(pool):
    made, pixels = tower(replace(TINY, pool=pool)).train(), torch.randn(2, 3, 32, 32)
    gradients = []
    for enable in (False, True):
        made.set_grad_checkpointing(enable)
        made.zero_grad()
        made(pixels).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-4) for name in gradients[0])


def test_checkpointing_keeps_less():
    """Counts what autograd saves for the backward pass."""
    pixels = torch.randn(2, 3, 32, 32)
    saved = []
    for enable in (False, True):
        made = tower(replace(TINY, layers=6)).train()
        made.set_grad_checkpointing(enable)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            made(pixels)
        saved.append(sum(sizes))
    assert saved[1] < saved[0] / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30}, "image.width 30 is not a multiple of image.heads 4"),
        ({"patch": 64}, "image.patch is 64; it must be from 1 to image.size 32"),
        ({"layers": 0}, "image.layers is 0"),
        ({"activation": "relu"}, "image.activation 'relu' is not one of gelu, quick_gelu, gelu_tanh"),
        ({"pool": "max"}, "image.pool 'max' is not one of class, mean, attention"),
        ({"class_token": False}, "without image.class_token"),
        ({"patch_dropout": 1.0}, "image.patch_dropout is 1.0"),
    ],
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **options)


def test_without_projection_the_width_is_the_dimension():
    with pytest.raises(ValueError, match="image.width 32 without a projection must be dim, which is 16"):
        ViT(replace(TINY, projection=False), 16)


# --- the text tower's ways


TEXT = TextTowerConfig(vocabulary=50, context_length=8, width=32, layers=2, heads=4)


def text_tower(config: TextTowerConfig) -> TextTower:
    torch.manual_seed(0)
    return TextTower(config, 16).eval()


def test_what_follows_the_end_changes_nothing():
    made = text_tower(replace(TEXT, attention="causal", pool="end", end_token=49))
    ids = torch.tensor([[5, 6, 49, 0, 0]])
    longer = torch.tensor([[5, 6, 49, 7, 49, 9, 9]])
    mask = torch.ones_like(ids)
    assert torch.allclose(made(ids, mask), made(longer, torch.ones_like(longer)), atol=1e-5)
    assert not torch.allclose(made(ids, mask), made(torch.tensor([[6, 5, 49]]), mask[:, :3]), atol=1e-4)


def test_padding_counts_where_it_should():
    made = text_tower(replace(TEXT, attention="all", pool="last", projection_bias=True))
    ids = torch.tensor([[5, 6, 1, 1, 1, 1, 1, 1]])
    other = torch.tensor([[5, 6, 1, 2, 2, 2, 2, 1]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]])
    assert not torch.allclose(made(ids, mask), made(other, mask), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "end"}, "text.pool is 'end' without text.end_token"),
        ({"pool": "last"}, "text.pool is 'last', which takes text.attention 'all'"),
        ({"attention": "sideways"}, "text.attention 'sideways' is not one of masked, causal, all"),
        ({"layers": 0}, "text.layers is 0"),
        ({"projection_hidden": -1}, "text.projection_hidden is -1"),
    ],
)
def test_a_bad_option_of_the_text_tower_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        replace(TEXT, **options)


def test_a_perceptron_beside_the_projection_adds_to_it():
    plain, wide = text_tower(TEXT), text_tower(replace(TEXT, projection_hidden=24))
    assert plain.projection_mlp is None and set(plain.state_dict()) < set(wide.state_dict())
    wide.load_state_dict(plain.state_dict(), strict=False)
    ids, mask = torch.randint(50, (3, 6)), torch.ones(3, 6, dtype=torch.long)
    pooled = plain.pooled(ids, mask)
    hidden = torch.nn.functional.gelu(pooled @ wide.projection_mlp.inner.weight.T + wide.projection_mlp.inner.bias)
    expected = plain(ids, mask) + hidden @ wide.projection_mlp.outer.weight.T
    assert torch.allclose(wide(ids, mask), expected, atol=1e-5) and not torch.allclose(
        wide(ids, mask), plain(ids, mask)
    )
