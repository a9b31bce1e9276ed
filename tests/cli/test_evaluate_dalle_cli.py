"""`bahu evaluate dalle` as a user and a script see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bahumukha.cli import drawn
from bahumukha.data.styles import is_held_out
from bahumukha.models.perceptual import TrunkDistance
from bahumukha.zoo import perceptual
from tests.composed_pictures import ShapeEncoder, random_scene, write_scenes
from tests.tiny_dalle import make_codec_folder, make_dalle_folder

FEW = ("--each", "2", "--most", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dalle")
    return make_dalle_folder(root / "dalle", str(make_codec_folder(root / "codec")))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """One thread, an empty folder to work in, every CLIP the one of shapes, every trunk a random one."""

    def trunk(name: str) -> TrunkDistance:
        torch.manual_seed(0)
        return TrunkDistance(timm.create_model("tf_efficientnet_lite0", num_classes=0))

    monkeypatch.setattr(drawn, "encoder", lambda name: ShapeEncoder())
    monkeypatch.setattr(perceptual, "trunk_distance", trunk)
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red fish\na cat\na blue house\na dog\n")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pictures(folder: str, count: int) -> Path:
    random = np.random.default_rng(len(folder))
    Path(folder).mkdir()
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(Path(folder) / f"{number}.png")
    return Path(folder)


def test_prompts_with_all_that_is_said_of_their_pictures(bahu: Any, folder: Path) -> None:
    real = ("--validation", pictures("real", 5), "--training", pictures("seen", 4))
    ran = bahu("evaluate", "dalle", folder, "--prompts", "prompts.txt", *FEW, *real, "--sheet", "s.png", "--json")
    assert ran.code == 0, ran.err
    figures = ran.object
    assert (figures["prompts"], figures["each"], figures["frechet_pictures"]) == (3, 2, 5)
    assert 0 <= figures["r1_single"] <= 1 and 0 <= figures["r1_best"] <= 1 and figures["diversity"] >= 0
    assert figures["frechet_efficientnet"] > 0 and list(figures["ranks"]) == ["a red fish", "a cat", "a blue house"]
    assert [each["prompt"] for each in figures["nearest"]] == list(figures["ranks"])
    assert all(Path(each["path"]).parent.name == "seen" for each in figures["nearest"])
    assert figures["nearest_mean"] == pytest.approx(np.mean([each["cosine"] for each in figures["nearest"]]))
    assert 0 < figures["nearest_mean_of_real"] <= 1.0001
    with Image.open("s.png") as sheet:
        assert sheet.width > 5 * 160, "each picture beside the nearest one"
    printed = bahu("evaluate", "dalle", folder, "--prompts", "prompts.txt", *FEW, "--set", "guidance=1")
    assert printed.code == 0 and "own caption first" in printed.out and "Frechet" not in printed.out


def test_things_in_styles_that_were_kept_from_training(bahu: Any, folder: Path) -> None:
    lines = []
    for number in range(120):
        captions = {"en": [f"thing {number}"], "te": [f"వస్తువు {number}"]}
        row = {"file": f"{number}.png", "captions": captions, "style": "noto", "key": str(number), "split": "train"}
        lines.append(json.dumps(row) + "\n")
    Path("captions.jsonl").write_text("".join(lines), encoding="utf-8")
    ran = bahu("evaluate", "dalle", folder, "--held-out", ".", "--language", "te", "--each", 2, "--most", 100, "--json")
    assert ran.code == 0, ran.err
    kept = [number for number in range(120) if is_held_out("noto", str(number))]
    assert len(kept) >= 2 and list(ran.object["ranks"]) == [f"వస్తువు {number}, noto style" for number in kept]


def test_scenes(bahu: Any, folder: Path) -> None:
    random = np.random.default_rng(0)
    learn = write_scenes(Path("learn"), [random_scene(random) for _ in range(30)], 32)
    judged = write_scenes(Path("judged"), [random_scene(random) for _ in range(12)], 32)
    options = ("--scenes", judged, "--learn-from", learn, "--each", 2, "--most", 4)
    ran = bahu("evaluate", "dalle", folder, *options, "--json", "--sheet", "scenes.png")
    assert ran.code == 0, ran.err
    scores = ran.object["scenes"]
    assert scores["single"]["pictures"] == 8 and scores["best"]["pictures"] == scores["judge"]["scenes"] == 4
    assert scores["judge"]["colours"] == scores["judge"]["relation"] == 1.0
    assert Path("scenes.png").exists()
    table = bahu("evaluate", "dalle", folder, *options)
    assert "both there" in table.out and "judge: no to what is not" in table.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --prompts, --captions, --held-out, or --scenes"),
        (
            ["--prompts", "prompts.txt", "--captions", "x"],
            "give one of --prompts, --captions, --held-out, not --prompts and --captions",
        ),
        (["--prompts", "prompts.txt", "--language", "te"], "--language is about --captions and --held-out"),
        (["--scenes", "x"], "--scenes and --learn-from go together"),
        (["--scenes", "x", "--learn-from", "y", "--training", "z"], "--validation and --training are about"),
        (["--prompts", "gone.txt"], "--prompts gone.txt: cannot be read"),
        (["--prompts", "prompts.txt", "--set", "top_k=0"], "--set: top_k: 0 was given"),
        (["--prompts", "prompts.txt", "--set", "tempo=1"], "tempo is no option"),
        (["--prompts", "prompts.txt", "--training", "void"], "no pictures in void"),
        (["--prompts", "prompts.txt", "--sheet", "s.gif"], "--sheet s.gif: name it .png, .jpg or .webp"),
    ],
)
def test_what_is_wrong_is_one_line(bahu: Any, folder: Path, arguments: list[str], message: str) -> None:
    Path("void").mkdir()
    ran = bahu("evaluate", "dalle", folder, *arguments, *FEW)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1
