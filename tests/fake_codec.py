"""An `ImageCodec` that anyone can compute by hand: 8 x 8 blocks of one colour each, out of 27."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bahumukha.protocols import ImageCodec


class BlockCodec(ImageCodec):
    """Code r + 3 g + 9 b is the colour (r - 1, g - 1, b - 1); latents are the blocks' mean colours."""

    downsampling = 8
    codes = 27
    latent_channels = 3
    latent_range = (-1.0, 1.0)

    def encode(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 8)

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        digits = latents.round().clamp(-1, 1) + 1
        ids = (digits * torch.tensor([1.0, 3.0, 9.0])[:, None, None]).sum(1).long()
        return digits - 1, ids, {}

    def decode(self, latents: Tensor) -> Tensor:
        return latents.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)

    def decode_ids(self, ids: Tensor, grid: tuple[int, int]) -> Tensor:
        ids = ids.unflatten(1, grid)
        digits = torch.stack([ids % 3, ids // 3 % 3, ids // 9], dim=1)
        return self.decode(digits.float() - 1)


def block_pictures(ids: Tensor) -> Tensor:
    """The pictures of ids (B, h, w), (B, 3, 8 h, 8 w) in [-1, 1]: `BlockCodec` keeps them as they are."""
    return BlockCodec().decode_ids(ids.flatten(1), (ids.shape[1], ids.shape[2]))
