"""Embedding tables in few bits: INT8 with a scale a row, stored so or in 4 or 3 bits.

ONNX Runtime's quantizer gives a whole table one scale; a scale a row keeps far more of the rare words.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from openautoglm.quantization import beside, four_bits
from openautoglm.quantization.coded_rows import CodedRows
from openautoglm.quantization.int8 import int8

# The table of words, in a module's path or a weight's name: whole, factorised, or the rows that a coded one keeps.
WORDS = re.compile(r"(word_embeddings|embed_tokens)(\.table|\.whole)?(\.weight)?$")


def lookups(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Gather nodes that look rows up in a stored float table of two dimensions."""
    tables = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    return [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in tables]


def store(model: onnx.ModelProto, words: str, coded: CodedRows | None = None) -> None:
    """Every table as INT8 with a float32 scale a row, but the word table in the bits of `words`, its format. In place.

    A word's lookup becomes one of the codes and one of the scales, Cast and Mul. Other tables are small: the runtime
    multiplies them out when it loads the model. coded: the rows in product codes behind the word table's own.
    """
    bits = four_bits.BITS.get(words)
    for node in lookups(model):
        name, ids, out = node.input[0], node.input[1], node.output[0]
        codes, scales, table = f"{name}_quantized", f"{name}_scale", _take(model, name)
        is_words = bool(WORDS.search(name))
        if is_words and coded:
            beside.in_product_codes(model, name, table, coded, bits)
        elif is_words and bits:
            scale = beside.in_few_bits(model, codes, table, bits)[:, None]
            model.graph.initializer.append(numpy_helper.from_array(scale, scales))
        else:
            for value, stored in zip(int8(table, axis=1), (codes, scales), strict=True):
                model.graph.initializer.append(numpy_helper.from_array(value, stored))
        if is_words:
            replace(model, node, _looked_up(node.name, codes, scales, ids, out))
        else:
            replace(model, node, [*_product(codes, scales, name), node])


def _looked_up(node: str, codes: str, scales: str, ids: str, out: str) -> list[onnx.NodeProto]:
    rows, row_scales = f"{out}_rows", f"{out}_scales"
    return [
        helper.make_node("Gather", [codes, ids], [rows], name=f"{node}_rows"),
        helper.make_node("Gather", [scales, ids], [row_scales], name=f"{node}_scales"),
        *_product(rows, row_scales, out),
    ]


def _product(codes: str, scales: str, name: str) -> list[onnx.NodeProto]:
    """Nodes that make `name` of INT8 codes and their scales."""
    real = f"{name}_real"
    return [
        helper.make_node("Cast", [codes], [real], name=real, to=TensorProto.FLOAT),
        helper.make_node("Mul", [real, scales], [name], name=f"{name}_mul"),
    ]


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
