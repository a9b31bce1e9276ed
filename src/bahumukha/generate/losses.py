"""What a picture is to look like apart from its subject: costs of a render, by name.

    LOSSES["symmetry"](axis="vertical")(render)        (B, 3, H, W) in [0, 1] -> a scalar from 0 up, differentiable

Each is 0 exactly for the pictures that fulfil it, and is a mean over pixels, so that weights mean the same at every
size. A negative weight asks for the opposite where that makes sense. Differences between neighbours are of sRGB in
[0, 1] from one pixel to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from bahumukha.errors import UsageError
from bahumukha.generate.palettes import nearest, parse_colour, parse_palette
from bahumukha.generate.registry import check_choice, check_number, check_text, make, register
from bahumukha.images import open_image, to_float01

Loss = Callable[[Tensor], Tensor]
"""A render (B, 3, H, W) in [0, 1] -> a scalar."""

EPSILON = 1e-8


# --- colours ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaletteLoss:
    """Mean squared distance in sRGB to the nearest colour of a palette (see `palettes`); 0 for its colours alone."""

    colours: str
    _palette: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_text("colours", self.colours, "red->rust; [white]")
        object.__setattr__(self, "_palette", parse_palette(self.colours, "colours"))

    def __call__(self, render: Tensor) -> Tensor:
        pixels = render.movedim(1, -1)
        palette = self._palette.to(render)
        return (pixels - palette[nearest(pixels, palette)]).square().sum(-1).mean()


@dataclass(frozen=True)
class SaturationLoss:
    """(M - target)², M the colourfulness of each picture; Hasler and Süsstrunk 2003, "Measuring Colorfulness".

    M = hypot(σ_a, σ_b) + 0.3 hypot(μ_a, μ_b) with a = R - G and b = (R + G) / 2 - B, standard deviations and means
    over the pixels, in units of [0, 1] (the paper's, of [0, 255], over 255). 0 for gray.
    """

    target: float = 0.18
    """The paper's words: 0.06 slightly colourful, 0.13 moderately, 0.18 averagely, 0.23 quite, 0.32 highly, 0.43
    extremely."""

    def __post_init__(self) -> None:
        check_number("target", self.target, 0, 1)

    def __call__(self, render: Tensor) -> Tensor:
        return (colourfulness(render) - self.target).square().mean()


def colourfulness(render: Tensor) -> Tensor:
    """M above of each picture: (B, 3, H, W) in [0, 1] -> (B,); its gradient is finite for gray as well."""
    red, green, blue = render.flatten(2).unbind(1)
    axes = torch.stack([red - green, (red + green) / 2 - blue])  # (2, B, H W)
    spread = _root(axes.var(-1, correction=0).sum(0))
    return spread + 0.3 * _root(axes.mean(-1).square().sum(0))


def _root(x: Tensor) -> Tensor:
    """Square root, 0 at 0 with a finite slope there."""
    return (x + EPSILON).sqrt() - EPSILON**0.5


@dataclass(frozen=True)
class RangeLoss:
    """Mean squared excess over [low, high]; 0 inside. Tighter bounds than 0 and 1 keep a picture from burning out."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_number("low", self.low, 0, 1)
        check_number("high", self.high, self.low, 1)

    def __call__(self, render: Tensor) -> Tensor:
        return (render - render.clamp(self.low, self.high)).square().mean()


# --- shapes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SymmetryLoss:
    """Mean squared difference between the picture and its mirror image; 0 for a symmetric one."""

    axis: str = "vertical"
    """The line of the mirror: `vertical` (left like right), `horizontal` (top like bottom) or `both`."""

    def __post_init__(self) -> None:
        check_choice("axis", self.axis, ("vertical", "horizontal", "both"))

    def __call__(self, render: Tensor) -> Tensor:
        flipped = {"vertical": (-1,), "horizontal": (-2,), "both": (-1, -2)}[self.axis]
        return torch.stack([(render - render.flip(each)).square().mean() for each in flipped]).mean()


@dataclass(frozen=True)
class SmoothnessLoss:
    """Mean cost of s = |∇x|², the squared steps to the right and downwards, averaged over channels; 0 for one colour.

    `default` s: the Laplacian's smoothing, blurs edges too. `clipped` min(s, edge²): a step of `edge` or more is an
    edge and is left alone (Blake and Zisserman 1987). `log` edge² log(1 + s / edge²): between the two (the Lorentzian
    of Black and Anandan 1996).
    """

    kind: str = "default"
    edge: float = 0.1
    """The step in sRGB from which on it counts as an edge; `default` has no use for it."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("default", "clipped", "log"))
        check_number("edge", self.edge, 0.001, 1)

    def __call__(self, render: Tensor) -> Tensor:
        across, down = steps(render)
        square = F.pad(across, (0, 1)).square().mean(1) + F.pad(down, (0, 0, 0, 1)).square().mean(1)
        if self.kind == "clipped":
            square = square.clamp(max=self.edge**2)
        elif self.kind == "log":
            square = self.edge**2 * torch.log1p(square / self.edge**2)
        return square.mean()


@dataclass(frozen=True)
class TotalVariationLoss:
    """Mean absolute step to the right and downwards (Rudin, Osher and Fatemi 1992): flat areas, sharp edges."""

    def __call__(self, render: Tensor) -> Tensor:
        across, down = steps(render)
        return (across.abs().sum() + down.abs().sum()) / render.numel()


def steps(render: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) -> from each pixel to its right neighbour (B, 3, H, W - 1), and to that below (B, 3, H - 1, W)."""
    return render.diff(dim=-1), render.diff(dim=-2)


@dataclass(frozen=True)
class EdgeLoss:
    """Mean squared difference to one colour in a frame along the picture's edges, or where a mask is white."""

    colour: str = "white"
    thickness: float = 0.05
    """Of the frame, as a share of the shorter side; 0 to 0.5."""
    mask: str = ""
    """A picture, stretched to the render's size: its white takes the place of the frame."""
    _goal: Tensor = field(init=False, repr=False, compare=False)
    _mask: Image.Image | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_number("thickness", self.thickness, 0.001, 0.5)
        if self.mask != "":
            check_text("mask", self.mask, "mask.png")
        check_text("colour", self.colour, "white")
        object.__setattr__(self, "_goal", torch.tensor(parse_colour(self.colour, "colour")).view(3, 1, 1) / 255)
        object.__setattr__(self, "_mask", open_image(self.mask) if self.mask else None)

    def __call__(self, render: Tensor) -> Tensor:
        where = self._where(*render.shape[-2:]).to(render)
        error = (render - self._goal.to(render)).square().mean((0, 1))
        return (error * where).sum() / where.sum().clamp(min=EPSILON)

    def _where(self, height: int, width: int) -> Tensor:
        """(H, W): 1 where the colour is wanted."""
        if self._mask is not None:
            return _tensor(self._mask.resize((width, height), Image.Resampling.LANCZOS)).mean((0, 1))
        rim = max(1, round(self.thickness * min(height, width)))
        where = torch.ones(height, width)
        where[rim : height - rim, rim : width - rim] = 0
        return where


# --- pictures to resemble ---------------------------------------------------------------------------------


MEASURES = ("pixel", "l2", "cosine", "spherical")


def pull(x: Tensor, goal: Tensor, measure: str = "l2") -> Tensor:
    """How far tensors are from a goal, pictures or latents, (B, ...) and broadcastable -> a scalar, 0 where equal.

    `pixel`: mean absolute difference. `l2`: mean squared difference. `cosine`: 1 - cos of the angle between them, and
    `spherical`: half its square (the loss of prompts), for directions alone; both want x and goal centred on 0.
    """
    check_choice("measure", measure, MEASURES)
    if measure == "pixel":
        return (x - goal).abs().mean()
    if measure == "l2":
        return (x - goal).square().mean()
    u, v = F.normalize(x.flatten(1), dim=1), F.normalize(goal.flatten(1), dim=1)
    if measure == "cosine":
        return (u - v).square().sum(1).mean() / 2  # = 1 - u·v, and exactly 0 for u = v
    return (2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)).square()).mean()


@dataclass(frozen=True)
class TargetLoss:
    """The distance to a picture, by `pull`; pictures are centred on mid grey for the measures of direction."""

    picture: str
    """A file; cut to the render's shape around its middle."""
    measure: str = "l2"
    _image: Image.Image = field(init=False, repr=False, compare=False)
    _fitted: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("measure", self.measure, MEASURES)
        check_text("picture", self.picture, "photo.jpg")
        object.__setattr__(self, "_image", open_image(self.picture))

    def __call__(self, render: Tensor) -> Tensor:
        height, width = render.shape[-2:]
        if (height, width) not in self._fitted:
            self._fitted[height, width] = _tensor(ImageOps.fit(self._image, (width, height), Image.Resampling.LANCZOS))
        return pull(render - 0.5, self._fitted[height, width].to(render) - 0.5, self.measure)


Features = Callable[[Tensor], list[Tensor]]
"""Pictures (B, 3, H, W) in [-1, 1] -> maps (B, C, h, w), one a layer."""


@dataclass(frozen=True)
class StyleLoss:
    """The style of a picture: how features go together, wherever they are (Gatys, Ecker and Bethge 2016).

    mean_l ‖G_l(x) - G_l(style)‖² / ‖G_l(style)‖²      G = f fᵀ / (h w), the Gram matrix of the features at h w places

    over the layers l of the starter CLIP's trunk (EfficientNet-Lite2). 0 for the picture itself at the size it is read.
    """

    picture: str
    """A file; read with its shorter side at most `size`."""
    size: int = 224
    stages: Sequence[int] = (0, 1, 2, 3)
    """Of the trunk, 0 the finest: 0 and 1 are texture and brush, 3 shapes as large as a sixteenth of the picture."""
    features: Features | None = field(default=None, repr=False)
    """Another network's features in place of the trunk's; `stages` does not count then."""

    def __post_init__(self) -> None:
        check_text("picture", self.picture, "painting.jpg")
        check_number("size", self.size, 32, 1024)
        stages = self.stages if isinstance(self.stages, (list, tuple)) else []
        if not stages or not all(isinstance(each, int) and 0 <= each <= 4 for each in stages):
            raise UsageError(f"stages: {self.stages!r} was given; it takes a list of whole numbers from 0 to 4")
        self._goal  # noqa: B018  read now: a picture that is missing is an error before the first step

    def __call__(self, render: Tensor) -> Tensor:
        found = [gram(each) for each in self._network(render * 2 - 1)]
        pairs = zip(found, self._goal, strict=True)
        return torch.stack([(x - y).square().sum((1, 2)).mean() / y.square().sum() for x, y in pairs]).mean()

    @cached_property
    def _network(self) -> Features:
        if self.features is not None:
            return self.features
        from bahumukha.zoo.perceptual import trunk_distance  # late, for whoever brings features of their own

        distance = trunk_distance()
        distance.stages = list(self.stages)
        return distance.features

    @cached_property
    def _goal(self) -> list[Tensor]:
        image = open_image(self.picture, at_least=self.size)
        ratio = min(1.0, self.size / min(image.size))
        image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.LANCZOS)
        with torch.no_grad():
            return [gram(each) for each in self._network(_tensor(image) * 2 - 1)]


def gram(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, C), divided by the number of places."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


def _tensor(image: Image.Image) -> Tensor:
    """An RGB picture -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(to_float01(image)).movedim(-1, 0)[None]


# --- by name ----------------------------------------------------------------------------------------------


LOSSES: dict[str, Callable[..., Loss]] = {
    "palette": PaletteLoss,
    "saturation": SaturationLoss,
    "range": RangeLoss,
    "symmetry": SymmetryLoss,
    "smoothness": SmoothnessLoss,
    "tv": TotalVariationLoss,
    "edge": EdgeLoss,
    "target": TargetLoss,
    "style": StyleLoss,
}
"""Factories by name; each takes its options by keyword."""


def register_loss(name: str, factory: Callable[..., Loss]) -> None:
    """Make a loss of one's own known by name. Raises UsageError for a name that is taken."""
    register("loss", LOSSES, name, factory)


def make_loss(name: str, **options: Any) -> Loss:
    """The loss called `name`. Raises UsageError naming the loss and the option at fault, and ImageError."""
    return make("loss", LOSSES, name, options)
