"""The fused graph answers as the plain one, with fewer operators; what does not match is left as it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from openautoglm.export import _Exporter
from openautoglm.quantization import fusions
from openautoglm.student import Student


@pytest.fixture(scope="module")
def plain(case):
    teacher, task = case
    return _Exporter(Student(teacher.model, teacher.tokenizer), task).graph


def _logits(model, ids, mask):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def _operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(("texts", "length"), [(1, 1), (1, 7), (5, 16)])
def test_any_batch_and_length_is_answered_alike(plain, texts, length):
    fused = fusions.fuse(plain)
    ids = np.random.default_rng(1).integers(5, 60, (texts, length))
    mask = (np.arange(length)[None] < np.arange(length, length - texts, -1)[:, None]).astype(np.int64)
    np.testing.assert_allclose(_logits(fused, ids, mask), _logits(plain, ids, mask), atol=1e-5)


def test_every_attention_is_one_operator_and_the_last_has_one_query(plain):
    fused = fusions.fuse(plain)
    operators = _operators(fused)
    assert (operators.count("Attention"), operators.count("MultiHeadAttention")) == (5, 1)
    assert not {"Softmax", "Transpose", "Where", "Expand"} & set(operators)
    assert operators.count("Sum") == 2 * 6 + 1
    shapes = fusions._run(fused, [node.output[0] for node in fused.graph.node if node.op_type == "LayerNormalization"])
    assert [state.shape[1] for state in shapes[-3:]] == [8, 1, 1]


def test_equal_weights_stay_shared_and_nothing_is_left_over(plain):
    fused = fusions.fuse(plain)
    read = {name for node in fused.graph.node for name in node.input}
    assert {tensor.name for tensor in fused.graph.initializer} <= read
    size = sum(len(tensor.raw_data) for tensor in fused.graph.initializer)
    assert size < 1.01 * sum(len(tensor.raw_data) for tensor in plain.graph.initializer)


def test_a_fused_graph_without_answers_is_not_taken(plain, caplog, monkeypatch):
    monkeypatch.setattr(fusions, "_difference", lambda *_: float("nan"))
    assert fusions.fuse(plain) is plain
    assert "differs by nan" in caplog.text


def test_a_graph_that_would_answer_differently_is_not_fused(plain, caplog):
    """An attention whose mask is not the texts' padding: here, every score has another constant added."""
    other = onnx.ModelProto()
    other.CopyFrom(plain)
    scores = {node.input[0] for node in other.graph.node if node.op_type == "Softmax"}
    for add in [node for node in other.graph.node if scores.intersection(node.output)]:
        add.input[1] = "distance"
    penalty = -9 * np.abs(np.arange(8)[:, None] - np.arange(8)[None]).astype(np.float32)
    other.graph.initializer.append(onnx.numpy_helper.from_array(penalty, "distance"))
    assert fusions.fuse(other) is other
    assert "differs" in caplog.text
