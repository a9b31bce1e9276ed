"""The loss of a codec: its terms by formula, the critic's schedule, and gradients that are computed once."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.data.crops import Crops
from bahumukha.models.critic import PatchCriticConfig, adversarial_loss
from bahumukha.models.perceptual import edge_loss
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vit_codec import VitCodecConfig
from bahumukha.models.vqgan import Codec, build_codec
from bahumukha.train.reconstruction import RecentCodes, Reconstruction, decibels, pixels_of
from bahumukha.train.vqgan_config import CriticConfig, ReconstructionConfig

CRITIC = CriticConfig(
    weight=0.5, start=0.5, warmup=0.2, ramp=0.1, network=PatchCriticConfig(8, 1, "none"), learning_rate=1e-3
)
LOSS = ReconstructionConfig(l1=0.3, l2=1.0, log_l2=0.02, edges=0.2, perceptual=0.4)


def codec(quantizer: QuantizerConfig | None = None) -> Codec:
    torch.manual_seed(0)
    quantizer = quantizer or QuantizerConfig("fsq", levels=(5, 5, 5))
    sizes = {"width": 32, "heads": 2, "fine_width": 16, "encoder_layers": 1, "decoder_layers": 1}
    return build_codec(VitCodecConfig(**sizes, quantizer=quantizer)).train()  # type: ignore[arg-type]


def batch(side: int = 32, seed: int = 0) -> Crops:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, side // 8, side // 8, 3)).repeat(8, 1).repeat(8, 2)
    return Crops(0, pixels.astype(np.uint8))


def contrast(x: Tensor, y: Tensor) -> Tensor:
    """Stands for a perceptual distance."""
    return (x.std((1, 2, 3)) - y.std((1, 2, 3))).square()


def gradients(model: Codec) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_pixels_span_the_range() -> None:
    pixels = pixels_of(Crops(0, np.array([[[[0, 255, 51]]]], np.uint8)), torch.device("cpu"))
    assert torch.allclose(pixels.flatten(), torch.tensor([-1.0, 1.0, -0.6])) and pixels.shape == (1, 3, 1, 1)


def test_every_term_is_its_formula() -> None:
    model = codec()
    losses = Reconstruction(model, LOSS, contrast)(batch())  # type: ignore[arg-type]
    x = pixels_of(batch(), torch.device("cpu"))
    with torch.no_grad():
        made = model(x)[0]
    squares = (made - x).square().mean((1, 2, 3))
    expected = {
        "l1": (made - x).abs().mean(),
        "l2": squares.mean(),
        "log_l2": (squares + 4e-4).log().mean(),
        "edges": edge_loss(x, made),
        "perceptual": contrast(x, made).mean(),
        "psnr_32": (10 * torch.log10(4 / (made.clamp(-1, 1) - x).square().mean((1, 2, 3)))).mean(),
    }
    assert all(
        float(losses[name].detach()) == pytest.approx(float(value), rel=1e-4) for name, value in expected.items()
    )
    weights = {"l1": 0.3, "l2": 1.0, "log_l2": 0.02, "edges": 0.2, "perceptual": 0.4}
    total = sum(weights[name] * float(expected[name]) for name in weights)
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-4)
    assert set(losses) == set(expected) | {"loss", "usage", "perplexity"}


def test_what_has_no_weight_is_not_computed() -> None:
    def refuse(x: Tensor, y: Tensor) -> Tensor:
        raise AssertionError

    losses = Reconstruction(codec(), ReconstructionConfig(l1=0, l2=1, edges=0), refuse)(batch())  # type: ignore[arg-type]
    assert set(losses) == {"loss", "l2", "psnr_32", "usage", "perplexity"}
    assert float(losses["loss"].detach()) == pytest.approx(float(losses["l2"].detach()))


def test_the_quantisers_losses_count() -> None:
    model = codec(QuantizerConfig("vq", codes=16, code_dim=4))
    losses = Reconstruction(model, ReconstructionConfig(l1=0, edges=0, codebook=3.0))(batch())
    total = losses["l2"] + 3 * (losses["codebook"] + losses["commitment"])
    assert float(losses["loss"].detach()) == pytest.approx(float(total.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, None), (0.29, None), (0.3, 0.0), (0.49, 0.0), (0.52, 0.2), (0.6, 1.0), (1.0, 1.0)]
)
def test_the_critic_learns_before_it_counts(progress: float, share: float | None) -> None:
    objective = Reconstruction(codec(), LOSS, contrast, CRITIC)  # type: ignore[arg-type]
    objective.before_step(7, progress)
    assert objective.critic_share == (share if share is None else pytest.approx(share, abs=1e-9))
    assert objective.network is not None
    kernels = [p for p in objective.network.parameters() if p.dim() > 1]
    before = [p.clone() for p in kernels]
    losses = objective(batch())
    moved = [not torch.equal(p, b) for p, b in zip(kernels, before, strict=True)]
    assert all(moved) if share is not None else not any(moved)
    assert ("critic" in losses) == (share is not None) and ("adversarial" in losses) == bool(share)


def test_the_gradient_is_that_of_both_losses_with_the_papers_weight() -> None:
    model = codec()
    objective = Reconstruction(model, LOSS, contrast, CRITIC)  # type: ignore[arg-type]
    objective.before_step(0, 0.55)
    assert objective.network is not None

    x = pixels_of(batch(), torch.device("cpu"))
    made = model(x)[0]
    ours = torch.stack([weight * value for weight, value in objective.terms(x, made).values()]).sum()
    theirs = adversarial_loss(objective.network(made))
    last = model.last_layer
    lengths = [float(torch.autograd.grad(each, last, retain_graph=True)[0].norm()) for each in (ours, theirs)]
    weight = 0.5 * 0.5 * lengths[0] / (lengths[1] + 1e-4)
    (ours + weight * theirs).backward()
    expected = gradients(model)
    model.zero_grad()
    objective.network.zero_grad()

    losses = objective(batch())
    losses["loss"].backward()
    found = gradients(model)
    assert float(losses["critic_weight"]) == pytest.approx(weight, rel=1e-3)
    assert float(losses["loss"].detach()) == pytest.approx(float((ours + weight * theirs).detach()), rel=1e-4)
    assert set(found) == set(expected)
    assert all(torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-6) for name in expected)


def test_half_precision_changes_little() -> None:
    """Under autocast to bfloat16, as on processors and GPUs that have it."""
    found = []
    for enabled in (False, True):
        model = codec()
        objective = Reconstruction(model, LOSS, contrast, CRITIC)  # type: ignore[arg-type]
        objective.before_step(0, 0.8)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = objective(batch())
        losses["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        found.append(float(losses["l2"].detach()))
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_codes_are_counted_for_a_while() -> None:
    recent = RecentCodes(8)
    recent.add(torch.arange(8).repeat(3))
    assert recent.scores()["usage"] == 1 and float(recent.scores()["perplexity"]) == pytest.approx(8)
    for _ in range(900):
        recent.add(torch.tensor([[0, 1], [1, 0]]))
    assert float(recent.scores()["usage"]) == 2 / 8
    assert float(recent.scores()["perplexity"]) == pytest.approx(2, rel=1e-2)


def test_decibels_are_of_what_is_shown() -> None:
    x = torch.ones(2, 3, 8, 8)
    assert decibels(x, x * 1.5).min() >= 100  # beyond white is white
    assert torch.allclose(decibels(x, x - 0.2).float(), torch.tensor(20.0), atol=1e-3)


def test_a_state_goes_on_where_it_was() -> None:
    first = Reconstruction(codec(), LOSS, contrast, CRITIC)  # type: ignore[arg-type]
    first.before_step(0, 0.4)
    first(batch())
    torch.manual_seed(99)
    other = Reconstruction(codec(), LOSS, contrast, CRITIC)  # type: ignore[arg-type]
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    for objective in (first, other):
        objective.before_step(1, 0.7)
    a, b = first(batch(seed=1)), other(batch(seed=1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert first.network is not None and other.network is not None
    pairs = zip(first.network.parameters(), other.network.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    without = Reconstruction(codec(), LOSS, contrast)  # type: ignore[arg-type]
    without.load_state_dict(first.state_dict())
    other.load_state_dict(without.state_dict())  # a critic that begins in the middle of a run


def test_a_blur_is_not_what_edges_or_the_logarithm_want() -> None:
    """The terms rank reconstructions: nearer is less."""
    x = pixels_of(batch(), torch.device("cpu"))
    objective = Reconstruction(codec(), LOSS, contrast)  # type: ignore[arg-type]
    near, far = (objective.terms(x, F.avg_pool2d(x, k, 1, k // 2)) for k in (3, 7))
    assert all(near[name][1] < far[name][1] for name in near)
    assert math.isfinite(float(objective.terms(x, x)["log_l2"][1]))
