"""`bahu generate --with dalle` and `bahu complete` as a user and a script see them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.cli import candidates, drawn
from bahumukha.generate.dalle import complete
from bahumukha.generate.dalle_config import CompletionConfig
from bahumukha.images import to_uint8
from bahumukha.nn.sampling import Sampling
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.dalle import load_dalle
from tests.cli.painting import made, pixels
from tests.tiny_dalle import make_codec_folder, make_dalle_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dalle")
    return make_dalle_folder(root / "dalle", str(make_codec_folder(root / "codec")))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """One thread, an empty folder to work in."""
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(bahu: Any, folder: Path, tiny_clip: Path) -> Any:
    """A command with the tiny models."""

    def run(command: str, *arguments: object, ranking: object = tiny_clip) -> Any:
        system = ["--with", "dalle"] if command == "generate" else []
        models = ["--set", f"model={folder}", "--set", f"ranking={ranking}"]
        return bahu(command, *arguments, *system, *models)

    return run


# --- generate


def test_the_best_of_the_candidates_best_first(run: Any, folder: Path, tiny_clip: Path) -> None:
    ran = run("generate", "a red fish", "-n", 3, "--set", "candidates=20", "--seed", 5, "--json")
    assert ran.code == 0, ran.err
    assert [list(each) for each in ran.objects] == [["path", "seed", "seconds", "score"]] * 3
    scores = [each["score"] for each in ran.objects]
    assert scores == sorted(scores, reverse=True)
    every = run("generate", "a red fish", "-n", 20, "--set", "candidates=20", "--seed", 5, "--json", "--out", "all")
    of_seed = {each["seed"]: each["score"] for each in every.objects}
    assert set(of_seed) == set(range(5, 25)), "two batches of candidates, each with its own seed"
    assert sorted(of_seed.values(), reverse=True)[:3] == scores
    assert [of_seed[each["seed"]] for each in ran.objects] == scores
    assert pixels(ran.objects[0]["path"]).shape == (32, 32, 3)


def test_names_the_sheet_and_what_is_printed(run: Any) -> None:
    ran = run("generate", "a red fish", "-n", 2, "--seed", "tea", "--set", "candidates=2")
    assert ran.code == 0 and len(ran.out.splitlines()) == 2
    assert "score" in ran.out and ran.err == "bahu: all on one page in generated/a-red-fish-tea-sheet.png\n"
    names = sorted(path.name for path in Path("generated").iterdir())
    assert len(names) == 3 and "a-red-fish-tea.png" in names and "a-red-fish-tea-sheet.png" in names
    again = run("generate", "a red fish", "-n", 2, "--seed", "tea", "--set", "candidates=2")
    assert again.code == 0 and len(list(Path("generated").iterdir())) == 6, "nothing is overwritten in a folder"


def test_nine_of_thirty_six_unless_said_otherwise(folder: Path) -> None:
    config = drawn.settings({"prompt": "a"}, None, [])
    assert (config.pictures, config.drawn) == (9, 36)
    assert drawn.settings({"prompt": "a", "pictures": 1}, None, []).drawn == 8
    assert drawn.settings({"prompt": "a"}, None, ["candidates=11"]).drawn == 11


def test_a_picture_holds_what_makes_it_again(run: Any, bahu: Any, folder: Path, tiny_clip: Path) -> None:
    ran = run("generate", "a red fish", "--style", "noto", "-n", 2, "--out", "two.png", "--set", "guidance=2", "--json")
    assert [Path(each["path"]).name for each in ran.objects] == ["two.png", "two-2.png"]
    assert Path("two-sheet.png").exists()
    for each in ran.objects:
        inside = made(each["path"])
        assert (inside["command"], inside["with"]) == ("generate", "dalle")
        assert inside["models"] == {
            str(folder): "7 steps",
            str(folder.parent / "codec"): "codec",
            str(tiny_clip): "tiny-0",
        }
        settings = inside["settings"]
        assert (settings["prompt"], settings["style"], settings["guidance"]) == ("a red fish", "noto", 2.0)
        assert (settings["seed"], settings["pictures"], settings["candidates"]) == (each["seed"], 1, 1)
        again = bahu("generate", "--config", each["path"], "--out", "again.png", "--json")
        assert again.code == 0, again.err
        assert again.object["seed"] == each["seed"] and again.object["score"] == pytest.approx(each["score"], abs=1e-4)
        assert np.abs(pixels("again.png").astype(int) - pixels(each["path"])).max() <= 1
    more = bahu("generate", "--config", "two.png", "-n", 2, "--seed", 0, "--out", "more", "--json")
    assert [each["seed"] for each in more.objects] == [each["seed"] for each in ran.objects]


def test_the_style_is_said_behind_the_prompt(run: Any, folder: Path) -> None:
    config = drawn.settings({"prompt": "a cat", "style": "fluent-emoji"}, None, [])
    assert config.caption == "a cat, fluent emoji style"
    ran = run("generate", "a cat", "--style", "woodcut")
    assert ran.code == 1 and "style: 'woodcut' was given" in ran.err and "takes one of noto, fluent-emoji" in ran.err
    assert not Path("generated").exists()
    styled = run("generate", "a cat", "--style", "noto", "-n", 1, "--out", "a.png", ranking="")
    plain = run("generate", "a cat", "-n", 1, "--out", "b.png", ranking="")
    assert styled.code == plain.code == 0 and (pixels("a.png") != pixels("b.png")).any()


def test_without_ranking_the_first_ones_are_kept(run: Any) -> None:
    ran = run("generate", "a cat", "-n", 2, "--json", "--seed", 3, ranking="")
    assert [(each["seed"], each["score"]) for each in ran.objects] == [(3, None), (4, None)]


def test_larger_pictures_and_a_video(run: Any) -> None:
    av = pytest.importorskip("av")
    ran = run("generate", "a cat", "-n", 3, "--size", "48x32", "--video", "cats.mp4", "--out", "cats.png")
    assert ran.code == 0, ran.err
    assert pixels("cats.png").shape == (32, 48, 3)
    with av.open("cats.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4 + candidates.HELD, "one a row of tokens, and the last one held"
    assert frames[0].shape == (2 * 32 * 5, 2 * 48 * 5, 3), "three pictures in two columns, enlarged"
    assert np.abs(frames[0][320 // 4 + 8 : 320 // 2 - 8, 8:200].astype(int) - 128).max() < 12, "not drawn yet: grey"


def test_toml_and_the_system_of_a_picture(bahu: Any, folder: Path) -> None:
    Path("s.toml").write_text(
        f'prompt = "a cat"\nmodel = "{folder}"\nranking = ""\npictures = 1\ntop_k = 5\ntop_p = 1.0\n'
    )
    assert bahu("generate", "--config", "s.toml", "--with", "dalle", "--out", "a.png").code == 0
    assert made("a.png")["settings"]["top_k"] == 5
    assert bahu("generate", "--config", "a.png", "--out", "b.png").code == 0, "the picture says what made it"
    assert (pixels("a.png") == pixels("b.png")).all()
    wrong = bahu("generate", "--config", "a.png", "--with", "vqgan-clip")
    assert wrong.code == 1 and "was made --with dalle; these are settings of vqgan-clip" in wrong.err


@pytest.mark.parametrize("stopped_at", [1, 2])
def test_ctrl_c_keeps_whole_pictures_only(run: Any, monkeypatch: pytest.MonkeyPatch, stopped_at: int) -> None:
    real, calls = drawn.generate, []

    def generate(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        for step in real(*args, **kwargs):
            if len(calls) == stopped_at:
                os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(drawn, "generate", generate)
    ran = run("generate", "a cat", "-n", 2, "--set", "candidates=40", "--json")
    assert ran.code == 130 and len(ran.objects) == 2
    assert f"stopped after {16 * stopped_at} of 40 candidates; the best 2 of them are kept" in ran.err
    assert {path.suffix for path in Path("generated").iterdir()} == {".png"}


def test_ctrl_c_before_anything_is_finished(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    real = drawn.generate

    def generate(*args: Any, **kwargs: Any) -> Any:
        for step in real(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(drawn, "generate", generate)
    ran = run("generate", "a cat", "--video", "a.mp4")
    assert ran.code == 130 and "nothing is kept" in ran.err and ran.out == ""
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no PROMPT; say what to show"),
        (["a", "--drawer", "fft"], "--drawer: belongs to --with vqgan-clip"),
        (["a", "--steps", "3"], "--steps: belongs to --with vqgan-clip"),
        (["a", "--save-every", "3"], "--save-every: belongs to --with vqgan-clip"),
        (["a", "--size", "large"], "--size large: it is WxH in pixels"),
        (["a", "--size", "33x32"], "size: 33x32 was given; it takes multiples of 8 from 32x32 up"),
        (["a", "--size", "24x32"], "size: 24x32 was given; it takes multiples of 8 from 32x32 up"),
        (["a", "--size", "4096"], "--size: size is [4096, 4096]"),
        (["a", "--seed", ""], "--seed: seed: an empty text was given"),
        ([" "], "PROMPT: prompt is empty"),
        (["a", "--set", "candidates=3"], "candidates is 3; it must be from 9, the pictures kept"),
        (["a", "--set", "temperature=-1"], "temperature: -1.0 was given"),
        (["a", "--set", "guidence=2"], "guidence is no option; did you mean guidance?"),
        (["a", "--set", 'completion.picture="a.png"'], "completion is of bahu complete"),
        (["a", "--out", "a.jpg"], "--out a.jpg: a folder, or a file that ends in .png"),
        (["a", "--video", "a.gif"], "a.gif: a video's name ends in"),
    ],
)
def test_what_is_wrong_is_one_line(run: Any, arguments: list[str], message: str) -> None:
    ran = run("generate", *arguments)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_a_model_that_is_not_there(bahu: Any) -> None:
    ran = bahu("generate", "a", "--with", "dalle", "--set", "model=nowhere")
    assert ran.code == 1 and "nowhere" in ran.err and ran.err.count("\n") == 1


# --- complete


@pytest.fixture
def picture() -> Path:
    path = Path("picture.png")
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.mark.parametrize("side", ["top", "right"])
def test_the_side_that_stays(run: Any, picture: Path, folder: Path, side: str) -> None:
    tries = ("--set", "completion.tries=4")
    ran = run("complete", picture, "a cat", "--side", side, "-n", 2, *tries, "--seed", 4, "--json")
    assert ran.code == 0, ran.err
    dalle, codec = load_dalle(folder), load_codec(str(folder.parent / "codec"))
    pixels_given = drawn.pixels_of(CompletionConfig(picture), (4, 4), 8)
    kind: dict[str, Any] = {"side": side, "keep": 0.5, "tries": 4, "sampling": Sampling(guidance=3.0, top_p=0.8)}
    for each in ran.objects:
        *_, last = complete(dalle, codec, pixels_given, "a cat", seed=each["seed"], **kind)
        assert np.abs(pixels(each["path"]).astype(int) - to_uint8(last.images[0])).max() <= 1
        inside = made(each["path"])
        assert inside["command"] == "complete" and Path(each["path"]).parent == Path("completed")
        whole = {"picture": str(picture.absolute()), "side": side, "keep": 0.5, "tries": 4}
        assert inside["settings"]["completion"] == whole


def test_what_stays_is_asked_of_the_sampler(run: Any, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = drawn.complete, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        asked.append((tuple(args[2].shape), args[3], kwargs["side"], kwargs["keep"], kwargs["sampling"].guidance))
        return real(*args, **kwargs)

    monkeypatch.setattr(drawn, "complete", watched)
    ran = run("complete", picture, "a cat", "--style", "noto", "--side", "left", "--keep", 0.25, "-n", 1,
              "--set", "completion.tries=2", "--size", "48x32")  # fmt: skip
    assert ran.code == 0, ran.err
    assert run("complete", picture, "-n", 1, "--json").object["score"] is None
    assert asked == [((1, 3, 32, 48), "a cat, noto style", "left", 0.25, 3.0), ((1, 3, 32, 32), None, "top", 0.5, 1.0)]


def test_a_completed_picture_holds_what_makes_it_again(run: Any, bahu: Any, picture: Path) -> None:
    ran = run("complete", picture, "a cat", "-n", 2, "--keep", 0.3, "--json")
    for each in ran.objects:
        assert bahu("complete", "--config", each["path"], "--out", "again.png").code == 0
        assert np.abs(pixels("again.png").astype(int) - pixels(each["path"])).max() <= 1
    refused = bahu("generate", "--config", ran.objects[0]["path"])
    assert refused.code == 1 and "completion is of bahu complete" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no IMAGE; say which picture to complete"),
        (["gone.png"], "gone.png"),
        (["picture.png", "a", "--side", "middle"], "--side: side is 'middle'; it must be one of 'top'"),
        (["picture.png", "a", "--keep", "1.5"], "--keep: keep is 1.5; it takes the part of the picture that stays"),
        (["picture.png", "--style", "noto"], "style is 'noto', and there is no prompt to say it with"),
        (["picture.png", "a", "--set", "completion.tries=0"], "tries is 0; it must be at least 1"),
    ],
)
def test_what_is_wrong_with_a_completion_is_one_line(
    run: Any, picture: Path, arguments: list[str], message: str
) -> None:
    ran = run("complete", *arguments)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1
    assert [path.name for path in Path.cwd().iterdir()] == ["picture.png"]
