"""`bahu train dalle` for real: it learns, its model comes back, it stops and goes on, and it says what is wrong."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from bahumukha.data.encoded import Encoder
from bahumukha.data.styles import is_held_out
from bahumukha.errors import Interrupted
from bahumukha.train import loop
from bahumukha.train.config import read_config
from bahumukha.train.dalle import DalleRun
from bahumukha.train.dalle_config import DalleTraining
from bahumukha.zoo.cards import read_card
from bahumukha.zoo.dalle import load_dalle
from tests.cli.conftest import without_clock
from tests.train.drawings import COLOURS, STYLES, write_codec, write_drawings

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = Path(__file__).parents[2] / "recipes/configs/dalle-starter.toml"
SHOWN = sum(
    not is_held_out(style, f"{colour}-{shape}")
    for style in STYLES
    for colour in COLOURS
    for shape in ("circle", "square")
)
TINY = """
[text]
model = ""
vocabulary = 300

[model]
width = 32
layers = 1
heads = 2
text_length = 16

[batch]
size = 8
group = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and codec/; not to be changed."""
    folder = tmp_path_factory.mktemp("dalle")
    write_drawings(folder / "data")
    write_codec(folder / "codec")
    return folder


def config(tmp_path: Path, folder: Path, more: str = "", *, steps: int = 6) -> Path:
    file = tmp_path / "run.toml"
    codes = f'[codes]\ncodec = "{folder / "codec"}"\nsize = 16\nviews = {{ count = 2 }}\n'
    optimisation = f"[optimisation]\nsteps = {steps}\nlog_every = 1\nwarmup_steps = 2\nlearning_rate = 3e-3\n"
    data = f'[[data]]\npath = "{folder / "data"}"\nsplit = "train"\n'
    file.write_text(data + codes + TINY + optimisation + more, encoding="utf-8")
    return file


def test_codes_are_spoiled_where_it_is_asked_for(tmp_path: Path, folder: Path, bahu: Any) -> None:
    losses = []
    for part in (0.0, 1.0):
        out = tmp_path / f"run-{part}"
        code, _, err = bahu(
            "train", "dalle", config(tmp_path, folder, steps=3), "--out", out, "--set", f"batch.drop_codes={part}"
        )
        assert code == 0, err
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(line)["losses"]["loss"] for line in lines])
    assert len(losses[0]) == 3 and all(clean != spoiled for clean, spoiled in zip(*losses, strict=True))


JUDGED = """validate_every = 3
average = 0.9
[validation]
sources = [{{ path = "{data}" }}]
most = 8
[samples]
prompts = ["a red circle", "cuadrado azul"]
each = 2
"""


def test_it_trains_and_its_model_comes_back(tmp_path: Path, folder: Path, bahu: Callable[..., Any]) -> None:
    file = config(tmp_path, folder, JUDGED.format(data=folder / "data") + '[output]\nlicence = "CC0-1.0"\n')
    ran = bahu("train", "dalle", file, "--out", tmp_path / "run", "--json")
    assert (ran.code, ran.err) == (0, "")
    *rows, last = ran.objects
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert set(rows[0]["losses"]) == {"loss", "text", "picture"}
    loss = rows[0]["losses"]
    assert loss["loss"] == pytest.approx(loss["text"] / 8 + loss["picture"] * 7 / 8, rel=1e-2)
    assert [row["step"] for row in rows if {"bits", "told"} <= set(row["scores"])] == [3, 6]
    assert sorted(p.name for p in (tmp_path / "run/samples").iterdir()) == ["0000003.png", "0000006.png"]

    loaded = load_dalle(last["model"])
    assert loaded.codec == str(folder / "codec") and loaded.steps == 6 and loaded.styles == tuple(sorted(STYLES))
    assert loaded.model.config.grid == (2, 2) and loaded.model.config.codes == 25
    mean = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["mean"]["mean"]
    assert all((loaded.model.state_dict()[name] - mean[name]).abs().max() < 1e-3 for name in mean)
    assert loaded.encode(["red circle"]).shape[1] < 8
    card = read_card(last["model"])
    assert card.licence == "CC0-1.0" and f"{SHOWN} captioned pictures" in card.summary and "6 steps of 8" in card.text

    # And further: the weights and the count of steps go on, with the words they had; a codec is no other one's.
    more = bahu(
        "train", "dalle", config(tmp_path, folder, steps=1), "--init", last["model"], "--out", tmp_path / "more"
    )
    assert more.code == 0, more.err
    assert load_dalle(tmp_path / "more/model").steps == 7
    write_codec(tmp_path / "other")
    wrong = bahu(
        "train", "dalle", file, "--init", last["model"], "--set", f"codes.codec={tmp_path / 'other'}",
        "--out", tmp_path / "wrong",
    )  # fmt: skip
    assert wrong.code == 1 and f"draws the codes of {folder / 'codec'}; set it to that" in wrong.err
    wrong = bahu("train", "dalle", file, "--init", last["model"], "--set", "codes.size=24", "--out", tmp_path / "wrong")
    assert wrong.code == 1 and "pictures of 24 px are grids of [3, 3]" in wrong.err and wrong.err.count("\n") == 1


class StopAfter:
    """In place of a stop signal: it has come once it was asked for so often."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def is_set(self) -> bool:
        self.steps -= 1
        return self.steps < 0


def test_it_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of a group of batches; the pictures are not encoded again."""
    file = config(tmp_path, folder, JUDGED.format(data=folder / "data"), steps=7)
    assert bahu("train", "dalle", file, "--out", tmp_path / "whole").code == 0
    settings = read_config(DalleTraining, file)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "stop_signals", lambda: nullcontext(StopAfter(5)))
        with pytest.raises(Interrupted, match="stopped after step 5"):
            for _ in DalleRun(settings, tmp_path / "parts").reports():
                pass
    monkeypatch.setattr(Encoder, "encode", lambda self, pixels: pytest.fail("encoded again"))
    ran = bahu("train", "dalle", "--resume", tmp_path / "parts")
    assert ran.code == 0, ran.err
    assert without_clock(tmp_path / "parts") == without_clock(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("parts", "whole")]
    assert all(torch.equal(states[0]["model"][name], states[1]["model"][name]) for name in states[1]["model"])
    sheets = [(tmp_path / run / "samples/0000007.png").read_bytes() for run in ("parts", "whole")]
    assert sheets[0] == sheets[1]


def test_the_shipped_config_fits(tmp_path: Path, folder: Path) -> None:
    """Every option is one that there is; its pictures are made by recipes, and so are not here."""
    settings = read_config(DalleTraining, CONFIG, [f"codes.codec={folder / 'codec'}"])
    table = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    assert len(settings.data) == len(table["data"]) and all(source.split == "train" for source in settings.data)
    assert not any("emojione" in str(source.path) for source in settings.data)
    assert settings.captions.languages["te"] > 0 and settings.samples.prompts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimisation.step=3", "optimisation.step is no option; did you mean steps"),
        ("model.width=30", "[model] width is 30; it must be a multiple of 4 x heads 2"),
        ("model.attention=['rows']", "model.attention.0 is 'rows'; it must be one of 'full'"),
        ("codes.codec=nix", "no model 'nix'"),
        ("codes.codec=starter/clip", "pictures become codes with a 'vqgan' model"),
        ("codes.size=20", "size: 20 pixels were given; this codec takes multiples of 8"),
        ("codes.views.count=0", "[codes.views] count is 0"),
        ("text.model=nix", "no model 'nix'"),
        ("data.0.path=/no/such/folder", "/no/such/folder: there is no such file or folder"),
        ("captions.style=1.5", "[captions] style is 1.5"),
        ("samples.sampling.top_p=2", "[samples.sampling] top_p: 2.0 was given"),
        ("output.weights=best", "name the score in optimisation.best_score"),
        ("optimisation.best_score=told", "needs a [validation]"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], change: str, message: str
) -> None:
    ran = bahu("train", "dalle", config(tmp_path, folder), "--out", tmp_path / "run", "--set", change)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("bahu: ") and ran.err.count("\n") == 1 and message in ran.err
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_wrong_ways_to_begin(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def error(*arguments: object) -> str:
        ran = bahu("train", "dalle", *arguments)
        assert ran.code == 1 and ran.err.count("\n") == 1
        return ran.err

    file = config(tmp_path, folder, steps=1)
    assert "no CONFIG" in error()
    assert "holds no run" in error("--resume", tmp_path / "none")
    assert "sentences become pictures with a 'dalle' model" in error(file, "--init", "starter/clip")
    assert not (tmp_path / "runs").exists()  # nothing was encoded for it
    assert bahu("train", "dalle", file, "--out", tmp_path / "run").code == 0
    assert f"--resume {tmp_path / 'run'}" in error(file, "--out", tmp_path / "run")
    stored = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(stored | {"kind": "vqgan"}))
    assert "not one of bahu train dalle" in error("--resume", tmp_path / "run")
