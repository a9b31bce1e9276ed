"""Checkpoints of taming-transformers (and of latent-diffusion's first stages) -> our VQGAN.

    theirs                                     ours
    encoder.*, decoder.*                       the same
    quant_conv.*                               encoder.quant_conv.*
    post_quant_conv.*                          decoder.post_quant_conv.*
    quantize.embedding.weight (VQ)             quantizer.embedding.weight
    quantize.embed.weight, quantize.proj.*     quantizer.embed.weight, quantizer.proj.* (Gumbel)
    loss.*, model_ema.*                        left out: critic, perceptual loss, averages

Several codecs were published only inside a transformer's checkpoint (faces, landscapes), where all this stands below
`first_stage_model.`; the config then describes it under `first_stage_config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bahumukha.errors import ModelError, UsageError
from bahumukha.models.quantize import QuantizerConfig, VectorQuantizer
from bahumukha.models.vqgan import Vqgan, VqganConfig
from bahumukha.zoo.codecs import fill, save_codec
from bahumukha.zoo.convert import Key, to_ours
from bahumukha.zoo.folder import CARD
from bahumukha.zoo.importing import aside, import_target
from bahumukha.zoo.lightning import read_state

KINDS = {"VQModel": "vq", "VQModelInterface": "vq", "GumbelVQ": "gumbel"}
"""Their classes of codecs, and what we call the quantiser of each."""
LEFT_OUT = ("loss.", "model_ema.")
OURS_ALONE = "quantizer.usage"


@dataclass(frozen=True)
class Described:
    """What a config of theirs says of the codec in its checkpoint."""

    config: VqganConfig
    prefix: str
    """Before the codec's tensors: `first_stage_model.` in a transformer's checkpoint, else nothing."""


def import_taming(
    checkpoint: Path, config: Path | None = None, *, name: str | None = None, replace: bool = False
) -> Path:
    """Bring a public VQGAN in, called `name` (default: the checkpoint's, without its end) -> its folder.

    `config`: its YAML (default: beside the checkpoint, of the same name). Weights are kept as they are, in float32.
    Raises ModelError or UsageError.
    """
    if not checkpoint.is_file():
        raise UsageError(f"{checkpoint}: no such file")
    config = config or _beside(checkpoint)
    name = name or checkpoint.stem
    target = import_target(name, replace)
    codec = read_taming(checkpoint, config)
    with aside(target) as folder:
        save_codec(codec, folder, name, steps=0, weights="float32")
        (folder / CARD).write_text(_card(name, checkpoint, codec.config), encoding="utf-8")
    return target


def read_taming(checkpoint: Path, config: Path) -> Vqgan:
    """The codec of a checkpoint and its YAML config: float32, eval mode, frozen. Raises ModelError."""
    described = describe(config)
    with torch.device("meta"):
        ours = Vqgan(described.config).state_dict()
    state = read_state(checkpoint, lambda key: _is_wanted(key, described.prefix))
    state = {key.removeprefix(described.prefix): value for key, value in state.items()}
    try:
        converted = to_ours(state, list(keys(ours)))
    except ModelError as error:
        raise ModelError(f"{checkpoint}: {error} of {config}") from error
    codec = Vqgan(described.config)
    if OURS_ALONE in ours:
        converted[OURS_ALONE] = torch.zeros_like(ours[OURS_ALONE], device="cpu")
    fill(codec, converted, str(checkpoint))
    if isinstance(codec.quantizer, VectorQuantizer):
        codec.quantizer.mark_used()
    return codec.eval().requires_grad_(False)


def keys(ours: Mapping[str, Tensor]) -> Iterator[Key]:
    """Where their state dict keeps each tensor of our VQGAN."""
    renamed = {
        "encoder.quant_conv.": "quant_conv.",
        "decoder.post_quant_conv.": "post_quant_conv.",
        "quantizer.": "quantize.",
    }
    for name in ours:
        theirs = name
        for old, new in renamed.items():
            if name.startswith(old):
                theirs = new + name.removeprefix(old)
        if name != OURS_ALONE:
            yield Key(name, (theirs,))


def _is_wanted(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and not key.removeprefix(prefix).startswith(LEFT_OUT)


# --- their configs


def describe(path: Path) -> Described:
    """Read a YAML config of theirs. Raises ModelError naming the file and what is not supported."""
    model = _table(_read_yaml(path), "model", path)
    parameters, prefix = _table(model, "params", path), ""
    if _class_name(model) == "Net2NetTransformer":
        model = _table(parameters, "first_stage_config", path)
        parameters, prefix = _table(model, "params", path), "first_stage_model."
    kind = KINDS.get(_class_name(model))
    if kind is None:
        raise ModelError(f"{path}: 'target' is {model.get('target')!r}; its class must be one of {', '.join(KINDS)}")
    if parameters.get("remap"):
        raise ModelError(f"{path}: 'remap' renumbers the codes by a file, which is not supported")
    networks = _table(parameters, "ddconfig", path)
    _must_be(networks, {"in_channels": 3, "out_ch": 3}, path)
    _must_be(networks, {"double_z": False, "resamp_with_conv": True, "attn_type": "vanilla"}, path, optional=True)
    codes, dim = (_integer(parameters, key, path) for key in ("n_embed", "embed_dim"))
    sizes = {key: _integer(networks, key, path) for key in ("ch", "num_res_blocks", "resolution", "z_channels")}
    levels = {key: _integers(networks, key, path) for key in ("ch_mult", "attn_resolutions")}
    if kind == "gumbel" and dim != sizes["z_channels"]:
        raise ModelError(f"{path}: 'embed_dim' {dim} must be 'z_channels' {sizes['z_channels']} in a Gumbel model")
    try:
        quantizer = QuantizerConfig(kind, codes=codes)  # type: ignore[arg-type]
        config = VqganConfig(**sizes, **levels, embed_dim=dim, quantizer=quantizer)  # type: ignore[arg-type]
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error
    return Described(config, prefix)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: not YAML ({reason}); give the checkpoint first, then its config") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds no settings; it must be the model's config, beginning with 'model:'")
    return values


def _class_name(model: Mapping[str, Any]) -> str:
    return str(model.get("target")).rpartition(".")[2]


def _table(values: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    table = values.get(key)
    if not isinstance(table, dict):
        raise ModelError(f"{path}: has no {key!r}; it must be a config of taming-transformers")
    return table


def _integer(values: Mapping[str, Any], key: str, path: Path) -> int:
    value = values.get(key)
    if type(value) is not int or value < 1:
        raise ModelError(f"{path}: {key!r} is {value!r}; it must be a whole number of at least 1")
    return value


def _integers(values: Mapping[str, Any], key: str, path: Path) -> tuple[int, ...]:
    value = values.get(key)
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise ModelError(f"{path}: {key!r} is {value!r}; it must be a list of whole numbers")
    return tuple(value)


def _must_be(values: Mapping[str, Any], expected: Mapping[str, Any], path: Path, optional: bool = False) -> None:
    for key, right in expected.items():
        if values.get(key, right if optional else None) != right:
            raise ModelError(f"{path}: {key!r} is {values.get(key)!r}; only codecs with {right!r} can be imported")


def _beside(checkpoint: Path) -> Path:
    config = checkpoint.with_suffix(".yaml")
    if not config.is_file():
        raise UsageError(
            f"{checkpoint}: a VQGAN's checkpoint needs its config: bahu models import {checkpoint.name} CONFIG.yaml "
            "(a CLIP's is given as bahu models import ARCHITECTURE --weights FILE)"
        )
    return config


def _card(name: str, checkpoint: Path, config: VqganConfig) -> str:
    f = 2 ** (len(config.ch_mult) - 1)
    return f"""---
licence: that of its source
summary: A VQGAN of taming-transformers, f{f}, {config.n_embed} codes ({checkpoint.name}).
source: {checkpoint.name}
---
# {name}

Weights made by others, brought into this form by `bahu models import`. Data, licence and limits are those of the
source. A picture becomes one of {config.n_embed} codes for each {f} x {f} pixels.
"""
