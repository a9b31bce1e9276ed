"""`bahu evaluate guided`: painted pictures, each with its prompt inside, before a CLIP of colours."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bahumukha import zoo
from bahumukha.images import save_image
from bahumukha.zoo.fake import ColourEncoder


@pytest.fixture
def bahu(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(zoo, "load", lambda name=None, threads=None: ColourEncoder())
    return partial(bahu, "evaluate", "guided")


def painted(path: Path, prompt: str, colour: str) -> None:
    picture = Image.new("RGB", (48, 48), colour)
    save_image(picture, path, {"bahumukha": json.dumps({"settings": {"prompt": prompt}})})


def test_prompts_are_found_and_colours_are_named(bahu: Any, tmp_path: Path) -> None:
    painted(tmp_path / "1.png", "a red thing", "#d92626")
    painted(tmp_path / "2.png", "a blue thing", "#2d64de")
    painted(tmp_path / "3.png", "a green thing", "#d92626")
    ran = bahu(tmp_path, "--json")
    assert ran.code == 0
    assert [row["rank"] == 1 for row in ran.object["scores"]] == [True, True, False]
    assert [row["colour_is_right"] for row in ran.object["scores"]] == [True, True, False]
    assert ran.object["retrieved"] == ran.object["colour"] == pytest.approx(2 / 3)
    text = bahu(tmp_path).out
    assert "taken for: a red thing" in text and "retrieved 66.7% of 3 among 3 prompts; colour right 66.7% of 3" in text


def test_what_holds_no_plain_prompt_is_left_out(bahu: Any, tmp_path: Path, coloured_pictures: Path) -> None:
    painted(tmp_path / "1.png", "a red thing | blurry:-0.2", "red")
    painted(tmp_path / "2.png", "a thing", "red")
    (tmp_path / "3.png").write_bytes(b"no picture")
    ran = bahu(tmp_path / "1.png", tmp_path / "2.png", tmp_path / "3.png", coloured_pictures, "--json")
    assert ran.object["pictures"] == 1 and ran.object["colour"] is None
    assert "no plain prompt: 4" in ran.err and "3.png" in ran.err
    ran = bahu(coloured_pictures)
    assert ran.code == 1 and "no pictures of bahu generate in" in ran.err
