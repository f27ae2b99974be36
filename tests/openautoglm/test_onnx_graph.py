"""Number formats in a graph: every user of a shared weight is quantised, and equal weights are stored once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from baselines import albert
from openautoglm.export import export
from openautoglm.quantization import onnx_graph
from openautoglm.task import Budget


def test_layers_that_share_weights_are_quantised_and_stored_once(case, tmp_path):
    teacher, task = case
    student = albert.compress(teacher, task, Budget(1, 16), embedding_size=8)
    float32, int8 = (
        onnx.load(str(export(student, deployment, tmp_path / deployment, task) / "model.onnx")).graph
        for deployment in ("onnx-fp32", "onnx-int8")
    )
    names = {tensor.name for tensor in float32.initializer}
    linears = [n for n in float32.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in names]
    quantised = [node for node in int8.node if node.op_type == "MatMulInteger"]
    assert len(quantised) == len(linears) > 6 * 6
    assert max(tensor.ByteSize() for tensor in int8.initializer if tensor.data_type == 1) < 1000
    values = [tensor.raw_data for tensor in float32.initializer]
    assert len(values) == len(set(values))


def test_an_unknown_group_or_format_is_refused():
    with pytest.raises(ValueError, match="'fnn: int8', 'head: int3'"):
        onnx_graph.apply_plan(onnx.ModelProto(), {"fnn": "int8", "head": "int3", "ffn": "fp16"})


def test_row_scales_keep_more_than_one_scale():
    table = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32) * np.geomspace(0.01, 1, 20)[:, None]
    table = table.astype(np.float32)
    node = onnx.helper.make_node("Gather", ["table", "ids"], ["out"], name="gather")
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", 8])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx_graph.quantize_rows(model)
    import onnxruntime

    got = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"ids": np.arange(20)})[0]
    assert (np.abs(got - table) <= np.abs(table).max(1, keepdims=True) / 127 / 2 + 1e-7).all()
