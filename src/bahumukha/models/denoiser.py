"""unCLIP's decoder and upsampler: a transformer that takes noise off a picture, given the embedding of what it shows.

    x_t = (1 - t) x + t ε,    x̂ = f(x_t, t, embedding, caption, small picture)
    loss = mean ((x̂ - x) / t)²            which is the squared error of the velocity ε - x (rectified flow)

f is a U-ViT (Bao et al. 2022, "All are Worth Words"): square patches, caption and picture in one sequence, and long
skips from the first half of the blocks to the second. The embedding enters as in unCLIP (Ramesh et al. 2022), added to
the time, which tells every block what to do (`nn.modulated`), and as four more tokens. Positions are rows and columns
(`nn.rotary`), so that no size of a picture is special; tokens that are no patches stand at row 0 and column 0. With
`stages` patches are not cut out but made by convolutions, and joined by them again (`nn.stages`).

f may tell the velocity or the clean picture itself: large patches have more numbers than are told apart in a narrow
network, and noise fills all of them while pictures do not (Li and He 2025, "Back to Basics").

The upsampler is the same network on a larger picture, with the small one, scaled up, as more channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.prior import Standard
from bahumukha.models.text import TextFeatures
from bahumukha.nn.attention import init_transformer, zeroed
from bahumukha.nn.draws import Draws
from bahumukha.nn.modulated import VECTORS, ModulatedBlock, modulated
from bahumukha.nn.rotary import grid_positions, rotation
from bahumukha.nn.sizes import check_least, check_transformer
from bahumukha.nn.stages import GROUPS, Stages
from bahumukha.nn.time import TimeEmbedding

Predicts = Literal["clean", "velocity"]
LEAST_TIME = 0.05
"""t below which the loss of a clean picture does not weigh more."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the network, and what it is given."""

    channels: int = 3
    """Of what is diffused: 3 of pixels, or those of a codec's latents."""
    grid: int = 64
    """Side of what it is trained on, in numbers: pixels, or latents."""
    patch: int = 4
    """Side of a token's square; divides `grid`."""
    stages: tuple[int, ...] = ()
    """Widths of convolutional stages between pixels and tokens, the first for the largest; each halves the side."""
    dim: int = 0
    """Of the embeddings; 0 for none."""
    text_width: int = 0
    """Of the caption's tokens; 0 for none."""
    text_length: int = 64
    """Most tokens of a caption."""
    image_tokens: int = 4
    """That an embedding is said in besides."""
    given: int = 0
    """Channels of a picture that is given, of the size of what is diffused; 0 for none."""
    width: int = 320
    layers: int = 11
    """An odd number: those before the middle one are remembered by those after it."""
    heads: int = 5
    mlp_ratio: float = 4.0
    predicts: Predicts = "clean"

    def __post_init__(self) -> None:
        check_least(self, channels=1, grid=1, patch=1, text_length=1)
        for name in ("dim", "text_width", "image_tokens", "given"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0, which is none")
        if self.grid % self.patch:
            raise ValueError(f"patch is {self.patch}; it must divide grid, {self.grid}")
        if self.layers % 2 == 0:
            raise ValueError(f"layers is {self.layers}; it must be odd, as one stands in the middle")
        check_transformer(self, turned=True)
        least = 2 ** len(self.stages)
        if self.patch % least:
            raise ValueError(f"patch is {self.patch}; {len(self.stages)} stages need a multiple of {least}")
        if any(width < 1 or width % GROUPS for width in self.stages):
            raise ValueError(f"stages are {self.stages}; each must be a multiple of {GROUPS}")
        if self.predicts not in get_args(Predicts):
            raise ValueError(f"predicts is {self.predicts!r}; it must be one of {', '.join(get_args(Predicts))}")

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DenoiserConfig:
        """Inverse of `to_dict`. Raises TypeError for unknown fields and ValueError for values out of range."""
        return cls(**{**values, "stages": tuple(values.get("stages", ()))})


class Condition(NamedTuple):
    """What a picture should be like; None for what is not said. An empty one is guidance's other half."""

    embedding: Tensor | None = None
    """Of pictures, (B, dim) of norm 1."""
    text: TextFeatures | None = None
    without_embedding: Tensor | None = None
    """bool (B,): where the embedding is dropped after all, in training."""
    without_text: Tensor | None = None
    """bool (B,): where the caption is."""
    given: Tensor | None = None
    """(B, given, H, W), numbers about as large as what is diffused."""
    given_noise: Tensor | None = None
    """(B,) in [0, 1]: how noised that picture is; None for not at all."""

    def rows(self, places: Tensor) -> Condition:
        """Some of the pictures, int64 (n,), any of them several times."""
        return Condition(*(None if each is None else _rows(each, places) for each in self))


class Denoiser(nn.Module):
    """Noised pictures, how noised they are, and what they should be like -> `config.predicts`."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        self.config = config
        c, width = config, config.width
        if not c.stages:
            self.patches = nn.Linear((c.channels + c.given) * c.patch**2, width)
            self.pixels = nn.Linear(width, c.channels * c.patch**2)
        self.blocks = nn.ModuleList(ModulatedBlock(width, c.heads, c.mlp_ratio) for _ in range(c.layers))
        self.skips = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(c.layers // 2))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        if c.dim:
            self.standard = Standard(c.dim)
            self.null = nn.Parameter(torch.zeros(1, c.dim))
            self.image_tokens = nn.Linear(c.dim, c.image_tokens * width)
        if c.text_width:
            self.words = nn.Linear(c.text_width, width)
            self.places = nn.Parameter(torch.zeros(c.text_length, width))
        init_transformer(self, config.layers)
        if not c.stages:
            zeroed(self.pixels)
        else:
            square = c.patch // 2 ** len(c.stages)
            self.stages = Stages(c.channels + c.given, c.stages, width, out=c.channels, square=square)
        self.time = TimeEmbedding(width)
        if c.dim:
            self.image = nn.Linear(c.dim, width)
        if c.given:
            self.given_noise = TimeEmbedding(width)
        self.tell = nn.Linear(width, VECTORS * width)
        self.tell_last = nn.Linear(width, 2 * width)
        self.smooth = nn.Conv2d(c.channels, c.channels, 3, padding=1)
        zeroed(self.tell, self.tell_last, self.smooth)
        for skip in self.skips:  # at first nothing is remembered
            nn.init.eye_(skip.weight[:, :width])  # type: ignore[index]
            nn.init.zeros_(skip.weight[:, width:])  # type: ignore[index]

    def forward(self, x: Tensor, t: Tensor, condition: Condition = Condition()) -> Tensor:
        """x_t (B, channels, H, W), H and W multiples of `patch`; t (B,) in [0, 1] -> the same shape as x_t."""
        c, rows, columns = self.config, x.shape[2] // self.config.patch, x.shape[3] // self.config.patch
        embedding = self._embedding(condition, len(x))
        about = self.time(t)
        if embedding is not None:
            about = about + self.image(embedding)
        if c.given:
            noise = condition.given_noise
            about = about + self.given_noise(torch.zeros_like(t) if noise is None else noise)
            assert condition.given is not None, "this network needs a picture to be given"
            x = torch.cat([x, condition.given], dim=1)
        about = F.silu(about)
        told = self.tell(about).unflatten(1, (VECTORS, -1))
        before, mask = self._tokens(condition, embedding, rows * columns)
        remembered: list[Tensor] = []
        if c.stages:
            squares, remembered = self.stages.to_tokens(x, about)
            patches = _rowed(squares)
        else:
            patches = self.patches(_rowed(F.pixel_unshuffle(x, c.patch)))
        y = torch.cat([*before, patches], dim=1)
        extra = y.shape[1] - rows * columns
        at = torch.cat([x.new_zeros(extra, 2), 1 + grid_positions(rows, columns, x.device)])
        y = self._through(y, told, rotation(at, c.width // c.heads), mask)[:, extra:]
        scale, shift = self.tell_last(about)[:, None].chunk(2, dim=2)
        y = modulated(self.norm(y), scale, shift)
        if c.stages:
            picture = self.stages.to_pixels(_squared(y, rows, columns), remembered, about)
        else:
            picture = F.pixel_shuffle(_squared(self.pixels(y), rows, columns), c.patch)
        return picture + self.smooth(picture)

    def clean(self, x: Tensor, t: Tensor, condition: Condition = Condition()) -> Tensor:
        """As `forward`, -> x̂, whatever the network tells."""
        told = self(x, t, condition).float()
        return told if self.config.predicts == "clean" else x - t.view(-1, 1, 1, 1) * told

    def _through(self, y: Tensor, told: Tensor, turns: Tensor, mask: Tensor | None) -> Tensor:
        half = len(self.skips)
        remembered: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            if layer > half:
                y = self.skips[layer - half - 1](torch.cat([y, remembered.pop()], dim=2))
            y = block(y, told, turns, mask)
            if layer < half:
                remembered.append(y)
        return y

    def _embedding(self, condition: Condition, batch: int) -> Tensor | None:
        """Standardised, (B, dim), the null one where none is said; None for a network without."""
        if not self.config.dim:
            return None
        if condition.embedding is None:
            return self.null.expand(batch, -1)
        embedding = self.standard(condition.embedding)
        if condition.without_embedding is None:
            return embedding
        return torch.where(condition.without_embedding[:, None], self.null, embedding)

    def _tokens(
        self, condition: Condition, embedding: Tensor | None, patches: int
    ) -> tuple[list[Tensor], Tensor | None]:
        """What stands before the patches, (B, n, width) each; and bool (B, 1, 1, L), what is seen, None for all."""
        before = []
        if embedding is not None and self.config.image_tokens:
            before.append(self.image_tokens(embedding).unflatten(1, (self.config.image_tokens, -1)))
        text = condition.text
        if not self.config.text_width or text is None:
            return before, None
        tokens, seen = text.tokens[:, : self.config.text_length], text.seen[:, : self.config.text_length]
        if condition.without_text is not None:
            seen = seen & ~condition.without_text[:, None]
        others = sum(each.shape[1] for each in before)
        before.append(self.words(tokens) + self.places[: tokens.shape[1]])
        if bool(seen.all()):
            return before, None
        return before, F.pad(F.pad(seen, (others, 0), value=True), (0, patches), value=True)[:, None, None]


@dataclass(frozen=True)
class TimesConfig:
    """Which t are trained on: sigmoid of a normal number, most of them where it is hardest (Esser et al. 2024)."""

    mean: float = 0.0
    """Above 0 more noise."""
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError(f"spread is {self.spread}; it must be above 0")


def random_times(count: int, like: Tensor, times: TimesConfig = TimesConfig(), draws: Draws = Draws()) -> Tensor:
    """(count,) in (0, 1), evenly spread over what is as likely."""
    u = draws.spread(count, like).clamp(1e-4, 1 - 1e-4)
    return torch.sigmoid(times.mean + times.spread * torch.special.ndtri(u))


def flow_loss(
    model: Denoiser,
    x: Tensor,
    condition: Condition = Condition(),
    times: TimesConfig = TimesConfig(),
    draws: Draws = Draws(),
    under: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """`loss`, the mean squared error of the velocity at random t; x (B, channels, H, W).

    under: t (B,) -> what stands under the noise in place of x, as a worse picture of it; x is to be told all the same.
    """
    noise, t = draws.normal(x), random_times(len(x), x, times, draws)
    return {"loss": velocity_errors(model, x, noise, t, condition, None if under is None else under(t)).mean()}


def velocity_errors(
    model: Denoiser, x: Tensor, noise: Tensor, t: Tensor, condition: Condition, under: Tensor | None = None
) -> Tensor:
    """Of each picture, x and noise (B, channels, H, W), t (B,): the mean squared error of the velocity, (B,).

    under: of x's shape, what stands under the noise in its place; the velocity is the one that leads to x.
    """
    at = t.view(-1, 1, 1, 1)
    told = model(torch.lerp(x if under is None else under, noise, at), t, condition).float()
    error = told - (noise - x) if model.config.predicts == "velocity" else (told - x) / at.clamp(min=LEAST_TIME)
    if under is not None and model.config.predicts == "velocity":
        error = error - (1 - at) / at * (under - x)
    return error.square().flatten(1).mean(1)


def enlarged(small: Tensor, factor: int) -> Tensor:
    """(B, 3, h, w) in [-1, 1] -> (B, 3, factor h, factor w): what an upsampler is given."""
    return F.interpolate(small, scale_factor=factor, mode="bicubic", align_corners=False).clamp(-1, 1)


def _rows(each: Tensor | TextFeatures, places: Tensor) -> Any:
    return TextFeatures(*(part[places] for part in each)) if isinstance(each, TextFeatures) else each[places]


def _rowed(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w, C), a view."""
    return x.flatten(2).transpose(1, 2)


def _squared(y: Tensor, rows: int, columns: int) -> Tensor:
    """Inverse of `_rowed`."""
    return y.transpose(1, 2).unflatten(2, (rows, columns))
