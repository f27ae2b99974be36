"""Number formats in an ONNX graph: the off-the-shelf INT8 quantizer, and a precision plan for parts of the weights.

A part is `embedding` (tables behind Gather, and the projection of a factorised one), `head`, `attention` and `ffn` of
all layers, or of one: `layer.3.ffn`, which goes before `ffn`. Formats: "int8" (weights QInt8 with one scale a channel
or a row, activations dynamic INT8), "fp16" (stored in 16 bits, computed in float32, since float16 arithmetic is 3 to 4
times slower on most CPUs), "fp32", and for the embedding "int4" (blocks of 4 bits; its projection is INT8).
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from openautoglm.quantization import embedding_tables
from openautoglm.quantization.fusions import fuse

GROUPS = ("embedding", "attention", "ffn", "head")
FORMATS = ("int8", "fp16", "fp32")
LAYER = re.compile(r"layer\.(\d+)\.(attention|ffn)")


def quantize(model: onnx.ModelProto, *, nodes: list[str] | None = None) -> onnx.ModelProto:
    """ONNX Runtime's dynamic quantizer: QInt8 weights, one scale a channel. `nodes` (names) limits it; None: all."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if nodes == []:
        return model
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # it advises a pre-processing step that changes nothing here
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=nodes,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},  # behind operators whose types it cannot infer
        )
        log.setLevel(level)
        return onnx.load(str(target))


def apply_plan(model: onnx.ModelProto, plan: Mapping[str, str]) -> onnx.ModelProto:
    """The fused graph, each part stored and computed in its format of `plan`; what is not named stays float32.

    `model` itself is left as it is. ValueError for a part or a format that does not exist.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    check_plan(plan)
    original, model = fuse(model), onnx.ModelProto()
    model.CopyFrom(original)
    wrapped = ONNXModel(model)
    wrapped.replace_gemm_with_matmul()  # as the quantizer does itself, but before nodes are chosen by name
    wrapped.clean_initializers()
    formats = {node.name: format_of(plan, part(node.name)) for node in _linears(model)}
    if absent := {name for name in plan if LAYER.fullmatch(name)} - {part(name) for name in formats}:
        raise ValueError(f"Plan has {sorted(absent)}; this model has {sorted({part(name) for name in formats})}.")
    embedding = plan.get("embedding", "fp32")
    if embedding in ("int8", "int4"):
        {"int8": embedding_tables.store_int8, "int4": embedding_tables.store_int4}[embedding](model)
    halves = {node.input[1] for node in _linears(model) if formats[node.name] == "fp16"}
    if embedding == "fp16":
        halves |= {node.input[0] for node in embedding_tables.lookups(model)}
    int8 = [node for node in _linears(model) if formats[node.name] in ("int8", "int4")]
    for node in [n for n in int8 if n.op_type == "Attention"]:
        _quantize_attention(model, node)
    model = quantize(model, nodes=[node.name for node in int8 if node.op_type != "Attention"])
    store_in_16_bits(model, halves)
    return model


def check_plan(plan: Mapping[str, str]) -> None:
    """ValueError where a plan names a part or a format that does not exist."""
    unknown = [
        f"{name}: {number_format}"
        for name, number_format in plan.items()
        if not (name in GROUPS or LAYER.fullmatch(name))
        or number_format not in (*FORMATS, *(["int4"] if name == "embedding" else []))
    ]
    if unknown:
        raise ValueError(
            f"Plan has {unknown}; parts are {GROUPS} and 'layer.0.ffn' for one layer's, formats {FORMATS}, "
            "and 'int4' for the embedding."
        )


def format_of(plan: Mapping[str, str], name: str) -> str:
    """The format of a part: its own in the plan, else its group's, else float32."""
    return plan.get(name) or plan.get(name.rsplit(".", 1)[-1], "fp32")


def part(node: str) -> str:
    """The part that a linear belongs to, by the module path that the exporter puts into its node's name."""
    if "/embed" in node:
        return "embedding"
    layer = re.search(r"/(?:albert_)?(?:layers?|h)\.(\d+)/", node)
    if not layer:
        return "head"
    return f"layer.{layer[1]}.{'attention' if re.search('/(self_)?att(entio)?n/', node) else 'ffn'}"


def _quantize_attention(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Attention -> DynamicQuantizeLinear and QAttention, weights QInt8 per channel. In place.

    The runtime's quantizer would give these weights 7 bits, against an overflow that CPUs with VNNI do not have and
    that MatMulInteger's weights risk all the same.
    """
    x, name, bias, mask = node.input
    weight = next(t for t in model.graph.initializer if t.name == name)
    codes, scale = embedding_tables.int8(numpy_helper.to_array(weight), axis=0)
    model.graph.initializer.remove(weight)
    zeros = np.zeros(scale.size, dtype=np.int8)
    for suffix, value in (("int8", codes), ("scale", scale.flatten()), ("zero", zeros)):
        model.graph.initializer.append(numpy_helper.from_array(value, f"{name}_{suffix}"))
    read = [f"{node.name}_{suffix}" for suffix in ("x", "x_scale", "x_zero")]
    inputs = [read[0], f"{name}_int8", bias, read[1], f"{name}_scale", mask, read[2], f"{name}_zero"]
    quantised = helper.make_node("QAttention", inputs, node.output, name=f"{node.name}_int8", domain=node.domain)
    quantised.attribute.extend(a for a in node.attribute if a.name in ("num_heads", "scale"))
    made = [helper.make_node("DynamicQuantizeLinear", [x], read, name=f"{node.name}_quantize"), quantised]
    embedding_tables.replace(model, node, made)


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


def _linears(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """MatMul, Gemm and Attention nodes with a stored weight."""
    weights = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    return [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm", "Attention") and n.input[1] in weights]
