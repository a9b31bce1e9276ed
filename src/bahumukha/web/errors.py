"""What else can be refused here than in the rest of the program; see `bahumukha.errors` for the whole family."""

from __future__ import annotations

from bahumukha.errors import BahumukhaError


class NotFound(BahumukhaError):
    """There is nothing of that number or name here, or it may not be shown; which of the two is not told."""


class Busy(BahumukhaError):
    """Too much was asked for at once; later there is room again."""


class NotOver(BahumukhaError):
    """A job that has to be over first."""
