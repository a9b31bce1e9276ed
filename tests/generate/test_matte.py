"""A matte: the picture lies on a plain ground, and only what is wanted is left upon it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bahumukha.errors import UsageError
from bahumukha.generate.drawers.matte import MatteConfig, MattedDrawer, matted
from bahumukha.generate.drawers.pixel import cell_map
from tests.tiny_drawers import HEIGHT, WIDTH, disc, fit, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def with_matte(name: str = "fft", **options: Any) -> MattedDrawer:
    return MattedDrawer(tiny(name), MatteConfig(colour="white", **options))


@pytest.mark.parametrize("name", ["fft", "pixel"])  # the tiny codec has learnt nothing and draws no disc
def test_a_matte_leaves_the_ground_and_what_is_wanted(name: str) -> None:
    drawer = with_matte(name)
    target = torch.where(disc()[:, :1] > 0.7, disc(), torch.ones(3, 1, 1))  # the red disc, on white
    before, after = fit(drawer, target, 150)
    alpha, wanted = drawer.alpha().detach(), (target < 0.9).any(1, keepdim=True)
    assert after < before / 3
    assert alpha[wanted].mean() > 0.8
    corners = drawer.render().detach()[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.99


def test_what_no_view_agrees_on_goes_back_to_the_ground() -> None:
    drawer = with_matte()
    optimizer = torch.optim.Adam(drawer.parameters())
    random = torch.Generator().manual_seed(0)
    opaque = drawer.alpha().mean()
    for _ in range(100):
        optimizer.zero_grad()
        (drawer.render() * torch.randn(1, 3, HEIGHT, WIDTH, generator=random)).sum().backward()
        optimizer.step()
        drawer.project()
    assert drawer.alpha().mean() < opaque / 2
    assert drawer.alpha().min() < 0.01


def test_a_loaded_picture_is_where_it_differs_from_the_ground() -> None:
    drawer = with_matte("pixel", shrink=0.0)
    picture = torch.ones(1, 3, HEIGHT, WIDTH)
    picture[..., 8:24, 16:32] = torch.tensor([0.1, 0.2, 0.6])[:, None, None]
    drawer.load_picture(picture)
    assert drawer.alpha()[..., 14:18, 22:26].min() > 0.99 and drawer.alpha()[..., :4, :].max() < 0.01


def test_a_matte_lies_beneath_the_cells() -> None:
    drawer = matted(tiny("pixel"), MatteConfig(colour="navy"))
    fit(drawer, disc(), 5)
    picture, cells = drawer.render().detach()[0], cell_map("square", HEIGHT, WIDTH, 12)
    assert len({tuple(colour) for colour in picture.flatten(1).T.tolist()}) <= int(cells.max()) + 1
    assert torch.allclose(picture[:, 0, 0], torch.tensor([0, 0, 0.5]), atol=0.01), "the corner is ground"
    assert "matte" in drawer.state_dict()


def test_a_matte_is_saved_with_its_drawer() -> None:
    drawer, other = with_matte(), with_matte()
    fit(drawer, disc(), 3)
    other.load_state_dict(drawer.state_dict())
    assert "matte" in drawer.state_dict() and torch.equal(other.render(), drawer.render())


@pytest.mark.parametrize("name", ["strokes", "line"])
def test_strokes_take_no_matte(name: str) -> None:
    with pytest.raises(UsageError, match=r"matte\.colour: strokes lie on a plain ground"):
        with_matte(name)
