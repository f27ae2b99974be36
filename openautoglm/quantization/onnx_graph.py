"""Number formats in an ONNX graph: the off-the-shelf INT8 quantizer, and a precision plan a group of weights.

Groups: `embedding` (tables behind Gather), `attention`, `ffn` and `head` (MatMul and Gemm weights, by their names).
Formats: "int8" (weights QInt8 with one scale a channel or a row, activations dynamic INT8), "fp16" (stored in 16 bits,
computed in float32, since float16 arithmetic is 3 to 4 times slower on most CPUs) and "fp32".
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GROUPS = ("embedding", "attention", "ffn", "head")
FORMATS = ("int8", "fp16", "fp32")


def quantize(model: onnx.ModelProto, *, nodes: list[str] | None = None) -> onnx.ModelProto:
    """ONNX Runtime's dynamic quantizer: QInt8 weights, one scale a channel. `nodes` (names) limits it; None: all."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if nodes == []:
        return model
    logging.getLogger().setLevel(logging.ERROR)  # it advises a pre-processing step that changes nothing here
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True, nodes_to_quantize=nodes)
        return onnx.load(str(target))


def apply_plan(model: onnx.ModelProto, plan: dict[str, str]) -> onnx.ModelProto:
    """Store and compute each group of weights in its format of `plan`; a group that is not named stays float32.

    ValueError for a group or a format that does not exist.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    unknown = [f"{g}: {f}" for g, f in plan.items() if g not in GROUPS or f not in FORMATS]
    if unknown:
        raise ValueError(f"Plan has {unknown}; groups are {GROUPS}, formats {FORMATS}.")
    ONNXModel(model).replace_gemm_with_matmul()  # as the quantizer does itself, but before nodes are chosen by name
    if plan.get("embedding") == "int8":
        quantize_rows(model)
    int8 = [node.name for node in _linears(model) if plan.get(_group(node)) == "int8"]
    model = quantize(model, nodes=int8)
    halves = {node.input[1] for node in _linears(model) if plan.get(_group(node)) == "fp16"}
    if plan.get("embedding") == "fp16":
        halves |= {node.input[0] for node in _tables(model)}
    store_in_16_bits(model, halves)
    return model


def quantize_rows(model: onnx.ModelProto) -> None:
    """Embedding tables as INT8 with one scale a row: Gather rows and scales, Cast, Mul. In place.

    ONNX Runtime's quantizer gives a whole table one scale; a scale a row keeps far more of the rare words.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in _tables(model):
        name = node.input[0]
        table = numpy_helper.to_array(weights[name])
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8).astype(np.float32) / 127
        rows = np.clip(np.rint(table / scale), -127, 127).astype(np.int8)
        graph.initializer.remove(weights[name])
        graph.initializer.append(numpy_helper.from_array(rows, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        out, ids = node.output[0], node.input[1]
        new = [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{out}_rows"], name=f"{node.name}_rows"),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{out}_scales"], name=f"{node.name}_scales"),
            helper.make_node("Cast", [f"{out}_rows"], [f"{out}_float"], name=f"{node.name}_cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}_float", f"{out}_scales"], [out], name=f"{node.name}_mul"),
        ]
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for i, added in enumerate(new):
            graph.node.insert(place + i, added)


def store_in_16_bits(model: onnx.ModelProto, names: set[str]) -> None:
    """Keep the named weights as float16 and cast them to float32 at load (ONNX Runtime folds the Cast). In place."""
    graph = model.graph
    for tensor in [t for t in graph.initializer if t.name in names and t.data_type == TensorProto.FLOAT]:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(half, f"{tensor.name}_fp16"))
        cast = helper.make_node(
            "Cast", [f"{tensor.name}_fp16"], [tensor.name], name=f"{tensor.name}_cast", to=TensorProto.FLOAT
        )
        graph.node.insert(0, cast)


def share_equal_weights(model: onnx.ModelProto) -> None:
    """Store initializers of equal bytes once, and let every user name them directly. In place.

    The exporter gives layers that share a weight an Identity of it each, behind which the quantizer sees no weight.
    """
    first: dict[tuple, str] = {}
    same: dict[str, str] = {}
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in weights]:
        same[node.output[0]] = node.input[0]
        model.graph.node.remove(node)
    for tensor in list(model.graph.initializer):
        key = (tensor.data_type, tuple(tensor.dims), hashlib.sha256(numpy_helper.to_array(tensor).tobytes()).digest())
        if key in first:
            same[tensor.name] = first[key]
            model.graph.initializer.remove(tensor)
        else:
            first[key] = tensor.name
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            while name in same:
                name = node.input[i] = same[name]


def _tables(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Gather nodes that look rows up in a stored float table of two dimensions."""
    tables = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    return [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in tables]


def _linears(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """MatMul and Gemm nodes with a stored weight."""
    weights = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    return [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in weights]


def _group(node: onnx.NodeProto) -> str:
    """The group of a linear, by the module path that the exporter puts into the node's name."""
    if "/embeddings/" in node.name:
        return "embedding"
    if "/attention/" in node.name:
        return "attention"
    return "ffn" if "/layer." in node.name else "head"
