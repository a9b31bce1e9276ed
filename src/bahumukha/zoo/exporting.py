"""A model of the zoo, written for others: `bahu models export`.

onnx            a model folder of ours, its graphs in another precision
open_clip       `open_clip_config.json` and weights, for `open_clip.create_model("local-dir:FOLDER")`
transformers    a folder for `CLIPModel.from_pretrained` or `SiglipModel.from_pretrained`
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from bahumukha.errors import UsageError
from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip
from bahumukha.zoo.architectures import to_open_clip, to_transformers
from bahumukha.zoo.checkpoints import HUB_FILES
from bahumukha.zoo.convert import Layout, from_ours, keys
from bahumukha.zoo.export import GRAPHS, LEAST_COSINE, Precision, check, export_clip
from bahumukha.zoo.folder import CARD, CONFIG, TOKENIZER, WEIGHTS, ClipConfig, find, read_config
from bahumukha.zoo.importing import aside
from bahumukha.zoo.pytorch import load_clip
from bahumukha.zoo.sources import BICUBIC, BILINEAR, OPEN_CLIP_CONFIG

Format = Literal["onnx", "open_clip", "transformers"]


@dataclass(frozen=True)
class Exported:
    """What `export_model` wrote."""

    folder: Path
    bytes: int
    cosines: tuple[float, float] | None
    """Smallest cosine of the image and of the text graph to the original; None where no graph was written."""


def export_model(model: str, to: Path, *, form: Format = "onnx", precision: Precision = "float16") -> Exported:
    """Write the model called `model` into the new folder `to`. `precision`: of ONNX graphs.

    Raises ModelError when the other library has no such towers, or a graph strays from the original.
    """
    if to.exists():
        raise UsageError(f"--to {to}: exists already; give the path of a new folder")
    source = find(model)
    config, network = read_config(source), load_clip(source)
    cosines = None
    with aside(to) as folder:
        if form == "onnx":
            cosines = _write_ours(source, config, network, folder, precision)
        elif form == "open_clip":
            _write_open_clip(source, config, network, folder)
        else:
            _write_transformers(source, config, network, folder)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return Exported(to, size, cosines)


def _write_ours(
    source: Path, config: ClipConfig, network: Clip, folder: Path, precision: Precision
) -> tuple[float, float]:
    rounded = network if precision == "float32" else copy.deepcopy(network)
    export_clip(
        rounded,
        folder,
        name=config.name,
        tokenizer=(source / TOKENIZER).read_text(encoding="utf-8"),
        preprocess=config.preprocess,
        templates=config.templates,
        steps=config.steps,
        image_storage=GRAPHS[precision],
        text_storage=GRAPHS[precision],
        weights="float32" if precision == "float32" else "float16",
    )
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, folder / CARD)
    return check(folder, network, LEAST_COSINE[precision])


def _write_open_clip(source: Path, config: ClipConfig, network: Clip, folder: Path) -> None:
    described = to_open_clip(network.config, config.name)
    if network.config.text.pool == "last":
        # OpenCLIP then takes the tokenizer from this folder. Ours cleans texts itself, and twice changes nothing.
        described["text_cfg"] |= {"hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "canonicalize"}}
        _write_tokenizer(source, folder, network)
    p = config.preprocess
    preprocess = {"size": p.size, "interpolation": p.interpolation, "resize_mode": p.mode, "mean": p.mean, "std": p.std}
    _write_json(folder / OPEN_CLIP_CONFIG, {"model_cfg": described, "preprocess_cfg": preprocess})
    _write_weights(network, "open_clip", folder / HUB_FILES[0])


def _write_transformers(source: Path, config: ClipConfig, network: Clip, folder: Path) -> None:
    described = to_transformers(network.config, config.name)
    _write_json(folder / CONFIG, described)
    _write_json(folder / "preprocessor_config.json", _preprocessor(config.preprocess, described["model_type"]))
    _write_tokenizer(source, folder, network)
    _write_weights(network, "transformers", folder / WEIGHTS)


def _preprocessor(p: Preprocess, kind: str) -> dict[str, Any]:
    squash = p.mode == "squash"
    return {
        "image_processor_type": "SiglipImageProcessor" if kind == "siglip" else "CLIPImageProcessor",
        "do_resize": True,
        "size": {"height": p.resize, "width": p.resize} if squash else {"shortest_edge": p.resize},
        "do_center_crop": not squash,
        "crop_size": {"height": p.size, "width": p.size},
        "resample": BICUBIC if p.interpolation == "bicubic" else BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(p.mean),
        "image_std": list(p.std),
        "do_convert_rgb": True,
    }


def _write_tokenizer(source: Path, folder: Path, network: Clip) -> None:
    """tokenizer.json and what transformers' AutoTokenizer needs beside it."""
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    tokenizer, text = Tokenizer.from_file(str(source / TOKENIZER)), network.config.text
    end = tokenizer.id_to_token(text.end_token) if text.end_token is not None else tokenizer.encode("a").tokens[-1]
    pad = tokenizer.padding["pad_token"] if text.attention == "all" and tokenizer.padding else end
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": text.context_length,
        "eos_token": end,
        "pad_token": pad,
    }
    _write_json(folder / "tokenizer_config.json", described)


def _write_weights(network: Clip, layout: Layout, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(from_ours(network.state_dict(), keys(network.config, layout)), path, metadata={"format": "pt"})


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
