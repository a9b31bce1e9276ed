"""TOML -> dataclasses: types, unions, overrides, paths, and errors that name file and key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from bahumukha.errors import UsageError
from bahumukha.models.clip import ImageTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.train.clip_config import ClipTraining, Start
from bahumukha.train.config import from_table, read_config, to_table


@dataclass(frozen=True)
class Left:
    size: int = 1
    left: str = ""


@dataclass(frozen=True)
class Right:
    size: int = 1
    right: str = ""


@dataclass(frozen=True)
class Whole:
    count: int
    rate: float = 0.5
    on: bool = False
    name: str = ""
    kind: Literal["a", "b"] = "a"
    pair: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    file: Path | None = None
    side: Left | Right = field(default_factory=Left)
    parts: tuple[Left, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count is {self.count}; it must be at least 0")


FULL = """
count = 3
rate = 2
on = true
name = "n"
kind = "b"
pair = [1, 2.5]
names = ["x", "y"]
shares = { en = 1, te = 0.5 }
file = "sub/f.txt"
side = { right = "r" }
[[parts]]
left = "one"
[[parts]]
size = 2
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "c.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_type(tmp_path: Path) -> None:
    read = read_config(Whole, written(tmp_path, FULL))
    expected = Whole(
        3,
        2.0,
        True,
        "n",
        "b",
        (1.0, 2.5),
        ("x", "y"),
        {"en": 1.0, "te": 0.5},
        tmp_path / "sub/f.txt",
        Right(right="r"),
        (Left(left="one"), Left(2)),
    )
    assert read == expected and isinstance(read.rate, float)
    assert from_table(Whole, to_table(read), "again", Path("/elsewhere")) == expected


def test_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    sets = ["count=7", "name=plain words", "parts.1.size=9", "side.right=s", "pair=[3, 4]", "file=g.txt", "shares.hi=2"]
    read = read_config(Whole, written(tmp_path, FULL), sets)
    assert (read.count, read.name, read.parts[1].size, read.side) == (7, "plain words", 9, Right(right="s"))
    assert read.pair == (3.0, 4.0) and read.shares["hi"] == 2.0
    assert read.file == here / "g.txt"  # a path on the command line is where the user stands


def test_paths_of_a_file_named_from_within_its_folder_hold_elsewhere_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, FULL)
    monkeypatch.chdir(tmp_path)
    assert read_config(Whole, Path("c.toml")).file == tmp_path / "sub/f.txt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count = 1\nrat = 2", "c.toml: rat is no option; did you mean rate. There are: count, rate, on"),
        ("count = 1\nside = { up = 1 }", "c.toml: side.up is no option"),
        ("rate = 1.0", "c.toml: count is missing"),
        ('count = "one"', "c.toml: count is 'one'; it must be a whole number"),
        ("count = true", "count is True; it must be a whole number"),
        ("count = 1.5", "count is 1.5; it must be a whole number"),
        ("count = 1\non = 1", "on is 1; it must be true or false"),
        ("count = 1\nname = 4", "name is 4; it must be a text, in quotes"),
        ('count = 1\nrate = "x"', "rate is 'x'; it must be a number"),
        ('count = 1\nkind = "c"', "kind is 'c'; it must be one of 'a', 'b'"),
        ("count = 1\npair = [1]", "pair is .1.; it must be a list of 2 values"),
        ("count = 1\nnames = [1]", "names.0 is 1; it must be a text"),
        ("count = 1\nside = 3", "side is 3; it must be a table"),
        ("count = 1\nparts = [{ size = 'x' }]", "parts.0.size is 'x'"),
        ("count = -1", "c.toml: count is -1; it must be at least 0"),
        ("count = ", "c.toml: not TOML"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        read_config(Whole, written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("override", ["count", "=3", "parts.5.size=1", "name.x=1", "parts.x.size=1", "a..b=1"])
def test_bad_overrides_are_shown_as_typed(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        read_config(Whole, written(tmp_path, FULL), [override])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing.toml: cannot be read"):
        read_config(Whole, tmp_path / "missing.toml")


def test_the_model_may_be_a_vit_a_trunk_or_another_model(tmp_path: Path) -> None:
    data = '[[data]]\npath = "p"\n'
    vit = read_config(ClipTraining, written(tmp_path, data + "[model]\ndim = 8\nimage = { size = 64, patch = 16 }"))
    trunk = read_config(ClipTraining, written(tmp_path, data + '[model.image]\ntrunk = "tf_efficientnet_lite0"'))
    start = read_config(ClipTraining, written(tmp_path, data + '[model]\ninit = "starter/clip"'))
    assert isinstance(vit.model.image, ViTConfig) and isinstance(trunk.model.image, ImageTowerConfig)  # type: ignore[union-attr]
    assert start.model == Start("starter/clip")
    for config in (vit, trunk, start):
        assert from_table(ClipTraining, to_table(config), "again", tmp_path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optimisation]\naccumulate = 4", "micro_batches"),
        ('[optimisation]\nbest_score = "x"', "needs a .validation"),
        ("[batch]\nsize = 1", "batch.*size is 1"),
        ("[batch]\nsize = 4\nmicro_batches = 5", "micro_batches is 5"),
        ("[transforms]\nscale = [0.9, 0.5]", "scale is"),
        ("[model]\nimage = { size = 32, width = 30, heads = 4, patch = 8 }", "image.width 30"),
        ("[towers.text]\npatch_dropout = 0.5", "no patches"),
        ("[output]\ntemplates = ['a photo']", "no {}"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(ClipTraining, written(tmp_path, '[[data]]\npath = "p"\n' + text))


def test_a_models_folder_becomes_a_whole_path_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, here = tmp_path / "configs", tmp_path / "here"
    for folder in (beside / "beside", here / "here", here / "starter" / "clip"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    monkeypatch.chdir(here)
    file = beside / "run.toml"
    file.write_text('[model]\ninit = "beside"\n[[data]]\npath = "p"\n')

    def start(*overrides: str) -> str:
        model = read_config(ClipTraining, file, overrides).model
        assert isinstance(model, Start)
        return model.init

    assert start() == str(beside / "beside")
    assert start("model.init=here") == str(here / "here")
    assert start("model.init=starter/clip") == "starter/clip"  # a name, whatever folder there is
    assert start("model.init=none/such") == "none/such"  # for the error that lists the models
    file.write_text('[model]\ninit = "here"\n[[data]]\npath = "p"\n')
    assert start() == str(here / "here")
    with pytest.raises(UsageError, match="model.init is 3; it must be a model's name or folder"):
        start("model.init=3")
