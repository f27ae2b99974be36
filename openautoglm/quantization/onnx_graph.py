"""Number formats in an ONNX graph: the off-the-shelf INT8 quantizer, and a precision plan for parts of the weights
(openautoglm.quantization.plan).
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

from openautoglm.quantization import beside, embedding_tables, four_bits, slim
from openautoglm.quantization.coded_rows import CodedRows
from openautoglm.quantization.fusions import fuse
from openautoglm.quantization.int8 import int8
from openautoglm.quantization.plan import INTEGER, LAYER, check_plan, linear_format


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
        try:
            quantize_dynamic(
                source,
                target,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_quantize=nodes,
                extra_options={"DefaultTensorType": TensorProto.FLOAT},  # behind operators whose types it cannot infer
            )
        finally:
            log.setLevel(level)
        return onnx.load(str(target))


def apply_plan(model: onnx.ModelProto, plan: Mapping[str, str], coded: CodedRows | None = None) -> onnx.ModelProto:
    """The fused graph, each part stored and computed in its format of `plan`; what is not named stays float32.

    coded: rows in product codes that follow those of the word table in `model`, where the embedding is INTEGER.
    `model` itself is left as it is. ValueError for a part or a format that does not exist.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    check_plan(plan)
    original, model = fuse(model), onnx.ModelProto()
    model.CopyFrom(original)
    wrapped = ONNXModel(model)
    wrapped.replace_gemm_with_matmul()  # as the quantizer does itself, but before nodes are chosen by name
    wrapped.clean_initializers()
    if absent := {name for name in plan if LAYER.fullmatch(name)} - (parts := {part(n.name) for n in _linears(model)}):
        raise ValueError(f"Plan has {sorted(absent)}; this model has {sorted(parts)}.")
    formats = {node.name: linear_format(plan, part(node.name)) for node in _linears(model)}
    embedding = plan.get("embedding", "fp32")
    if embedding in INTEGER:
        embedding_tables.store(model, embedding, coded)
    halves = {node.input[1] for node in _linears(model) if formats[node.name] == "fp16"}
    if embedding == "fp16":
        halves |= {node.input[0] for node in embedding_tables.lookups(model)}
    integer = [node for node in _linears(model) if formats[node.name] in INTEGER]
    few = {node.input[1]: (_weight(model, node), four_bits.BITS.get(formats[node.name])) for node in integer}
    for node in [n for n in integer if n.op_type == "Attention"]:
        _quantize_attention(model, node)
    model = quantize(model, nodes=[node.name for node in integer if node.op_type != "Attention"])
    for name, (weight, bits) in few.items():
        if bits:
            _store_in_few_bits(model, name, weight, bits)
    slim.drop_zero_points(model)
    if not {"fp32"}.intersection([embedding, *formats.values()]):
        halves |= slim.vectors(model)
    slim.store_in_16_bits(model, halves)
    slim.shorten_names(model)
    return model


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
    codes, scale = int8(_weight(model, node), axis=0)
    _remove_weights(model, {name})
    for suffix, value in (("quantized", codes), ("scale", scale.flatten()), ("zero", np.zeros(scale.size, np.int8))):
        model.graph.initializer.append(numpy_helper.from_array(value, f"{name}_{suffix}"))
    read = [f"{node.name}_{suffix}" for suffix in ("x", "x_scale", "x_zero")]
    inputs = [read[0], f"{name}_quantized", bias, read[1], f"{name}_scale", mask, read[2], f"{name}_zero"]
    quantised = helper.make_node("QAttention", inputs, node.output, name=f"{node.name}_int8", domain=node.domain)
    quantised.attribute.extend(a for a in node.attribute if a.name in ("num_heads", "scale"))
    made = [helper.make_node("DynamicQuantizeLinear", [x], read, name=f"{node.name}_quantize"), quantised]
    embedding_tables.replace(model, node, made)


def _store_in_few_bits(model: onnx.ModelProto, name: str, weight: np.ndarray, bits: int) -> None:
    """INT8's codes of the linear weight `name` become those of few bits, and so do their scales. In place."""
    _remove_weights(model, {f"{name}_quantized", f"{name}_scale"})
    scale = beside.in_few_bits(model, f"{name}_quantized", weight.T, bits, transposed=True)
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))


def _weight(model: onnx.ModelProto, node: onnx.NodeProto) -> np.ndarray:
    """The stored weight (in, out) of a linear."""
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == node.input[1]))


def _remove_weights(model: onnx.ModelProto, names: set[str]) -> None:
    for tensor in [t for t in model.graph.initializer if t.name in names]:
        model.graph.initializer.remove(tensor)


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
