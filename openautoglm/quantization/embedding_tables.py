"""Embedding tables in few bits: INT8 with a scale a row, or 4-bit blocks with a scale each.

ONNX Runtime's quantizer gives a whole table one scale; a scale a row or a block keeps far more of the rare words.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCK = 32  # weights that share a scale in the 4-bit form
SHRINKS = (0.8, 0.9, 1.0)  # of a block's range: the best in squared error is taken


def lookups(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Gather nodes that look rows up in a stored float table of two dimensions."""
    tables = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    return [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in tables]


def store_int8(model: onnx.ModelProto) -> None:
    """Every table as INT8 with a float32 scale a row: Gather rows and scales, Cast, Mul. In place."""
    for node in lookups(model):
        name, ids, out = node.input[0], node.input[1], node.output[0]
        rows, scale = int8(_take(model, name), axis=1)
        _add(model, **{f"{name}_int8": rows, f"{name}_scale": scale})
        made = [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{out}_rows"], name=f"{node.name}_rows"),
            helper.make_node("Gather", [f"{name}_scale", ids], [f"{out}_scales"], name=f"{node.name}_scales"),
            helper.make_node("Cast", [f"{out}_rows"], [f"{out}_float"], name=f"{node.name}_cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}_float", f"{out}_scales"], [out], name=f"{node.name}_mul"),
        ]
        replace(model, node, made)


def store_int4(model: onnx.ModelProto) -> None:
    """The word table as 4-bit blocks of 32 weights with a float16 scale each, the other tables as `store_int8`.

    0.56 bytes a weight against 1.03 at 128 weights a row; ONNX Runtime's GatherBlockQuantized unpacks the rows it
    looks up. In place.
    """
    for node in [n for n in lookups(model) if n.input[1] == "input_ids"]:
        name, out = node.input[0], node.output[0]
        packed, scale = int4(_take(model, name))
        _add(model, **{f"{name}_int4": packed, f"{name}_scale": scale})
        gather = helper.make_node(
            "GatherBlockQuantized",
            [f"{name}_int4", "input_ids", f"{name}_scale"],
            [f"{out}_half"],
            name=f"{node.name}_rows",
            domain="com.microsoft",
            gather_axis=0,
            quantize_axis=1,
            block_size=BLOCK,
            bits=4,
        )
        cast = helper.make_node("Cast", [f"{out}_half"], [out], name=f"{node.name}_cast", to=TensorProto.FLOAT)
        replace(model, node, [gather, cast])
    if not any(opset.domain == "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    store_int8(model)


def int8(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric INT8: the codes, and the scales with `axis` reduced to 1; weight is about codes * scales."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8).astype(np.float32) / 127
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def int4(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width), width even -> codes (rows, width / 2) uint8, two a byte, and scales (rows, blocks) float16.

    A code is c + 8 with -8 <= c <= 7. Scales may be negative: the larger side of a block gets the code -8.
    """
    rows, width = table.shape
    if width % 2:
        raise ValueError(f"An embedding of width {width} has no 4-bit form: choose an even width, or int8.")
    blocks = np.pad(table, ((0, 0), (0, -width % BLOCK))).reshape(rows, -1, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    best = error = None
    for shrink in SHRINKS:
        for scale in (shrink * extreme / -8, shrink * np.abs(extreme) / 7):
            scale = np.where(np.abs(scale) < 1e-6, 1e-6, scale).astype(np.float16)
            codes = np.clip(np.rint(blocks / scale.astype(np.float32)), -8, 7)
            squared = np.square(codes * scale.astype(np.float32) - blocks).sum(-1, keepdims=True)
            if best is None or error is None:
                best, error = [codes, scale], squared
            better = squared < error
            best = [np.where(better, new, old) for new, old in zip((codes, scale), best, strict=True)]
            error = np.minimum(squared, error)
    assert best is not None
    unsigned = (best[0].reshape(rows, -1)[:, :width] + 8).astype(np.uint8)
    return unsigned[:, 0::2] | unsigned[:, 1::2] << 4, best[1][..., 0].astype(np.float16)


def rounded(rows: np.ndarray, number_format: str) -> np.ndarray:
    """(rows, width) -> what "int8" or "int4" makes of them, float32."""
    if number_format == "int8":
        codes, scale = int8(rows, axis=1)
        return codes * scale
    packed, halves = int4(rows)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows.shape).astype(np.float32) - 8
    return codes * np.repeat(halves.astype(np.float32), BLOCK, axis=1)[:, : rows.shape[1]]


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


def _add(model: onnx.ModelProto, **tensors: np.ndarray) -> None:
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
