"""OpenAI's discrete VAE, the codec of DALL-E 1 -> ours.

    theirs                                                 ours
    encoder: blocks.group_1.block_1.res_path.conv_1.w      encoder.blocks.group_1.block_1.res_path.conv_1.weight
    decoder: blocks.input.b                                decoder.blocks.input.bias

Two files, one for each network. Those that OpenAI published, `encoder.pkl` and `decoder.pkl`, are whole modules
pickled: to open one is to run what it holds, so they are not opened here. Whoever trusts them converts each once, with
their own package, by the line that the error shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bahumukha.errors import ModelError, UsageError
from bahumukha.models.dvae import Dvae, DvaeConfig
from bahumukha.zoo.checkpoints import read_tensors
from bahumukha.zoo.codecs import fill, save_codec
from bahumukha.zoo.convert import Key, to_ours
from bahumukha.zoo.folder import CARD
from bahumukha.zoo.importing import aside, import_target

PICKLES = (".pkl", ".pickle")
PARTS = ("encoder", "decoder")
NAME = "openai/dvae"
"""What it is called where nothing is said."""


def import_dvae(encoder: Path, decoder: Path, *, name: str = NAME, replace: bool = False) -> Path:
    """Bring OpenAI's weights, or ones of that layout, in as a codec called `name` -> its folder.

    Weights are kept as they are, in float32. Raises ModelError or UsageError.
    """
    target = import_target(name, replace)
    codec = read_dvae(encoder, decoder)
    with aside(target) as folder:
        save_codec(codec, folder, name, steps=0, weights="float32")
        (folder / CARD).write_text(_card(name, codec.config), encoding="utf-8")
    return target


def read_dvae(encoder: Path, decoder: Path) -> Dvae:
    """The codec of two state dicts, sizes and all: float32, eval mode, frozen. Raises ModelError or UsageError."""
    states = {part: _read(path, part) for part, path in zip(PARTS, (encoder, decoder), strict=True)}
    state = {f"{part}.{key}": value for part, tensors in states.items() for key, value in tensors.items()}
    source = f"{encoder} and {decoder}"
    try:
        config = describe(state)
        with torch.device("meta"):
            ours = Dvae(config).state_dict()
        converted = to_ours(state, list(keys(ours)))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{source}: not the networks of dall_e ({error})") from error
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    codec = Dvae(config)
    fill(codec, converted, source)
    return codec.eval().requires_grad_(False)


def keys(ours: Mapping[str, Tensor]) -> Iterator[Key]:
    """Where their two state dicts, named `encoder.…` and `decoder.…`, keep each tensor of our dVAE."""
    for name in ours:
        place, _, kind = name.rpartition(".")
        yield Key(name, (f"{place}.{'w' if kind == 'weight' else 'b'}",))


def describe(state: Mapping[str, Tensor]) -> DvaeConfig:
    """The sizes, as the tensors tell them. Raises KeyError for a tensor that is missing, ValueError for odd sizes."""
    places = [name.split(".") for name in state if name.startswith("encoder.blocks.group_")]
    return DvaeConfig(
        codes=state["encoder.blocks.output.conv.w"].shape[0],
        n_hid=state["encoder.blocks.input.w"].shape[0],
        n_init=state["decoder.blocks.input.w"].shape[0],
        n_blk_per_group=len({place[3] for place in places if place[2] == "group_1"}),
        groups=len({place[2] for place in places}),
    )


def _read(path: Path, part: str) -> dict[str, Tensor]:
    path = path.expanduser()
    if not path.is_file():
        raise UsageError(f"{path}: no such file; it must hold the weights of the {part}")
    if path.suffix in PICKLES:
        raise ModelError(
            f"{path}: a pickled module, which is a program and not only weights, so it is not opened; where you trust "
            'it, convert it once (pip install dall-e safetensors): python -c "import torch, safetensors.torch as s; '
            f"s.save_file(torch.load('{path.name}', map_location='cpu', weights_only=False).state_dict(), "
            f"'{path.stem}.safetensors')\""
        )
    return read_tensors(path)


def _card(name: str, config: DvaeConfig) -> str:
    f = 2 ** (config.groups - 1)
    return f"""---
licence: that of its source
summary: A discrete VAE of DALL-E 1's kind, f{f}, {config.codes} codes.
source: weights in the layout of OpenAI's package dall-e
---
# {name}

Weights made by others, brought into this form. Data, licence and limits are those of the source. A picture becomes one
of {config.codes} codes for each {f} x {f} pixels.
"""
