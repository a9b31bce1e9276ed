"""The command line as a script sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bahumukha import cli
from bahumukha.train.record import read_metrics


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines of a `--json` output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        """Its only line."""
        (line,) = self.objects
        return line


def without_clock(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run but for the seconds, which no two runs share."""
    rows = read_metrics(folder)
    for row in rows:
        del row["seconds"]
    return rows


@pytest.fixture
def bahu(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `bahu` with these arguments in this process."""

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as leaving:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(int(leaving.value.code or 0), out, err)

    return run


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, one_thread: None, tmp_path: Path) -> None:
    """Every CLIP is the one of colours, `cells` is a drawer; one thread, an empty folder to work in."""
    from bahumukha.cli import guided
    from bahumukha.generate.drawers import DRAWERS
    from tests.tiny_guidance import CellsDrawer, ColourClip

    monkeypatch.setattr(guided, "_encoder", lambda name: ColourClip())
    monkeypatch.setitem(DRAWERS, "cells", CellsDrawer)
    monkeypatch.chdir(tmp_path)
