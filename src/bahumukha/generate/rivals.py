"""What a picture might show instead: a prompt has to win against a thousand other things, not only to come near.

    L = -log( exp(s u.v) / (exp(s u.v) + Σ_r exp(s u.r)) ),     u a cutout, v the prompt, r the rivals

An embedding can be near to "a tiger" and as near to "a tiger cat"; what tells them apart is a small part of it, which
the angle alone hardly feels. This is the loss that CLIP was trained with (Radford et al. 2021), the other texts of the
batch being names of things. Those that say nearly what the prompt says are no rivals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.classify import label_embeddings
from bahumukha.data.imagenet import class_names
from bahumukha.generate.prompts import Targets
from bahumukha.generate.schedules import parse_schedule
from bahumukha.protocols import ImageTextEncoder


@dataclass(frozen=True)
class RivalConfig:
    """[rivals]"""

    weight: float | str = 0.0
    """Of this loss beside that of the prompts; a schedule, or 0 for none."""
    scale: float = 25.0
    """Of the cosines before the softmax: the higher, the more only the nearest rivals count."""
    near: float = 0.85
    """Cosine with a prompt above which a thing is the same thing, and no rival."""
    things: tuple[str, ...] = ()
    """Names of the rivals; empty for the thousand of ImageNet."""

    def __post_init__(self) -> None:
        parse_schedule(self.weight, "weight", least=0)
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; it must be above 0")
        if not 0 < self.near <= 1:
            raise ValueError(f"near is {self.near}; it must be above 0 and at most 1")


class Rivals:
    """The loss for one model and its targets."""

    def __init__(self, config: RivalConfig, targets: Targets, encoder: ImageTextEncoder):
        names = list(config.things) or [name for _, name in class_names()]
        self.scale, self.targets = config.scale, targets.embeddings
        self.things = torch.from_numpy(label_embeddings(encoder, names)).float()
        self.same = self.targets @ self.things.T > config.near  # (T, R)

    def loss(self, embeddings: Tensor, weights: Tensor) -> Tensor:
        """Unit embeddings (N, dim) of cutouts, weights (T,) of the targets -> a scalar; what repels has no rivals."""
        wanted = (weights > 0).nonzero().flatten()
        if not len(wanted):
            return embeddings.sum() * 0
        u = embeddings.float()
        own = u @ self.targets[wanted].T  # (N, T)
        others = (u @ self.things.T)[:, None].expand(-1, len(wanted), -1)
        others = others.masked_fill(self.same[wanted], -torch.inf)  # (N, T, R)
        logits = self.scale * torch.cat([own[..., None], others], dim=-1)
        return (weights[wanted] * -F.log_softmax(logits, dim=-1)[..., 0].mean(0)).sum()
