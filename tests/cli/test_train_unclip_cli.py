"""`bahu train prior`, `decoder` and `upsampler` for real: models come back, runs stop and go on, what is wrong is
said."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bahumukha.data.embedded import Embedder
from bahumukha.errors import Interrupted
from bahumukha.train import loop
from bahumukha.train.config import read_config
from bahumukha.train.decoder import DecoderRun
from bahumukha.train.prior import PriorRun
from bahumukha.train.unclip_config import DecoderTraining, PriorTraining, UpsamplerTraining
from bahumukha.train.upsampler import UpsamplerRun
from bahumukha.zoo.cards import read_card
from bahumukha.zoo.unclip import load_decoder, load_prior, load_upsampler
from tests.cli.conftest import without_clock
from tests.cli.test_train_dalle_cli import StopAfter
from tests.tiny_unclip import make_clip
from tests.train.drawings import STYLES, write_codec, write_drawings

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = {
    "prior": "[model]\nwidth = 16\nlayers = 1\nheads = 2\n[sampling]\nsteps = 2\n",
    "tokens": '[model]\nkind = "tokens"\nwidth = 16\nlayers = 1\nheads = 2\naxes = 4\nbuckets = 3\nmatches = 2\n',
    "decoder": "[model]\nwidth = 16\nlayers = 1\nheads = 2\n[sheet]\npictures = 3\nsteps = 2\n",
    "upsampler": "[model]\nwidth = 16\nlayers = 1\nheads = 2\n[sheet]\npictures = 3\nsteps = 2\n",
}
RUNS: dict[str, Any] = {
    "prior": (PriorTraining, PriorRun),
    "decoder": (DecoderTraining, DecoderRun),
    "upsampler": (UpsamplerTraining, UpsamplerRun),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/, codec/, clip/ and views/; not to be changed but for the last."""
    folder = tmp_path_factory.mktemp("unclip")
    write_drawings(folder / "data")
    write_codec(folder / "codec")
    make_clip(folder / "clip")
    return folder


def config(tmp_path: Path, folder: Path, kind: str, more: str = "", *, steps: int = 4) -> Path:
    file = tmp_path / f"{kind}.toml"
    pictures = f'[pictures]\nclip = "{folder / "clip"}"\nsize = 16\nsharp = 2\ncache = "{folder / "views"}"\n'
    pictures += "views = { count = 2 }\n"
    if kind == "upsampler":
        pictures = "[pictures]\nsize = 16\n"
    data = f'[[data]]\npath = "{folder / "data"}"\nsplit = "train"\n'
    judged = f'[validation]\nsources = [{{ path = "{folder / "data"}" }}]\nmost = 6\n'
    optimisation = (
        f"[batch]\nsize = 8\n[optimisation]\nsteps = {steps}\nlog_every = 1\nwarmup_steps = 1\nvalidate_every = 2\n"
        "average = 0.9\n"
    )
    file.write_text(data + pictures + MODELS[kind] + judged + optimisation + more, encoding="utf-8")
    return file


SCORES = {
    "prior": {"near", "caption", "middle"},
    "decoder": {"error", "told"},
    "upsampler": {"psnr", "bicubic"},
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["prior", "tokens", "decoder", "upsampler"])
def test_it_trains_and_its_model_comes_back(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], kind: str, precision: str
) -> None:
    file, command = config(tmp_path, folder, kind), "prior" if kind == "tokens" else kind
    ran = bahu(
        "train", command, file, "--out", tmp_path / "run", "--json", "--set", f"optimisation.precision={precision}"
    )
    assert (ran.code, ran.err) == (0, "")
    *rows, last = ran.objects
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and set(rows[0]["losses"]) == {"loss"}
    scores = SCORES[command]
    assert [row["step"] for row in rows if scores <= set(row["scores"])] == [2, 4]
    if command != "prior":
        sheets = sorted((tmp_path / "run/samples").iterdir())
        assert [sheet.name for sheet in sheets] == ["0000002.png", "0000004.png"]
        with Image.open(sheets[0]) as sheet:
            assert sheet.width > 128
    loaded: Any = {"prior": load_prior, "decoder": load_decoder, "upsampler": load_upsampler}[command](last["model"])
    assert loaded.steps == 4
    mean = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["mean"]["mean"]
    assert all(torch.allclose(loaded.model.state_dict()[k], mean[k], atol=2e-3, rtol=2e-3) for k in mean)
    assert "4 steps" in read_card(last["model"]).text
    if command == "prior":
        assert loaded.styles == tuple(sorted(STYLES)) and loaded.sight.clip == str(folder / "clip")
    more = bahu("train", command, file, "--init", last["model"], "--out", tmp_path / "more", "--set",
                "optimisation.steps=1")  # fmt: skip
    assert more.code == 0, more.err
    further: Any = {"prior": load_prior, "decoder": load_decoder, "upsampler": load_upsampler}[command]
    assert further(tmp_path / "more/model").steps == 5


def test_a_decoder_of_latents_and_without_captions(tmp_path: Path, folder: Path, bahu: Callable[..., Any]) -> None:
    file = config(tmp_path, folder, "decoder", steps=2)
    codec = [f"model.codec={folder / 'codec'}", "model.patch=1", "model.text=false"]
    ran = bahu("train", "decoder", file, "--out", tmp_path / "run", *(f for each in codec for f in ("--set", each)))
    assert ran.code == 0, ran.err
    loaded = load_decoder(tmp_path / "run/model")
    assert loaded.codec == str(folder / "codec") and loaded.model.config.text_width == 0
    assert (loaded.model.config.channels, loaded.model.config.grid) == (2, 2)


def test_a_decoder_sees_pictures_on_the_way_from_a_codecs_copies(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any]
) -> None:
    file, states = config(tmp_path, folder, "decoder"), []
    codec = ["--set", f"sketches.codec={folder / 'codec'}", "--set", "sketches.noise=[0.9, 0.95]"]
    for run, more in (("none", ["--set", "sketches.share=0"]), ("some", ["--set", "sketches.share=1"])):
        ran = bahu("train", "decoder", file, "--out", tmp_path / run, *codec, *more)
        assert ran.code == 0, ran.err
        states.append(load_decoder(tmp_path / run / "model").model.state_dict())
    none, some = states
    assert any(not torch.allclose(none[key], some[key], atol=1e-5) for key in none)


def test_a_decoder_sees_what_a_prior_imagines(tmp_path: Path, folder: Path, bahu: Callable[..., Any]) -> None:
    """With drops of nothing and a share of 1 it sees no picture's own embedding: other weights than without."""
    assert bahu("train", "prior", config(tmp_path, folder, "prior", steps=1), "--out", tmp_path / "prior").code == 0
    file, prior = config(tmp_path, folder, "decoder"), f"imagined.prior={tmp_path / 'prior/model'}"
    common = ["--set", "batch.drop_text=0", "--set", "batch.drop_embedding=0", "--set", "imagined.share=1"]
    states = []
    for run, more in (("plain", []), ("imagined", ["--set", prior])):
        ran = bahu("train", "decoder", file, "--out", tmp_path / run, *common, *more)
        assert ran.code == 0, ran.err
        states.append(load_decoder(tmp_path / run / "model").model.state_dict())
    plain, imagined = states
    assert any(not torch.allclose(plain[key], imagined[key], atol=1e-5) for key in plain)

    make_clip(tmp_path / "other", seed=1)
    other = f"pictures.clip={tmp_path / 'other'}"
    ran = bahu("train", "decoder", file, "--out", tmp_path / "run", "--set", prior, "--set", other)
    assert ran.code == 1 and "imagined.prior: " in ran.err and "take a prior of that one" in ran.err


@pytest.mark.parametrize("kind", ["decoder", "upsampler"])
def test_it_goes_on_at_another_size(tmp_path: Path, folder: Path, bahu: Callable[..., Any], kind: str) -> None:
    load: Any = {"decoder": load_decoder, "upsampler": load_upsampler}[kind]
    file = config(tmp_path, folder, kind, steps=1)
    assert bahu("train", kind, file, "--out", tmp_path / "small").code == 0
    larger = ("--set", "pictures.size=32", "--set", "pictures.cache=" + str(tmp_path / "cache"))
    more = bahu("train", kind, file, "--init", tmp_path / "small/model", "--out", tmp_path / "large", *larger)
    assert more.code == 0, more.err
    assert load(tmp_path / "large/model").model.config.grid == 2 * load(tmp_path / "small/model").model.config.grid


def test_neither_judged_nor_shown(tmp_path: Path, folder: Path, bahu: Callable[..., Any]) -> None:
    file = config(tmp_path, folder, "decoder", steps=1)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(text[text.index("[validation]") : text.index("[batch]")], ""), encoding="utf-8")
    ran = bahu("train", "decoder", file, "--out", tmp_path / "run", "--set", "sheet.pictures=0")
    assert ran.code == 0, ran.err
    assert not (tmp_path / "run/samples").exists()


@pytest.mark.parametrize("kind", ["prior", "decoder", "upsampler"])
def test_it_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = config(tmp_path, folder, kind, steps=5)
    assert bahu("train", kind, file, "--out", tmp_path / "whole").code == 0
    training, run = RUNS[kind]
    with monkeypatch.context() as patched:
        patched.setattr(loop, "stop_signals", lambda: nullcontext(StopAfter(3)))
        with pytest.raises(Interrupted, match="stopped after step 3"):
            for _ in run(read_config(training, file), tmp_path / "parts").reports():
                pass
    monkeypatch.setattr(Embedder, "encode", lambda self, pixels: pytest.fail("embedded again"))
    ran = bahu("train", kind, "--resume", tmp_path / "parts")
    assert ran.code == 0, ran.err
    assert without_clock(tmp_path / "parts") == without_clock(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("parts", "whole")]
    assert all(torch.equal(states[0]["model"][name], states[1]["model"][name]) for name in states[1]["model"])


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("prior", "model.widht=3", "model.widht is no option; did you mean width"),
        ("prior", "model.width=15", "[model] width is 15; it must be a multiple of heads 2"),
        ("prior", "pictures.clip=nix", "no model 'nix'"),
        ("prior", "pictures.size=15", "size: 15 pixels were given"),
        ("prior", "sampling.tries=0", "[sampling] tries: 0 was given"),
        ("decoder", "model.layers=2", "[model] layers is 2; it must be odd"),
        ("decoder", "pictures.size=18", "pictures.size: 18 is not a multiple of 4"),
        ("decoder", "model.codec=nix", "no model 'nix'"),
        ("decoder", "times.spread=0", "[times] spread is 0.0"),
        ("decoder", "imagined.share=2", "[imagined] share is 2.0; it must be from 0 to 1"),
        ("decoder", "imagined.prior=starter/dalle", "'kind' is 'dalle'; captions become embeddings with a 'prior'"),
        ("decoder", "sketches.share=2", "[sketches] share is 2.0; it must be from 0 to 1"),
        ("decoder", "sketches.noise=[0.7, 0.3]", "[sketches] noise is [0.7, 0.3]; it takes two numbers above 0"),
        ("decoder", "sketches.codec=nix", "no model 'nix'"),
        ("upsampler", "pictures.factor=3", "[pictures] factor is 3; it must be at least 2 and divide size"),
        ("upsampler", "pictures.size=20", "pictures.size: 20 is not a multiple of 8"),
        ("upsampler", "degradation.jpeg=2", "[degradation] jpeg is 2.0"),
        ("upsampler", "output.weights=best", "name the score in optimisation.best_score"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], kind: str, change: str, message: str
) -> None:
    ran = bahu("train", kind, config(tmp_path, folder, kind), "--out", tmp_path / "run", "--set", change)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("bahu: ") and ran.err.count("\n") == 1 and message in ran.err
    assert not (tmp_path / "run/checkpoint.pt").exists()


@pytest.mark.parametrize("kind", ["prior", "decoder"])
def test_a_part_of_another_clip_is_gone_on_with_when_that_is_wanted(
    tmp_path: Path, folder: Path, bahu: Callable[..., Any], kind: str
) -> None:
    file = config(tmp_path, folder, kind, steps=1)
    assert bahu("train", kind, file, "--out", tmp_path / "run").code == 0
    make_clip(tmp_path / "other", seed=1)
    command = ["train", kind, file, "--init", tmp_path / "run/model", "--out", tmp_path / "more", "--set",
               f"pictures.clip={tmp_path / 'other'}", "--set", f"pictures.cache={tmp_path / 'views'}"]  # fmt: skip
    ran = bahu(*command)
    assert ran.code == 1 and f"was trained with {folder / 'clip'}; set it to that, or model.another_clip" in ran.err
    assert not (tmp_path / "views").exists()  # which takes minutes, and was not begun
    assert bahu(*command, "--set", "model.another_clip=true").code == 0
    before, after = (json.loads((tmp_path / run / "model/config.json").read_text()) for run in ("run", "more"))
    assert after["clip"] == str(tmp_path / "other") and before["fingerprint"] != after["fingerprint"]
    assert after["steps"] == before["steps"] + 1
