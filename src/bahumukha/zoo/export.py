"""A trained CLIP -> a model folder: safetensors, two ONNX graphs, tokenizer, config.

Weights are stored small and computed in float32: matrices as int8 with one scale a row, or float16, followed in the
graph by the operators that restore them. ONNX Runtime folds those into constants when a session opens, so a picture
costs what it costs in float32; an embedding table stays int8 and only the rows looked up are restored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip
from bahumukha.zoo.folder import fingerprint

Storage = Literal["float32", "float16", "int8"]
SMALL = 4096
"""Tensors with fewer elements (biases, norms, small kernels) stay float32: they weigh little and matter much."""


class _ImageGraph(nn.Module):
    def __init__(self, model: Clip):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels)


class _TextGraph(nn.Module):
    def __init__(self, model: Clip):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(ids, mask)


def export_clip(
    model: Clip,
    folder: Path,
    *,
    name: str,
    tokenizer: str,
    preprocess: Preprocess,
    templates: Sequence[str],
    steps: int,
    image_storage: Storage = "float16",
    text_storage: Storage = "int8",
) -> None:
    """Write everything of a model folder but its card. `tokenizer` is the JSON text of a `tokenizers.Tokenizer`."""
    from safetensors.torch import save_file

    model = model.eval()
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in half.items()}, folder / "model.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in half.items()})

    pixels = torch.zeros(2, 3, preprocess.size, preprocess.size)
    ids = torch.full((2, 8), 3)
    mask = torch.ones_like(ids)  # another tensor: for one object passed twice, the exporter makes one input
    free = torch.export.Dim.DYNAMIC
    image = _trace(_ImageGraph(model), {"pixels": pixels}, {"pixels": {0: free}})
    text = _trace(
        _TextGraph(model), {"ids": ids, "mask": mask}, {"ids": {0: free, 1: free}, "mask": {0: free, 1: free}}
    )
    onnx.save(store_small(image, image_storage), folder / "onnx" / "image.onnx")
    onnx.save(store_small(text, text_storage), folder / "onnx" / "text.onnx")
    config: dict[str, Any] = {
        "format": 1,
        "kind": "clip",
        "name": name,
        "dim": model.config.dim,
        "logit_scale": round(float(model.logit_scale.detach()), 4),
        "context_length": model.config.text.context_length,
        "preprocess": preprocess.to_dict(),
        "templates": list(templates),
        "steps": steps,
        "architecture": model.config.to_dict(),
    }
    _write_config(folder, config)
    _write_config(folder, {**config, "fingerprint": fingerprint(folder)})


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _trace(graph: nn.Module, inputs: dict[str, torch.Tensor], shapes: dict[str, Any]) -> onnx.ModelProto:
    program = torch.onnx.export(
        graph.eval(),
        kwargs=inputs,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=list(inputs),
        output_names=["embeddings"],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # notes on the Python source: half the file, and paths of the machine in it
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    _fold(model)
    return model


def _fold(model: onnx.ModelProto) -> None:
    """Compute, in place, what a graph computes of its weights alone, such as a slice of one: only a weight that
    is written down can be stored small or multiplied in int8."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if not node.input or not all(name in weights for name in node.input):
            continue
        inputs = [onnx.ValueInfoProto(name=name) for name in node.input]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
        alone = helper.make_model(helper.make_graph([node], "fold", inputs, outputs), opset_imports=model.opset_import)
        feeds = {name: numpy_helper.to_array(weights[name]) for name in node.input}
        for name, value in zip(node.output, ReferenceEvaluator(alone).run(None, feeds), strict=True):
            weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in weights.items() if name in used)


def store_small(model: onnx.ModelProto, storage: Storage) -> onnx.ModelProto:
    """Replace large float32 initializers by smaller ones and the nodes that restore them, in place."""
    if storage == "float32":
        return model
    graph = model.graph
    restored = []
    gathered = {node.input[0]: node for node in graph.node if node.op_type == "Gather"}
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
        if storage == "int8" and values.ndim == 2 and tensor.name in gathered:
            restored += _int8_table(graph, gathered[tensor.name], tensor.name, values)
        elif storage == "int8" and values.ndim == 2:
            restored += _int8_matrix(graph, tensor.name, values)
        else:
            restored += _float16(graph, tensor.name, values)
    nodes = _after_gathers(list(graph.node), restored)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _float16(graph: onnx.GraphProto, name: str, values: np.ndarray) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_f16"))
    return [helper.make_node("Cast", [f"{name}_f16"], [name], to=onnx.TensorProto.FLOAT)]


def quantize_rows(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 matrix -> int8 and float32 scales so that int8 * scale is near it; one scale along `axis`."""
    scale = np.abs(values).max(axis=axis, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def _int8_matrix(graph: onnx.GraphProto, name: str, values: np.ndarray) -> list[onnx.NodeProto]:
    # A MatMul's matrix is (in, out): one scale an output keeps the error of each output relative to its size.
    rows, scale = quantize_rows(values, axis=0)
    graph.initializer.append(numpy_helper.from_array(rows, f"{name}_i8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    return [
        helper.make_node("Cast", [f"{name}_i8"], [f"{name}_cast"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name]),
    ]


def _int8_table(graph: onnx.GraphProto, gather: onnx.NodeProto, name: str, values: np.ndarray) -> list[onnx.NodeProto]:
    rows, scale = quantize_rows(values, axis=1)
    graph.initializer.append(numpy_helper.from_array(rows, f"{name}_i8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    indices, out = gather.input[1], gather.output[0]
    gather.input[0], gather.output[0] = f"{name}_i8", f"{out}_i8"
    return [
        helper.make_node("Gather", [f"{name}_scale", indices], [f"{out}_scale"]),
        helper.make_node("Cast", [f"{out}_i8"], [f"{out}_cast"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{out}_cast", f"{out}_scale"], [out]),
    ]


def _after_gathers(nodes: list[onnx.NodeProto], restored: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes in an order in which every input is made before it is used (ONNX asks for that)."""
    made = {i for node in nodes + restored for i in node.output}
    done: set[str] = set()
    pending, ordered = restored + nodes, []
    while pending:
        ready = [n for n in pending if all(i in done or i not in made for i in n.input)]
        assert ready, "the graph has a cycle"
        ordered += ready
        done |= {o for n in ready for o in n.output}
        pending = [n for n in pending if not any(n is r for r in ready)]
    return ordered
