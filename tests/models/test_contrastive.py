"""The losses against open_clip's ClipLoss and SigLipLoss: values and gradients, whole and in parts."""

from __future__ import annotations

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from bahumukha.models.contrastive import contrastive_loss, contrastive_loss_of_part, sigmoid_loss

N, DIM = 12, 8


def leaves(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures, sentences (not normalised), scale and bias that take gradients."""
    generator = torch.Generator().manual_seed(seed)
    images, texts = (torch.randn(N, DIM, generator=generator) for _ in range(2))
    parts = (images, texts, torch.tensor(9.0), torch.tensor(-3.0))
    return tuple(part.requires_grad_() for part in parts)  # type: ignore[return-value]


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of, retain_graph=True))


def assert_same(mine: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-6) -> None:
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, atol=tolerance), (a - b).abs().max()


@pytest.mark.parametrize("seed", range(3))
def test_softmax_loss_and_gradients_are_open_clips(seed: int) -> None:
    images, texts, scale, _ = leaves(seed)
    pairs = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    mine, theirs = contrastive_loss(*pairs, scale), ClipLoss()(*pairs, scale)
    assert torch.allclose(mine, theirs, atol=1e-6)
    assert_same(gradients(mine, images, texts, scale), gradients(ClipLoss()(*pairs, scale), images, texts, scale))


@pytest.mark.parametrize("seed", range(3))
def test_sigmoid_loss_and_gradients_are_open_clips(seed: int) -> None:
    images, texts, scale, bias = leaves(seed)
    pairs = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    mine, theirs = sigmoid_loss(*pairs, scale, bias), SigLipLoss()(*pairs, scale, bias)
    assert torch.allclose(mine, theirs, atol=1e-6)
    every = (images, texts, scale, bias)
    assert_same(gradients(mine, *every), gradients(SigLipLoss()(*pairs, scale, bias), *every))


def test_sigmoid_loss_is_steady_where_logits_are_large() -> None:
    images = torch.eye(4)
    for bias in (-200.0, 0.0, 200.0):
        loss = sigmoid_loss(images, images, torch.tensor(100.0), torch.tensor(bias))
        signs = 2 * torch.eye(4, dtype=torch.double) - 1
        logits = 100 * torch.eye(4, dtype=torch.double) + bias
        assert loss == pytest.approx(float(-F.logsigmoid(signs * logits).sum() / 4), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("twice", [False, True])
def test_mean_over_parts_is_the_whole_loss(loss: str, twice: bool) -> None:
    """What W processes compute of their own rows, the others' vectors at hand."""
    images, texts, scale, bias = leaves()
    u, v = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    positives = torch.eye(N, dtype=torch.bool)
    if twice:  # samples 1 and 7 have one caption
        positives[1, 7] = positives[7, 1] = True
    given = positives if twice else None
    whole = contrastive_loss(u, v, scale, given) if loss == "softmax" else sigmoid_loss(u, v, scale, bias, given)
    parts = []
    for first in range(0, N, 4):
        rows = slice(first, first + 4)
        mine = None if given is None else given[rows]
        if loss == "softmax":
            parts.append(contrastive_loss_of_part(u[rows], v[rows], u, v, scale, first, mine))
        else:
            parts.append(sigmoid_loss(u[rows], v, scale, bias, mine, first))
    mean = torch.stack(parts).mean()
    assert torch.allclose(mean, whole, atol=1e-6)
    assert_same(gradients(mean, images, texts, scale), gradients(whole, images, texts, scale))


def test_positives_of_the_diagonal_change_nothing_and_others_do() -> None:
    images, texts, scale, bias = leaves()
    u, v = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    diagonal = torch.eye(N, dtype=torch.bool)
    plain = sigmoid_loss(u, v, scale, bias)
    assert torch.allclose(sigmoid_loss(u, v, scale, bias, diagonal), plain, atol=1e-6)
    more = diagonal.clone()
    more[0, 1] = True
    logit = scale * u[0] @ v[1] + bias
    assert torch.allclose(sigmoid_loss(u, v, scale, bias, more), plain - logit / N, atol=1e-5)
