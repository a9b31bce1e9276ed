"""Public models read into our terms: configuration, tensors, preprocessing and tokenizer of each.

    ARCHITECTURE/TAG    OpenCLIP's names: weights from the hub's cache on this machine, or a file
    FOLDER              transformers' CLIPModel or SiglipModel, or OpenCLIP's own form

Nothing is downloaded, and nothing is unpickled but tensors.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bahumukha.errors import ModelError
from bahumukha.images import Preprocess
from bahumukha.models.clip import ClipConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.zoo import vocabulary
from bahumukha.zoo.architectures import from_open_clip, from_transformers, refuse
from bahumukha.zoo.checkpoints import HUB_FILES, find_open_clip, read_tensors
from bahumukha.zoo.convert import Layout, is_siglip, keys, to_ours
from bahumukha.zoo.folder import CONFIG, TOKENIZER

OPEN_CLIP_CONFIG = "open_clip_config.json"
BILINEAR, BICUBIC = 2, 3
"""Pillow's numbers of resampling, in transformers' preprocessor_config.json."""


@dataclass(frozen=True)
class Imported:
    """A public model in our terms, not yet on disk."""

    name: str
    config: ClipConfig
    state: Mapping[str, Tensor]
    preprocess: Preprocess
    tokenizer: str
    """JSON text of `tokenizer.json`."""
    source: str
    """Where the weights came from, for the card."""
    half: bool
    """Whether they were stored in 16 bits."""


# --- OpenCLIP ---------------------------------------------------------------------------------------------


def read_open_clip(source: str, name: str, weights: Path | None, tokenizer: Path | None) -> Imported:
    """OpenCLIP's ARCHITECTURE/TAG, or ARCHITECTURE with `weights`. Raises ModelError."""
    import open_clip

    architecture, _, tag = source.partition("/")
    described = open_clip.get_model_config(architecture)
    if described is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=4, cutoff=0.4)
        raise ModelError(f"{architecture}: OpenCLIP has no such architecture; near: {', '.join(near) or 'none'}")
    pretrained = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and not pretrained and weights is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelError(f"{source}: no such pretrained tag; {architecture} has: {tags}; or give --weights FILE")
    if pretrained:
        _refuse_other_gelu(architecture, tag, bool(described.get("quick_gelu")), bool(pretrained.get("quick_gelu")))
    from_open_clip(described, architecture)  # what cannot be held is refused before any file is asked for
    path = weights.expanduser() if weights else find_open_clip(source, pretrained)
    return _open_clip(described, pretrained, name, path, tokenizer, f"OpenCLIP {source}")


def _read_open_clip_folder(folder: Path, name: str, tokenizer: Path | None) -> Imported:
    """A folder in OpenCLIP's own form: `open_clip_config.json`, weights, and a tokenizer where it needs one."""
    described = _read_json(folder / OPEN_CLIP_CONFIG)
    path = next((folder / file for file in HUB_FILES if (folder / file).is_file()), None)
    if path is None or "model_cfg" not in described:
        raise ModelError(f"{folder}: needs {OPEN_CLIP_CONFIG} with a 'model_cfg', and {HUB_FILES[0]}")
    if tokenizer is None and (folder / TOKENIZER).is_file():
        tokenizer = folder / TOKENIZER
    settings = described.get("preprocess_cfg", {})
    return _open_clip(
        described["model_cfg"], settings, name, path, tokenizer, f"OpenCLIP folder {folder.resolve().name}"
    )


def _open_clip(
    described: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    name: str,
    path: Path,
    tokenizer: Path | None,
    source: str,
) -> Imported:
    config = from_open_clip(described, name)
    json_text = _open_clip_tokenizer(name, described["text_cfg"], config, tokenizer)
    tensors = read_tensors(path)
    return Imported(
        name=name,
        config=config,
        state=_converted(tensors, config, "open_clip", path),
        preprocess=_open_clip_preprocess(name, config, preprocess),
        tokenizer=json_text,
        source=f"{source}, {path.name}",
        half=_is_half(tensors),
    )


def _refuse_other_gelu(architecture: str, tag: str, has: bool, needs: bool) -> None:
    if has == needs:
        return
    plain = architecture.removesuffix("-quickgelu")
    right = f"{plain}-quickgelu" if needs else plain
    kinds = ("QuickGELU", "GELU") if needs else ("GELU", "QuickGELU")
    raise ModelError(
        f"{architecture}/{tag}: these weights were trained with {kinds[0]}, and {architecture} computes {kinds[1]}, "
        f"which would spoil them; take: bahu models import {right}/{tag}"
    )


def _open_clip_preprocess(name: str, config: ClipConfig, pretrained: Mapping[str, Any]) -> Preprocess:
    size = config.image.size
    siglip = isinstance(config.image, ViTConfig) and is_siglip(config.image)
    mode = pretrained.get("resize_mode", "squash" if siglip else "shortest")
    if mode not in ("shortest", "squash"):
        raise ModelError(f"{name}: its pictures are resized by {mode!r}; bahumukha has shortest and squash")
    given = {key: pretrained[key] for key in ("mean", "std", "interpolation") if key in pretrained}
    if siglip and not given:
        given = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Preprocess(size=size, resize=size, mode=mode, **given)


def _open_clip_tokenizer(architecture: str, text: Mapping[str, Any], config: ClipConfig, given: Path | None) -> str:
    hub = text.get("hf_tokenizer_name")
    if not hub:
        if given is None and config.text.vocabulary != vocabulary.SIZE:
            raise ModelError(
                f"{architecture}: has a vocabulary of {config.text.vocabulary} tokens; add --tokenizer FILE"
            )
        json_text = _read_text(given) if given else vocabulary.clip_tokenizer()
        length = config.text.context_length if config.text.attention == "all" else None
        return vocabulary.plain(json_text, length=length, source=given)
    options = dict(text.get("tokenizer_kwargs") or {})
    if options.pop("clean", None) != "canonicalize" or options or config.text.pool != "last":
        raise refuse(architecture, f"it is fed by the tokenizer {hub} in a way of its own")
    path = given or _cached(hub, TOKENIZER)
    if path is None:
        raise ModelError(
            f"{architecture}: its tokenizer is not on this machine, and nothing is downloaded; get {TOKENIZER} of "
            f"{hub} on huggingface.co, then add --tokenizer FILE"
        )
    beside = _read_json(path.with_name("tokenizer_config.json"))
    gemma = config.text.vocabulary == 256_000  # SigLIP 2's; SigLIP's own vocabularies pad with the token that ends
    return vocabulary.siglip_tokenizer(
        path,
        length=config.text.context_length,
        clean="canonicalize",
        pad_token=_token(beside, "pad_token") or ("<pad>" if gemma else None),
        end_token=_token(beside, "eos_token") or ("<eos>" if gemma else None),
    )


def _cached(repository: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


# --- transformers -----------------------------------------------------------------------------------------


def read_transformers(folder: Path, name: str, tokenizer: Path | None) -> Imported:
    """A folder that `CLIPModel` or `SiglipModel` was saved to. Raises ModelError."""
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _read_open_clip_folder(folder, name, tokenizer)
    stored = _read_json(folder / CONFIG)
    if not stored:
        raise ModelError(f"{folder}: has no {CONFIG}; a folder of transformers' CLIPModel or SiglipModel has one")
    config = from_transformers(_with_defaults(stored), str(folder))
    tensors = _transformers_tensors(folder)
    return Imported(
        name=name,
        config=config,
        state=_converted(tensors, config, "transformers", folder),
        preprocess=_transformers_preprocess(folder, config.image.size),
        tokenizer=_transformers_tokenizer(folder, config, tokenizer),
        source=f"transformers {stored['model_type']}, {stored.get('_name_or_path') or folder.resolve().name}",
        half=_is_half(tensors),
    )


def _with_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """`config.json` holds what differs from transformers' defaults; this holds all."""
    from transformers import CLIPConfig, SiglipConfig

    kinds: dict[str, Any] = {"clip": CLIPConfig, "siglip": SiglipConfig}
    kind = kinds.get(str(stored.get("model_type")))
    return dict(stored) if kind is None else kind.from_dict(dict(stored)).to_dict()


def _transformers_tensors(folder: Path) -> dict[str, Tensor]:
    for file in ("model.safetensors", "pytorch_model.bin"):
        if (folder / file).is_file():
            return read_tensors(folder / file)
        shards = _read_json(folder / f"{file}.index.json").get("weight_map", {})
        if shards:
            tensors: dict[str, Tensor] = {}
            for shard in sorted(set(shards.values())):
                tensors |= read_tensors(folder / Path(shard).name)
            return tensors
    raise ModelError(f"{folder}: has no weights; put model.safetensors there")


def _transformers_preprocess(folder: Path, size: int) -> Preprocess:
    values = _read_json(folder / "preprocessor_config.json")
    if not values:
        values = _read_json(folder / "processor_config.json").get("image_processor", {})
    if not values:
        raise ModelError(f"{folder}: has no preprocessor_config.json; how pictures are fed belongs to the weights")
    resampling = {BILINEAR: "bilinear", BICUBIC: "bicubic"}.get(values.get("resample", BICUBIC))
    if resampling is None:
        raise ModelError(f"{folder}: pictures are resampled by {values['resample']}; bahumukha has bicubic, bilinear")
    if missing := [key for key in ("image_mean", "image_std") if key not in values]:
        raise ModelError(f"{folder}: preprocessor_config.json has no {missing[0]}; it belongs to the weights")
    side = values.get("size", size)
    squash = isinstance(side, Mapping) and "height" in side
    resize = side if isinstance(side, int) else side.get("height") or side.get("shortest_edge") or size
    return Preprocess(
        size=size,
        resize=max(int(resize), size),
        mode="squash" if squash else "shortest",
        interpolation=resampling,
        mean=tuple(values["image_mean"]),
        std=tuple(values["image_std"]),
    )


def _transformers_tokenizer(folder: Path, config: ClipConfig, given: Path | None) -> str:
    described = _read_json(folder / "tokenizer_config.json")
    candidates = [given] if given else [folder / TOKENIZER, folder / "spiece.model"]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None and (folder / "merges.txt").is_file() and config.text.pool == "end":
        return vocabulary.plain(_old_tokenizer(folder))
    if path is None:
        raise ModelError(f"{folder}: has no {TOKENIZER}; put it there, or give --tokenizer FILE")
    if config.text.pool == "end":
        return vocabulary.plain(_read_text(path), source=path)
    lowered = str(described.get("tokenizer_class")).startswith(("Siglip2", "Gemma"))
    return vocabulary.siglip_tokenizer(
        path,
        length=config.text.context_length,
        clean="lower" if lowered else "punctuation",
        pad_token=_token(described, "pad_token"),
        end_token=_token(described, "eos_token"),
    )


def _old_tokenizer(folder: Path) -> str:
    """vocab.json and merges.txt of CLIP -> tokenizer.json, by transformers."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str()


# --- both -------------------------------------------------------------------------------------------------


def _converted(tensors: Mapping[str, Tensor], config: ClipConfig, layout: Layout, path: Path) -> dict[str, Tensor]:
    try:
        return to_ours(tensors, keys(config, layout))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _is_half(tensors: Mapping[str, Tensor]) -> bool:
    """Whether 16 bits hold all that a checkpoint holds."""
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point() and tensor.dim()}
    return kinds == {torch.float16}


def _token(described: Mapping[str, Any], key: str) -> str | None:
    """A special token of `tokenizer_config.json`, which stands there as a text or as an object."""
    value = described.get(key)
    return value.get("content") if isinstance(value, Mapping) else value


def _read_text(path: Path) -> str:
    """Of a tokenizer.json. Raises ModelError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text; a {TOKENIZER} is needed ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is no such file. Raises ModelError when it is something else."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: must hold one JSON object")
    return values
