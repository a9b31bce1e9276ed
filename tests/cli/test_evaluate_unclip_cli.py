"""`bahu evaluate unclip` as a user and a script see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bahumukha.models.perceptual import TrunkDistance
from bahumukha.zoo import perceptual
from tests.composed_pictures import random_scene, write_scenes
from tests.tiny_unclip import make_unclip_folder

FEW = ("--each", "2", "--set", "decoder.steps=2", "--set", "prior.steps=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_unclip_folder(tmp_path_factory.mktemp("unclip"))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """One thread, an empty folder to work in, every trunk a random one."""

    def trunk(name: str) -> TrunkDistance:
        torch.manual_seed(0)
        return TrunkDistance(timm.create_model("tf_efficientnet_lite0", num_classes=0))

    monkeypatch.setattr(perceptual, "trunk_distance", trunk)
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a red fish\na cat\na blue house\na dog\n")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(bahu: Any, folder: Path, tiny_clip: Path) -> Any:
    return lambda *arguments: bahu("evaluate", "unclip", folder, *arguments, *FEW, "--clip", tiny_clip)


def pictures(folder: str, count: int) -> Path:
    random = np.random.default_rng(len(folder))
    Path(folder).mkdir()
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(Path(folder) / f"{number}.png")
    return Path(folder)


def test_prompts_as_dalle_has_them_and_few_steps_beside_many(run: Any) -> None:
    real = ("--validation", pictures("real", 5), "--training", pictures("seen", 4))
    ran = run(
        "--prompts", "prompts.txt", *real, "--few", 1, "--set", "many=3", "--sheet", "s.png", "--json", "--most", 3
    )
    assert ran.code == 0, ran.err
    figures = ran.object
    assert (figures["prompts"], figures["each"], figures["frechet_pictures"]) == (3, 2, 5)
    assert figures["frechet_efficientnet"] > 0 and list(figures["ranks"]) == ["a red fish", "a cat", "a blue house"]
    assert figures["nearest_mean"] <= 1.0001 and len(figures["nearest"]) == 3
    steps = figures["steps"]
    assert (steps["few"], steps["many"]) == (1, 3)
    assert steps["more"] == pytest.approx(steps["frechet_few"] / steps["frechet_many"] - 1)
    assert Path("s.png").exists()


def test_scenes_of_a_model_of_pixels(run: Any) -> None:
    random = np.random.default_rng(0)
    learn = write_scenes(Path("learn"), [random_scene(random) for _ in range(20)], 8)
    judged = write_scenes(Path("judged"), [random_scene(random) for _ in range(8)], 8)
    ran = run("--scenes", judged, "--learn-from", learn, "--most", 3)
    assert ran.code == 0, ran.err
    assert "single pictures" in ran.out and "by the codec" not in ran.out


def test_what_can_be_done_with_pictures(run: Any) -> None:
    Path("edits.txt").write_text("a red cat\ta blue cat\na red cat\ta green cat\treal/0.png\n")
    options = ("--pictures", pictures("real", 5), "--edits", "edits.txt", "--sheet", "s.png")
    ran = run(*options, "--json", "--set", "strip=3")
    assert ran.code == 0, ran.err
    figures = ran.object
    assert (figures["variations"]["pictures"], figures["blends"]["pairs"], figures["blends"]["strip"]) == (5, 2, 3)
    assert figures["inpainting"] == {"pictures": 5, "exact": 1.0, "changed": 1.0}
    assert figures["edits"]["edits"] == 2 and 0 <= figures["edits"]["succeeded"] <= figures["edits"]["kept"]
    assert "prompts" not in figures
    with Image.open("s.png") as sheet:
        assert sheet.width > 5 * 160
    table = run(*options)
    assert table.code == 0 and all(
        f"{what}" in table.out for what in ("source found first", "blends", "edits", "exact")
    )


def test_the_prior_beside_the_captions_own(run: Any) -> None:
    pictures("real", 4)
    rows = [
        {"file": f"{k}.png", "captions": {"en": ["a red cat" if k < 2 else f"thing {k}"]}, "split": "validation"}
        for k in range(4)
    ]
    Path("real/captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = run("--pairs", "real", "--split", "validation", "--json")
    assert ran.code == 0, ran.err
    prior = ran.object["prior"]
    assert (prior["pictures"], prior["alike"]) == (4, 2) and -1 <= prior["near"] <= 1
    table = run("--pairs", "real")
    assert "the caption's own" in table.out and "the mean of the others with the same caption" in table.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --prompts, --captions, --held-out, or --scenes, --pictures, --edits, --pairs"),
        (["--prompts", "prompts.txt", "--few", "4"], "--few goes with --validation"),
        (["--prompts", "prompts.txt", "--split", "train"], "--split is about --captions and --pairs"),
        (["--pairs", "void", "--sheet", "s.png"], "--sheet s.png: --pairs has no pictures to show"),
        (["--edits", "gone.txt"], "--edits gone.txt: cannot be read"),
        (["--pictures", "void"], "no pictures in void"),
        (["--prompts", "prompts.txt", "--set", "strip=2"], "--set: strip is 2; a blend has a middle"),
        (["--prompts", "prompts.txt", "--set", "prior.tries=0"], "tries: 0 was given"),
    ],
)
def test_what_is_wrong_is_one_line(run: Any, arguments: list[str], message: str) -> None:
    Path("void").mkdir()
    ran = run(*arguments)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1, ran.err
