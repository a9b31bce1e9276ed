"""Where in the shared space words belong, before any word is read: a vector for each class and each kind of thing.

A picture of class c becomes, on a frozen trunk (`models.clip.ImageTower`),

    e = normalize(x + sum_c p_c v_c)

with x its projected feature and p the classifier's probabilities. Here the vectors v_c and the targets t_n of all nouns
n that are a class, or a kind of which several classes are ("dog", "vehicle"), are learned together from simulated
pictures: x scatters around the class's prototype, p is at times unsure between neighbours. Each target shall rank the
pictures of its kind above all others (as a search does), and each picture its own kinds above all that it is not (as a
classification does). `recipes.clip.guess` carries them over to the nouns that no class is a kind of.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHARE = 0.4
"""Length of the mixture beside the projected feature of length 1. (At 1.0, unseen words are guessed 5 points worse.)"""


def simulated(prototypes: Tensor, vectors: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    """One picture a class, (C, dim), from prototypes (C, dim) of norm 1 and the classes' vectors (C, dim)."""
    count, dim = prototypes.shape
    x = prototypes + noise * torch.randn(prototypes.shape, generator=generator) / dim**0.5
    near = (12 * prototypes @ prototypes.T).fill_diagonal_(-1e9).softmax(1)
    unsure = 0.7 * torch.rand(count, 1, generator=generator) ** 2
    others = torch.multinomial(near, 3, replacement=True, generator=generator)
    chances = torch.diag(1 - unsure[:, 0]).scatter_add(1, others, unsure.expand(-1, 3) / 3)
    return F.normalize(F.normalize(x, dim=1) + chances @ vectors, dim=1)


def learn_targets(
    prototypes: Tensor, members: Tensor, steps: int = 300, scale: float = 20.0, noise: float = 1.2, rate: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Prototypes (C, dim) of norm 1, members (N, C) bool -> vectors (C, dim) of length `SHARE`, targets (N, dim).

    The target of a single class is where its pictures are, normalize(p_c + v_c): a place of its own, learned beside
    them, names a photograph a little better and is a worse neighbour for words that no picture shows.
    """
    generator = torch.Generator().manual_seed(0)
    fits = members.float()
    ranked = fits / fits.sum(1, keepdim=True)
    weight = fits.sum(1).rsqrt()[None].expand(len(prototypes), -1)[members.T]
    vectors = (torch.randn(prototypes.shape, generator=generator) / prototypes.shape[1] ** 0.5).requires_grad_()
    targets = F.normalize(ranked @ prototypes, dim=1).requires_grad_()
    single = fits.sum(1, keepdim=True) == 1

    def places(vectors: Tensor) -> Tensor:
        own = F.normalize(prototypes + vectors, dim=1)
        return torch.where(single, ranked @ own, F.normalize(targets, dim=1))

    optimizer = torch.optim.Adam([vectors, targets], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        scaled = SHARE * F.normalize(vectors, dim=1)
        pictures = simulated(prototypes, scaled, generator, noise)
        logits = scale * places(scaled) @ pictures.T  # (N, C)
        search = -(ranked * logits.log_softmax(1)).sum(1).mean()
        against = logits.T.masked_fill(members.T, -1e9).logsumexp(1, keepdim=True)
        wrong = F.softplus(against - logits.T)[members.T]
        loss = search + (wrong * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = SHARE * F.normalize(vectors.detach(), dim=1)
    return learned, places(learned).detach()
