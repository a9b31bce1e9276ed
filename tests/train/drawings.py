"""Transparent drawings of coloured shapes in three styles, with their names and keys, and a codec to encode them by."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from bahumukha.models.quantize import QuantizerConfig
from bahumukha.models.vit_codec import VitCodecConfig
from bahumukha.models.vqgan import Codec, build_codec
from bahumukha.zoo.codecs import save_codec

STYLES = ("noto", "fluent-emoji", "openmoji")
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SPANISH = {"red": "rojo", "green": "verde", "blue": "azul", "yellow": "amarillo"}
SIDE = 40


def drawing(style: str, colour: str, shape: str) -> Image.Image:
    """RGBA, SIDE pixels square; the style is how thick the black outline is."""
    picture = Image.new("RGBA", (SIDE, SIDE))
    pen = ImageDraw.Draw(picture)
    draw = pen.ellipse if shape == "circle" else pen.rectangle
    draw((3, 3, 36, 36), COLOURS[colour], outline="black", width=1 + 2 * STYLES.index(style))
    return picture


def write_drawings(folder: Path) -> Path:
    """24 pictures and a captions.jsonl as the recipes write it."""
    folder.mkdir(parents=True)
    lines = []
    for style in STYLES:
        for colour in COLOURS:
            for shape in ("circle", "square"):
                name = f"{style}-{colour}-{shape}.png"
                drawing(style, colour, shape).save(folder / name)
                captions = {"en": [f"{colour} {shape}", shape], "es": [f"{shape} {SPANISH[colour]}"]}
                row = {"file": name, "style": style, "key": f"{colour}-{shape}", "captions": captions}
                lines.append(json.dumps(row | {"split": "train"}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def tiny_codec(seed: int = 0) -> Codec:
    """Random weights, 25 codes, one for each 8 x 8 pixels; frozen."""
    torch.manual_seed(seed)
    quantizer = QuantizerConfig("fsq", levels=(5, 5))
    sizes = {"width": 32, "heads": 2, "fine_width": 16, "encoder_layers": 1, "decoder_layers": 1}
    codec = build_codec(VitCodecConfig(**sizes, quantizer=quantizer))  # type: ignore[arg-type]
    return codec.eval().requires_grad_(False)


def write_codec(folder: Path) -> Path:
    """`tiny_codec` as a model folder."""
    save_codec(tiny_codec(), folder, "tiny", 1, "float32")
    return folder
