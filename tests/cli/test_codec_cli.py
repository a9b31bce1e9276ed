"""`bahu reconstruct` and `bahu evaluate vqgan` as a user and a script see them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bahumukha.images import save_image, to_uint8
from bahumukha.models.perceptual import TrunkDistance
from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vqgan import VqganConfig, build_codec
from bahumukha.zoo import codecs, perceptual
from tests.fake_codec import BlockCodec, block_pictures

pytestmark = pytest.mark.usefixtures("one_thread")

CORNERS = torch.tensor([0, 2, 6, 8, 18, 20, 24, 26])
"""Codes whose colours are 0 or 255 in each channel: those that a file keeps exactly."""


@pytest.fixture(scope="module")
def tiny_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the paper's network, f8, random weights."""
    torch.manual_seed(0)
    config = VqganConfig(
        ch=8,
        ch_mult=(1, 1, 1, 2),
        num_res_blocks=1,
        attn_resolutions=(),
        z_channels=8,
        embed_dim=4,
        groups=4,
        quantizer=QuantizerConfig("vq", codes=16),
    )
    folder = tmp_path_factory.mktemp("codec") / "tiny"
    codecs.save_codec(build_codec(config), folder, "tiny", 5)
    return folder


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every model is the codec of blocks, and the perceptual network a random one; the names asked for."""
    asked: list[str] = []

    def load(name: str) -> BlockCodec:
        asked.append(name)
        return BlockCodec()

    def trunk(name: str) -> TrunkDistance:
        asked.append(name)
        torch.manual_seed(0)
        return TrunkDistance(timm.create_model("tf_efficientnet_lite0", num_classes=0))

    monkeypatch.setattr(codecs, "load_codec", load)
    monkeypatch.setattr(perceptual, "trunk_distance", trunk)
    return asked


def picture(path: Path, ids: torch.Tensor) -> np.ndarray:
    """Save a picture that the codec of blocks keeps as it is; ids (h, w)."""
    pixels = to_uint8(block_pictures(ids[None])[0].permute(1, 2, 0).numpy(), low=-1.0)
    save_image(Image.fromarray(pixels), path)
    return pixels


def noise(path: Path, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    save_image(image, path)
    return image


# --- reconstruct


def test_a_real_codec(bahu: Any, tiny_codec: Path, tmp_path: Path) -> None:
    noise(tmp_path / "in/wide.png", (100, 80))
    out = tmp_path / "out"
    ran = bahu("reconstruct", tmp_path / "in", "--model", tiny_codec, "--out", out, "--json")
    assert ran.code == 0
    assert list(ran.object) == ["path", "out", "width", "height", "psnr", "tokens", "bits"]
    assert (ran.object["width"], ran.object["height"], ran.object["tokens"]) == (96, 80, 120)
    assert ran.object["bits"] == 480 and ran.object["psnr"] < 20
    with Image.open(out / "wide.png") as back:
        assert back.size == (96, 80)
        made = json.loads(back.text["bahumukha"])  # type: ignore[attr-defined]
    assert made == {
        "command": "reconstruct",
        "source": str(tmp_path / "in/wide.png"),
        "model": str(tiny_codec),
        "size": [96, 80],
    }
    assert ran.err == f"bahu: side by side in {out / 'sheet.png'}\n"


def test_figures_and_files_of_a_codec_one_can_compute(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    kept = picture(tmp_path / "kept.png", CORNERS.repeat(8).view(8, 8))
    grey = Image.new("RGB", (64, 64), (166, 166, 166))  # comes back as 127.5, and 38.5 / 255 off
    save_image(grey, tmp_path / "grey.png")
    ran = bahu("reconstruct", tmp_path / "kept.png", tmp_path / "grey.png", "--out", tmp_path / "out", "--json")
    first, second = ran.objects
    assert blocks == ["starter/vqgan"]
    assert first["psnr"] == 100 and first["bits"] == pytest.approx(64 * math.log2(27), abs=0.1)
    assert second["psnr"] == pytest.approx(-20 * math.log10(38.5 / 255), abs=1e-3)
    with Image.open(tmp_path / "out/kept.png") as back:
        assert np.array_equal(np.asarray(back), kept)
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 4 * 224, "two pairs in a row"


def test_nothing_is_written_over_what_it_is_made_from(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    before = [np.asarray(noise(tmp_path / name, (64, 64))) for name in ("a.png", "b.png")]
    ran = bahu("reconstruct", tmp_path, "--out", tmp_path, "--json")
    assert [Path(each["out"]).name for each in ran.objects] == ["a-2.png", "b-2.png"]
    for name, pixels in zip(("a.png", "b.png"), before, strict=True):
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(np.asarray(image), pixels)
    noise(tmp_path / "in" / "sheet.png", (64, 64))
    ran = bahu("reconstruct", tmp_path / "in", "--out", tmp_path / "in")
    assert ran.code == 1 and "holds one of the pictures, sheet.png" in ran.err


def test_what_people_read(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    noise(tmp_path / "a.png", (64, 64))
    out = tmp_path / "out"
    line = bahu("reconstruct", tmp_path / "a.png", "--out", out).out
    assert line.startswith(f"{tmp_path / 'a.png'}  ") and line.endswith(f"64 tokens, 304 bits  {out / 'a.png'}\n")
    assert " dB  " in line


@pytest.mark.parametrize(
    ("given", "options", "becomes"),
    [
        ((64, 64), (), (64, 64)),
        ((20, 30), (), (64, 96)),
        ((300, 130), (), (288, 128)),
        ((3000, 1500), (), (512, 256)),
        ((4000, 400), (), (512, 256)),
        ((300, 500), ("--size", "64"), (64, 104)),
        ((30, 40), ("--size", "128"), (128, 168)),
    ],
)
def test_sizes(
    bahu: Any, blocks: list[str], tmp_path: Path, given: tuple[int, int], options: Any, becomes: tuple[int, int]
) -> None:
    Image.new("RGB", given).save(tmp_path / "a.png")
    result = bahu("reconstruct", tmp_path / "a.png", "--out", tmp_path / "out", "--json", *options).object
    assert (result["width"], result["height"]) == becomes


def test_the_middle_is_kept_and_nothing_is_stretched(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    image = Image.new("RGB", (1600, 64), (255, 0, 0))
    image.paste((0, 0, 255), (544, 0, 1056, 64))  # the middle 512
    image.save(tmp_path / "strip.png")
    result = bahu("reconstruct", tmp_path / "strip.png", "--out", tmp_path / "out", "--json").object
    assert (result["width"], result["height"], result["psnr"]) == (512, 64, 100)


def test_one_broken_picture_and_two_of_a_name(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    for name in ("in/a.png", "in/deep/a.jpg", "in/sheet.png"):
        noise(tmp_path / name, (64, 64))
    (tmp_path / "in/torn.png").write_bytes(b"no")
    ran = bahu("reconstruct", tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert ran.code == 0 and "torn.png" in ran.err
    assert [Path(each["out"]).name for each in ran.objects] == ["a.png", "a-2.png", "sheet-2.png"]
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"a.png", "a-2.png", "sheet.png", "sheet-2.png"}


def test_mistakes_are_one_line(bahu: Any, blocks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "a.png", (64, 64))
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.png").write_bytes(b"no")
    for arguments, message in [
        (["a.png", "--size", 100], "--size 100: this codec takes multiples of 8 from 64 to 512, as 96"),
        (["a.png", "--size", 1024], "--size 1024: this codec takes multiples of 8 from 64 to 512, as 512"),
        (["none.png"], "none.png: there is no such file or folder"),
        (["empty"], "no pictures in empty"),
        (["a.png", "--out", "a.png"], "a.png/a.png: cannot be written"),
    ]:
        ran = bahu("reconstruct", *arguments)
        assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
        assert message in ran.err
    ran = bahu("reconstruct", "torn.png")
    assert ran.code == 1 and ran.err.splitlines()[-1] == "bahu: none of the 1 pictures could be read"


def test_models_that_are_none(bahu: Any, tiny_clip: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.png", (64, 64))
    for command in (["reconstruct"], ["evaluate", "vqgan"]):
        ran = bahu(*command, tmp_path / "a.png", "--model", "nosuch")
        assert ran.code == 1 and "no model 'nosuch'; available: " in ran.err and ran.err.count("\n") == 1
        ran = bahu(*command, tmp_path / "a.png", "--model", tiny_clip)
        assert ran.code == 1 and "'kind' is 'clip'" in ran.err and ran.err.count("\n") == 1


def test_without_pytorch_it_says_what_to_install(tmp_path: Path) -> None:
    import subprocess
    import sys

    noise(tmp_path / "a.png", (64, 64))
    script = "import sys\nsys.modules['torch'] = None\nfrom bahumukha.cli import main\nmain(sys.argv[1:])"
    for command in (["reconstruct"], ["evaluate", "vqgan"]):
        arguments = [sys.executable, "-c", script, *command, str(tmp_path / "a.png")]
        ran = subprocess.run(arguments, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr == "bahu: codecs need torch, of the extra [create]: pip install 'bahumukha[create]'\n"


# --- evaluate vqgan


def test_scores(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png", CORNERS.repeat(8).view(8, 8))
    picture(tmp_path / "in/b.png", CORNERS[:2].repeat(32).view(8, 8))
    (tmp_path / "in/torn.png").write_bytes(b"no")
    ran = bahu("evaluate", "vqgan", tmp_path / "in", "--size", 64, "--json")
    assert ran.code == 0 and "torn.png" in ran.err and ran.err.count("\n") == 1
    result = ran.object
    names = "pictures size tokens bits psnr ssim perceptual codes usage perplexity failed frechet_efficientnet".split()
    assert list(result) == names
    assert (result["pictures"], result["tokens"], result["codes"]) == (2, 64, 27)
    assert result["usage"] == pytest.approx(8 / 27)
    entropy = -6 * (8 / 128) * math.log(8 / 128) - 2 * (40 / 128) * math.log(40 / 128)
    assert result["perplexity"] == pytest.approx(math.exp(entropy)) and result["psnr"] == 100
    assert result["ssim"] == pytest.approx(1)
    assert result["perceptual"] == pytest.approx(0, abs=1e-6)
    assert result["frechet_efficientnet"] == pytest.approx(0, abs=1e-6)
    assert Path(result["failed"][0]["path"]).name == "torn.png"
    assert blocks == ["starter/vqgan", "starter/clip"]


def test_scores_with_the_starters_features(bahu: Any, tiny_codec: Path, tmp_path: Path) -> None:
    for name, size in {"a.png": (80, 64), "b.png": (64, 100)}.items():
        noise(tmp_path / name, size)
    result = bahu("evaluate", "vqgan", tmp_path, "--size", 64, "--model", tiny_codec, "--json").object
    assert result["pictures"] == 2 and result["bits"] == 256 and 0 < result["psnr"] < 20
    assert result["perceptual"] > 0.01 and result["frechet_efficientnet"] > 0.01 and 1 <= result["perplexity"] <= 16
    lines = bahu("evaluate", "vqgan", tmp_path, "--size", 64, "--model", tiny_codec).out.splitlines()
    assert lines[0] == "2 pictures of 64 x 64 pixels"
    assert lines[1].split() == ["PSNR", f"{result['psnr']:.2f}", "dB"]
    assert lines[5].startswith("bits a picture") and "(64 tokens of 16 codes)" in lines[5]


def test_split_and_most(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        picture(tmp_path / f"{number}.png", torch.full((8, 8), number))
        split = "train" if number < 2 else "validation"
        rows.append({"file": f"{number}.png", "captions": "a block", "split": split})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["evaluate", "vqgan", tmp_path, "--size", 64, "--json"]
    assert bahu(*options).object["pictures"] == 6
    assert bahu(*options, "--split", "validation").object["pictures"] == 4
    few = bahu(*options, "--split", "validation", "--most", 2).object
    assert few["pictures"] == 2 and few["usage"] == pytest.approx(2 / 27)
    ran = bahu(*options, "--split", "test")
    assert ran.code == 1 and "no pictures with captions in split 'test'" in ran.err


def test_mistakes_of_evaluate_are_one_line(bahu: Any, blocks: list[str], tmp_path: Path) -> None:
    noise(tmp_path / "in/a.png", (64, 64))
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        (["in", "--size", 100], "--size 100: this codec takes multiples of 8, as 96 or 104"),
        (["in", "--size", 8], "--size 8: this codec takes multiples of 8, as 16 or 24"),
        (["empty"], "no pictures in"),
        (["none"], "none: there is no such file or folder"),
        (["in", "--inception", "none.pth"], "none.pth: no such file"),
    ]:
        ran = bahu("evaluate", "vqgan", tmp_path / arguments[0], *arguments[1:])
        assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1), ran.err
        assert message in ran.err
