"""`bahu train vqgan` for real: it learns, its model comes back, it stops and goes on, and it says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.models.vqgan import build_codec
from bahumukha.zoo.cards import read_card
from bahumukha.zoo.codecs import load_codec, save_codec
from tests.cli.conftest import without_clock
from tests.train.shapes import write_folder, write_listing

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = sorted((Path(__file__).parents[2] / "recipes/configs").glob("vqgan*.toml"))
TINY = """
[model]
kind = "vit"
width = 32
heads = 2
fine_width = 16
encoder_layers = 1
decoder_layers = 1
"""
SMALL_BATCHES = """
[batch]
sizes = [16, 32]
pictures = [8, 4]
shares = [2, 1]
"""
CRITIC = """
[critic]
start = 0.5
warmup = 0.2
ramp = 0.3
network = { width = 8, layers = 1 }
"""


def config(folder: Path, data: Path, more: str = "", *, steps: int = 6, batch: str = SMALL_BATCHES) -> Path:
    file = folder / "run.toml"
    optimisation = f"[optimisation]\nsteps = {steps}\nlog_every = 1\nwarmup_steps = 5\nlearning_rate = 3e-3\n"
    file.write_text(f'[[data]]\npath = "{data}"\n{TINY}{batch}{optimisation}{more}', encoding="utf-8")
    return file


# --- it learns


@pytest.mark.slow
def test_it_learns_and_its_model_comes_back(tmp_path: Path, bahu: Callable[..., Any]) -> None:
    data = write_folder(tmp_path / "data")
    more = "average = 0.9\nvalidate_every = 60\n"
    more += f'[validation]\nsources = [{{ path = "{data}" }}]\nmost = 24\n[output]\nsheet = 6\nlicence = "CC0-1.0"\n'
    batch = "[batch]\nsizes = [32]\npictures = [16]\nshares = [1]\n"
    file = config(tmp_path, data, more, steps=120, batch=batch)
    ran = bahu("train", "vqgan", file, "--out", tmp_path / "run", "--json", "--set", "optimisation.log_every=20")
    assert (ran.code, ran.err) == (0, "")
    *rows, last = ran.objects
    assert rows[0]["losses"]["l2"] > 2 * rows[-1]["losses"]["l2"]
    assert {"loss", "l1", "l2", "edges", "psnr_32", "usage", "perplexity"} == set(rows[0]["losses"])
    judged = [row["scores"] for row in rows if row["scores"]]
    assert judged[1]["psnr_32"] > judged[0]["psnr_32"] and judged[1]["psnr_32"] > 12
    assert 1 < judged[1]["perplexity"] <= 4096 * judged[1]["usage"] < 4096

    sheets = sorted((tmp_path / "run/reconstructions").iterdir())
    assert [sheet.name for sheet in sheets] == ["0000060.png", "0000120.png"]
    with Image.open(sheets[1]) as sheet:
        assert min(sheet.size) > 100

    model = Path(last["model"])
    codec = load_codec(model)
    assert json.loads((model / "config.json").read_text())["steps"] == 120
    picture = np.asarray(Image.open(data / "red-circle.png").convert("RGB").resize((32, 32)))
    x = torch.from_numpy(picture / np.float32(127.5) - 1).permute(2, 0, 1)[None]
    error = (codec(x)[0].clamp(-1, 1) - x).square().mean() / 4
    assert -10 * torch.log10(error) > 10
    card = read_card(model)
    assert card.licence == "CC0-1.0" and "64 pictures" in card.summary

    # And it is taken further: the weights and the count of steps go on.
    further = config(tmp_path, data, steps=1, batch=batch)
    ran = bahu("train", "vqgan", further, "--init", model, "--out", tmp_path / "more", "--json")
    assert ran.objects[0]["losses"]["l2"] < 1.5 * rows[-1]["losses"]["l2"]
    assert json.loads((tmp_path / "more/model/config.json").read_text())["steps"] == 121


def test_transparent_pictures_a_cache_and_no_validation(tmp_path: Path, bahu: Callable[..., Any]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(5):
        Image.new("RGBA", (40 + number, 40), (50 * number, 0, 200, 100)).save(data / f"{number}.png")
    more = f'validate_every = 2\n[pictures]\ncache = "{tmp_path / "cache"}"\n[output]\nsheet = 3\n'
    file = config(tmp_path, data, more, steps=3)
    first = bahu("train", "vqgan", file, "--out", tmp_path / "one", "--json")
    assert first.code == 0, first.err
    assert len(list((tmp_path / "cache").glob("*.u8"))) == 1
    again = bahu("train", "vqgan", file, "--out", tmp_path / "two", "--json")
    told = [[row["losses"] for row in ran.objects[:-1]] for ran in (first, again)]
    assert told[0] == told[1] and all(not row["scores"] for row in first.objects[:-1])
    assert {p.name for p in (tmp_path / "one/reconstructions").iterdir()} == {"0000002.png", "0000003.png"}


def test_the_best_weights_can_be_what_comes_out(tmp_path: Path, bahu: Callable[..., Any]) -> None:
    data = write_folder(tmp_path / "data")
    more = 'validate_every = 1\nbest_score = "psnr_32"\n'
    more += (
        f'[validation]\nsources = [{{ path = "{data}" }}]\nmost = 4\n[output]\nweights = "best"\nstorage = "float32"\n'
    )
    ran = bahu("train", "vqgan", config(tmp_path, data, more, steps=4), "--out", tmp_path / "run", "--json")
    scores = [row["scores"]["psnr_32"] for row in ran.objects[:-1]]
    best = scores.index(max(scores)) + 1
    assert json.loads((tmp_path / "run/model/config.json").read_text())["steps"] == best
    kept = torch.load(tmp_path / "run/best.pt", weights_only=True)["model"]
    out = load_codec(tmp_path / "run/model").state_dict()
    assert all(torch.equal(out[name], kept[name]) for name in kept)


@pytest.mark.parametrize("kind", ["fsq", "vq"])
def test_a_frozen_encoder_keeps_what_the_codes_mean(tmp_path: Path, bahu: Callable[..., Any], kind: str) -> None:
    data = write_folder(tmp_path / "data")
    model = build_codec(
        {"kind": "vit", "width": 32, "heads": 2, "fine_width": 16, "encoder_layers": 1, "decoder_layers": 1}
        | {"quantizer": {"kind": kind, "codes": 32, "code_dim": 4, "levels": [5, 5]}}
    )
    save_codec(model, tmp_path / "first", "first", 10)
    more = f"average = 0.9\n{CRITIC}"
    frozen = ("--init", tmp_path / "first", "--set", "model.freeze_encoder=true")
    ran = bahu("train", "vqgan", config(tmp_path, data, more, steps=6), *frozen, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    before, after = (load_codec(folder).state_dict() for folder in (tmp_path / "first", tmp_path / "run/model"))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("decoder.") for name in moved)


# --- stopping and going on


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsq", "vq"])
def test_ctrl_c_and_resume_are_as_if_it_had_never_stopped(tmp_path: Path, bahu: Callable[..., Any], kind: str) -> None:
    """With two sizes, a critic that is learning, codes that are revived at random, and the mean of the weights."""
    data = write_folder(tmp_path / "data")
    quantizer = f'quantizer = {{ kind = "{kind}", codes = 32, code_dim = 4, levels = [5, 5] }}\n'
    more = f"average = 0.9\nvalidate_every = 20\n{CRITIC}"
    file = config(tmp_path, data, more, steps=40)
    file.write_text(file.read_text().replace('kind = "vit"\n', f'kind = "vit"\n{quantizer}'))
    command = [sys.executable, "-m", "bahumukha", "train", "vqgan", str(file), "--json"]
    running = subprocess.Popen(
        [*command, "--out", str(tmp_path / "parts")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert running.stdout is not None and running.stderr is not None
    steps = []
    for line in running.stdout:
        steps.append(json.loads(line)["step"])
        if steps[-1] == 17:
            running.send_signal(signal.SIGINT)
    error = running.stderr.read()
    running.stdout.close()
    running.stderr.close()
    assert running.wait() == 130 and f"go on with --resume {tmp_path / 'parts'}" in error, error
    assert 17 <= steps[-1] < 40
    assert bahu("train", "vqgan", "--resume", tmp_path / "parts").code == 0
    assert bahu("train", "vqgan", file, "--out", tmp_path / "whole").code == 0
    parts, whole = without_clock(tmp_path / "parts"), without_clock(tmp_path / "whole")
    assert parts == whole
    assert "critic" not in whole[10]["losses"] and "adversarial" not in whole[15]["losses"]
    assert {"critic", "adversarial", "critic_weight"} <= set(whole[-1]["losses"])
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("parts", "whole")]
    for part in (lambda s: s["mean"]["mean"], lambda s: s["beside"]["critic"]):
        first, second = (part(state) for state in states)
        assert all(torch.equal(first[name], second[name]) for name in second)
    sheets = [(tmp_path / run / "reconstructions/0000040.png").read_bytes() for run in ("parts", "whole")]
    assert sheets[0] == sheets[1]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path, bahu: Callable[..., Any]) -> None:
    file = config(tmp_path, write_folder(tmp_path / "data"), steps=4)
    exact = ["--set", "optimisation.precision=float32"]
    assert bahu("train", "vqgan", file, "--out", tmp_path / "one", *exact).code == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["train", "vqgan", str(file), "--out", str(tmp_path / "two"), "--json", *exact]
    command = [*launcher, "-m", "bahumukha", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {"model": str(tmp_path / "two/model")}
    one, two = without_clock(tmp_path / "one"), without_clock(tmp_path / "two")
    assert [row["step"] for row in two] == [1, 2, 3, 4]
    for mine, shared in zip(one, two, strict=True):
        assert shared["losses"]["l2"] == pytest.approx(mine["losses"]["l2"], abs=2e-4)


# --- configs


@pytest.mark.slow
@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_config_runs(tmp_path: Path, bahu: Callable[..., Any], file: Path) -> None:
    """Two steps, on small batches of the shapes; the paper's networks with fewer channels."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    shapes = write_listing(tmp_path / "shapes")
    sets = [f"optimisation.{each}" for each in ("steps=2", "log_every=1", "warmup_steps=0", "validate_every=0")]
    sets += [f"data.{i}.path={shapes}" for i in range(len(table["data"]))]
    sets += [f"pictures.cache={tmp_path / 'cache'}"] if "pictures" in table else []
    sets += ["batch.sizes=[32]", "batch.pictures=[2]", "batch.shares=[1]", "output.sheet=2"]
    for i in range(len(table.get("validation", {}).get("sources", []))):
        sets += [f"validation.sources.{i}.path={shapes}", f"validation.sources.{i}.split=train", "validation.most=2"]
    if table.get("model", {}).get("kind") == "vqgan":
        sets += ["model.ch=32", "model.z_channels=32", "model.embed_dim=32"]
    if "critic" in table:
        sets += ["critic.start=0.0", "critic.network.layers=1"]
    spread = [word for each in sets for word in ("--set", each)]
    ran = bahu("train", "vqgan", file, "--out", tmp_path / "run", "--json", *spread)
    assert ran.code == 0, ran.err
    losses = [row["losses"] for row in ran.objects[:-1] if row["losses"]]  # the last may be of a validation alone
    assert len(losses) == 2 and all(-30 < row["loss"] < 30 and 0 < row["psnr_32"] < 40 for row in losses)
    assert ("adversarial" in losses[1]) == ("critic" in table)
    assert load_codec(tmp_path / "run/model").codes == (1024 if "paper" in file.stem else 4096)


def test_configs_are_shipped() -> None:
    assert {file.stem for file in CONFIGS} >= {"vqgan", "vqgan-starter", "vqgan-critic", "vqgan-paper"}


# --- what is wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimisation.step=3", "optimisation.step is no option; did you mean steps"),
        ("model.kind=cnn", "model.kind is 'cnn'; it must be one of"),
        ("model.depth=3", "model.depth is no option"),
        ("model.quantizer.kind=kmeans", "model.quantizer.kind is 'kmeans'; it must be one of"),
        ("data.0.path=/no/such/folder", "/no/such/folder: there is no such file or folder"),
        ("data.0.split=train", "split 'train' is asked for"),
        ("batch.sizes=[20, 32]", "batch.sizes: 20 is not a multiple of 8"),
        ("batch.pictures=[8]", "sizes, pictures and shares have 2, 1 and 2 numbers"),
        ("loss.l3=1", "loss.l3 is no option"),
        ("loss.lpips_vgg=vgg.pth", "lpips_vgg and lpips_heads belong together"),
        ("critic.start=3.0", "[critic] start is 3.0; it is a share of the run"),
        ("critic.weight=0.5", "batch.sizes: this critic takes 24 pixels or more"),
        ("optimisation.best_score=psnr_32", "needs a [validation]"),
        ("transforms.white=2.0", "[transforms] white is 2.0"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, bahu: Callable[..., Any], change: str, message: str) -> None:
    file = config(tmp_path, write_folder(tmp_path / "data"))
    ran = bahu("train", "vqgan", file, "--out", tmp_path / "run", "--set", change)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("bahu: ") and ran.err.count("\n") == 1 and message in ran.err
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_wrong_ways_to_begin(tmp_path: Path, bahu: Callable[..., Any]) -> None:
    def error(*arguments: object) -> str:
        ran = bahu("train", "vqgan", *arguments)
        assert ran.code == 1 and ran.err.count("\n") == 1
        return ran.err

    file = config(tmp_path, write_folder(tmp_path / "data"), steps=1)
    assert "no CONFIG" in error()
    assert "holds no run" in error("--resume", tmp_path / "none")
    assert "no model 'nix'" in error(file, "--init", "nix")
    assert "pictures become codes with a 'vqgan' model" in error(file, "--init", "starter/clip")
    assert bahu("train", "vqgan", file, "--out", tmp_path / "run").code == 0
    assert f"--resume {tmp_path / 'run'}" in error(file, "--out", tmp_path / "run")
    assert "leave out --init" in error("--resume", tmp_path / "run", "--init", "x")
    stored = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(stored | {"kind": "clip"}))
    assert "not one of bahu train vqgan" in error("--resume", tmp_path / "run")


def test_a_convolutional_codec_goes_on_too(tmp_path: Path, bahu: Callable[..., Any]) -> None:
    """`--init` with the paper's networks, as one imported from taming-transformers would be."""
    from bahumukha.models.quantize import QuantizerConfig
    from bahumukha.models.vqgan import VqganConfig, build_codec

    torch.manual_seed(0)
    vq = QuantizerConfig("vq", codes=16)
    sizes = {"ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "z_channels": 8, "embed_dim": 8, "groups": 4}
    save_codec(build_codec(VqganConfig(**sizes, quantizer=vq)), tmp_path / "conv", "conv", 7)  # type: ignore[arg-type]
    file = config(tmp_path, write_folder(tmp_path / "data"), steps=2)
    ran = bahu("train", "vqgan", file, "--init", tmp_path / "conv", "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    assert {"codebook", "commitment"} <= set(ran.objects[0]["losses"])
    assert json.loads((tmp_path / "run/model/config.json").read_text())["steps"] == 9
