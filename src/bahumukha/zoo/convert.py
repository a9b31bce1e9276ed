"""The same weights under other names: OpenCLIP's and transformers' state dicts to and from ours.

A layout is a list of `Key`s, made from a `ClipConfig`, that names every tensor on both sides; `to_ours` and
`from_ours` walk it in either direction. No files, no network. What differs between the layouts:

    our key                OpenCLIP                        transformers
    attention.qkv.weight   attn.in_proj_weight             self_attn.{q,k,v}_proj.weight
    projection.weight      proj, text_projection (W, dim)  visual_projection.weight (dim, W)
    log_scale ()           logit_scale ()                  logit_scale () or (1,)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bahumukha.errors import ModelError
from bahumukha.models.clip import ClipConfig, ImageTower, ImageTowerConfig
from bahumukha.models.vit import ViTConfig

Layout = Literal["open_clip", "transformers"]
State = Mapping[str, Tensor]
SCALARS = ("log_scale", "logit_bias")
BUFFERS = ("position_ids", "attn_mask", "input_resolution", "context_length", "vocab_size")
"""What state dicts of some versions hold beside weights."""


@dataclass(frozen=True)
class Key:
    """One tensor of ours, and where another layout keeps it."""

    ours: str
    theirs: tuple[str, ...]
    """Several are parts of ours, one below the other."""
    sizes: tuple[int, ...] = ()
    """Where they are several: how long each is, as a ratio."""
    transposed: bool = False
    ones: int = 0
    """Leading axes of length 1 that theirs has and ours has not."""


def to_ours(state: State, keys: Sequence[Key]) -> dict[str, Tensor]:
    """Their state dict -> ours, float32. Every key must be there, and none may be left over.

    Raises ModelError naming the first few at fault.
    """
    wanted = {name for key in keys for name in key.theirs}
    missing = sorted(wanted - set(state))
    extra = sorted(name for name in set(state) - wanted if not name.endswith(BUFFERS))
    if missing or extra:
        faults = " and ".join(
            f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for kind, names in (("missing", missing), ("unknown", extra))
            if names
        )
        raise ModelError(f"the weights do not fit this architecture: tensors {faults}")
    return {key.ours: _read(state, key) for key in keys}


def from_ours(state: State, keys: Sequence[Key]) -> dict[str, Tensor]:
    """Our state dict -> theirs; the inverse of `to_ours`."""
    theirs: dict[str, Tensor] = {}
    for key in keys:
        tensor = state[key.ours]
        tensor = tensor.T if key.transposed else tensor
        unit = len(tensor) // sum(key.sizes) if key.sizes else 0
        parts = tensor.split([size * unit for size in key.sizes]) if key.sizes else (tensor,)
        for name, part in zip(key.theirs, parts, strict=True):
            theirs[name] = part.reshape((1,) * key.ones + part.shape).clone(memory_format=torch.contiguous_format)
    return theirs


def _read(state: State, key: Key) -> Tensor:
    parts = [state[name].detach().float() for name in key.theirs]
    whole = torch.cat(parts) if len(parts) > 1 else parts[0]
    if key.ours in SCALARS:
        return whole.reshape(())
    whole = whole.reshape(whole.shape[key.ones :])
    return (whole.T if key.transposed else whole).contiguous()


# --- the layouts


def keys(config: ClipConfig, layout: Layout) -> list[Key]:
    """Every tensor of a CLIP of this configuration but `image.mean`, which only we have."""
    made = _open_clip(config) if layout == "open_clip" else _transformers(config)
    return list(made)


def _open_clip(config: ClipConfig) -> Iterator[Key]:
    image, text = config.image, config.text
    if isinstance(image, ImageTowerConfig):
        yield from _timm_trunk(config)
    elif is_siglip(image):
        yield from _timm_vit(image)
    else:
        yield Key("image.patches.weight", ("visual.conv1.weight",))
        yield Key("image.class_token", ("visual.class_embedding",))
        yield Key("image.position", ("visual.positional_embedding",))
        if image.pre_norm:
            yield from _module("image.norm_pre", "visual.ln_pre")
        yield from _open_clip_blocks("image", "visual.transformer", image.layers)
        yield from _module("image.norm", "visual.ln_post")
        yield Key("image.projection.weight", ("visual.proj",), transposed=True)

    prefix = "text." if has_custom_text(config) else ""
    yield Key("text.token.weight", (f"{prefix}token_embedding.weight",))
    yield Key("text.position", (f"{prefix}positional_embedding",))
    yield from _open_clip_blocks("text", f"{prefix}transformer", text.layers)
    yield from _module("text.norm", f"{prefix}ln_final")
    if text.projection_bias:
        yield from _module("text.projection", f"{prefix}text_projection")
    else:
        yield Key("text.projection.weight", (f"{prefix}text_projection",), transposed=True)
    yield Key("log_scale", ("logit_scale",))
    if config.logit_bias:
        yield Key("logit_bias", ("logit_bias",))


def is_siglip(image: ViTConfig) -> bool:
    """Whether OpenCLIP builds this tower from timm's SigLIP models rather than its own Vision Transformer."""
    return image.pool == "attention"


def has_custom_text(config: ClipConfig) -> bool:
    """Whether OpenCLIP's model keeps its text tower under `text.` (`custom_text` in its configuration)."""
    return config.text.attention == "all"


def _open_clip_blocks(ours: str, theirs: str, layers: int) -> Iterator[Key]:
    for i in range(layers):
        block, at = f"{ours}.blocks.{i}", f"{theirs}.resblocks.{i}"
        yield from _module(f"{block}.norm_attention", f"{at}.ln_1")
        yield Key(f"{block}.attention.qkv.weight", (f"{at}.attn.in_proj_weight",))
        yield Key(f"{block}.attention.qkv.bias", (f"{at}.attn.in_proj_bias",))
        yield from _module(f"{block}.attention.out", f"{at}.attn.out_proj")
        yield from _module(f"{block}.norm_mlp", f"{at}.ln_2")
        yield from _module(f"{block}.mlp.0", f"{at}.mlp.c_fc")
        yield from _module(f"{block}.mlp.2", f"{at}.mlp.c_proj")


def _timm_trunk(config: ClipConfig) -> Iterator[Key]:
    assert isinstance(config.image, ImageTowerConfig)
    with torch.device("meta"):
        trunk = ImageTower(config.image, config.dim).trunk
    for name in trunk.state_dict():
        yield Key(f"image.trunk.{name}", (f"visual.trunk.{name}",))
    yield Key("image.projection.weight", ("visual.head.proj.weight",))


def _timm_vit(image: ViTConfig) -> Iterator[Key]:
    trunk = "visual.trunk"
    yield from _module("image.patches", f"{trunk}.patch_embed.proj")
    yield Key("image.position", (f"{trunk}.pos_embed",), ones=1)
    for i in range(image.layers):
        block, at = f"image.blocks.{i}", f"{trunk}.blocks.{i}"
        yield from _module(f"{block}.norm_attention", f"{at}.norm1")
        yield from _module(f"{block}.attention.qkv", f"{at}.attn.qkv")
        yield from _module(f"{block}.attention.out", f"{at}.attn.proj")
        yield from _module(f"{block}.norm_mlp", f"{at}.norm2")
        yield from _module(f"{block}.mlp.0", f"{at}.mlp.fc1")
        yield from _module(f"{block}.mlp.2", f"{at}.mlp.fc2")
    yield from _module("image.norm", f"{trunk}.norm")
    pool = f"{trunk}.attn_pool"
    yield Key("image.pool.query", (f"{pool}.latent",), ones=1)
    for end in ("weight", "bias"):
        yield Key(f"image.pool.attention.qkv.{end}", (f"{pool}.q.{end}", f"{pool}.kv.{end}"), sizes=(1, 2))
    yield from _module("image.pool.attention.out", f"{pool}.proj")
    yield from _module("image.pool.norm", f"{pool}.norm")
    yield from _module("image.pool.mlp.0", f"{pool}.mlp.fc1")
    yield from _module("image.pool.mlp.2", f"{pool}.mlp.fc2")


def _transformers(config: ClipConfig) -> Iterator[Key]:
    image, text = config.image, config.text
    assert isinstance(image, ViTConfig), "transformers' CLIPModel and SiglipModel hold Vision Transformers"
    vision, words = "vision_model", "text_model"
    yield Key("image.patches.weight", (f"{vision}.embeddings.patch_embedding.weight",))
    if image.patch_bias:
        yield Key("image.patches.bias", (f"{vision}.embeddings.patch_embedding.bias",))
    if image.class_token:
        yield Key("image.class_token", (f"{vision}.embeddings.class_embedding",))
    yield Key("image.position", (f"{vision}.embeddings.position_embedding.weight",))
    if image.pre_norm:
        yield from _module("image.norm_pre", f"{vision}.pre_layrnorm")  # their spelling
    yield from _transformers_blocks("image", vision, image.layers)
    yield from _module("image.norm", f"{vision}.post_layernorm")
    if is_siglip(image):
        head = f"{vision}.head"
        yield Key("image.pool.query", (f"{head}.probe",), ones=1)
        for end in ("weight", "bias"):
            yield Key(f"image.pool.attention.qkv.{end}", (f"{head}.attention.in_proj_{end}",))
        yield from _module("image.pool.attention.out", f"{head}.attention.out_proj")
        yield from _module("image.pool.norm", f"{head}.layernorm")
        yield from _module("image.pool.mlp.0", f"{head}.mlp.fc1")
        yield from _module("image.pool.mlp.2", f"{head}.mlp.fc2")
    else:
        yield Key("image.projection.weight", ("visual_projection.weight",))

    yield Key("text.token.weight", (f"{words}.embeddings.token_embedding.weight",))
    yield Key("text.position", (f"{words}.embeddings.position_embedding.weight",))
    yield from _transformers_blocks("text", words, text.layers)
    yield from _module("text.norm", f"{words}.final_layer_norm")
    if text.projection_bias:
        yield from _module("text.projection", f"{words}.head")
    else:
        yield Key("text.projection.weight", ("text_projection.weight",))
    # SigLIP's two numbers have an axis there, CLIP's one has none.
    yield Key("log_scale", ("logit_scale",), ones=int(config.logit_bias))
    if config.logit_bias:
        yield Key("logit_bias", ("logit_bias",), ones=1)


def _transformers_blocks(ours: str, theirs: str, layers: int) -> Iterator[Key]:
    for i in range(layers):
        block, at = f"{ours}.blocks.{i}", f"{theirs}.encoder.layers.{i}"
        yield from _module(f"{block}.norm_attention", f"{at}.layer_norm1")
        for end in ("weight", "bias"):
            parts = tuple(f"{at}.self_attn.{part}_proj.{end}" for part in "qkv")
            yield Key(f"{block}.attention.qkv.{end}", parts, sizes=(1, 1, 1))
        yield from _module(f"{block}.attention.out", f"{at}.self_attn.out_proj")
        yield from _module(f"{block}.norm_mlp", f"{at}.layer_norm2")
        yield from _module(f"{block}.mlp.0", f"{at}.mlp.fc1")
        yield from _module(f"{block}.mlp.2", f"{at}.mlp.fc2")


def _module(ours: str, theirs: str) -> Iterator[Key]:
    for end in ("weight", "bias"):
        yield Key(f"{ours}.{end}", (f"{theirs}.{end}",))
