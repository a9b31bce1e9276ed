"""`bahu generate` as a user and a script see it: pictures, their settings, and errors of one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bahumukha.cli import guided
from bahumukha.cli.generate import file_name
from bahumukha.cli.pictures import METADATA
from bahumukha.generate.guided_config import GuidedConfig
from bahumukha.images import save_image
from tests.cli.painting import SMALL, made, pixels

pytestmark = pytest.mark.usefixtures("colours")


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


# --- errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no PROMPT"),
        ([""], "PROMPT"),
        (["a | :2"], "PROMPT"),
        (["a:1:2:3"], "weight and stop"),
        (["inside=a"], "mask"),
        (["a", "--with", "dalle", "--set", "model=nowhere"], "no model 'nowhere'"),
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


def test_names_of_files() -> None:
    assert file_name("A red  fox: in/the snow!", 3) == "a-red-fox-in-the-snow-3"
    assert file_name("ఎర్ర నక్క | కుక్క", "my seed/1").endswith("-my-seed-1")
    assert file_name("???", "!") == "picture-seed"
    assert len(file_name("word " * 50, "s" * 99)) < 90


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
