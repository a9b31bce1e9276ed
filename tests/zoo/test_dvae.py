"""OpenAI's dVAE brought in from state dicts; pickles are not opened, and the error says how to convert them."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bahumukha.errors import ModelError, UsageError
from bahumukha.models.dvae import Dvae, DvaeConfig
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.convert import from_ours
from bahumukha.zoo.dvae import import_dvae, keys, read_dvae

CONFIG = DvaeConfig(codes=24, n_hid=8, n_init=4, n_blk_per_group=2, groups=3)


@pytest.fixture
def model() -> Dvae:
    torch.manual_seed(0)
    return Dvae(CONFIG).eval().requires_grad_(False)


@pytest.fixture
def files(model: Dvae, tmp_path: Path) -> tuple[Path, Path]:
    """The two state dicts, as their package would name them."""
    theirs = from_ours(model.state_dict(), list(keys(model.state_dict())))
    paths = tmp_path / "encoder.safetensors", tmp_path / "decoder.safetensors"
    for path in paths:
        part = f"{path.stem}."
        save_file({key.removeprefix(part): t for key, t in theirs.items() if key.startswith(part)}, path)
    return paths


def test_imported_by_name_with_the_same_numbers(model: Dvae, files: tuple[Path, Path], data_home: Path) -> None:
    folder = import_dvae(*files, name="openai/dvae")
    assert folder == data_home / "models" / "openai" / "dvae" and (folder / "card.md").is_file()
    codec = load_codec("openai/dvae")
    assert codec.config == CONFIG
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(codec.encode(x), model.encode(x))
    ids = model.quantize(model.encode(x)).ids.flatten(1)
    assert torch.equal(codec.decode_ids(ids, (4, 4)), model.decode_ids(ids, (4, 4)))
    with pytest.raises(ModelError, match="dvae: a model is there already; --replace"):
        import_dvae(*files)
    assert import_dvae(*files, replace=True) == folder


def test_tensors_that_are_missing_unknown_or_of_another_network(files: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, decoder = files
    with pytest.raises(ModelError, match="do not fit this architecture|not the networks of dall_e"):
        read_dvae(decoder, encoder)
    state = load_file(encoder)
    state["blocks.group_1.block_1.res_path.conv_5.w"] = state.pop("blocks.group_1.block_1.res_path.conv_2.w")
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=r"1 missing \(encoder\..*conv_2\.w\) and 1 unknown \(encoder\..*conv_5"):
        read_dvae(tmp_path / "odd.safetensors", decoder)
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="not the networks of dall_e"):
        read_dvae(tmp_path / "none.safetensors", decoder)
    with pytest.raises(UsageError, match="no such file; it must hold the weights of the encoder"):
        read_dvae(tmp_path / "nothing.safetensors", decoder)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_opened(files: tuple[Path, Path], tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / "encoder.pkl").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(ModelError, match=r"encoder\.pkl: a pickled module, .* not opened") as raised:
        read_dvae(tmp_path / "encoder.pkl", files[1])
    assert not sprung.exists() and "\n" not in str(raised.value)


def test_the_line_that_converts_a_pickle_works(model: Dvae, files: tuple[Path, Path], tmp_path: Path) -> None:
    """With a whole module of PyTorch's own in the place of OpenAI's."""
    torch.save(torch.nn.Linear(2, 3), tmp_path / "decoder.pkl")
    with pytest.raises(ModelError) as raised:
        read_dvae(files[0], tmp_path / "decoder.pkl")
    found = re.search(r'python -c "(.*)"$', str(raised.value))
    assert found
    (tmp_path / "decoder.safetensors").unlink()
    subprocess.run([sys.executable, "-c", found[1]], cwd=tmp_path, check=True)
    assert set(load_file(tmp_path / "decoder.safetensors")) == {"weight", "bias"}
