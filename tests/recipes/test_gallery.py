"""The gallery's list and page, painted at a tiny size with a CLIP of colours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bahumukha.errors import ModelError, UsageError
from bahumukha.generate.drawers import DRAWERS, DrawerConfig, build_drawer
from recipes import gallery, painting
from tests.tiny_guidance import ColourClip

LIST = """
[[section]]
title = "Spectra"
text = "About them."
drawer = "fft"
pictures = [{ prompt = "a red thing" }, { prompt = "a blue | thing", seed = 3 }]
[[section]]
title = "Codec"
text = "Not there."
drawer = "vqgan"
pictures = [{ prompt = "a green thing" }]
"""
SHIPPED = gallery.LIST
TINY = ("size=[32, 24]", "steps=2", "cutouts.sizes=[16]", "cutouts.count=2")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.setattr(painting, "load_encoder", lambda name: ColourClip())

    def missing(name: str) -> None:
        raise ModelError(f"no model {name!r}")

    monkeypatch.setattr(painting, "load_codec", missing)
    monkeypatch.setattr(painting, "find", missing)
    (tmp_path / "list.toml").write_text(LIST)
    monkeypatch.setattr(gallery, "LIST", tmp_path / "list.toml")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_list_that_is_painted_can_be() -> None:
    sections = gallery.read_list(SHIPPED)
    entries = [entry for section in sections for entry in section.entries]
    assert {entry.drawer for entry in entries} == set(DRAWERS) and len(entries) >= 20
    for entry in entries:
        config = entry.settings.of(entry.prompt)  # every setting of the list exists
        assert config.prompt == entry.prompt and str(config.seed) == entry.seed
        if config.drawer != "vqgan":
            build_drawer(config.drawer, DrawerConfig(32, 32, options=config.drawer_options))
        words = shlex.split(entry.command)
        assert words[:3] == ["bahu", "generate", entry.prompt]
        assert words.count("--set") == len(entry.set)


def test_pictures_and_page_of_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    options += [word for each in TINY for word in ("--set", each)]
    assert gallery.main(options) == 0
    told = capsys.readouterr()
    assert "vqgan-a-green-thing-0: left out; no model 'starter/vqgan'" in told.err
    assert re.search(r"2 pictures, [\d,]+ bytes", told.out)
    text = (tmp_path / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert "## Spectra" in text and "## Codec" not in text
    shown = re.findall(r"\]\((gallery/[^)]+)\)", text)
    assert len(shown) == 2
    for name in shown:
        with Image.open(tmp_path / "docs" / name) as picture:
            assert picture.size == (32, 24) and picture.format == "WEBP"
    assert "seed 3" in text and r"**a blue \| thing**" in text
    pngs = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()}
    assert gallery.main([*options, "--minutes", "0"]) == 0  # all there: nothing is painted again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()} == pngs


def test_the_pictures_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "a.png")
    made = {gallery.Entry("a", "fft"): painting.Made(tmp_path / "a.png", 0.5, 1.0)}
    whole = gallery.write_pictures(made, tmp_path / "out")
    monkeypatch.setattr(gallery, "MOST_BYTES", whole - 1)
    assert gallery.write_pictures(made, tmp_path / "out") < whole
    monkeypatch.setattr(gallery, "MOST_BYTES", 10)
    with pytest.raises(UsageError, match="10 are allowed"):
        gallery.write_pictures(made, tmp_path / "out")


def test_a_name_stands_once(tmp_path: Path) -> None:
    (tmp_path / "twice.toml").write_text(LIST.replace("a blue | thing", "a red thing").replace("seed = 3", "seed = 0"))
    with pytest.raises(UsageError, match="fft-a-red-thing-0 is listed twice"):
        gallery.read_list(tmp_path / "twice.toml")
