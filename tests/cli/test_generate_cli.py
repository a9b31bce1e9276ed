"""`bahu generate` as a user and a script see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.cli import guided
from bahumukha.cli.generate import file_name
from bahumukha.cli.pictures import METADATA
from bahumukha.generate.drawers import DRAWERS
from bahumukha.generate.guided_config import GuidedConfig
from bahumukha.images import save_image, to_uint8
from bahumukha.protocols import Step
from tests.tiny_guidance import CellsDrawer, ColourClip

SMALL = ("--size", "32x24", "--steps", "6", "--set", "cutouts.sizes=[16]", "--set", "cutouts.count=4")
ALONE = [word for name in ("rivals.weight", "losses.tv", "losses.range") for word in ("--set", f"{name}=0")]
"""The prompt's own loss, without those that a drawer's tier adds."""


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, data_home: object, tmp_path: Path) -> Any:
    """Every CLIP is the one of colours, `cells` is a drawer; one thread, an empty folder to work in."""
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.setattr(guided, "_encoder", lambda name: ColourClip())
    monkeypatch.setitem(DRAWERS, "cells", CellsDrawer)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def made(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        return json.loads(image.text["bahumukha"])  # type: ignore[attr-defined]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ctrl-C is pressed while that step is under way."""
    real = guided.Painting._advance

    def advance(self: Any) -> dict[str, float]:
        losses = real(self)
        if self.done == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return losses

    monkeypatch.setattr(guided.Painting, "_advance", advance)


# --- pictures


def test_one_picture(bahu: Any, tmp_path: Path) -> None:
    ran = bahu("generate", "a red thing", *SMALL, "--json")
    assert ran.code == 0 and ran.err == ""
    assert list(ran.object) == ["path", "seed", "seconds", "score"]
    path = Path(ran.object["path"])
    assert path == Path("generated/a-red-thing-0.png") and ran.object["seed"] == 0
    assert -1 <= ran.object["score"] <= 1
    assert pixels(path).shape == (24, 32, 3)
    assert [each.name for each in Path("generated").iterdir()] == [path.name], "the run's folder is gone"


def test_every_setting_is_in_the_png_and_rebuilds_the_config_and_the_picture(bahu: Any, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (0, 99, 200)).save("start.png")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/s.toml").write_text(
        'prompt = "a blue thing"\nema = 0.5\n[losses]\ntv = "0.1 -> 0.3"\n[losses.symmetry]\nweight = 2\n'
        'axis = "both"\n[filters.tile]\nmargin = 0.2\n[drawer_options]\nshape = "hexagon"\n[start]\n'
        'picture = "../start.png"\npull = 0.5\n'
    )
    options = ["--config", "more/s.toml", "--drawer", "pixel", "--seed", "మొదటి", *SMALL, "--set", "upscale=2"]
    assert bahu("generate", *options, "--out", "one.png").code == 0
    stored = made(Path("one.png"))
    assert stored["models"] == {"colours": "colours-1"} and stored["steps_done"] == 6
    config = GuidedConfig.from_dict(stored["settings"])
    assert config.prompt == "a blue thing" and config.seed == "మొదటి" and config.size == (32, 24)
    assert config.drawer == "pixel" and config.drawer_options == {"shape": "hexagon"}
    of_drawer = {"range": {"weight": 5.0, "low": 0.05, "high": 0.95}}
    assert config.losses == of_drawer | {"tv": "0.1 -> 0.3", "symmetry": {"weight": 2, "axis": "both"}}
    assert config.filters == {"tile": {"margin": 0.2}}
    assert config.start.pull == 0.5 and config.start.picture is not None and config.start.picture.is_absolute()
    assert config.cutouts.sizes == (16,) and config.ema == 0.5
    assert config == guided.settings({}, "normal", Path("one.png"), [])
    assert pixels(Path("one.png")).shape == (48, 64, 3)
    assert bahu("generate", "--config", "one.png", "--out", "two.png").code == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


def test_a_tier_adds_nothing_to_what_a_picture_holds(tmp_path: Path) -> None:
    held = {"prompt": "red", "drawer": "fft", "size": [32, 24], "steps": 3}
    record = json.dumps({"with": "vqgan-clip", "settings": held})
    save_image(Image.new("RGB", (32, 24)), tmp_path / "a.png", {METADATA: record})
    again = guided.settings({}, "best", tmp_path / "a.png", [])
    assert again == GuidedConfig(prompt="red", drawer="fft", size=(32, 24), steps=3)
    (tmp_path / "a.toml").write_text('prompt = "red"')
    assert guided.settings({}, "best", tmp_path / "a.toml", []).drawer == "vqgan"
    assert guided.settings({"drawer": "fft"}, "best", tmp_path / "a.toml", []).losses.keys() == {"tv", "range"}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(bahu: Any) -> None:
    for name, seed in (("a", "fox"), ("b", "fox"), ("c", "owl")):
        assert bahu("generate", "red", *SMALL, "--seed", seed, "--out", f"{name}.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert not np.array_equal(pixels(Path("a.png")), pixels(Path("c.png")))


def test_several_pictures_have_the_next_seeds(bahu: Any) -> None:
    ran = bahu("generate", "red", *SMALL, "-n", "3", "--seed", "5", "--json")
    assert [each["seed"] for each in ran.objects] == [5, 6, 7]
    assert [Path(each["path"]).name for each in ran.objects] == ["red-5.png", "red-6.png", "red-7.png"]
    alone = bahu("generate", "red", *SMALL, "--seed", "6", "--out", "alone.png", "--json")
    assert np.array_equal(pixels(Path("alone.png")), pixels(Path(ran.objects[1]["path"])))
    assert alone.object["score"] == ran.objects[1]["score"]
    assert bahu("generate", "red", *SMALL, "-n", "2", "--out", "some.png").code == 0
    assert Path("some.png").exists() and Path("some-2.png").exists()


def test_pictures_that_are_there_stay(bahu: Any) -> None:
    first, second = (bahu("generate", "red", *SMALL, "--json").object["path"] for _ in range(2))
    assert first != second and Path(second).name == "red-0-2.png"


def test_what_people_read(bahu: Any) -> None:
    ran = bahu("generate", "red", *SMALL)
    assert ran.out.startswith("generated/red-0.png  seed 0, ") and " s, score " in ran.out and ran.err == ""


@pytest.mark.parametrize(
    ("size", "becomes"),
    [
        ("32x24", (32, 24)),
        ("48", (48, 48)),
        ("widescreen", (304, 176)),
        ("portrait", (192, 256)),
        ("square", (224, 224)),
    ],
)
def test_sizes(size: str, becomes: tuple[int, int]) -> None:
    assert guided.settings({"prompt": "a", "size": size}, "normal", None, []).size == becomes


def test_what_overrides_what(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('prompt = "file"\nsteps = 70\nema = 0.25\n[cutouts]\nflip = 0.25\n')
    config = guided.settings({"steps": 81}, "draft", Path("s.toml"), ["cutouts.noise=0.05", "ema=0.75"])
    assert config.prompt == "file" and config.steps == 81 and config.ema == 0.75
    assert config.size == (160, 160), "of the tier"
    assert config.cutouts.flip == 0.25 and config.cutouts.noise == 0.05
    assert config.cutouts.sizes == (96, 128)


def test_strokes_come_as_svg_too(bahu: Any) -> None:
    ran = bahu("generate", "red", *SMALL, "--drawer", "line", "--out", "a.png")
    assert ran.code == 0 and Path("a.svg").read_text().lstrip().startswith(("<svg", "<?xml"))


# --- on the way


def test_intermediate_pictures_and_going_further(bahu: Any) -> None:
    assert bahu("generate", "red", *SMALL, "--save-every", "2", "--out", "a.png").code == 0
    folder = Path("a.run")
    names = sorted(each.name for each in folder.iterdir())
    assert names == ["checkpoint.pt", "run.json", "step-000002.png", "step-000004.png", "step-000006.png"]
    assert made(folder / "step-000004.png")["steps_done"] == 4
    assert np.array_equal(pixels(folder / "step-000006.png"), pixels(Path("a.png")))
    assert bahu("generate", "--resume", folder, "--steps", "8").code == 0
    assert (folder / "step-000008.png").exists() and made(Path("a.png"))["settings"]["steps"] == 8


def test_a_video(bahu: Any) -> None:
    import av

    ran = bahu("generate", "red", *SMALL, "--video", "becoming.mp4", "--out", "a.png")
    assert ran.code == 0 and ran.err == "bahu: video in becoming.mp4\n"
    with av.open("becoming.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6 and frames[0].shape == (24, 32, 3)
    assert np.abs(frames[-1].astype(int) - pixels(Path("a.png"))).mean() < 12
    assert not Path("a.run").exists()


def test_ctrl_c_keeps_the_best_picture_and_resuming_gives_the_same_bytes(
    bahu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av

    options = ["red ^ blue", *SMALL, "--drawer", "cells", "--set", "losses.tv=0.1"]
    assert bahu("generate", *options, "--out", "whole.png").code == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        ran = bahu("generate", *options, "--out", "parts.png", "--video", "parts.mp4", "--json")
    assert ran.code == 130 and ran.out == ""
    first, second = ran.err.splitlines()
    assert first == "bahu: stopping after this step; once more to stop at once"
    assert second == (
        "bahu: stopped after 4 of 6 steps; the best picture so far is parts.png, and"
        " bahu generate --resume parts.run goes on"
    )
    assert made(Path("parts.png"))["steps_done"] == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert bahu("generate", "--resume", "parts.run").code == 0
    assert Path("parts.png").read_bytes() == Path("whole.png").read_bytes()
    assert not Path("parts.run").exists()
    with av.open("parts.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 6, "the frames from before the stop are there too"


def test_a_second_ctrl_c_stops_in_the_middle_of_a_step(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = guided.Painting._guide

    def guide(self: Any, *arguments: Any) -> float:
        if self.done == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(guided.Painting, "_guide", guide)
        patch.setattr(guided, "CHECKPOINT_EVERY", 2)
        ran = bahu("generate", "red", *SMALL, "--out", "a.png")
    assert ran.code == 130 and "stopped after 3 of 6 steps" in ran.err and "--resume a.run" in ran.err
    assert Path("a.png").exists()
    assert bahu("generate", "--resume", "a.run").code == 0
    assert bahu("generate", "red", *SMALL, "--out", "b.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes(), "from the checkpoint of step 2"


def test_the_best_picture_is_the_one_kept(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Step] = []
    real = guided.Painting.steps

    def steps(self: Any, every: int = 1) -> Any:
        for step in real(self, every):
            shown.append(step)
            yield step

    class Turning(ColourClip):
        def encode_pixels(self, x: torch.Tensor, size: int | None = None, crop: bool = True) -> torch.Tensor:
            seen = super().encode_pixels(x, size, crop)
            return seen if len(self.seen) <= 3 else -seen

    monkeypatch.setattr(guided, "_encoder", lambda name: Turning())
    monkeypatch.setattr(guided.Painting, "steps", steps)
    stop_after(monkeypatch, 5)
    assert bahu("generate", "red", *SMALL, *ALONE, "--out", "a.png").code == 130
    kept = pixels(Path("a.png"))
    alike = [i for i, step in enumerate(shown) if np.array_equal(to_uint8(step.images[0]), kept)]
    assert alike == [2], "the last before everything looked wrong"


def test_between_two_pictures(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 6)
    ran = bahu("generate", "red", *SMALL, "-n", "2", "--json")
    assert ran.code == 130 and len(ran.objects) == 1
    assert "1 of 2 are finished" in ran.err


def test_a_picture_that_is_finished_early(bahu: Any) -> None:
    few = ["red:1:4.9", "--steps", "60", "--set", "stop_after=4"]  # past its stop nothing is bettered
    ran = bahu("generate", *few, *SMALL, *ALONE, "--out", "a.png")
    assert ran.code == 0 and ran.err == "" and not Path("a.run").exists()
    assert 5 <= made(Path("a.png"))["steps_done"] < 60


def test_a_video_of_strokes(bahu: Any) -> None:
    import av

    few = ["--drawer", "strokes", "--set", "drawer_options.strokes=9", "--set", "video.of=strokes"]
    ran = bahu("generate", "red", *SMALL, *few, "--set", "video.fps=24", "--video", "s.mp4", "--out", "a.png")
    assert ran.code == 0 and Path("a.svg").exists()
    with av.open("s.mp4") as container:
        assert container.streams.video[0].average_rate == 24
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 10 and frames[0].min() > 250
    assert np.abs(frames[-1].astype(int) - pixels(Path("a.png"))).mean() < 12
    ran = bahu("generate", "red", *SMALL, "--set", "video.of=strokes", "--video", "s.mp4")
    assert ran.code == 1 and ran.err == "bahu: video.of: drawer vqgan draws no strokes; take strokes or line\n"


# --- frames


@pytest.fixture
def walk() -> Path:
    """Five frames that get brighter."""
    Path("walk").mkdir()
    for k in range(5):
        Image.new("RGB", (40, 30), (60 + 30 * k,) * 3).save(f"walk/{k}.png")
    return Path("walk")


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


NAMES = [f"00000{k}.png" for k in range(1, 6)]


def test_painting_over_frames(bahu: Any, walk: Path) -> None:
    import av

    ran = bahu(
        "generate", "red", *SMALL, "--drawer", "fft", "--frames", walk, "--out", "a.png", "--video", "a.mp4", "--json"
    )
    assert ran.code == 0 and ran.err == "bahu: video in a.mp4\n"
    assert list(ran.object) == ["path", "seed", "seconds", "score"] and ran.object["path"] == "a.frames"
    assert list(contents("a.frames")) == NAMES and not Path("a.run").exists() and not Path("a.png").exists()
    bright = [pixels(Path("a.frames") / name)[..., 1].mean() for name in NAMES]
    assert bright[1:] == sorted(bright[1:]) and bright[-1] > bright[0] + 30
    assert pixels(Path("a.frames/000001.png")).shape == (24, 32, 3)
    with av.open("a.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    stored = made(Path("a.frames/000003.png"))
    assert stored["settings"]["animation"]["frames"] == str(walk.absolute()) and stored["steps_done"] == 6
    assert bahu("generate", "--config", "a.frames/000003.png", "--out", "b.png").code == 0
    assert contents("b.frames") == contents("a.frames")
    ran = bahu(
        "generate",
        "red",
        *SMALL,
        "--drawer",
        "fft",
        "--frames",
        "a.mp4",
        "--set",
        "animation.every=2",
        "--out",
        "again",
    )
    assert ran.code == 0 and ran.out.startswith("again/red-0.frames  seed 0, ")
    assert list(contents("again/red-0.frames")) == NAMES[:3]


def test_steps_of_frames(walk: Path) -> None:
    def steps(given: dict[str, Any], *overrides: str) -> int:
        return guided.settings({"prompt": "a"} | given, "draft", None, overrides).steps

    frames = {"animation": {"frames": str(walk)}}
    assert steps(frames) == steps({}, "animation.frames=walk") == 20
    assert steps(frames | {"steps": 7}) == steps(frames, "steps=7") == 7 and steps({}) == 80


@pytest.mark.parametrize("kind", ["frames", "camera"])
def test_ctrl_c_keeps_the_finished_frames_and_resuming_gives_the_same_bytes(
    kind: str, bahu: Any, walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = ("--set", "camera.frames=5", "--set", "camera.steps=3", "--set", "camera.zoom=1.1")
    options = ["red ^ blue", *SMALL, *(("--frames", walk) if kind == "frames" else camera)]
    assert bahu("generate", *options, "--out", "whole.png").code == 0
    real = guided.Animation.next_painting
    asked: list[int] = []

    def next_painting(self: Any) -> Any:
        asked.append(self.done)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(guided.Animation, "next_painting", next_painting)
        ran = bahu("generate", *options, "--out", "parts.png", "--video", "parts.mp4", "--json")
    assert ran.code == 130 and ran.out == "" and not Path("parts.mp4").exists()
    assert ran.err.splitlines()[1] == (
        "bahu: stopped after 2 of 5 frames, which are in parts.frames; bahu generate --resume parts.run goes on"
    )
    assert list(contents("parts.frames")) == NAMES[:2]
    assert "another steps" in bahu("generate", "--resume", "parts.run", "--steps", "9").err
    assert bahu("generate", "--resume", "parts.run").code == 0
    assert contents("parts.frames") == contents("whole.frames")
    assert Path("parts.mp4").exists() and not Path("parts.run").exists()


def test_frames_of_an_older_run_do_not_stay(bahu: Any, walk: Path) -> None:
    assert bahu("generate", "red", *SMALL, "--frames", walk, "--out", "a.png").code == 0
    fewer = ["--set", "camera.frames=2", "--set", "camera.steps=1"]
    assert bahu("generate", "red", *SMALL, *fewer, "--out", "a.png").code == 0
    assert list(contents("a.frames")) == NAMES[:2]
    first, second = (bahu("generate", "red", *SMALL, *fewer, "--json").object["path"] for _ in range(2))
    assert (first, second) == ("generated/red-0.frames", "generated/red-0-2.frames")


# --- errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no PROMPT"),
        ([""], "PROMPT"),
        (["a | :2"], "PROMPT"),
        (["a:1:2:3"], "weight and stop"),
        (["inside=a"], "mask"),
        (["a", "--with", "unclip"], "no model 'starter/unclip'"),
        (["a", "--with", "crayons"], "--with crayons"),
        (["a", "--style", "noto"], "--style noto"),
        (["a", "--seed", "-1"], "--seed"),
        (["a", "--size", "big"], "--size big"),
        (["a", "--size", "4x4"], "--size: size is [4, 4]"),
        (["a", "--size", "1x2x3"], "--size 1x2x3"),
        (["a", "--steps", "0"], "--steps: steps is 0"),
        (["a", "--drawer", "chalk"], "--drawer: drawer is 'chalk'; it must be one of vqgan, fft"),
        (["a", "--quality", "supreme"], "quality: 'supreme' was given; it is one of draft"),
        (["a", "--out", "a.jpg"], "--out a.jpg"),
        (["a", "--video", "a.gif"], "a.gif: a video's name ends in .mp4"),
        (["a", "--set", "stepz=3"], "stepz is no option; did you mean steps"),
        (["a", "--set", "steps"], "--set 'steps'"),
        (["a", "--set", "cutouts.count=0"], "count"),
        (["a", "--set", "cutouts.flip=2"], "--set: [cutouts] flip is 2"),
        (["a", "--set", "losses.beauty=1"], "losses.beauty is not known"),
        (["a", "--set", "rate=fast"], "rate"),
        (["a", "--set", "drawer_options.chalk=1"], "drawer vqgan has no option 'chalk'"),
        (["a", "--set", "start.picture=no.png"], "no.png: there is no such file"),
        (["a", "--config", "no.toml"], "no.toml: cannot be read"),
        (["--config", "plain.png"], "plain.png: holds no settings of bahu generate"),
        (["--config", "bad.toml"], "bad.toml: stepps is no option"),
        (["--resume", "nowhere"], "nowhere: holds no run.json"),
        (["--resume", "damaged"], "run.json: is damaged"),
        (["a", "--resume", "damaged"], "--resume goes on with the settings of its run"),
        (["a", "--drawer", "vqgan", "--set", "codec=nowhere"], "nowhere"),
        (["a", "--drawer", "strokes", "--out", "plain.png/x"], "plain.png"),
        (["a", "--frames", "nowhere"], "nowhere: there is no such file or folder"),
        (["a", "--frames", "damaged"], "damaged: there are no frames"),
        (["a", "--frames", "bad.toml"], "bad.toml: cannot be read as a video"),
        (["a", "--frames", "damaged", "--set", "camera.frames=3"], "camera.frames and animation.frames"),
        (["a", "--set", "camera.frames=3", "--save-every", "2"], "--save-every is for one picture"),
        (["a", "--set", "camera.zoom=0"], "--set: [camera] zoom"),
        (["a", "--set", "precision=half"], "precision is 'half'"),
    ],
)
def test_each_wrong_option_gives_one_clear_line(bahu: Any, tmp_path: Path, arguments: list[str], says: str) -> None:
    Image.new("RGB", (8, 8)).save("plain.png")
    (tmp_path / "bad.toml").write_text('prompt = "a"\nstepps = 3\n')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/run.json").write_text("{}")
    ran = bahu("generate", *arguments)
    assert ran.code == 1 and ran.out == ""
    assert ran.err.count("\n") == 1 and ran.err.startswith("bahu: ") and says in ran.err


def test_wrong_usage_exits_2(bahu: Any) -> None:
    assert bahu("generate", "a", "--colour", "red").code == 2
    assert bahu("generate", "a", "-n", "0").code == 2


def test_a_checkpoint_of_other_settings(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        bahu("generate", "red", *SMALL, "--out", "a.png")
    record = json.loads(Path("a.run/run.json").read_text())
    record["settings"]["ema"] = 0.5
    Path("a.run/run.json").write_text(json.dumps(record))
    ran = bahu("generate", "--resume", "a.run")
    assert ran.code == 1 and "was painted with another ema" in ran.err
    record["settings"]["ema"] = 0.0
    Path("a.run/run.json").write_text(json.dumps(record))
    ran = bahu("generate", "--resume", "a.run", "--steps", "2")
    assert ran.code == 1 and "--steps 2: this run has done 3 already" in ran.err


def test_names_of_files() -> None:
    assert file_name("A red  fox: in/the snow!", 3) == "a-red-fox-in-the-snow-3"
    assert file_name("ఎర్ర నక్క | కుక్క", "my seed/1").endswith("-my-seed-1")
    assert file_name("???", "!") == "picture-seed"
    assert len(file_name("word " * 50, "s" * 99)) < 90


def test_signals_are_left_alone_in_threads() -> None:
    from bahumukha.runtime import stop_signals

    seen: list[Any] = []

    def inside() -> None:
        with stop_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


def test_without_pytorch_it_says_what_to_install(tmp_path: Path) -> None:
    script = "import sys\nsys.modules['torch'] = None\nfrom bahumukha.cli import main\nmain(['generate', 'a'])\n"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "bahu: bahu generate needs torch, of the extra [create]: pip install 'bahumukha[create]'\n"


# --- the real thing, briefly


def test_the_starter_model_paints(bahu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bahumukha.zoo.pytorch import TorchClip

    clip = TorchClip("starter/clip")
    monkeypatch.setattr(guided, "_encoder", lambda name: clip)
    losses: list[float] = []
    real = guided.Painting._advance

    def advance(self: Any) -> dict[str, float]:
        found = real(self)
        losses.append(found["total"])
        return found

    monkeypatch.setattr(guided.Painting, "_advance", advance)
    few = ["--set", "cutouts.sizes=[96]", "--set", "cutouts.count=3", "--size", "96x96", "--steps", "8"]
    ran = bahu("generate", "a photo of a tiger", *few, "--out", "tiger.png", "--json")
    assert ran.code == 0
    assert np.mean(losses[-2:]) < np.mean(losses[:2]) - 0.03
