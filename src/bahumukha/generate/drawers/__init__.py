"""Drawers: what a guided picture is made of. Looked up by name; anyone may register more.

drawer = build_drawer("pixel", DrawerConfig(width=224, height=224, options={"shape": "hexagon"}))
"""

from __future__ import annotations

from collections.abc import Callable

from bahumukha.errors import UsageError
from bahumukha.generate.drawers.base import Drawer, DrawerConfig
from bahumukha.generate.drawers.fft import FftDrawer
from bahumukha.generate.drawers.line import LineDrawer
from bahumukha.generate.drawers.pixel import PixelDrawer
from bahumukha.generate.drawers.strokes import CurveDrawer, StrokesDrawer
from bahumukha.generate.drawers.vqgan import VqganDrawer
from bahumukha.generate.registry import register

__all__ = ["DRAWERS", "CurveDrawer", "Drawer", "DrawerConfig", "build_drawer", "register_drawer"]

DRAWERS: dict[str, Callable[[DrawerConfig], Drawer]] = {
    "vqgan": VqganDrawer,
    "fft": FftDrawer,
    "pixel": PixelDrawer,
    "strokes": StrokesDrawer,
    "line": LineDrawer,
}
"""By name, as `--drawer` takes it."""


def build_drawer(name: str, config: DrawerConfig) -> Drawer:
    """The drawer called `name`. Raises UsageError for another name, and where the config does not suit it."""
    if name not in DRAWERS:
        raise UsageError(f"drawer {name!r} does not exist; there are {', '.join(DRAWERS)}")
    return DRAWERS[name](config)


def register_drawer(name: str, factory: Callable[[DrawerConfig], Drawer]) -> None:
    """Make a drawer known by a name, for `--drawer` too. Raises UsageError for a name that is taken."""
    register("drawer", DRAWERS, name, factory)
