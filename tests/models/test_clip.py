"""The towers and the contrastive loss, against open_clip's where it computes the same thing."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bahumukha.models.clip import (
    MAX_LOGIT_SCALE,
    Clip,
    ClipConfig,
    ImageTower,
    ImageTowerConfig,
    TextTowerConfig,
    contrastive_loss,
)

TINY = ClipConfig(
    dim=16,
    image=ImageTowerConfig("tf_efficientnet_lite0", 64),
    text=TextTowerConfig(vocabulary=50, context_length=12, width=32, layers=2, heads=4),
)


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(0)
    return Clip(TINY).eval()


def units(n: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_shapes_and_norms(clip):
    images = clip.encode_image(torch.randn(2, 3, 64, 64), normalize=True)
    texts = clip.encode_text(torch.randint(3, 50, (3, 7)), torch.ones(3, 7, dtype=torch.long), normalize=True)
    assert images.shape == (2, 16) and texts.shape == (3, 16)
    assert torch.allclose(images.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)


def test_padding_does_not_change_a_text(clip):
    ids = torch.randint(3, 50, (1, 5))
    padded = F.pad(ids, (0, 6))
    mask = torch.tensor([[1] * 5 + [0] * 6])
    assert torch.allclose(clip.encode_text(ids, torch.ones_like(ids)), clip.encode_text(padded, mask), atol=1e-5)


def test_word_order_matters(clip):
    ids = torch.tensor([[5, 6, 7, 8]])
    mask = torch.ones_like(ids)
    assert not torch.allclose(clip.encode_text(ids, mask), clip.encode_text(ids.flip(1), mask), atol=1e-4)


def test_mean_feature_is_taken_off(clip):
    features = torch.randn(2, clip.image.trunk.num_features)
    moved = clip.image.mean
    try:
        clip.image.mean = features[0].clone()
        assert torch.equal(clip.image.project(features)[0], torch.zeros(16))
        assert clip.image.project(features)[1].abs().max() > 0
    finally:
        clip.image.mean = moved


def test_a_mixture_of_classes_is_added():
    """Pictures sure of their class move to its vector; unsure ones lie between."""
    torch.manual_seed(0)
    tower = ImageTower(ImageTowerConfig("tf_efficientnet_lite0", 64, classes=3), 16)
    features = torch.randn(4, tower.trunk.num_features)
    with torch.no_grad():
        tower.mixture.vectors.weight.copy_(2 * torch.eye(16)[:3].T)
        plain = F.normalize(tower.projection(features), dim=1)
        tower.mixture.logits.weight.zero_()
        tower.mixture.logits.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
        assert torch.allclose(tower.project(features) - plain, 2 * torch.eye(16)[[1] * 4], atol=1e-5)
        tower.mixture.logits.bias.zero_()
        added = (tower.project(features) - plain)[0]
    assert torch.allclose(added[:3], torch.full((3,), 2 / 3), atol=1e-5) and added[3:].abs().max() < 1e-6
    with pytest.raises(ValueError, match="image.classes is -1"):
        ImageTowerConfig(classes=-1)


def test_config_survives_json():
    assert ClipConfig.from_dict(TINY.to_dict()) == TINY


def test_bad_width_names_the_option():
    with pytest.raises(ValueError, match="text.width 30 .* text.heads 4"):
        TextTowerConfig(width=30, heads=4)


def test_logit_scale_is_clamped(clip):
    before = clip.log_scale.data.clone()
    clip.log_scale.data.fill_(math.log(1e4))
    assert float(clip.logit_scale.detach()) == MAX_LOGIT_SCALE
    clip.log_scale.data.copy_(before)


def test_loss_is_open_clips():
    from open_clip.loss import ClipLoss

    images, texts = units(6, 8, 1), units(6, 8, 2)
    expected = ClipLoss()(images, texts, torch.tensor(14.0))
    assert torch.allclose(contrastive_loss(images, texts, torch.tensor(14.0)), expected, atol=1e-6)
    diagonal = torch.eye(6, dtype=torch.bool)
    assert torch.allclose(contrastive_loss(images, texts, torch.tensor(14.0), diagonal), expected, atol=1e-6)


def test_several_positives_share_the_probability():
    images = units(4, 8, 3)
    texts = images[:2].clone()
    positives = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=torch.bool)
    scale = torch.tensor(5.0)
    logits = scale * images @ texts.T
    rows = -logits.log_softmax(1)[[0, 1, 2], [0, 1, 0]].mean()
    columns = logits.T.log_softmax(1)
    expected_columns = -torch.stack([columns[0, [0, 2]].mean(), columns[1, 1]]).mean()
    loss = contrastive_loss(images, texts, scale, positives)
    assert torch.allclose(loss, (rows + expected_columns) / 2, atol=1e-6)


def test_gradients_reach_every_trained_weight():
    torch.manual_seed(1)
    model = Clip(TINY).train()
    images = model.encode_image(torch.randn(3, 3, 64, 64), normalize=True)
    texts = model.encode_text(torch.randint(3, 50, (3, 12)), torch.ones(3, 12, dtype=torch.long), normalize=True)
    contrastive_loss(images, texts, model.logit_scale).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # No sentence here holds every token; and a key's bias moves all scores of a query alike, so never has a gradient.
    assert without in ([], ["text.token.weight"])


def test_training_brings_pairs_together():
    torch.manual_seed(2)
    model = Clip(TINY)
    model.image.trunk.requires_grad_(False)
    features = torch.randn(8, model.image.trunk.num_features)
    ids = torch.randint(3, 50, (8, 6))
    mask = torch.ones_like(ids)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(40):
        images = F.normalize(model.image.project(features), dim=1)
        texts = model.encode_text(ids, mask, normalize=True)
        loss = contrastive_loss(images, texts, model.logit_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (images @ texts.T).argmax(1).tolist() == list(range(8))
