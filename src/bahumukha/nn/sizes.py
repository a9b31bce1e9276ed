"""The sizes that every transformer here has, and the checks of sizes: each is written once, whoever's config it is.

Messages name the field as a config file has it. All of them are ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    """Of a stack of pre-norm blocks."""

    width: int = 320
    """Channels of a token."""
    layers: int = 6
    heads: int = 5
    mlp_ratio: float = 4.0
    """Width of the MLP's hidden layer over `width`."""

    def __post_init__(self) -> None:
        check_transformer(self)


def check_transformer(config: Any, *, turned: bool = False) -> None:
    """Fields `width`, `layers`, `heads`, and `mlp_ratio` and `dropout` where there are any; turned: positions are rows
    and columns (`nn.rotary`), which take quarters of a head."""
    check_least(config, width=1, layers=1, heads=1)
    if config.width % ((4 if turned else 1) * config.heads):
        parts = f"{'4 x ' if turned else ''}heads {config.heads}"
        raise ValueError(f"width is {config.width}; it must be a multiple of {parts}")
    if not getattr(config, "mlp_ratio", 1) > 0:
        raise ValueError(f"mlp_ratio is {config.mlp_ratio}; it must be above 0")
    if not 0 <= getattr(config, "dropout", 0) < 1:
        raise ValueError(f"dropout is {config.dropout}; it must be at least 0 and below 1")


def check_least(config: Any, **fields: int) -> None:
    """Whole numbers: field -> the least that it may be."""
    for name, least in fields.items():
        if getattr(config, name) < least:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least {least}")
