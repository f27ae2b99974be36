"""Number formats in a graph: every user of a shared weight is quantised, and equal weights are stored once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from baselines import albert
from openautoglm.export import export
from openautoglm.quantization import embedding_tables, onnx_graph
from openautoglm.quantization.plan import GROUPS
from openautoglm.student import Student
from openautoglm.task import Budget
from tests.openautoglm.graphs import graph_of

PLAN = dict.fromkeys(GROUPS, "int8")


def test_layers_that_share_weights_are_quantised_and_stored_once(case, tmp_path):
    teacher, task = case
    student = albert.compress(teacher, task, Budget(1, 16), embedding_size=8)
    float32, int8 = (
        graph_of(export(student, deployment, tmp_path / deployment, task)) for deployment in ("onnx-fp32", "onnx-int8")
    )
    names = {tensor.name for tensor in float32.initializer}
    linears = [n for n in float32.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in names]
    quantised = [node for node in int8.node if node.op_type == "MatMulInteger"]
    assert len(quantised) == len(linears) > 6 * 6
    assert max(tensor.ByteSize() for tensor in int8.initializer if tensor.data_type == 1) < 1000
    values = [tensor.raw_data for tensor in float32.initializer]
    assert len(values) == len(set(values))


def test_an_unknown_group_or_format_is_refused():
    with pytest.raises(ValueError, match=r"\['fnn: int8', 'head: int2'\].*formats \('int4', 'int3', 'int8'"):
        onnx_graph.apply_plan(onnx.ModelProto(), {"fnn": "int8", "head": "int2", "ffn": "fp16"})


def _lookup(table):
    """A model that looks `input_ids` up in a table."""
    node = onnx.helper.make_node("Gather", ["table", "input_ids"], ["out"], name="gather")
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["n", "l"])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", "l", table.shape[1]])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def _rows(model, count):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"input_ids": np.arange(count)[None]})[0][0]


def _uneven_table(width):
    table = np.random.default_rng(0).normal(size=(20, width)) * np.geomspace(0.01, 1, 20)[:, None]
    return table.astype(np.float32)


def test_row_scales_keep_more_than_one_scale():
    table = _uneven_table(8)
    model = _lookup(table)
    embedding_tables.store(model, "int8")
    bound = np.abs(table).max(1, keepdims=True) / 127 / 2
    assert (np.abs(_rows(model, 20) - table) <= bound + 1e-7).all()


def test_a_small_table_is_multiplied_out_when_the_model_is_loaded(case, tmp_path):
    graph = graph_of(export(Student(case[0].copy(), case[0].tokenizer, PLAN), "onnx-plan", tmp_path / "a", case[1]))
    stored = {tensor.name for tensor in graph.initializer}
    made = {out for node in graph.node for out in node.output if stored.issuperset(node.input)}
    lookups = {n.input[0] for n in graph.node if n.op_type == "Gather" and "/position_embeddings/" in n.name}
    assert len(lookups) == 1
    (product,) = (node for node in graph.node if lookups.intersection(node.output))
    assert product.op_type == "Mul"
    assert made.union(stored).issuperset(product.input)  # so the runtime folds it


def _weights(case, tmp_path, plan):
    student = Student(case[0].copy(), case[0].tokenizer, plan)
    graph = graph_of(export(student, "onnx-plan", tmp_path / "a", case[1]))
    return {t.name: t for t in graph.initializer if len(t.dims) == 2 and min(t.dims) > 1}, graph


def test_a_layers_own_format_goes_before_its_groups(case, tmp_path):
    plan = {"ffn": "int8", "attention": "int8", "layer.3.ffn": "fp16", "layer.1.attention": "fp32", "embedding": "int4"}
    weights, graph = _weights(case, tmp_path, plan)
    assert sum(t.data_type == onnx.TensorProto.FLOAT16 for t in weights.values()) >= 2
    attention = [t for name, t in weights.items() if "layer.1/attention/self/qkv" in name]
    assert [t.data_type for t in attention] == [onnx.TensorProto.FLOAT]
    operators = [node.op_type for node in graph.node]
    assert operators.count("QAttention") == 4  # six layers: one in float32, and the last has a query of its own
    external = [t.dims for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert external == [list(case[0].model.bert.embeddings.word_embeddings.weight.shape)]


def test_a_layer_that_the_model_does_not_have_is_refused(case, tmp_path):
    with pytest.raises(ValueError, match=r"\['layer.6.ffn'\]; this model has"):
        _weights(case, tmp_path, {"layer.6.ffn": "int8"})


def test_a_part_is_read_from_the_module_path():
    names = {
        "/model/bert/encoder/layer.3/attention/output/dense/MatMul": "layer.3.attention",
        "/model/bert/encoder/layer.3/intermediate/dense/MatMul": "layer.3.ffn",
        "/model/model/layers.0/self_attn/q_proj/MatMul": "layer.0.attention",
        "/model/model/layers.11/mlp/down_proj/MatMul": "layer.11.ffn",
        "/model/bert/embeddings/word_embeddings/projection/MatMul": "embedding",
        "/model/bert/pooler/dense/Gemm": "head",
    }
    assert {name: onnx_graph.part(name) for name in names} == names
