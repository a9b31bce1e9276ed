"""What `bahu generate --with vqgan-clip` understands in a TOML file: one dataclass a section, one field an option.

    prompt = "a red fox in the snow | blurry:-0.2"       --set losses.tv=0.5 overrides an option
    drawer = "pixel"
    [drawer_options]
    shape = "hexagon"
    [cutouts]
    count = "8 -> 24"

`QUALITY` holds tables of the same form: a tier is nothing but other defaults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from bahumukha.errors import UsageError
from bahumukha.generate.camera import CameraConfig
from bahumukha.generate.cutouts import CutoutConfig
from bahumukha.generate.drawers import DRAWERS
from bahumukha.generate.drawers.matte import MatteConfig
from bahumukha.generate.filters import FILTERS
from bahumukha.generate.frames import AnimationConfig
from bahumukha.generate.losses import LOSSES
from bahumukha.generate.overlays import OverlayConfig
from bahumukha.generate.prompts import parse_story
from bahumukha.generate.rivals import RivalConfig
from bahumukha.generate.schedules import parse_schedule
from bahumukha.generate.starts import StartConfig
from bahumukha.generate.video import VideoConfig
from bahumukha.nn.precision import Precision

Value = float | str
"""A number, or a schedule as "0.1, 0.01 at 75%" (`schedules`)."""
Option = bool | int | float | str | tuple[float | str, ...]
"""What a loss, a filter or a drawer takes as an option; each checks its own."""

SMALLEST_SIDE, LARGEST_SIDE = 16, 2048
MOST_STEPS = 100_000
FRAME_STEPS = 20
"""What a painting over each frame of a video takes, where nothing is said."""

ASPECTS = {"square": (1, 1), "widescreen": (16, 9), "landscape": (4, 3), "portrait": (3, 4), "phone": (9, 16)}
"""Shapes by name, width to height; their area is that of the tier's square."""

DRAWER = "vqgan"
"""What a tier draws with where nothing is said: of what is drawn in a minute, the most like a picture (docs/log.md)."""

QUALITY: dict[str, dict[str, Any]] = {
    "draft": {"size": (160, 160), "steps": 80, "cutouts": {"count": 8, "sizes": (96, 128)}},
    "normal": {"size": (224, 224), "steps": 150, "cutouts": {"count": 12, "sizes": (96, 128, 160)}},
    "better": {"size": (256, 256), "steps": 300, "cutouts": {"count": 16, "sizes": (128, 160, 192)}},
    "best": {"size": (384, 384), "steps": 500, "cutouts": {"count": 32, "batches": 2, "sizes": (128, 192, 260)}},
}
"""Tiers. Cutouts of several sizes: what holds at every size is a shape, and no pattern that fools a network."""

_OF_SPECTRA: dict[str, Any] = {
    "cutouts": {"zoom_area": (0.4, 1.0), "perspective": 0.15},
    "rivals": {"weight": 1.0},
    "losses": {"tv": 0.5, "range": {"weight": 5.0, "low": 0.05, "high": 0.95}},
}
OF_DRAWERS: dict[str, dict[str, Any]] = {
    "fft": _OF_SPECTRA | {"drawer_options": {"decay": 1.5, "rate": 0.008}},
    "pixel": _OF_SPECTRA,
}
"""What a drawer adds to a tier; `docs/log.md` tells what was tried."""


@dataclass(frozen=True)
class GuidedConfig:
    """All that decides a picture, and its video. The same config, seed among it, gives the same bits on one machine."""

    prompt: str
    """`a | b:0.5 ^ c` as in `prompts`."""
    seed: int | str = 0
    """A whole number, or any text."""
    size: tuple[int, int] = (224, 224)
    """Width and height in pixels."""
    steps: int = 250
    """Of a picture; of each frame where `animation.frames` are painted over."""
    stop_after: int = 0
    """Steps without a better loss (its running mean) after which the picture is finished early; 0 for never."""
    models: tuple[str, ...] = ("starter/clip",)
    """CLIP models by name or folder; each has the same say."""
    precision: Precision = "float32"
    """Of the matrix products of CLIP and codec: float32, bfloat16, or `auto` for bfloat16 where it is fast."""
    drawer: str = "fft"
    drawer_options: dict[str, Option] = field(default_factory=dict)
    codec: str = "starter/vqgan"
    """Of the drawer `vqgan`: name or folder."""
    rate: Value = "1, 0.1 at 75%"
    """Factor of the drawer's own rates."""
    cutouts: CutoutConfig = CutoutConfig()
    rivals: RivalConfig = RivalConfig()
    losses: dict[str, Value | dict[str, Option]] = field(default_factory=dict)
    """By name a weight, or a table of `weight` and the loss's options."""
    filters: dict[str, dict[str, Option]] = field(default_factory=dict)
    """By name a table of options; one after another, as written."""
    start: StartConfig = StartConfig()
    matte: MatteConfig = MatteConfig()
    overlay: OverlayConfig = OverlayConfig()
    animation: AnimationConfig = AnimationConfig()
    camera: CameraConfig = CameraConfig()
    video: VideoConfig = VideoConfig()
    templates: tuple[str, ...] = ()
    """Of `label=` prompts, as "a photo of a {}."; those of each model by default."""
    fade: float = 0.0
    """Of a story: share of a chapter over which it passes into the next one."""
    mask: Path | None = None
    """A picture, white where prompts with `inside=` look."""
    ema: float = 0.0
    """Decay of a running mean of the parameters, which is what is shown; 0 for none."""
    upscale: int = 1
    """Times that the finished picture is enlarged (Lanczos)."""

    def __post_init__(self) -> None:
        """Raises ValueError or UsageError naming the field."""
        story = parse_story(self.prompt, self.fade)
        if any(prompt.place != "everywhere" for prompt in story.prompts) and self.mask is None:
            raise ValueError("mask is not given, and a prompt has inside= or outside=; give a picture, white inside")
        seed_number(self.seed)
        if len(self.size) != 2 or not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(f"size is {list(self.size)}; both sides must be from {SMALLEST_SIDE} to {LARGEST_SIDE}")
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps is {self.steps}; it must be from 1 to {MOST_STEPS:,}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(get_args(Precision))}")
        if not self.models:
            raise ValueError("models is empty; give at least one CLIP model, as starter/clip")
        if self.drawer not in DRAWERS:
            raise ValueError(f"drawer is {self.drawer!r}; it must be one of {', '.join(DRAWERS)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be at least 0 and below 1")
        if not 1 <= self.upscale <= 8:
            raise ValueError(f"upscale is {self.upscale}; it must be from 1 to 8")
        parse_schedule(self.rate, "rate", least=0)
        self._check_names()
        self._check_stop(len(story.chapters))
        self._check_sequence()

    def _check_names(self) -> None:
        for name in self.losses:
            if name not in LOSSES:
                raise ValueError(f"losses.{name} is not known; there are {', '.join(LOSSES)}")
            parse_schedule(self.loss_parts(name)[0], f"losses.{name}.weight")
        for name in self.filters:
            if name not in FILTERS:
                raise ValueError(f"filters.{name} is not known; there are {', '.join(FILTERS)}")

    def _check_stop(self, chapters: int) -> None:
        if self.stop_after < 0:
            raise ValueError(f"stop_after is {self.stop_after}; it must be at least 0")
        weights = [parse_schedule(self.loss_parts(name)[0]).bounds for name in self.losses]
        weights.append(parse_schedule(self.rivals.weight).bounds)
        if self.stop_after and (chapters > 1 or any(low != high for low, high in weights)):
            raise ValueError("stop_after compares losses, and a story or weights that change forbid that; leave it out")

    def _check_sequence(self) -> None:
        """Rules of paintings that follow one another."""
        if self.animation.frames is not None:
            if self.camera.frames:
                raise ValueError("camera.frames and animation.frames are both given; a video is one or the other")
            if self.start.picture is not None or self.start.noise != "none" or self.start.colour:
                raise ValueError("start has a picture, noise or colour, and the frames are the starts; leave it out")
        if self.is_sequence and self.video.of != "becoming":
            raise ValueError(f"video.of is {self.video.of!r}, and the video is of the frames; leave it out")

    @property
    def is_sequence(self) -> bool:
        """Whether it makes many pictures that follow one another, by `animation` or `camera`."""
        return self.animation.frames is not None or self.camera.frames > 0

    def loss_parts(self, name: str) -> tuple[Value, dict[str, Any]]:
        """Weight (1 if it is not said) and options of a loss."""
        given = self.losses[name]
        if not isinstance(given, Mapping):
            return given, {}
        options = dict(given)
        weight: Any = options.pop("weight", 1.0)
        return weight, options

    def to_dict(self) -> dict[str, Any]:
        """Every setting in plain values that JSON holds; what is None is left out."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> GuidedConfig:
        """Inverse of `to_dict`. Raises UsageError for a key that does not exist and values that are not allowed."""
        values = _tuples(dict(settings))
        unknown = values.keys() - {each.name for each in fields(cls)}
        if unknown:
            raise UsageError(f"settings: {', '.join(sorted(unknown))} is no option of this version")
        try:
            for name, kind in SECTIONS.items():
                if name in values:
                    values[name] = kind(**_paths(values[name]))
            return cls(**_paths(values))
        except (TypeError, ValueError) as error:
            raise UsageError(f"settings: {error}") from error


SECTIONS: dict[str, Callable[..., Any]] = {
    "cutouts": CutoutConfig,
    "rivals": RivalConfig,
    "start": StartConfig,
    "matte": MatteConfig,
    "overlay": OverlayConfig,
    "animation": AnimationConfig,
    "camera": CameraConfig,
    "video": VideoConfig,
}
"""Tables of their own in a `GuidedConfig`."""


def _paths(table: Mapping[str, Any]) -> dict[str, Any]:
    """Texts that name files, as paths."""
    named = ("picture", "frames", "mask")
    return {key: Path(value) if key in named and isinstance(value, str) else value for key, value in table.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def tier(quality: str, **settings: Any) -> GuidedConfig:
    """A config with the defaults of a tier, sections merged: `tier("draft", prompt="a fox", cutouts={"flip": 0})`.

    Raises UsageError.
    """
    return GuidedConfig.from_dict(merged(tier_table(quality, settings.get("drawer", DRAWER)), settings))


def tier_table(quality: str, drawer: str) -> dict[str, Any]:
    """The settings of a tier for a drawer, whose name is checked elsewhere. Raises UsageError."""
    if quality not in QUALITY:
        raise UsageError(f"quality: {quality!r} was given; it is one of {', '.join(QUALITY)}")
    return merged({"drawer": drawer} | QUALITY[quality], OF_DRAWERS.get(drawer, {}))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables laid over one another: what `above` says holds; sections in both are merged."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def seed_number(seed: int | str, picture: int = 0) -> int:
    """A seed as the generators take it, of the `picture`-th of several: the next number for each.

    Digits are their number, another text its hash, the same on every machine. Raises UsageError.
    """
    text = str(seed).strip()
    if isinstance(seed, int) or text.lstrip("-").isdecimal():
        if not 0 <= int(text) < 2**63 - picture:
            raise UsageError(f"seed: {seed} was given; it takes a whole number from 0 up, below 2^63, or any text")
        return int(text) + picture
    if not text:
        raise UsageError("seed: an empty text was given; it takes a whole number or any text")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") + picture
