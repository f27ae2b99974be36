"""Embedding tables in few bits: INT8 with a scale a row, stored so or in 4 or 3 bits.

ONNX Runtime's quantizer gives a whole table one scale; a scale a row keeps far more of the rare words.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from openautoglm.quantization import four_bits

# The table of words, in a module's path or a weight's name: whole, factorised, or the rows that a coded one keeps.
WORDS = re.compile(r"(word_embeddings|embed_tokens)(\.table|\.whole)?(\.weight)?$")


def lookups(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Gather nodes that look rows up in a stored float table of two dimensions."""
    tables = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    return [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in tables]


def store(model: onnx.ModelProto, words: str) -> None:
    """Every table as INT8 with a float32 scale a row, but the word table in the bits of `words`, its format. In place.

    A lookup becomes one of the codes and one of the scales, Cast and Mul.
    """
    for node in lookups(model):
        name, ids, out = node.input[0], node.input[1], node.output[0]
        table, codes = _take(model, name), f"{name}_quantized"
        if words in four_bits.BITS and WORDS.search(name):
            scale = four_bits.store(model, codes, table, four_bits.BITS[words])[:, None]
        else:
            rows, scale = int8(table, axis=1)
            model.graph.initializer.append(numpy_helper.from_array(rows, codes))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        made = [
            helper.make_node("Gather", [codes, ids], [f"{out}_rows"], name=f"{node.name}_rows"),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{out}_scales"], name=f"{node.name}_scales"),
            helper.make_node("Cast", [f"{out}_rows"], [f"{out}_float"], name=f"{node.name}_cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}_float", f"{out}_scales"], [out], name=f"{node.name}_mul"),
        ]
        replace(model, node, made)


def int8(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric INT8: the codes, and the scales with `axis` reduced to 1; weight is about codes * scales."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8).astype(np.float32) / 127
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def rounded(rows: np.ndarray, number_format: str) -> np.ndarray:
    """(rows, width) -> what "int8", "int4" or "int3" makes of them, float32."""
    bits = four_bits.BITS.get(number_format)
    codes, scale = four_bits.int8(rows, bits) if bits else int8(rows, axis=1)
    return codes * scale


def replace(model: onnx.ModelProto, node: onnx.NodeProto, made: list[onnx.NodeProto]) -> None:
    """Put nodes in the place of one. In place."""
    place = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    for i, added in enumerate(made):
        model.graph.node.insert(place + i, added)


def _take(model: onnx.ModelProto, name: str) -> np.ndarray:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    value = numpy_helper.to_array(tensor).copy()
    model.graph.initializer.remove(tensor)
    return value
