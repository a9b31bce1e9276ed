"""Samplers: exact where the answer is known, as diffusers' where it has them, and the same wrapped or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.diffusion import (
    SAMPLER_NAMES,
    SAMPLERS,
    Denoise,
    Guidance,
    PictureNoise,
    SamplerName,
    TableProcess,
    ddim,
    euler,
    guided,
    inverted,
    keeping,
    thresholded,
    times_of,
)

MEAN, SPREAD = 0.7, 0.4


def of_normal_data(x: Tensor, t: float) -> Tensor:
    """E[x_0 | x_t] where x_0 is normal: known exactly, and the flow turns noise ε into MEAN + SPREAD ε."""
    signal = 1 - t
    gain = signal * SPREAD**2 / (signal**2 * SPREAD**2 + t**2)
    return MEAN + gain * (x - signal * MEAN)


def last(name: SamplerName, denoise: Denoise, x: Tensor, times: list[float], seed: int = 1) -> Tensor:
    noise = PictureNoise(seed, len(x), x.shape[1:])
    *_, moment = SAMPLERS[name](denoise, x, times, noise)
    return moment.x


# --- where the answer is known


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_normal_data_comes_out_with_its_mean_and_spread(name: SamplerName) -> None:
    x = PictureNoise(0, 1, (40_000,))()
    drawn = last(name, of_normal_data, x, times_of(100))
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.04 if name == "ddpm" else 0.02)


def test_ancestral_steps_are_too_sure_by_a_share_that_falls_with_their_number() -> None:
    x = PictureNoise(0, 1, (40_000,))()
    lost = [1 - float(last("ddpm", of_normal_data, x, times_of(steps)).std()) / SPREAD for steps in (50, 200)]
    assert lost[0] > 3 * lost[1] > 0


def error_of(name: SamplerName, steps: int) -> float:
    x = torch.linspace(-2, 2, 9)[None].double()
    return float((last(name, of_normal_data, x, times_of(steps)) - (MEAN + SPREAD * x)).abs().max())


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpm++", 2)])
def test_order_of_convergence(name: SamplerName, order: int) -> None:
    """Twice the steps: half the error, or a quarter."""
    assert math.log2(error_of(name, 64) / error_of(name, 128)) == pytest.approx(order, abs=0.35)


def test_second_order_needs_fewer_steps() -> None:
    assert error_of("dpm++", 20) < error_of("euler", 20) / 2
    assert error_of("heun", 20) < error_of("euler", 20) / 2


def test_ddim_without_new_noise_is_euler() -> None:
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    for shift in (1.0, 3.0):
        times = times_of(7, shift)
        assert torch.allclose(last("ddim", of_normal_data, x, times), last("euler", of_normal_data, x, times))


# --- beside diffusers, on a random network


def network(seed: int = 0) -> Callable[[Tensor, int], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    into, out = torch.randn(6, 32, generator=generator).double() / 3, torch.randn(32, 6, generator=generator).double()
    return lambda x, k: torch.tanh(x @ into + k / 500 - 1) @ out / 5


def beside_diffusers(scheduler: Any, name: SamplerName, steps: int, **options: Any) -> tuple[Tensor, Tensor]:
    """What both make of the same noise by the same network."""
    process = TableProcess(scheduler.alphas_cumprod)
    scheduler.set_timesteps(steps)
    numbers = [int(k) for k in scheduler.timesteps]
    predicts = {"sample": "clean", "epsilon": "noise", "v_prediction": "velocity"}[scheduler.config.prediction_type]
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(5)).double()
    theirs = start
    for k in scheduler.timesteps:
        theirs = scheduler.step(network()(theirs, int(k)), k, theirs, **options).prev_sample
    first = float(process.signal[numbers[0]] + process.noise[numbers[0]])
    denoise = process.denoise(network(), predicts)  # type: ignore[arg-type]
    return last(name, denoise, start / first, process.times(numbers)), theirs


@pytest.mark.parametrize("predicts", ["sample", "epsilon", "v_prediction"])
@pytest.mark.parametrize("table", ["linear", "squaredcos_cap_v2"])
def test_ddim_agrees_with_diffusers(predicts: str, table: str) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule=table, prediction_type=predicts, clip_sample=False)
    for name in ("ddim", "euler"):
        ours, theirs = beside_diffusers(scheduler, name, 20)  # type: ignore[arg-type]
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("predicts", ["sample", "epsilon"])
@pytest.mark.parametrize("table", ["linear", "squaredcos_cap_v2"])
def test_dpm_solver_agrees_with_diffusers(predicts: str, table: str) -> None:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(beta_schedule=table, prediction_type=predicts, final_sigmas_type="zero")
    ours, theirs = beside_diffusers(scheduler, "dpm++", 20)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_ddpm_agrees_with_diffusers_for_the_same_noise() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="linear", prediction_type="sample", clip_sample=False)
    process, noise = TableProcess(scheduler.alphas_cumprod), PictureNoise(3, 4, (6,))
    scheduler.set_timesteps(10)
    x = theirs = torch.randn(4, 6, generator=torch.Generator().manual_seed(5)).double()
    for k in scheduler.timesteps:
        told = network()(theirs, int(k))
        theirs = scheduler.step(told, k, theirs, eta=1.0, variance_noise=noise().double()).prev_sample
    numbers = [int(k) for k in scheduler.timesteps]
    first = float(process.signal[numbers[0]] + process.noise[numbers[0]])
    drawn = last("ddpm", process.denoise(network(), "clean"), x / first, process.times(numbers), seed=3)
    assert torch.allclose(drawn, theirs, atol=1e-5)


# --- wrappers


def test_guidance() -> None:
    x, asked = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)), []

    def null(x: Tensor, t: float) -> Tensor:
        asked.append(t)
        return 0.5 * x

    given: Denoise = lambda x, t: 2 * x + 1  # noqa: E731
    assert torch.equal(guided(given, null, Guidance())(x, 0.5), 2 * x + 1) and not asked
    strong = guided(given, null, Guidance(3.0))(x, 0.5)
    assert torch.allclose(strong, 0.5 * x + 3 * (1.5 * x + 1), atol=1e-5)
    part = guided(given, null, Guidance(3.0, interval=(0.2, 0.6)))
    assert torch.equal(part(x, 0.7), 2 * x + 1) and torch.equal(part(x, 0.1), 2 * x + 1) and len(asked) == 1
    assert torch.allclose(part(x, 0.6), strong)
    whole = guided(given, null, Guidance(3.0, rescale=1.0))(x, 0.5)
    assert torch.allclose(whole.std(1), (2 * x + 1).std(1), rtol=1e-4)
    half = guided(given, null, Guidance(3.0, rescale=0.5))(x, 0.5)
    assert torch.allclose(half, (whole + strong) / 2, atol=1e-4)


def test_thresholds_divide_only_what_is_too_large() -> None:
    small, large = torch.linspace(-0.9, 0.9, 101), torch.linspace(-4, 4, 101)
    clean = thresholded(lambda x, t: x, 0.9)(torch.stack([small, large]), 0.5)
    assert torch.equal(clean[0], small)
    assert clean[1].abs().max() == 1 and float((clean[1].abs() < 1).float().mean()) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_what_is_kept_is_kept_exactly_and_seen_on_the_way(name: SamplerName) -> None:
    known = torch.tensor([[0.3, -0.8, 0.1, 0.9]]).expand(2, -1)
    is_open = torch.tensor([True, False, True, False])
    x = PictureNoise(0, 2, (4,))()
    moments = list(SAMPLERS[name](keeping(of_normal_data, known, is_open), x, times_of(8), PictureNoise(1, 2, (4,))))
    assert torch.allclose(moments[-1].x[:, ~is_open], known[:, ~is_open], atol=1e-6)
    assert (moments[-1].x[:, is_open] != known[:, is_open]).all()
    if name != "ddpm":  # half way the kept places are the known ones under their own noise
        half = moments[3].x[:, ~is_open]
        assert torch.allclose(half, (known / 2 + x / 2)[:, ~is_open], atol=1e-5)


# --- noise, times, inversion


def test_each_picture_has_noise_of_its_own() -> None:
    together = PictureNoise(7, 3, (2, 2))
    first, second = together(), together()
    alone = PictureNoise(9, 1, (2, 2))
    assert torch.equal(alone()[0], first[2]) and torch.equal(alone()[0], second[2])
    assert not torch.equal(first, second)


def test_times() -> None:
    assert times_of(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    shifted = times_of(4, 3.0)
    assert shifted[0] == 1 and shifted[-1] == 0 and shifted == sorted(shifted, reverse=True)
    assert shifted[2] == pytest.approx(0.75)
    for wrong in (lambda: times_of(0), lambda: times_of(3, 0.0), lambda: times_of(3, math.inf)):
        with pytest.raises(UsageError, match="steps|shift"):
            wrong()


def test_inversion_comes_back_and_more_rounds_closer() -> None:
    x = torch.tensor([[0.2, 0.7, 1.3]]).double()
    errors = []
    for rounds in (1, 3, 12):
        noise = inverted(of_normal_data, x, times_of(20), rounds)
        *_, back = euler(of_normal_data, noise, times_of(20))
        errors.append(float((back.x - x).abs().max()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3
    assert torch.allclose(noise, (x - MEAN) / SPREAD, rtol=0.1)  # up to the error of twenty steps of Euler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -1.0}, "scale: -1.0"),
        ({"scale": math.nan}, "scale: nan"),
        ({"rescale": 1.5}, "rescale: 1.5"),
        ({"interval": (0.8, 0.2)}, "interval"),
    ],
)
def test_guidance_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Guidance(**options)


def test_steps_of_ddim_with_some_new_noise_keep_the_spread() -> None:
    x = PictureNoise(0, 1, (40_000,))()
    *_, moment = ddim(of_normal_data, x, times_of(100), PictureNoise(1, 1, (40_000,)), eta=0.5)
    assert float(moment.x.std()) == pytest.approx(SPREAD, rel=0.04)
