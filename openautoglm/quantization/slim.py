"""An artifact's graph without what nobody reads: names, zero points, and vectors in more bits than they need."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VECTOR = 64  # numbers that are worth a Cast to be stored in half the bytes
MOVED = 1e-3  # of a tensor's size: what 16 bits may move it by


def drop_zero_points(model: onnx.ModelProto) -> None:
    """Symmetric INT8 weights need no zero points; a product without them is the same. In place."""
    zero = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT8 and not _value(t).any()}
    for node in model.graph.node:
        if node.op_type in ("MatMulInteger", "QAttention") and node.input[-1] in zero:
            del node.input[-1]
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name in zero - read]:
        model.graph.initializer.remove(tensor)


def store_in_16_bits(model: onnx.ModelProto, names: set[str]) -> None:
    """Keep the named weights as float16 and cast them to float32 at load (ONNX Runtime folds the Cast). In place."""
    graph = model.graph
    for tensor in [t for t in graph.initializer if t.name in names and t.data_type == TensorProto.FLOAT]:
        half = f"{tensor.name}_fp16"
        graph.initializer.append(numpy_helper.from_array(_value(tensor).astype(np.float16), half))
        cast = helper.make_node("Cast", [half], [tensor.name], name=f"{tensor.name}_cast", to=TensorProto.FLOAT)
        graph.node.insert(0, cast)
        graph.initializer.remove(tensor)


def vectors(model: onnx.ModelProto) -> set[str]:
    """Stored biases, norms and scales that 16 bits hold well: what is left in float32 beside weights in few bits."""
    floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    return {t.name for t in floats if max(t.dims, default=1) == _value(t).size >= VECTOR and _held(_value(t))}


def _held(value: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        moved = np.linalg.norm(value.astype(np.float16).astype(np.float64) - value)
    return bool(moved <= MOVED * np.linalg.norm(value))


def shorten_names(model: onnx.ModelProto) -> None:
    """Short names for what passes between nodes, and none for nodes that read no weight. In place.

    Weights keep their names, and so do the nodes that read them: by these `openautoglm inspect` tells the parts.
    """
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    constant = set(stored)  # and what is made of nothing else
    kept = {value.name for value in (*graph.input, *graph.output)} | stored | {""}
    short: dict[str, str] = {}
    for node in graph.node:
        if node.input and constant.issuperset(node.input):
            constant.update(node.output)
            node.name = ""
        elif not constant.intersection(node.input):
            node.name = ""
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name not in kept:
                    names[i] = short.setdefault(name, f"t{len(short)}")
    del graph.value_info[:]


def _value(tensor: onnx.TensorProto) -> np.ndarray:
    return numpy_helper.to_array(tensor)
