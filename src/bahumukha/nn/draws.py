"""Random numbers for the rows of a batch, the same however many processes share it.

A batch of B rows draws B numbers (or B tensors of noise) from one generator, and each process takes those of its own
rows. So one process and four see the same noise on the same picture, and a run that is taken up by more processes than
before goes on as it would have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Of one batch; without a generator, of PyTorch's global one and for the whole batch."""

    generator: torch.Generator | None = None
    part: int = 0
    """Which of the equal parts of the batch is ours."""
    parts: int = 1

    @classmethod
    def of(cls, seed: int, number: int, device: torch.device, part: int = 0, parts: int = 1) -> Draws:
        """Those of batch `number` of a run: a function of (seed, number) alone."""
        word = int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]) >> 1
        return cls(torch.Generator(device).manual_seed(word), part, parts)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers for our rows, of the shape, kind and place of `like` (b, …)."""
        shape = (self.parts * len(like), *like.shape[1:])
        return self._ours(torch.randn(shape, generator=self.generator, dtype=like.dtype, device=like.device))

    def uniform(self, count: int, like: Tensor, *each: int) -> Tensor:
        """(count, *each) in [0, 1) at the place of `like`, for our `count` rows."""
        return self._ours(torch.rand(self.parts * count, *each, generator=self.generator, device=like.device))

    def spread(self, count: int, like: Tensor) -> Tensor:
        """(count,) in [0, 1), of the whole batch one in each of as many equal parts as it has rows, in any order."""
        whole = self.parts * count
        at = torch.arange(whole, device=like.device) + torch.rand(whole, generator=self.generator, device=like.device)
        order = torch.randperm(whole, generator=self.generator, device=like.device)
        return self._ours(at[order] / whole)

    def _ours(self, whole: Tensor) -> Tensor:
        rows = len(whole) // self.parts
        return whole[self.part * rows : (self.part + 1) * rows]
