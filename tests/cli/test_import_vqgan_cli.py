"""`bahu models import` of a VQGAN's checkpoint, and of a discrete VAE's two files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bahumukha.models.dvae import Dvae, DvaeConfig
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.convert import from_ours
from bahumukha.zoo.dvae import keys
from tests import taming_models as taming


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with tiny.ckpt and other.yaml, and diffusers' model of the same weights."""
    folder = tmp_path_factory.mktemp("public")
    torch.manual_seed(0)
    values = taming.config({**taming.TINY_F8, "num_res_blocks": 1}, z=8, dim=8, codes=20)
    theirs = taming.build_diffusers(values)
    taming.save_lightning(taming.taming_state(theirs), folder / "tiny.ckpt")
    taming.write_config(values, folder / "other.yaml")
    return folder, theirs


def test_imported_it_is_listed_and_gives_their_numbers(bahu: Any, made: Any, data_home: Path) -> None:
    folder, theirs = made
    ran = bahu("models", "import", folder / "tiny.ckpt", folder / "other.yaml", "--name", "public/tiny", "--json")
    assert (ran.code, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert printed["name"] == "public/tiny" and printed["folder"] == str(data_home / "models" / "public" / "tiny")
    codec = load_codec("public/tiny")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        assert (codec(x)[0] - theirs(x).sample).abs().max() < 1e-4
    listed = [json.loads(line) for line in bahu("models", "list", "--json").out.splitlines()]
    assert {each["name"]: each["kind"] for each in listed}["public/tiny"] == "vqgan"
    shown = bahu("models", "show", "public/tiny").out
    assert "f8, 20 codes (tiny.ckpt)" in shown and "that of its source" in shown
    assert [path.name for path in (data_home / "models" / "public").iterdir()] == ["tiny"]


def test_the_config_beside_it_is_found_and_the_next_step_is_told(bahu: Any, made: Any, tmp_path: Path) -> None:
    folder, _ = made
    shutil.copy(folder / "tiny.ckpt", tmp_path / "tiny.ckpt")
    shutil.copy(folder / "other.yaml", tmp_path / "tiny.yaml")
    ran = bahu("models", "import", tmp_path / "tiny.ckpt")
    assert ran.code == 0 and "try: bahu reconstruct PICTURE --model tiny" in ran.out
    again = bahu("models", "import", tmp_path / "tiny.ckpt")
    assert again.code == 1 and "--replace puts another in its place" in again.err and again.err.count("\n") == 1
    assert bahu("models", "import", tmp_path / "tiny.ckpt", "--replace").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FOLDER/tiny.ckpt"], "needs its config: bahu models import tiny.ckpt CONFIG.yaml"),
        (["FOLDER/none.ckpt", "FOLDER/other.yaml"], "none.ckpt: no such file"),
        (["FOLDER/tiny.ckpt", "FOLDER/none.yaml"], "none.yaml: cannot be read"),
        (["FOLDER/other.yaml", "FOLDER/tiny.ckpt"], "give the checkpoint first, then its config"),
        (["FOLDER/tiny.ckpt", "FOLDER/other.yaml", "--weights", "x.pt"], "--weights is for CLIP models"),
        (["FOLDER/tiny.ckpt", "FOLDER/other.yaml", "--precision", "float16"], "--precision is for CLIP models"),
        (["FOLDER/tiny.ckpt", "FOLDER/other.yaml", "--name", "../x"], "--name '../x'"),
        (["FOLDER/tiny.ckpt", "FOLDER/other.yaml", "--name", "starter/x"], "not below starter/"),
    ],
)
def test_mistakes_are_one_line(bahu: Any, made: Any, data_home: Path, arguments: list[str], message: str) -> None:
    ran = bahu("models", "import", *(each.replace("FOLDER", str(made[0])) for each in arguments))
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1
    assert not (data_home / "models").exists()


def test_the_two_files_of_a_discrete_vae(bahu: Any, tmp_path: Path, data_home: Path) -> None:
    model = Dvae(DvaeConfig(codes=24, n_hid=8, n_init=4, n_blk_per_group=1, groups=3)).eval()
    theirs = from_ours(model.state_dict(), list(keys(model.state_dict())))
    for part in ("encoder", "decoder"):
        state = {key.removeprefix(f"{part}."): t for key, t in theirs.items() if key.startswith(part)}
        save_file(state, tmp_path / f"{part}.safetensors")
    ran = bahu("models", "import", tmp_path / "encoder.safetensors", tmp_path / "decoder.safetensors")
    assert ran.code == 0 and "try: bahu reconstruct PICTURE --model openai/dvae" in ran.out, ran.err
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(load_codec("openai/dvae").encode(x), model.encode(x))

    (tmp_path / "encoder.pkl").write_bytes(b"")
    (tmp_path / "decoder.pkl").write_bytes(b"")
    ran = bahu("models", "import", tmp_path / "encoder.pkl", tmp_path / "decoder.pkl", "--name", "other")
    assert ran.code == 1 and "encoder.pkl: a pickled module" in ran.err and ran.err.count("\n") == 1
