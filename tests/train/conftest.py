"""Tiny networks gain nothing from a second thread, and lose much to it when the machine is busy."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def always_one_thread(one_thread: None) -> None:
    """Every test here trains."""
