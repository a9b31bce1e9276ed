"""Filters: exact colours, tiles without a seam, wallpaper that moves; gradients through all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate import filters
from bahumukha.generate.filters import FILTERS, make_filter, register_filter
from bahumukha.generate.palettes import parse_palette

PATIENT = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
"""On a machine that is busy with something else."""

SEEDS = st.integers(0, 2**32)
SIDES = st.integers(8, 33)


def noise(seed: int = 0, height: int = 12, width: int = 18) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


# --- palette look-up


@PATIENT
@given(SEEDS)
def test_lookup_gives_the_palettes_colours_exactly(seed: int) -> None:
    palette = {tuple(row) for row in parse_palette(r"black->red\5; [teal]").tolist()}
    lookup = make_filter("lookup", colours=r"black->red\5; [teal]")
    found = lookup(noise(seed).requires_grad_()).detach()
    assert {tuple(row) for row in found.movedim(1, -1).reshape(-1, 3).tolist()} <= palette
    assert torch.equal(lookup(found), found)


def test_lookup_takes_the_nearest_and_passes_gradients_straight_through() -> None:
    x = torch.tensor([[0.9, 0.1, 0.2], [0.2, 0.1, 0.1], [0.6, 0.9, 0.8]]).T.reshape(1, 3, 1, 3).requires_grad_()
    found = make_filter("lookup", colours="[black, red, white]")(x)
    assert found[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
    weights = torch.arange(9.0).view_as(x)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    assert torch.equal(gradient, weights)


# --- tile


def steps_within(x: Tensor, axis: int) -> Tensor:
    return x.diff(dim=axis).abs().amax()


def step_across(x: Tensor, axis: int) -> Tensor:
    """From the last row or column of a tile to the first one of the next."""
    return (x.select(axis, 0) - x.select(axis, -1)).abs().amax()


@PATIENT
@given(SIDES, SIDES, st.floats(0.05, 0.49))
def test_tiles_of_a_ramp_meet_without_a_seam(height: int, width: int, margin: float) -> None:
    """A ramp is the worst case: as a tile it jumps by its whole height where it meets itself."""
    ramp = (torch.linspace(0, 0.5, width) + torch.linspace(0, 0.5, height)[:, None]).expand(1, 3, -1, -1)
    tiled = make_filter("tile", margin=margin)(ramp)
    for axis, side in ((-1, width), (-2, height)):
        assert step_across(ramp, axis) >= 0.49
        assert step_across(tiled, axis) <= 0.5 / (side - 1) + 1e-6  # as two neighbours in the ramp


@PATIENT
@given(SEEDS, SIDES, SIDES)
def test_pixels_that_meet_at_a_seam_were_neighbours(seed: int, height: int, width: int) -> None:
    """Along the width alone the edges are columns of the middle, whatever the picture."""
    x = noise(seed, height, width)
    across = filters.Tile()._seamless(x, -1)
    middle = width // 2
    torch.testing.assert_close(across[..., 0], x[..., width - middle])
    torch.testing.assert_close(across[..., -1], x[..., width - middle - 1])


@PATIENT
@given(SEEDS)
def test_a_tile_keeps_its_middle_its_range_and_what_is_flat(seed: int) -> None:
    x, tile = noise(seed, 16, 20), make_filter("tile", margin=0.25)
    found = tile(x)
    assert torch.equal(found[..., 4:12, 5:15], x[..., 4:12, 5:15])
    assert found.shape == x.shape and 0 <= found.min() and found.max() <= 1
    flat = torch.full_like(x, 0.3)
    torch.testing.assert_close(tile(flat), flat)


def test_no_new_seam_in_the_middle() -> None:
    """The copy's own seam lies where its weight is 0: a smooth picture stays smooth."""
    side = 64
    ramp = torch.linspace(0, 1, side).expand(1, 3, side, side)
    tiled = make_filter("tile", margin=0.4)(ramp)
    # The blend's slope is at most (π / 2) / (0.4 side) times the copies' difference of 0.5, and the ramp's own.
    assert steps_within(tiled, -1) <= 1 / (side - 1) + 0.5 * (torch.pi / 2) / (0.4 * side) + 1e-3


def test_gradients_pass_through_a_tile() -> None:
    x = noise()[:1].double().requires_grad_()
    assert torch.autograd.gradcheck(make_filter("tile"), x)
    (gradient,) = torch.autograd.grad(make_filter("tile")(x).sum(), x)
    assert gradient.mean().item() == pytest.approx(1)  # colours are averaged, so no brightness comes or goes


# --- wallpaper


@PATIENT
@given(SEEDS, st.integers(0, 10_000), st.sampled_from(["shift", "horizontal", "vertical"]))
def test_wallpaper_moves_pixels_and_changes_none(seed: int, step: int, kind: str) -> None:
    x = noise(seed)
    wallpaper = make_filter("wallpaper", kind=kind)
    found = wallpaper(x, step)
    assert torch.equal(found, wallpaper(x, step))  # nothing but the step counts
    moves = [(d, a) for d in range(12) for a in range(18) if torch.equal(found, x.roll((d, a), (-2, -1)))]
    assert len(moves) == 1
    down, across = moves[0]
    assert kind == "shift" or (down if kind == "horizontal" else across) == 0


def test_wallpaper_leaves_the_finished_picture_in_place_and_reaches_every_place() -> None:
    x = torch.arange(12.0 * 18).view(1, 1, 12, 18)
    wallpaper = make_filter("wallpaper")
    assert torch.equal(wallpaper(x, 0), x)
    corners = [int(wallpaper(x, step)[0, 0, 0, 0]) for step in range(216)]
    assert len({corner % 18 for corner in corners}) == 18 and len({corner // 18 for corner in corners}) == 12
    quarters = [(corner // 18 >= 6, corner % 18 >= 9) for corner in corners]
    assert all(40 <= quarters.count(each) <= 68 for each in set(quarters)), "spread evenly"


# --- by name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("tiles", {}, "filter 'tiles': there is none (did you mean tile?); there are lookup, tile, wallpaper"),
        ("lookup", {}, "its option 'colours' is missing"),
        ("lookup", {"colours": "rad"}, "filter lookup: colours: 'rad' is no colour"),
        ("lookup", {"colours": None}, "colours: None was given; it takes a text"),
        ("tile", {"margin": 0.5}, "margin: 0.5 was given; it takes a number from 0.01 to 0.49"),
        ("tile", {"border": 1}, "'border' is no option of it; it takes margin"),
        ("wallpaper", {"kind": "diagonal"}, "kind: 'diagonal' was given; it takes shift, horizontal or vertical"),
    ],
)
def test_what_is_wrong_is_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_filter(name, **options)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_filter_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "FILTERS", dict(FILTERS))
    register_filter("negative", lambda: lambda render, step=0: 1 - render)
    assert torch.equal(make_filter("negative")(torch.zeros(1, 3, 2, 2)), torch.ones(1, 3, 2, 2))
    with pytest.raises(UsageError, match="filter 'tile': there is one already"):
        register_filter("tile", filters.Tile)
