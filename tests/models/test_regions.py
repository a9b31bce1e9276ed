"""The region head: zero at first, sees places, works at any size, and its tower rebuilds from a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bahumukha.models.clip import Clip, ClipConfig, ImageTower, ImageTowerConfig, TextTowerConfig
from bahumukha.models.regions import COLOURS, RegionHead, RegionHeadConfig, colour_histogram, region_tokens

HEAD = RegionHeadConfig(width=32, heads=2, layers=2, queries=4, grid=3)
TEXT = TextTowerConfig(vocabulary=50, width=16, heads=2, layers=1)


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    config = ClipConfig(16, image=ImageTowerConfig("tf_efficientnet_lite0", 96, HEAD), text=TEXT)
    return Clip(config).eval().image


def test_config_survives_its_json():
    config = ClipConfig(16, image=ImageTowerConfig("tf_efficientnet_lite0", 96, HEAD), text=TEXT)
    assert ClipConfig.from_dict(config.to_dict()) == config


def test_width_must_fit_the_heads():
    with pytest.raises(ValueError, match="image.head.width 30"):
        RegionHeadConfig(width=30, heads=4)


def test_an_untrained_head_changes_nothing(tower):
    pixels = torch.rand(2, 3, 96, 96)
    pooled = F.normalize(tower.project(tower.features(pixels)), dim=-1)
    torch.testing.assert_close(tower(pixels), pooled, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [96, 100, 160, 260])
def test_any_size(tower, size):
    features, tokens = tower.maps(torch.rand(1, 3, size, size))
    side = -(-size // 32)
    assert tokens.shape[:3] == (1, side, side)
    assert tower.embed(features, tokens).shape == (1, 16)


def test_tokens_hold_the_colours_of_their_place():
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[:, 0, :, 32:] = 1.0  # the right half is red
    tokens = region_tokens(pixels, torch.zeros(1, 5, 4, 4), torch.zeros(1, 7, 2, 2))
    assert tokens.shape == (1, 2, 2, 5 + 7 + COLOURS)
    mean, deviation, least, greatest = tokens[0, :, :, 12:].split(3, dim=-1)
    np.testing.assert_allclose(mean[..., 0], [[0, 1], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(deviation, np.full((2, 2, 3), 1e-3), atol=1e-6)
    torch.testing.assert_close(least, mean)
    torch.testing.assert_close(greatest, mean)


def learned(head: RegionHead, scenes: Callable[[int], tuple[torch.Tensor, torch.Tensor]], steps: int) -> float:
    """Train on `scenes(count)`, tokens and labels of two kinds -> the part of new ones that it tells."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(steps):
        tokens, labels = scenes(64)
        loss = F.cross_entropy(head(tokens)[:, :2], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens, labels = scenes(200)
    head.eval()
    return float((head(tokens)[:, :2].argmax(1) == labels).float().mean())


def test_left_and_right_can_be_told_apart():
    """Two things change places: pooled features cannot tell, the head learns to in a few steps."""
    torch.manual_seed(0)
    head = RegionHead(HEAD, 6, 8)
    first, second = torch.randn(6), torch.randn(6)

    def scenes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 2, (count,))
        tokens = 0.1 * torch.randn(count, 3, 3, 6)
        rows = torch.randint(0, 3, (count,))
        for i, label in enumerate(labels):
            tokens[i, rows[i], 0] += second if label else first
            tokens[i, rows[i], 2] += first if label else second
        return tokens, labels

    assert learned(head, scenes, steps=120) > 0.95


def test_mixers_begin_as_nothing():
    torch.manual_seed(0)
    plain, mixed = RegionHead(HEAD, 6, 8), RegionHead(replace(HEAD, mixers=2), 6, 8)
    torch.nn.init.normal_(plain.projection.weight)
    missing = mixed.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(key.startswith("mixers.") for key in missing)
    tokens = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(mixed.eval()(tokens), plain.eval()(tokens))


def test_what_has_which_colour_is_learned_with_mixers():
    """Two things in two colours, anywhere: both pictures have the same things and the same colours in them."""
    torch.manual_seed(0)
    head = RegionHead(replace(HEAD, layers=1, mixers=1), 12, 8)
    things, colours = torch.randn(2, 12), torch.randn(2, 12)

    def scenes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 2, (count,))
        tokens = 0.1 * torch.randn(count, 9, 12)
        for i, label in enumerate(labels):
            for thing, place in enumerate(torch.randperm(9)[:2]):
                tokens[i, place] += things[thing] + colours[(thing + label) % 2]
        return tokens.view(count, 3, 3, 12), labels

    assert learned(head, scenes, steps=200) > 0.95


def test_mixers_are_checked():
    with pytest.raises(ValueError, match="image.head.mixers must be at least 0"):
        RegionHeadConfig(mixers=-1)


def test_standardise_measures_what_it_is_shown():
    head = RegionHead(HEAD, 4, 8)
    tokens = 3 + 2 * torch.randn(200, 3, 3, 4)
    head.standardise(tokens)
    torch.testing.assert_close(head.mean, torch.full((4,), 3.0), atol=0.2, rtol=0)
    torch.testing.assert_close(head.deviation, torch.full((4,), 2.0), atol=0.2, rtol=0)


@pytest.mark.parametrize("side", [64, 96, 260])
def test_a_histogram_holds_the_mean_and_more(side: int):
    """Parts sum to 1, their mean colour is the region's, and half red half green is neither brown nor its half."""
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    parts = colour_histogram(pixels, 4)
    assert parts.shape == (2, 64, -(-side // 32), -(-side // 32))
    assert torch.allclose(parts.sum(1), torch.ones_like(parts[:, 0]), atol=1e-5)
    steps = torch.linspace(-1, 1, 4)
    red = (parts.unflatten(1, (4, 4, 4)).sum((2, 3)) * steps[:, None, None]).sum(1)
    mean = F.avg_pool2d(pixels[:, 0], 32, 32, ceil_mode=True, count_include_pad=False)
    assert torch.allclose(red, mean, atol=1e-5)


def test_a_histogram_tells_colours_side_by_side_from_their_mixture():
    red, green = (torch.tensor(c).view(1, 3, 1, 1).expand(-1, -1, 32, 16) for c in ((1.0, -1, -1), (-1.0, 1, -1)))
    beside = colour_histogram(torch.cat([red, green], 3), 3)[0, :, 0, 0].view(3, 3, 3)
    mixed = colour_histogram((red + green).repeat(1, 1, 1, 2) / 2, 3)[0, :, 0, 0].view(3, 3, 3)
    assert beside[2, 0, 0] == beside[0, 2, 0] == 0.5 and mixed[1, 1, 0] == 1.0


def test_levels_of_a_histogram():
    with pytest.raises(ValueError, match=r"image.head.levels is 1; give 2 or more, or 0"):
        RegionHeadConfig(levels=1)
    tower = ImageTower(ImageTowerConfig(head=RegionHeadConfig(levels=2)), 16)
    assert tower.maps(torch.zeros(1, 3, 64, 64))[1].shape == (1, 2, 2, 120 + 352 + COLOURS + 8)
