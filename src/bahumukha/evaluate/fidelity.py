"""How near a reconstruction comes to its original, and how a codec uses its codes: the formulas, on tensors.

PSNR  = -10 log10(mean (x - y)^2)                                        of values in [0, 1], in decibels
SSIM  = mean over places of (2 m_x m_y + a)(2 c_xy + b) / ((m_x^2 + m_y^2 + a)(v_x + v_y + b))     (Wang et al. 2004)
d^2   = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))                 of two sets of features  (Heusel et al. 2017)
perplexity = exp(-sum_k p_k log p_k)                                     of the codes' frequencies
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA, RADIUS = 1.5, 5
"""Of SSIM's Gaussian window, 11 pixels wide."""
MOST_DECIBELS = 100.0
"""What PSNR says of pictures that are alike, where the formula says infinity."""


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1], twice -> (B,) decibels, at most 100."""
    error = (x.double() - y.double()).square().flatten(1).mean(1)
    return -10 * error.clamp(min=10 ** (-MOST_DECIBELS / 10)).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Pictures (B, C, H, W) in [0, 1] of at least 11 x 11 pixels, twice -> (B,) structural similarity, at most 1.

    Each channel by itself, mean over channels and over the places where the window lies inside: what scikit-image gives
    with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.
    """
    if min(x.shape[2:]) < 2 * RADIUS + 1:
        raise ValueError(f"pictures of {x.shape[3]} x {x.shape[2]} pixels; SSIM's window needs 11 x 11 at least")
    x, y = x.double(), y.double()
    mean_x, mean_y, xx, yy, xy = _windowed(torch.stack([x, y, x * x, y * y, x * y])).unbind()
    var_x, var_y, cov = xx - mean_x.square(), yy - mean_y.square(), xy - mean_x * mean_y
    a, b = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + a) / (mean_x.square() + mean_y.square() + a)
    structure = (2 * cov + b) / (var_x + var_y + b)
    return (luminance * structure).flatten(1).mean(1)


def _windowed(x: Tensor) -> Tensor:
    """(K, B, C, H, W) -> the Gaussian mean around each place that is RADIUS or more from the border."""
    places = torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype, device=x.device)
    weights = (-0.5 * (places / SIGMA).square()).exp()
    weights /= weights.sum()
    flat = x.reshape(-1, 1, *x.shape[3:])
    flat = F.conv2d(F.conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat.view(*x.shape[:3], *flat.shape[2:])


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Fréchet distance between the normal distributions of two sets of features, (N, dim) and (M, dim).

    N and M at least 2. Few pictures make it larger: compare only distances of the same number of pictures.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    if min(len(x), len(y)) < 2:
        raise ValueError("a distribution of one picture has no spread; at least 2 are needed")
    a, b = _factor(x), _factor(y)
    mean = x.mean(0) - y.mean(0)
    # With C_1 = A^T A and C_2 = B^T B the eigenvalues of C_1 C_2 are the squared singular values of A B^T: no root of a
    # matrix is taken, and of few pictures the matrix is as small as they are few.
    both = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(0.0, mean @ mean + np.square(a).sum() + np.square(b).sum() - 2 * both))


def _factor(x: np.ndarray) -> np.ndarray:
    """(N, dim) -> A (at most dim rows, dim) with A^T A the covariance."""
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(a, mode="r")) if len(a) > a.shape[1] else a


class CodeCounts:
    """How often each code of a codebook came up."""

    def __init__(self, codes: int):
        self.counts = torch.zeros(codes, dtype=torch.int64)

    def add(self, ids: Tensor) -> None:
        """Ids of any shape, in [0, codes)."""
        self.counts += torch.bincount(ids.flatten().cpu(), minlength=len(self.counts))

    @property
    def usage(self) -> float:
        """Part of the codes that came up at all, in [0, 1]."""
        return float((self.counts > 0).double().mean())

    @property
    def perplexity(self) -> float:
        """How many codes, equally frequent, would be as hard to guess: from 1 to the number of codes."""
        p = self.counts.double() / self.counts.sum().clamp(min=1)
        return float(torch.special.entr(p).sum().exp())
