"""What the worker draws with DALL-E and unCLIP, and makes of pictures that were made: tiny random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha import cli
from bahumukha.errors import ModelError, UsageError
from bahumukha.protocols import Step
from bahumukha.web import schemas
from bahumukha.web.drawing import EACH
from bahumukha.web.kinds import Made, News
from bahumukha.web.making import KINDS
from bahumukha.web.schemas import BlendRequest, EditRequest, GenerateRequest, Sent, VaryRequest
from bahumukha.web.services import NEEDED, missing
from bahumukha.web.weights import weights_of
from tests.tiny_dalle import STYLES, make_codec_folder, make_dalle_folder
from tests.tiny_unclip import make_unclip_folder
from tests.web.conftest import Place

JOB = "0" * 24
QUICK = ["prior.steps=2", "decoder.steps=3", "upsampler.steps=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a DALL-E and an unCLIP of the user's own."""
    home = tmp_path_factory.mktemp("home")
    make_dalle_folder(home / "models" / "dalle", str(make_codec_folder(home / "codec")))
    made = make_unclip_folder(tmp_path_factory.mktemp("parts"))
    made.rename(home / "models" / "unclip")
    return home


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def models(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAHUMUKHA_HOME", str(home))
    return home


def done(kind: str, request: Sent, folder: Path, overrides: list[str]) -> tuple[list[Step], list[Made]]:
    """A job, asked for as the API hands it to the worker: its steps and its pictures."""
    asked = request.model_dump(exclude={"generator"}, exclude_none=True) | {"set": overrides}
    news: list[News] = list(KINDS[kind](asked | {"seed": str(asked["seed"])}, folder))
    return [each for each in news if isinstance(each, Step)], [each for each in news if isinstance(each, Made)]


def run(*arguments: object) -> None:
    """A command of `bahu` that has to succeed."""
    with pytest.raises(SystemExit) as leaving:
        cli.main([str(argument) for argument in arguments])
    assert not leaving.value.code


def held(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        return json.loads(image.text["bahumukha"])  # type: ignore[attr-defined]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["dalle", "unclip"])
def test_nine_of_the_best_hold_what_makes_them_again(kind: str, models: Path, tiny_clip: Path, tmp_path: Path) -> None:
    request = GenerateRequest(prompt="a red fish", generator=kind, quality="normal", count=9, seed=5, style="noto")  # type: ignore[arg-type]
    overrides = [f"ranking={tiny_clip}", *(QUICK if kind == "unclip" else [])]
    steps, pictures = done(kind, request, tmp_path, overrides)
    assert [step.index for step in steps] == list(range(steps[0].total)), "three batches, one after another"
    assert [len(step.images) for step in steps][:: len(steps) // 3] == [16, 16, 4]
    scores = [made.facts["score"] for made in pictures]
    assert len(scores) == 9 and scores == sorted(scores, reverse=True)
    assert all(5 <= made.facts["seed"] < 5 + 9 * EACH["normal"] for made in pictures)
    json.dumps([made.facts for made in pictures])
    inside = held(tmp_path / "1.png")
    assert (inside["with"], inside["settings"]["style"], inside["settings"]["pictures"]) == (kind, "noto", 1)
    run("generate", "--config", tmp_path / "1.png", "--out", tmp_path / "again.png")
    assert np.abs(pixels(tmp_path / "again.png") - pixels(tmp_path / "1.png")).max() <= 1


def test_a_video_shows_a_pictures_becoming(models: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    request = GenerateRequest(prompt="a fish", generator="dalle", count=2, video=True)
    steps, pictures = done("dalle", request, tmp_path, ["ranking="])
    assert pictures[1].facts["video"] == "2.mp4" and pictures[1].facts["score"] is None
    with av.open(str(tmp_path / "2.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(steps) == 4 and frames[0].shape == (256, 256, 3)
    assert np.abs(frames[-1][4::8, 4::8].astype(int) - pixels(tmp_path / "2.png")).mean() < 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A picture of another job."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for number in (1, 2):
        (tmp_path / JOB).mkdir(exist_ok=True)
        Image.fromarray(np.roll(noise, number, 2)).save(tmp_path / JOB / f"{number}.png")
    return tmp_path / JOB


def test_changes_of_a_picture_that_was_made(models: Path, source: Path, tmp_path: Path) -> None:
    one, two = {"job": JOB, "number": 1}, {"job": JOB, "number": 2}
    wishes: dict[str, tuple[Sent, int]] = {
        "vary": (VaryRequest.model_validate({"picture": one, "count": 3, "far": 0.5, "seed": 4}), 3),
        "blend": (BlendRequest.model_validate({"first": one, "second": two, "count": 4}), 4),
        "edit": (EditRequest.model_validate({"picture": one, "source": "a cat", "target": "a lion"}), 4),
    }
    for kind, (request, count) in wishes.items():
        folder = tmp_path / kind
        steps, pictures = done(kind, request, folder, QUICK)
        assert len(pictures) == count and len(steps) == steps[0].total and len(steps[0].images) == count
        assert all(-1 <= made.facts["score"] <= 1 for made in pictures)
        inside = held(folder / "2.png")
        assert inside["command"] == kind and str(tmp_path) not in json.dumps(inside["settings"])
        run(kind, "--config", folder / "2.png", "--out", folder / "again.png")
        name = "again.png" if kind == "vary" else "again-2.png"
        assert np.abs(pixels(folder / name) - pixels(folder / "2.png")).max() <= 1
    assert [made.facts["seed"] for made in done("vary", wishes["vary"][0], tmp_path / "v", QUICK)[1]] == [4, 5, 6]


def test_what_a_change_begins_with_may_be_gone(models: Path, tmp_path: Path) -> None:
    request = VaryRequest.model_validate({"picture": {"job": JOB}})
    with pytest.raises(UsageError, match="was deleted"):
        done("vary", request, tmp_path / "x", [])


# --- weights


def test_the_users_own_models_are_found_and_their_styles(models: Path) -> None:
    dalle, unclip = weights_of("dalle"), weights_of("unclip")
    assert dalle is not None and unclip is not None
    assert dalle.styles == unclip.styles == STYLES
    assert [missing(name) for name in NEEDED] == [None] * 3


def test_without_weights_it_is_said_what_makes_them(
    monkeypatch: pytest.MonkeyPatch, shared_place: Place, tmp_path: Path
) -> None:
    from bahumukha.web import weights
    from bahumukha.web.config import MAKING

    monkeypatch.setattr(weights, "available", dict)
    with pytest.raises(ModelError, match="bahu train dalle"):
        done("dalle", GenerateRequest(prompt="a", generator="dalle"), tmp_path, [])
    with shared_place.client(making=MAKING, created=tmp_path / "made") as client:
        told = {each["name"]: each for each in client.get("/api/v1/status").json()["generators"]}
        assert told["vqgan-clip"]["missing"] is None and told["vqgan-clip"]["drawers"]
        for name in ("dalle", "unclip"):
            assert "bahu train" in told[name]["missing"] and "\n" not in told[name]["missing"]
            answer = client.post("/api/v1/generate", json={"prompt": "a", "generator": name})
            assert answer.status_code == 400 and answer.json()["error"] == told[name]["missing"]


def test_what_does_not_belong_together_is_refused(client: Any) -> None:
    for wrong, said in (
        ({"style": "noto"}, "style belongs"),
        ({"generator": "dalle", "drawer": "fft"}, "belong to vqgan-clip"),
        ({"generator": "unclip", "size": "square"}, "width and height"),
    ):
        answer = client.post("/api/v1/generate", json={"prompt": "a", **wrong})
        assert answer.status_code == 422 and said in answer.json()["error"]
    unknown = {"picture": {"job": JOB, "number": 1}}
    assert client.post("/api/v1/vary", json=unknown).status_code == 404
    assert set(EACH) == set(schemas.QUALITIES)
