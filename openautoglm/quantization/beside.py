"""The file beside a graph: weights that the runtime unpacks once, when it loads the model, and computes with as INT8.

They are those in few bits (openautoglm.quantization.four_bits) and word rows in product codes (coded_rows). ONNX
Runtime would keep every step of the unpacking in memory, were it part of the graph. So the graph declares what comes
out as external data, and what it is made of lies in model.safetensors beside model.onnx; in its metadata, in one
string, is how each is made. Until a graph is saved, nodes of two operators of our own stand for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openautoglm.quantization import four_bits
from openautoglm.quantization.coded_rows import CodedRows, multiplied_out
from openautoglm.quantization.int8 import int8

if TYPE_CHECKING:
    import onnx

SUFFIX = ".safetensors"  # of the file
UNPACK = "Unpack4Bits"  # packed -> INT8 codes
MULTIPLY = "MultiplyOutCodes"  # whole rows and product codes -> one table's INT8 codes, and its scales


def in_few_bits(
    model: onnx.ModelProto, name: str, rows: np.ndarray, bits: int, *, transposed: bool = False
) -> np.ndarray:
    """Let `model` have the INT8 codes of `rows` (rows, width) as the tensor `name`, in few bits once it is saved.

    In place; gives the scales (rows,). transposed: the tensor is (width, rows), as MatMul reads it.
    """
    packed, scale = four_bits.pack(rows, bits)
    about = {"width": rows.shape[1], "transposed": int(transposed)}
    _stand_in(model, UNPACK, {f"{name}_int4": packed}, [name], about)
    return scale.flatten()


def in_product_codes(model: onnx.ModelProto, name: str, whole: np.ndarray, coded: CodedRows, bits: int | None) -> None:
    """Let `model` have a table as the INT8 tensor `name`_quantized and its scales `name`_scale: `whole` rows (rows,
    width), in so many bits or INT8, and behind them `coded` ones, in their codes once it is saved. In place.
    """
    rows, scale = four_bits.pack(whole, bits) if bits else int8(whole, axis=1)
    tensors = {"whole.weight_quantized": rows, "whole.weight_scale": scale, "codes": coded.codes}
    for part, weight in (("codebooks", coded.books), ("turn", coded.turn)):
        tensors[f"{part}.weight_quantized"], tensors[f"{part}.weight_scale"] = int8(weight, axis=1)
    tensors["turn.bias"] = coded.bias
    table = name.removesuffix(".weight")
    named = {f"{table}.{part}": value for part, value in tensors.items()}
    _stand_in(model, MULTIPLY, named, [f"{name}_quantized", f"{name}_scale"], {"table": table})


def _stand_in(
    model: onnx.ModelProto, operator: str, tensors: dict[str, np.ndarray], made: list[str], about: dict[str, Any]
) -> None:
    from onnx import helper, numpy_helper

    for name, value in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.insert(0, helper.make_node(operator, list(tensors), made, **about))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write `path` and, where something is to lie beside it, that under the same name with SUFFIX. Changes `model`."""
    from onnx import TensorProto, helper
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    made: dict[str, list[Any]] = {}
    for node in [node for node in model.graph.node if node.op_type in (UNPACK, MULTIPLY)]:
        own = _taken(model, node)
        if node.op_type == UNPACK:
            width, transposed = (helper.get_node_attr_value(node, name) for name in ("width", "transposed"))
            tensors[node.output[0]], made[node.output[0]] = own[node.input[0]], [width, transposed]
        else:
            rows, scales = node.output
            tensors, made[rows] = tensors | own, [helper.get_node_attr_value(node, "table").decode(), scales]
    for name, value in _unpacked(tensors, made).items():
        form = helper.np_dtype_to_tensor_dtype(value.dtype)
        declared = TensorProto(name=name, data_type=form, dims=value.shape, data_location=TensorProto.EXTERNAL)
        declared.external_data.add(key="location", value=path.with_suffix(SUFFIX).name)
        model.graph.initializer.append(declared)
    path.write_bytes(model.SerializeToString())
    if tensors:
        # one string, for safetensors writes several in an order of chance
        save_file(tensors, path.with_suffix(SUFFIX), metadata={"weights": json.dumps(made)})


def _taken(model: onnx.ModelProto, node: onnx.NodeProto) -> dict[str, np.ndarray]:
    """What a node of ours reads, by name: taken out of `model`, with the node. Some lie in 16 bits behind a Cast."""
    from onnx import numpy_helper

    graph, found = model.graph, {}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    casts = {n.output[0]: n for n in graph.node if n.op_type == "Cast"}
    for name in node.input:
        if cast := casts.get(name):
            graph.node.remove(cast)
        tensor = stored[cast.input[0] if cast else name]
        found[tensor.name.removesuffix("_fp16")] = numpy_helper.to_array(tensor)
        graph.initializer.remove(tensor)
    graph.node.remove(node)
    return found


def load(content: bytes) -> dict[str, np.ndarray]:
    """The weights that the graph declares as external, from the file that `save` wrote beside it, by name."""
    return _unpacked(*read(content))


def read(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """What the file holds, by name, and what is made of it: name -> [width, is it transposed] of a weight in few bits;
    name of the rows -> [table, name of the scales] of word rows in product codes.
    """
    from safetensors import numpy

    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return numpy.load(content), json.loads(header["__metadata__"]["weights"])


def _unpacked(tensors: dict[str, np.ndarray], made: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    found = {}
    for name, (first, second) in made.items():
        if isinstance(first, str):
            found[name], found[second] = _table(tensors, first)
        else:
            codes = four_bits.unpack(tensors[name], first)
            found[name] = np.ascontiguousarray(codes.T if second else codes)
    return found


def _table(tensors: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The INT8 rows and scales that `in_product_codes` stands for."""

    def stored(part: str) -> tuple[np.ndarray, np.ndarray]:
        return tensors[f"{name}.{part}.weight_quantized"], tensors[f"{name}.{part}.weight_scale"].astype(np.float32)

    (whole, scales), books, turn = (stored(part) for part in ("whole", "codebooks", "turn"))
    bias = tensors[f"{name}.turn.bias"].astype(np.float32)
    if whole.dtype == np.uint8:
        whole = four_bits.unpack(whole, len(bias))
    coded = CodedRows(tensors[f"{name}.codes"], books[0] * books[1], turn[0] * turn[1], bias)
    return multiplied_out(coded, whole, scales)
