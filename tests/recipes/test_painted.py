"""Painting a fixed list once and judging it, with a CLIP of colours and a classifier made up; no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.cli.pictures import read_settings
from bahumukha.data.imagenet import class_names
from recipes import painting
from recipes.evaluation import painted
from tests.tiny_guidance import ColourClip

TINY = ["--quality", "draft", "--set", "size=[32, 24]", "--set", "cutouts.sizes=[16]", "--set", "cutouts.count=2"]


class Judge:
    """Sees a tiger in everything, whole or cropped, and a strawberry next."""

    def __init__(self, cache: Path) -> None:
        ids = [wnid for wnid, _ in class_names()]
        self.row = np.linspace(0, 1e-6, 1000)
        self.row[[ids.index("n02129604"), ids.index("n07745940")]] = 0.9, 0.05

    def __call__(self, pictures: Sequence[Image.Image], preprocess: Any = None) -> np.ndarray:
        return np.stack([self.row] * len(pictures))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.setattr(painting, "load_encoder", lambda name: ColourClip())
    monkeypatch.setattr(painted.zoo, "load", lambda name: ColourClip())
    monkeypatch.setattr(painted, "Lite0", Judge)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(out: Path, *options: str, steps: int = 2) -> dict[str, Any]:
    assert painted.main(["--out", str(out), *TINY, "--set", f"steps={steps}", *options]) == 0
    return json.loads((out / "scores.json").read_text(encoding="utf-8"))


def test_nouns_are_painted_judged_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = run(tmp_path, "--nouns", "3")
    assert [each["rank"] for each in scores["pictures"]] == [1, 2, 1000 - ids_above("n04146614")]
    assert scores["rates"]["first"] == pytest.approx(1 / 3) and scores["rates"]["among five"] == pytest.approx(2 / 3)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "tiger.png",
        "strawberry.png",
        "school-bus.png",
        "sheet.png",
    }
    table = capsys.readouterr().out
    assert "a strawberry" in table and "3 of 3 pictures" in table
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20) or []}
    assert {bytes.fromhex(frame[1:]) for frame in (painted.GOOD, painted.FAIR, painted.BAD)} <= {
        bytes(colour) for colour in colours
    }


def ids_above(wnid: str) -> int:
    """Classes that `Judge` puts behind this one: those before it, but the tiger and the strawberry."""
    ids = [each for each, _ in class_names()]
    return len([each for each in ids[: ids.index(wnid)] if each not in ("n02129604", "n07745940")])


def test_what_is_there_is_not_painted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path, "--nouns", "2")
    painted_now: list[str] = []
    real = painted.paint

    def noted(config: Any, path: Path) -> Any:
        painted_now.append(path.name)
        return real(config, path)

    monkeypatch.setattr(painted, "paint", noted)
    assert run(tmp_path, "--nouns", "2")["pictures"] == first["pictures"] and not painted_now
    run(tmp_path, "--nouns", "3")
    assert painted_now == ["school-bus.png"]
    run(tmp_path, "--nouns", "1", steps=3)  # other settings
    run(tmp_path, "--nouns", "1", "--fresh", steps=3)
    assert painted_now[1:] == ["tiger.png"] * 2
    (tmp_path / "tiger.png").write_bytes((tmp_path / "sheet.png").read_bytes())  # a picture of another kind
    run(tmp_path, "--nouns", "1", steps=3)
    assert painted_now[3:] == ["tiger.png"]
    monkeypatch.setattr(painting, "load_encoder", lambda name: ColourClip("colours-2"))
    run(tmp_path, "--nouns", "1", steps=3)
    assert painted_now[4:] == ["tiger.png"]


def test_after_its_minutes_nothing_more_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--nouns", "1")
    scores = run(tmp_path, "--nouns", "3", "--minutes", "0")
    assert (scores["judged"], scores["of"]) == (1, 3)
    assert "1 of 3 pictures (2 are not painted yet" in capsys.readouterr().out
    assert painted.main(["--out", str(tmp_path / "new"), *TINY, "--minutes", "0"]) == 1


def test_a_picture_holds_what_makes_it_again(tmp_path: Path) -> None:
    run(tmp_path, "--nouns", "1", "--seed", "7")
    settings = read_settings(tmp_path / "tiger.png", "vqgan-clip")
    assert (settings["prompt"], settings["seed"], settings["steps"]) == ("a photo of a tiger", 7, 2)
    before = (tmp_path / "tiger.png").read_bytes()
    run(tmp_path, "--nouns", "1", "--config", str(tmp_path / "tiger.png"), "--seed", "7", "--fresh")
    with Image.open(tmp_path / "tiger.png") as again:
        (tmp_path / "old.png").write_bytes(before)
        with Image.open(tmp_path / "old.png") as old:
            assert np.array_equal(np.asarray(again), np.asarray(old))


def test_pictograms_and_photographs_beside(
    tmp_path: Path, coloured_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(config: Any, path: Path) -> painting.Made:
        Image.new("RGB", (32, 32), "red" if "red" in config.prompt else "blue").save(path)
        return painting.Made(path, 0.5, 1.0)

    monkeypatch.setattr(painted, "paint", plain)
    scores = run(tmp_path / "out", "--pictograms", "3", "--photos", str(coloured_pictures))
    apple, face, car = scores["pictures"]
    assert [each["colour"] for each in (apple, face, car)] == ["red", "blue", "blue"]
    assert [each["colour_is_right"] for each in (apple, face, car)] == [True, False, True]
    assert car["rank"] == 3 and face["rank"] > 3  # this CLIP cannot tell a blue car from whale and butterfly
    assert car["retrieved"].startswith("a blue") and car["picture"] == "blue-car.png"
    assert scores["rates"] == {"retrieved": 0, "colour": pytest.approx(2 / 3)}
    low, middle, high = scores["beside photographs"]["saturation"]["photographs"]
    assert low == middle == high == pytest.approx(1, abs=0.02)


def test_mistakes_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in ((["--nouns", "99"], "take from 1 to 40"), (["--set", "stepps=3"], "stepps is no option")):
        with pytest.raises(SystemExit) as stopped:
            painted.main(["--out", str(tmp_path), *TINY, *options])
        assert stopped.value.code == 1
        assert said in capsys.readouterr().err
