"""ONNX graphs with small weights.

Stored small and computed in float32: matrices as int8 with one scale a row, or float16, followed in the graph by the
operators that restore them. ONNX Runtime folds those into constants when a session opens, so a picture costs what it
costs in float32; an embedding table stays int8 and only the rows looked up are restored.

Computed in int8 (`int8-dynamic`): matrices stay int8 and activations are brought to int8 as they come.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bahumukha.zoo.small_tensors import quantize_rows

Storage = Literal["float32", "float16", "int8", "int8-dynamic"]
SMALL = 4096
"""Tensors with fewer elements (biases, norms, small kernels) stay float32: they weigh little and matter much."""


def fold(model: onnx.ModelProto) -> None:
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
    """Replace large float32 initializers by smaller ones and the nodes that restore them; the graph may be reused."""
    if storage == "float32":
        return model
    if storage == "int8-dynamic":
        model = _int8_products(model)
    graph = model.graph
    restored = []
    gathered = {node.input[0]: node for node in graph.node if node.op_type == "Gather"}
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
        if storage.startswith("int8") and values.ndim == 2 and tensor.name in gathered:
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


def _int8_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Products with a matrix of weights, in int8: one scale a column, and 7 bits, since on a CPU without VNNI the sums
    of 8-bit products overflow their 16 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Shapes were inferred and the graph folded already, which is all that quantize_dynamic would warn about.
    model.metadata_props.append(onnx.StringStringEntryProto(key="onnx.quant.pre_process", value="onnxruntime.quant"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "quantized.onnx"
        quantize_dynamic(
            model,
            path,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        quantized = onnx.load(path)
    del quantized.metadata_props[:]
    return quantized
