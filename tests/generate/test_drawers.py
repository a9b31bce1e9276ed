"""Drawers: each fits a picture by following its gradient, keeps its range, its seed and the picture it starts from."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bahumukha.errors import UsageError
from bahumukha.generate.drawers import DRAWERS, Drawer, DrawerConfig, build_drawer, register_drawer
from bahumukha.generate.drawers.base import clamp
from bahumukha.generate.drawers.fft import DARKEST
from bahumukha.generate.drawers.matte import MatteConfig, MattedDrawer, matted
from bahumukha.generate.drawers.pixel import SHAPES, cell_map
from bahumukha.generate.drawers.raster import paint_strokes
from bahumukha.generate.drawers.vqgan import latent_limits
from bahumukha.images import to_float01
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vqgan import Codec, VqganConfig, build_codec
from tests.fake_codec import BlockCodec

WIDTH, HEIGHT = 48, 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_codec(quantizer: QuantizerConfig = QuantizerConfig("vq", codes=20)) -> Codec:
    torch.manual_seed(0)
    config = VqganConfig(
        ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(), resolution=32, z_channels=8, embed_dim=4,
        groups=4, quantizer=quantizer,
    )  # fmt: skip
    return build_codec(config).eval().requires_grad_(False)


TINY: dict[str, dict[str, Any]] = {
    "vqgan": {},
    "fft": {},
    "pixel": {"columns": 12},
    "strokes": {"strokes": 24, "curves": 2},
    "line": {"strokes": 6},
}


def tiny(name: str, seed: int = 0, count: int = 1, **options: Any) -> Drawer:
    codec = tiny_codec() if name == "vqgan" else None
    config = DrawerConfig(WIDTH, HEIGHT, count=count, seed=seed, options=TINY[name] | options, codec=codec)
    return build_drawer(name, config)


def disc() -> Tensor:
    """A red disc on light blue, (1, 3, HEIGHT, WIDTH)."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    inside = ((x - 20) ** 2 + (y - 16) ** 2) < 10**2
    return torch.where(
        inside, torch.tensor([0.8, 0.2, 0.1])[:, None, None], torch.tensor([0.6, 0.7, 0.9])[:, None, None]
    )[None]


def fit(drawer: Drawer, target: Tensor, steps: int) -> tuple[float, float]:
    """Squared error before and after that many steps of Adam at the drawer's own rates."""
    optimizer = torch.optim.Adam(drawer.parameters())
    errors = []
    for _ in range(steps):
        error = (drawer.render() - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        drawer.project()
        errors.append(float(error.detach()))
    return errors[0], float((drawer.render() - target).square().mean().detach())


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


# --- spectra


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (1, 5)])
def test_a_spectrum_keeps_a_picture(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    picture[..., 0] = 1.0
    drawer = build_drawer("fft", DrawerConfig(size[1], size[0], options={"decay": 1.5}))
    drawer.load_picture(picture)
    assert (drawer.render() - picture).abs().max() <= DARKEST + 1e-4


def test_a_spectrum_starts_calm_and_without_a_scale() -> None:
    """Octaves have about the same energy at decay 1, and the start is a grey that varies little."""
    picture = build_drawer("fft", DrawerConfig(128, 128, seed=2)).render().detach()[0].mean(0)
    assert picture.mean() == pytest.approx(0.5, abs=0.1) and picture.std() < 0.1
    energy = torch.fft.fft2(picture - picture.mean()).abs().square()
    frequency = torch.fft.fftfreq(128)
    distance = (frequency[:, None] ** 2 + frequency**2).sqrt()
    octaves = [energy[(distance >= low) & (distance < 2 * low)].sum() for low in (1 / 32, 1 / 16, 1 / 8)]
    assert max(octaves) < 2 * min(octaves)


# --- cells


@pytest.mark.parametrize("shape", SHAPES)
def test_cells_are_whole_and_alike(shape: str) -> None:
    """Without gaps or seams: every pixel has a cell, a cell is one piece, and inner cells have the same size."""
    height, width, columns = 96, 120, 5
    cells = cell_map(shape, height, width, columns).numpy()
    assert cells.shape == (height, width) and np.unique(cells).tolist() == list(range(cells.max() + 1))
    edge = set(np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]]).tolist())
    inner = [number for number in range(cells.max() + 1) if number not in edge]
    areas = np.bincount(cells.ravel())[inner]
    assert len(inner) >= 6 and areas.max() - areas.min() <= 0.1 * areas.mean()
    share = {"hexagon": 3**0.5 / 2, "triangle": 3**0.5 / 4, "diamond": 0.5, "knit": 0.75}.get(shape, 1.0)
    assert areas.mean() == pytest.approx(share * (width / columns) ** 2, rel=0.03)
    for number in inner:
        assert pieces(cells == number) == 1, (shape, number)


def pieces(mask: np.ndarray) -> int:
    """Connected parts of a mask."""
    left, count = set(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True)), 0
    while left:
        count += 1
        pending = [left.pop()]
        while pending:
            y, x = pending.pop()
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    pending.append(neighbour)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_cells_keep_a_picture_of_cells(shape: str) -> None:
    drawer = tiny("pixel", shape=shape)
    cells = cell_map(shape, HEIGHT, WIDTH, 12)
    colours = torch.rand(int(cells.max()) + 1, 3, generator=torch.Generator().manual_seed(0))
    picture = colours[cells].permute(2, 0, 1)[None]
    drawer.load_picture(picture)
    assert (drawer.render() - picture).abs().max() < DARKEST + 1e-5, "as a spectrum keeps it"
    drawer.load_picture(disc())
    assert (drawer.render() - disc()).abs().mean() < 0.05


@pytest.mark.parametrize("palette", ["[black,white,#cc3311,skyblue]", ["black", "white", "#cc3311", "skyblue"]])
def test_cells_use_only_the_palette(palette: str | list[str]) -> None:
    allowed = torch.tensor([[0, 0, 0], [255, 255, 255], [0xCC, 0x33, 0x11], [135, 206, 235]]) / 255
    drawer = tiny("pixel", palette=palette, shape="hexagon", decay=0.0, spread=3.0, rate=0.1)
    cells = cell_map("hexagon", HEIGHT, WIDTH, 12)
    target = allowed[torch.arange(int(cells.max()) + 1) % 4][cells].permute(2, 0, 1)[None]

    def used() -> set[int]:
        """Numbers of the colours that occur, all of which are the palette's to the last bit."""
        same = (drawer.render()[0].flatten(1).T[:, None] == allowed).all(2)
        assert same.any(1).all()
        return set(same.int().argmax(1).tolist())

    assert len(used()) > 1
    before, after = fit(drawer, target, 80)
    assert used() == {0, 1, 2, 3} and after < 0.1 * before


# --- strokes and lines


def rendered_svg(svg: str) -> Tensor:
    """By another renderer, (3, H, W) in [0, 1]."""
    resvg = pytest.importorskip("resvg_py")
    return torch.from_numpy(to_float01(Image.open(io.BytesIO(bytes(resvg.svg_to_bytes(svg_string=svg)))))).permute(
        2, 0, 1
    )


@pytest.mark.parametrize(("name", "softness"), [("strokes", 0.5), ("line", 0.5)])
def test_the_svg_shows_the_same_strokes(name: str, softness: float) -> None:
    options = {"strokes": 30, "curves": 2, "softness": softness} | ({"width": 0.06} if name == "line" else {})
    drawer = build_drawer(name, DrawerConfig(96, 64, seed=3, options=options))
    svg = drawer.to_svg()
    assert svg is not None
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == "0 0 96 64"
    paths = root.findall(".//{http://www.w3.org/2000/svg}path")
    assert len(paths) == 30 and all(len(re.findall(r"[-\d.]+,[-\d.]+", path.get("d", ""))) == 7 for path in paths)
    difference = (rendered_svg(svg) - drawer.render()[0].detach()).abs()
    # Sharp turns within one curve are rounded a little differently.
    assert difference.mean() < 0.015 and (difference > 0.2).float().mean() < 0.01


def test_one_stroke_is_as_wide_and_dark_as_it_says() -> None:
    drawer = build_drawer("strokes", DrawerConfig(64, 64, options={"strokes": 1}))
    line = torch.tensor([[[[0.2, 0.5], [0.4, 0.5], [0.6, 0.5], [0.8, 0.5]]]])
    colour = torch.tensor([[[1.0, 0.0, 0.5, 0.75]]])
    drawer.load_state_dict({"points": line, "widths": torch.full((1, 1), 0.05), "colours": colour})
    picture = drawer.render()[0].detach()
    assert picture[:, 31, 32].tolist() == pytest.approx([1.0, 0.25, 0.625], abs=1e-3)  # on white paper
    covered = (1 - picture[1]).sum(0)[20:44] / 0.75  # columns well inside
    assert covered.numpy() == pytest.approx(np.full(24, 0.05 * 64), rel=0.02)  # at pixels' centres
    assert (picture[:, :28] == 1).all() and (picture[:, 36:] == 1).all()


def test_later_strokes_lie_above() -> None:
    drawer = build_drawer("strokes", DrawerConfig(64, 64, options={"strokes": 2}))
    points = drawer.state_dict()["points"][:, :1].repeat(1, 2, 1, 1)
    colours = torch.tensor([[[1.0, 0, 0, 1], [0, 0, 1, 1]]])
    drawer.load_state_dict({"points": points, "widths": torch.full((1, 2), 0.05), "colours": colours})
    both, below = drawer.render()[0], drawer.render(first=1)[0]  # type: ignore[call-arg]
    inside = below[1] < 0.01
    assert inside.any()
    assert (both[2] - both[0])[inside].min() > 0.98 and (below[0] - below[2])[inside].min() > 0.98


def test_strokes_do_not_depend_on_how_they_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, gradients = [], []
    for chunk in (8, 100_000):
        monkeypatch.setattr("bahumukha.generate.drawers.raster.CHUNK", chunk)
        drawer = tiny("strokes", seed=2)
        picture = drawer.render()
        picture.square().sum().backward()
        pictures.append(picture.detach())
        gradients.append(drawer.parameters()[0]["params"][0].grad)
    assert torch.allclose(pictures[0], pictures[1], atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-3)


def test_memory_does_not_grow_with_the_strokes() -> None:
    """The largest tensor that autograd keeps between drawing and its gradient, and all of them together."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    drawer = build_drawer("strokes", DrawerConfig(96, 96, options={"strokes": 1500}))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        drawer.render()
    assert sum(kept) < 20e6


def test_strokes_block_in_a_picture() -> None:
    drawer = build_drawer("strokes", DrawerConfig(WIDTH, HEIGHT, options={"strokes": 256}))
    drawer.load_picture(disc())
    assert (drawer.render() - disc()).abs().mean() < 0.1
    drawer.load_picture(torch.full((1, 3, HEIGHT, WIDTH), 0.3))
    assert (drawer.render() - 0.3).abs().mean() < 0.1


def test_variables_come_back_to_their_ranges() -> None:
    drawer = build_drawer("strokes", DrawerConfig(WIDTH, HEIGHT, options={"strokes": 9}))
    with torch.no_grad():
        for group in drawer.parameters():
            group["params"][0].add_(torch.randn(group["params"][0].shape) * 3)
    drawer.project()
    state = drawer.state_dict()
    assert 0.01 <= state["widths"].min() + 1e-7 and state["widths"].max() <= 0.05 + 1e-7
    assert 0 <= state["colours"].min() and state["colours"].max() <= 1
    low, high = state["points"].amin((0, 1, 2)), state["points"].amax((0, 1, 2))
    assert low.tolist() == pytest.approx([-0.05, -0.05]) and high.tolist() == pytest.approx([1.55, 1.05])


def test_lines_are_black_on_white_and_refuse_a_picture() -> None:
    drawer = build_drawer("line", DrawerConfig(224, 224, options={"strokes": 3}))
    picture = drawer.render()[0]
    assert torch.equal(picture[0], picture[1]) and torch.equal(picture[0], picture[2])
    assert picture.max() == 1 and picture.min() < 0.1
    with pytest.raises(UsageError, match="drawer line cannot start from a picture"):
        drawer.load_picture(torch.zeros(1, 3, 224, 224))


# --- codecs

QUANTIZERS = {
    "vq": QuantizerConfig("vq", codes=20),
    "fsq": QuantizerConfig("fsq", levels=(8, 5, 4, 3)),
    "projected": QuantizerConfig("vq", codes=20, code_dim=3),
    "gumbel": QuantizerConfig("gumbel", codes=20),
}


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_loaded_picture_is_the_codecs_reconstruction(kind: str) -> None:
    codec = tiny_codec(QUANTIZERS[kind])
    drawer = build_drawer("vqgan", DrawerConfig(WIDTH, HEIGHT, codec=codec))
    drawer.load_picture(disc())
    low, high = latent_limits(codec)
    expected = codec.decode(codec.quantize(codec.encode(disc() * 2 - 1).clamp(low, high)).latents)
    assert torch.allclose(drawer.render(), ((expected + 1) / 2).clamp(0, 1), atol=1e-6)
    drawer.render().sum().backward()
    assert drawer.parameters()[0]["params"][0].grad.abs().sum() > 0


def test_latents_stay_where_codes_are() -> None:
    codec = tiny_codec(QUANTIZERS["fsq"])
    drawer = build_drawer("vqgan", DrawerConfig(WIDTH, HEIGHT, codec=codec))
    (latents,) = drawer.parameters()[0]["params"]
    with torch.no_grad():
        latents.fill_(7.0)
    drawer.project()
    assert latents[0, :, 0, 0].tolist() == [0.75, 1.0, 0.5, 1.0]  # of 8, 5, 4 and 3 levels
    with torch.no_grad():
        latents.fill_(-7.0)
    drawer.project()
    assert (latents == -1).all()


def test_any_codec_will_do() -> None:
    """One that is not ours: its contract is enough."""
    drawer = build_drawer("vqgan", DrawerConfig(WIDTH, HEIGHT, codec=BlockCodec()))
    picture = torch.zeros(1, 3, HEIGHT, WIDTH)
    picture[..., :24] = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    drawer.load_picture(picture)
    assert torch.equal(drawer.render(), picture)
    (latents,) = drawer.parameters()[0]["params"]
    with torch.no_grad():
        latents.add_(3)
    drawer.project()
    assert latents.max() == 1


def test_codecs_that_do_not_suit() -> None:
    codec = tiny_codec()
    with pytest.raises(
        UsageError, match="of 50 x 32 pixels was asked for; this codec draws multiples of 4, such as 48 x"
    ):
        build_drawer("vqgan", DrawerConfig(50, 32, codec=codec))
    with pytest.raises(UsageError, match="a codec that is training"):
        build_drawer("vqgan", DrawerConfig(WIDTH, HEIGHT, codec=codec.train()))
    assert isinstance(codec, nn.Module)


# --- a matte


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
