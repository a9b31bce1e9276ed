"""Each drawer in its own way: spectra and cells keep a picture, the SVG shows the strokes, latents stay at codes."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bahumukha.errors import UsageError
from bahumukha.generate.drawers import DrawerConfig, build_drawer
from bahumukha.generate.drawers.fft import DARKEST
from bahumukha.generate.drawers.pixel import SHAPES, cell_map
from bahumukha.generate.drawers.vqgan import latent_limits
from bahumukha.images import to_float01
from bahumukha.models.quantize import QuantizerConfig
from tests.fake_codec import BlockCodec
from tests.tiny_drawers import HEIGHT, WIDTH, disc, fit, tiny, tiny_codec

pytestmark = pytest.mark.usefixtures("one_thread")


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
