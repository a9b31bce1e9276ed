"""Model folders small enough to make in a test: random towers in ONNX, a tokenizer of bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

DIM = 16
SIZE = 32
CONTEXT = 12
CARD = "---\nlicence: CC0-1.0\nsummary: Random weights.\ndata: none\n---\n# Tiny\n\nFor tests.\n"
SPECIAL = {"<pad>": 0, "<start>": 1, "<end>": 2}

PREPROCESS = {
    "size": SIZE,
    "resize": SIZE,
    "mode": "shortest",
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def make_clip_folder(folder: Path, *, seed: int = 0, mask: bool = True, **config: Any) -> Path:
    """A complete model folder with random weights; keywords replace keys of config.json, None removes one."""
    random = np.random.default_rng(seed)
    (folder / "onnx").mkdir(parents=True)
    save_graph(folder / "onnx/image.onnx", image_graph(random))
    save_graph(folder / "onnx/text.onnx", text_graph(random, mask=mask))
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "card.md").write_text(
        "---\nlicence: CC0-1.0\nsummary: Random weights.\ndata: none\n---\n# Tiny\n\nFor tests.\n",
        encoding="utf-8",
    )
    written = {
        "format": 1,
        "kind": "clip",
        "name": "tiny",
        "dim": DIM,
        "logit_scale": 50.0,
        "fingerprint": f"tiny-{seed}",
        "preprocess": PREPROCESS,
        "context_length": CONTEXT,
        "templates": ["a photo of a {}.", "{}"],
        "steps": 0,
        "architecture": {},
    } | config
    write_config(folder, {key: value for key, value in written.items() if value is not None})
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def save_graph(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def image_graph(random: np.random.Generator, dim: int = DIM) -> onnx.GraphProto:
    """A convolution, a pool over 4 x 4 cells, a projection: pixels (B, 3, S, S) -> embeddings (B, dim)."""
    cells = SIZE // 4
    kernel = random.normal(size=(4, 3, 4, 4)).astype(np.float32)
    matrix = random.normal(size=(4 * cells * cells, dim)).astype(np.float32)
    return helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "kernel"], ["features"], strides=[4, 4]),
            helper.make_node("Flatten", ["features"], ["flat"]),
            helper.make_node("MatMul", ["flat", "matrix"], ["embeddings"]),
        ],
        "image",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["B", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", dim])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(matrix, "matrix")],
    )


def text_graph(random: np.random.Generator, *, mask: bool = True, dim: int = DIM) -> onnx.GraphProto:
    """Sum of the token vectors: ids and mask (B, L) -> embeddings (B, dim). Without `mask`, a pad is 0."""
    table = random.normal(size=(256 + len(SPECIAL), dim)).astype(np.float32)
    table[SPECIAL["<pad>"]] = 7.0 if mask else 0.0  # a tower that forgot its mask would show
    nodes = [helper.make_node("Gather", ["table", "ids"], ["tokens"])]
    if mask:
        nodes += [
            helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
            helper.make_node("Mul", ["tokens", "column"], ["kept"]),
        ]
    nodes.append(helper.make_node("ReduceSum", ["kept" if mask else "tokens", "one"], ["embeddings"], keepdims=0))
    names = ["ids", "mask"] if mask else ["ids"]
    constants = {"table": table, "one": np.array([1])} | ({"last": np.array([2])} if mask else {})
    return helper.make_graph(
        nodes,
        "text",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in names],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def tokenizer() -> Tokenizer:
    """One token a byte of UTF-8, between a start and an end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = SPECIAL | {token: len(SPECIAL) + place for place, token in enumerate(alphabet)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    made.enable_padding(pad_id=0, pad_token="<pad>")
    return made
