"""Drawers: each fits a picture by following its gradient, keeps its range, its seed and the picture it starts from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.drawers import DRAWERS, Drawer, DrawerConfig, build_drawer, register_drawer
from bahumukha.generate.drawers.base import clamp
from bahumukha.generate.drawers.raster import paint_strokes
from bahumukha.models.quantize import QuantizerConfig
from tests.tiny_drawers import HEIGHT, TINY, WIDTH, disc, fit, tiny, tiny_codec

pytestmark = pytest.mark.usefixtures("one_thread")

every_drawer = pytest.mark.parametrize("name", TINY)


# --- what every drawer promises


def test_every_drawer_is_tested() -> None:
    assert set(DRAWERS) == set(TINY)


@every_drawer
def test_pictures_have_their_range_and_every_variable_a_gradient(name: str) -> None:
    drawer = tiny(name, count=2)
    picture = drawer.render()
    assert picture.shape == (2, 3, HEIGHT, WIDTH) and picture.dtype == torch.float32
    assert not torch.equal(picture[0], picture[1])
    (picture * torch.linspace(-1, 1, WIDTH)).sum().backward()
    for group in drawer.parameters():
        assert group["lr"] > 0
        (value,) = group["params"]
        assert value.is_leaf and value.grad.isfinite().all() and value.grad.abs().sum() > 0, group["name"]


@every_drawer
def test_far_steps_stay_in_range(name: str) -> None:
    drawer = tiny(name)
    for group in drawer.parameters():
        noise = torch.randn(group["params"][0].shape, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            group["params"][0].add_(noise, alpha=5)
    before = drawer.render().detach()
    drawer.project()
    after = drawer.render().detach()
    for picture in (before, after):
        assert picture.isfinite().all() and 0 <= picture.min() and picture.max() <= 1


@every_drawer
def test_a_seed_draws_the_same_bits(name: str) -> None:
    """Start, gradients and steps."""
    first, again, other = tiny(name, seed=5), tiny(name, seed=5), tiny(name, seed=6)
    assert torch.equal(first.render(), again.render()) and not torch.equal(first.render(), other.render())
    fit(first, disc(), 3)
    torch.rand(5)  # the global generator has no part in it
    fit(again, disc(), 3)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


@every_drawer
def test_the_state_is_all_there_is(name: str) -> None:
    drawer, fresh = tiny(name, seed=1), tiny(name, seed=2)
    fit(drawer, disc(), 2)
    state = drawer.state_dict()
    fresh.load_state_dict(state)
    assert torch.equal(fresh.render(), drawer.render())
    fit(drawer, disc(), 1)
    assert torch.equal(fresh.render(), build_and_load(name, state).render()), "the state is a copy"
    with pytest.raises(UsageError, match="this drawer's variables are "):
        fresh.load_state_dict({"other": torch.zeros(1)})
    key = next(iter(state))
    with pytest.raises(UsageError, match=f"variable {key} has shape "):
        fresh.load_state_dict(state | {key: state[key][:, :1]})


def build_and_load(name: str, state: dict[str, Tensor]) -> Drawer:
    drawer = tiny(name, seed=9)
    drawer.load_state_dict(state)
    return drawer


@pytest.mark.parametrize("name", ["fft", "pixel"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    drawer = tiny(name, seed=4)
    weights = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))

    def value() -> Tensor:
        return (drawer.render().double() * weights).sum()

    value().backward()
    (variable,) = drawer.parameters()[0]["params"]
    step = 1e-2 * variable.grad / variable.grad.norm()
    with torch.no_grad():
        variable.add_(step)
        above = float(value())
        variable.sub_(step, alpha=2)
        below = float(value())
    assert (above - below) / 2 == pytest.approx(float((variable.grad * step).sum()), rel=0.01)


def test_gradients_of_strokes_are_those_of_finite_differences() -> None:
    random = torch.Generator().manual_seed(0)
    points = torch.rand(3, 7, 2, generator=random, dtype=torch.float64) * 14
    widths = 2 + 2 * torch.rand(3, generator=random, dtype=torch.float64)
    colours = torch.rand(3, 4, generator=random, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (points, widths, colours)]
    assert torch.autograd.gradcheck(lambda *inputs: paint_strokes(*inputs, size=(12, 15)), inputs, fast_mode=True)


def test_the_gradient_at_the_latents_is_the_decoders_at_the_codes() -> None:
    drawer = tiny("vqgan")
    (latents,) = drawer.parameters()[0]["params"]
    drawer.render().sum().backward()
    codes = drawer.config.codec.quantize(latents.detach())[0].detach().requires_grad_()  # type: ignore[union-attr]
    clamp((drawer.config.codec.decode(codes) + 1) / 2, 0, 1).sum().backward()  # type: ignore[union-attr]
    assert torch.allclose(latents.grad, codes.grad, atol=1e-6)


@pytest.mark.parametrize(("name", "left"), [("fft", 0.05), ("pixel", 0.15), ("strokes", 0.25)])
def test_it_fits_a_picture(name: str, left: float) -> None:
    """`left`: part of the error."""
    before, after = fit(tiny(name, **{"strokes": 60} if name == "strokes" else {}), disc(), 30)
    assert after < left * before


def test_a_codec_finds_a_picture_of_its_own() -> None:
    codec = tiny_codec(QuantizerConfig("fsq", levels=(5, 5, 5, 5)))
    ids = torch.randint(codec.codes, (1, 8 * 12), generator=torch.Generator().manual_seed(0))
    target = ((codec.decode_ids(ids, (8, 12)) + 1) / 2).clamp(0, 1)
    before, after = fit(build_drawer("vqgan", DrawerConfig(WIDTH, HEIGHT, codec=codec)), target, 40)
    assert after < 0.5 * before


def test_lines_move_to_where_they_should_be() -> None:
    target = tiny("line")
    with torch.no_grad():
        goal = target.render()
        target.parameters()[0]["params"][0].add_(torch.tensor([0.03, -0.02]))  # a pixel
    before, after = fit(target, goal, 40)
    assert after < 0.1 * before


@every_drawer
def test_pictures_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot start|was given; this drawer takes"):
        tiny(name).load_picture(torch.zeros(1, 3, HEIGHT, WIDTH + 1))


def test_every_picture_of_a_batch_starts_from_the_one_loaded() -> None:
    for name in ("fft", "pixel", "vqgan"):
        drawer = tiny(name, count=2)
        drawer.load_picture(disc())
        pictures = drawer.render()
        assert torch.allclose(pictures[0], pictures[1], atol=1e-6) and pictures[0].std() > 0, name


def test_clamping_keeps_the_gradient_that_leads_back() -> None:
    values = torch.tensor([-0.5, -0.5, 0.5, 1.5, 1.5], requires_grad=True)
    clamped = clamp(values, 0, 1)
    assert clamped.tolist() == [0, 0, 0.5, 1, 1]
    clamped.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert values.grad is not None and values.grad.tolist() == [0, -1, 1, 1, 0]


# --- by name


def test_ones_own_drawer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bahumukha.generate.drawers.DRAWERS", dict(DRAWERS))

    class Plain(Drawer):
        def __init__(self, config: DrawerConfig):
            super().__init__(config)
            self.colour = self.add_variable("colour", torch.rand(3, generator=config.generator), 0.1)

        def render(self) -> Tensor:
            return self.colour.sigmoid()[None, :, None, None].expand(-1, -1, self.height, self.width)

        def load_picture(self, pixels: Tensor) -> None:
            raise UsageError("drawer plain starts from nothing")

    register_drawer("plain", Plain)
    drawer = build_drawer("plain", DrawerConfig(8, 4))
    assert fit(drawer, torch.full((1, 3, 4, 8), 0.2), 20)[1] < 0.01 and drawer.to_svg() is None
    with pytest.raises(UsageError, match="drawer 'fft': there is one already"):
        register_drawer("fft", Plain)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("oil", {}, "drawer 'oil' does not exist; there are vqgan, fft, pixel, strokes, line"),
        ("fft", {"decoy": 1}, "drawer fft has no option 'decoy'; it has decay, saturation, rate, spread"),
        ("fft", {"decay": "much"}, "drawer fft: decay is 'much'; it takes a value such as 1.0"),
        ("fft", {"decay": -1.0}, "drawer fft: decay and spread must be at least 0"),
        ("pixel", {"shape": "star"}, "drawer pixel: shape is 'star'; it must be one of square, brick, hexagon"),
        ("pixel", {"columns": 0}, "drawer pixel: columns is 0; it must be above 0"),
        ("pixel", {"columns": True}, "drawer pixel: columns is True; it takes a value such as 40"),
        ("pixel", {"palette": [[0, 0]]}, r"drawer pixel: palette has shape \(1, 2\)"),
        ("pixel", {"palette": [[0, 0, 255]]}, r"drawer pixel: palette has numbers outside \[0, 1\]"),
        ("pixel", {"palette": "rad"}, "palette: 'rad' is no colour"),
        ("strokes", {"curves": 99}, "drawer strokes: curves is 99; it must be at most 25"),
        ("strokes", {"max_width": 0.001}, "drawer strokes: max_width is 0.001; it must be at least min_width"),
        ("line", {"width": 0}, "drawer line: width is 0; it must be above 0"),
        ("vqgan", {}, "drawer vqgan needs a codec and none was given"),
    ],
)
def test_options_that_are_wrong(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_drawer(name, DrawerConfig(16, 16, options=options))


def test_sizes_that_are_wrong() -> None:
    with pytest.raises(UsageError, match="height: 0 was given; it must be at least 1"):
        DrawerConfig(16, 0)
