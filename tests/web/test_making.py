"""What the worker does for real: painting with a small CLIP, and indexing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.errors import UsageError
from bahumukha.generate.drawers import DRAWERS
from bahumukha.generate.guided_config import QUALITY
from bahumukha.protocols import Step
from bahumukha.web import making, schemas
from bahumukha.web.kinds import Made
from bahumukha.web.schemas import GenerateRequest
from bahumukha.web.worker import montage
from tests.search.pictures import fill
from tests.tiny_guidance import CellsDrawer, ColourClip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.setattr(making, "_encoder", lambda name: ColourClip())
    monkeypatch.setitem(DRAWERS, "cells", CellsDrawer)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def asked(**settings: Any) -> dict[str, Any]:
    """As the API hands them to the worker."""
    request = GenerateRequest(prompt="red", size="32x24", steps=3, **settings)
    small = {"set": ["drawer=cells", "cutouts.sizes=[16]", "cutouts.count=2"]}
    return request.model_dump(exclude={"generator"}, exclude_none=True) | {"seed": str(request.seed)} | small


def test_painting_yields_each_step_and_pictures_with_their_settings(tiny: None, tmp_path: Path) -> None:
    news = list(making.paint(asked(count=2, seed="fox", video=True), tmp_path))
    steps = [each for each in news if isinstance(each, Step)]
    assert [(step.index, step.total) for step in steps] == [(k, 6) for k in range(6)]
    assert steps[0].images.shape == (1, 24, 32, 3) and "prompts" in steps[0].losses
    first, second = [each for each in news if isinstance(each, Made)]
    assert (first.name, first.facts["width"], first.facts["height"]) == ("1.png", 32, 24)
    assert first.facts["seed"] == "fox" and isinstance(second.facts["seed"], int) and -1 <= first.facts["score"] <= 1
    assert (tmp_path / "1.mp4").stat().st_size > 0 and first.facts["video"] == "1.mp4"
    with Image.open(tmp_path / "1.png") as image:
        held = json.loads(image.text["bahumukha"])  # type: ignore[attr-defined]
    assert held["settings"]["prompt"] == "red" and held["settings"]["steps"] == 3 and held["with"] == "vqgan-clip"
    json.dumps([first.facts, second.facts])


def test_what_the_api_cannot_check_is_refused_in_the_usual_words(tiny: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PROMPT"):
        list(making.paint(asked() | {"prompt": "a | :2"}, tmp_path))


def test_indexing_tells_how_far_it_is(tiny_clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "pictures", 5)
    settings = {"folders": [str(tmp_path / "pictures")], "index": str(tmp_path / "i.db"), "model": str(tiny_clip)}
    *_, last = making.index(settings, tmp_path)
    assert isinstance(last, dict) and last["report"]["added"] == 5


def test_a_preview_of_several_pictures_shows_all() -> None:
    images = np.zeros((5, 4, 6, 3), np.float32)
    images[4] = 1
    page = montage(images)
    assert page.size == (18, 8) and page.getpixel((8, 6)) == (255, 255, 255) and page.getpixel((2, 6)) == (0, 0, 0)


def test_what_can_be_chosen_is_what_there_is() -> None:
    assert set(schemas.DRAWERS) == set(DRAWERS) and schemas.QUALITIES == tuple(QUALITY)
