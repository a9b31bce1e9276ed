"""PatchGAN: the network of taming-transformers, what a logit sees, the losses by their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bahumukha.models.critic import (
    Norm,
    PatchCritic,
    PatchCriticConfig,
    adaptive_weight,
    adversarial_loss,
    critic_loss,
)


def taming(width: int, layers: int) -> nn.Sequential:
    """NLayerDiscriminator of taming-transformers, line by line."""
    sequence: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    factor = 1
    for n in range(1, layers):
        before, factor = factor, min(2**n, 8)
        sequence += [nn.Conv2d(width * before, width * factor, 4, 2, 1, bias=False)]
        sequence += [nn.BatchNorm2d(width * factor), nn.LeakyReLU(0.2, True)]
    before, factor = factor, min(2**layers, 8)
    sequence += [nn.Conv2d(width * before, width * factor, 4, 1, 1, bias=False)]
    sequence += [nn.BatchNorm2d(width * factor), nn.LeakyReLU(0.2, True), nn.Conv2d(width * factor, 1, 4, 1, 1)]
    return nn.Sequential(*sequence)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_is_the_papers_network(layers: int) -> None:
    critic, reference = PatchCritic(PatchCriticConfig(8, layers)), taming(8, layers)
    reference.load_state_dict(critic.main.state_dict())
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert torch.allclose(critic(x), reference(x), atol=1e-6)
    assert critic(x).shape[2:] == (64 // 2**layers - 2,) * 2
    smallest = critic.config.smallest_side
    assert critic.eval()(torch.rand(1, 3, smallest, smallest)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        critic(torch.rand(1, 3, smallest - 1, smallest))


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_what_a_logit_sees(layers: int, side: int, norm: Norm) -> None:
    critic = PatchCritic(PatchCriticConfig(16, layers, norm)).eval()
    assert critic.patch == side
    if norm == "group":
        return  # its statistics are over the whole picture
    x = torch.rand(1, 3, 96, 96, requires_grad=True)
    logits = critic(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == side


def test_spectral_norm_bounds_every_kernel() -> None:
    critic = PatchCritic(PatchCriticConfig(8, 2, "none", spectral=True))
    with torch.no_grad():
        for module in critic.modules():
            if isinstance(module, nn.Conv2d):
                module.parametrizations.weight.original.mul_(50)
    critic.train()
    for _ in range(30):  # a step of the power iteration each
        critic(torch.rand(1, 3, 32, 32))
    kernels = [m.weight.detach().flatten(1) for m in critic.modules() if isinstance(m, nn.Conv2d)]
    largest = [float(torch.linalg.matrix_norm(kernel, 2)) for kernel in kernels]
    assert len(largest) == 4 and all(abs(value - 1) < 0.1 for value in largest)


def test_losses_are_hinges() -> None:
    real, made = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 3.0])
    assert float(critic_loss(real, made)) == pytest.approx(0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1 + 4) / 3))
    assert float(adversarial_loss(made)) == pytest.approx(-1 / 3)


def test_adaptive_weight_makes_both_gradients_as_long() -> None:
    ours, theirs = torch.randn(4, 5), 0.01 * torch.randn(4, 5)
    weight = adaptive_weight(ours, theirs)
    assert float((weight * theirs).norm()) == pytest.approx(float(ours.norm()), rel=1e-2)
    assert float(adaptive_weight(ours, torch.zeros(4, 5))) == pytest.approx(min(float(ours.norm()) / 1e-4, 1e4))


def test_it_learns_to_tell() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(PatchCriticConfig(8, 1)).train()
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3)
    losses = []
    for _ in range(30):
        sharp = torch.rand(8, 3, 32, 32).round() * 2 - 1
        loss = critic_loss(critic(sharp), critic(nn.functional.avg_pool2d(sharp, 3, 1, 1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.8 and losses[-1] < 0.3


@pytest.mark.parametrize("options", [{"width": 0}, {"layers": 0}, {"width": 24, "norm": "group"}])
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ValueError, match="width|layers"):
        PatchCriticConfig(**options)
