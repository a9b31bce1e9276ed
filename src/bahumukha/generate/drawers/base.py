"""What a drawer promises: numbers that an optimiser moves, and the picture they stand for.

drawer = build_drawer("fft", DrawerConfig(width=224, height=224, seed=7))
optimizer = torch.optim.Adam(drawer.parameters())
for _ in range(200):
    loss = how_wrong(drawer.render())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    drawer.project()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.nn.precision import Precision
from bahumukha.protocols import ImageCodec

Options = TypeVar("Options")


@dataclass(frozen=True)
class DrawerConfig:
    """What to draw on, and how. Raises UsageError where a value is not allowed."""

    width: int
    """Of the pictures, in pixels."""
    height: int
    count: int = 1
    """Pictures that are drawn at once, each from a random start of its own."""
    seed: int = 0
    """Of the random start."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The drawer's own, by name; which there are says the dataclass that stands above each drawer."""
    codec: ImageCodec | None = None
    """In evaluation mode; only `vqgan` needs one."""
    device: str | torch.device = "cpu"
    precision: Precision = "float32"
    """Of the codec's matrix products."""

    def __post_init__(self) -> None:
        for name in ("width", "height", "count"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)} was given; it must be at least 1")

    @property
    def generator(self) -> torch.Generator:
        """A new one with the seed, on the processor: the same start on every device."""
        return torch.Generator().manual_seed(self.seed)


class Drawer(ABC):
    """Pictures (B, 3, H, W) in [0, 1] as a differentiable function of variables.

    A subclass makes its variables with `add_variable`, each with the rate at which Adam moves it well.
    """

    def __init__(self, config: DrawerConfig):
        self.config = config
        self.count, self.height, self.width = config.count, config.height, config.width
        self.device = torch.device(config.device)
        self._variables: dict[str, Tensor] = {}
        self._rates: dict[str, float] = {}

    @abstractmethod
    def render(self) -> Tensor:
        """The pictures, (B, 3, H, W) in [0, 1], with gradients to all variables."""

    @torch.no_grad()  # noqa: B027 (variables that may have any value need nothing done)
    def project(self) -> None:
        """Bring the variables back to where they are allowed. To be called after every step of the optimiser."""

    @abstractmethod
    def load_picture(self, pixels: Tensor) -> None:
        """Start from a picture (1, 3, H, W) in [0, 1] of the drawer's own size, all B pictures alike.

        How much of it is kept, each drawer says. Raises UsageError where it cannot.
        """

    def to_svg(self) -> str | None:
        """The first picture as an SVG document; None where it does not consist of shapes."""
        return None

    def parameters(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: `params`, `lr` (the natural rate), `name`."""
        return [{"params": [value], "lr": self._rates[name], "name": name} for name, value in self._variables.items()]

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all variables, by name."""
        return {name: value.detach().clone() for name, value in self._variables.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Give the variables what `state_dict` gave. Raises UsageError where names or shapes differ."""
        if state.keys() != self._variables.keys():
            raise UsageError(f"this drawer's variables are {_listed(self._variables)}; the state has {_listed(state)}")
        for name, value in self._variables.items():
            if state[name].shape != value.shape:
                given, wanted = tuple(state[name].shape), tuple(value.shape)
                raise UsageError(f"variable {name} has shape {given} in the state and {wanted} in this drawer")
            value.copy_(state[name])

    def add_variable(self, name: str, value: Tensor, rate: float) -> Tensor:
        """Make `value` a variable, a leaf that keeps its gradient, and return it."""
        self._variables[name] = value.detach().to(self.device, torch.float32).contiguous().requires_grad_()
        self._rates[name] = rate
        return self._variables[name]

    def checked(self, pixels: Tensor) -> Tensor:
        """A picture for `load_picture` on the drawer's device. Raises UsageError unless it has the drawer's size."""
        wanted = (1, 3, self.height, self.width)
        if tuple(pixels.shape) != wanted:
            raise UsageError(f"a picture of shape {tuple(pixels.shape)} was given; this drawer takes {wanted}")
        return pixels.detach().to(self.device, torch.float32).clamp(0, 1)


class DrawerOver(Drawer):
    """A drawer that makes something of another's pictures, and whose variables are that other's."""

    def __init__(self, inner: Drawer, config: DrawerConfig):
        super().__init__(config)
        self.inner = inner

    def project(self) -> None:
        """The other's own rules."""
        self.inner.project()

    def parameters(self) -> list[dict[str, Any]]:
        """The other's groups."""
        return self.inner.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """The other's."""
        return self.inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """As `Drawer.load_state_dict`."""
        self.inner.load_state_dict(state)

    def add_variable(self, name: str, value: Tensor, rate: float) -> Tensor:
        """As `Drawer.add_variable`, beside the other's."""
        return self.inner.add_variable(name, value, rate)


def read_options(kind: type[Options], config: DrawerConfig, drawer: str) -> Options:
    """A drawer's own options as the dataclass they fill. Raises UsageError naming the drawer and the option."""
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    for name, value in config.options.items():
        if name not in known:
            raise UsageError(f"drawer {drawer} has no option {name!r}; it has {_listed(known)}")
        default = known[name].default
        allowed = (int, float) if isinstance(default, float) else type(default)
        is_checked = default is not None and default is not MISSING
        if is_checked and (not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool)):
            raise UsageError(f"drawer {drawer}: {name} is {value!r}; it takes a value such as {default!r}")
    try:
        return kind(**config.options)
    except ValueError as error:
        raise UsageError(f"drawer {drawer}: {error}") from error


def check_positive(options: object, *names: str) -> None:
    """For a `__post_init__`: raises ValueError where one of these fields is not above 0."""
    for name in names:
        if not getattr(options, name) > 0:
            raise ValueError(f"{name} is {getattr(options, name)}; it must be above 0")


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(values, low, high)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, low, high = ctx.saved_tensors
        (gradient,) = gradients  # a step goes against it
        further_out = ((values > high) & (gradient < 0)) | ((values < low) & (gradient > 0))
        return gradient.masked_fill(further_out, 0), None, None


def clamp(values: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Values clamped to [low, high]; the gradient is zeroed only where a step would lead further out.

    Clamping as such has none outside, and what is once too bright would stay so.
    """
    return _Clamp.apply(values, torch.as_tensor(low).to(values), torch.as_tensor(high).to(values))


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names)
