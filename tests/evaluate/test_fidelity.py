"""The formulas against scikit-image, closed forms and properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bahumukha.evaluate.fidelity import CodeCounts, frechet_distance, psnr, ssim


def noisy(strength: float, size: tuple[int, int] = (24, 33)) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pairs of pictures in [0, 1], smooth ones and noise on them."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 1, (2, 3, 5, 6)))
    x = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    y = (x + strength * torch.from_numpy(rng.normal(size=x.shape))).clamp(0, 1)
    return x.float(), y.float()


@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("size", [(24, 33), (11, 11)])
def test_psnr_and_ssim_agree_with_scikit_image(strength: float, size: tuple[int, int]) -> None:
    x, y = noisy(strength, size)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    for i in range(2):
        a, b = x[i].double().numpy(), y[i].double().numpy()
        assert float(psnr(x, y)[i]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-6)
        theirs = structural_similarity(a, b, data_range=1.0, **options)
        assert float(ssim(x, y)[i]) == pytest.approx(theirs, abs=1e-6)


def test_alike_and_far_apart() -> None:
    x, _ = noisy(0)
    assert psnr(x, x).tolist() == [100, 100]
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    assert float(psnr(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))) == 0
    assert float(psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1))) == pytest.approx(20, abs=1e-5)
    with pytest.raises(ValueError, match="pictures of 33 x 10 pixels; SSIM's window needs 11 x 11"):
        ssim(x[:, :, :10], x[:, :, :10])


def test_frechet_distance_of_normal_clouds() -> None:
    """Clouds of known mean and covariance, made exact, so that the closed form holds to rounding."""
    rng = np.random.default_rng(0)

    def cloud(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        z = rng.normal(size=(60, len(mean)))
        z -= z.mean(0)
        z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
        return mean + z @ np.linalg.cholesky(covariance).T

    one, other = np.diag([4.0, 1.0, 0.25]), np.diag([1.0, 9.0, 0.25])
    mean = np.array([3.0, 0.0, -4.0])
    # Covariances that commute: |m|^2 + sum (sqrt a - sqrt b)^2 = 25 + 1 + 4 + 0.
    assert frechet_distance(cloud(mean, one), cloud(np.zeros(3), other)) == pytest.approx(30)
    assert frechet_distance(cloud(mean, one), cloud(mean, one)) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_agrees_with_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 1
    y = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    theirs = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(x, y) == pytest.approx(theirs)
    assert frechet_distance(y, x) == pytest.approx(theirs)


@given(st.integers(2, 8), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_frechet_distance_of_fewer_pictures_than_numbers(count: int, dim: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(count, dim))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    shift = np.arange(dim)
    assert frechet_distance(x, x + shift) == pytest.approx((shift**2).sum(), abs=1e-6)


def test_one_picture_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least 2 are needed"):
        frechet_distance(np.zeros((1, 4)), np.zeros((5, 4)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_usage_and_perplexity(ids: list[int]) -> None:
    counts = CodeCounts(10)
    counts.add(torch.tensor(ids[:7]))
    counts.add(torch.tensor(ids[7:], dtype=torch.int64).view(1, -1))
    different = len(set(ids))
    assert counts.usage == pytest.approx(different / 10)
    assert 1 - 1e-9 <= counts.perplexity <= different + 1e-9
    p = np.bincount(ids) / len(ids)
    assert counts.perplexity == pytest.approx(np.exp(-sum(q * np.log(q) for q in p if q)))


def test_perplexity_of_even_use_is_the_number_of_codes() -> None:
    counts = CodeCounts(16)
    counts.add(torch.arange(64).view(4, 4, 4) % 16)
    assert (counts.usage, counts.perplexity) == (1.0, pytest.approx(16))
