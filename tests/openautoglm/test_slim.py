"""A slim graph says the same in fewer bytes."""

from __future__ import annotations

import numpy as np
import onnx

from openautoglm.export import export
from openautoglm.quantization import slim
from openautoglm.runtime import Predictor
from openautoglm.student import Student
from tests.openautoglm.graphs import graph_of

PLAN = dict.fromkeys(("embedding", "attention", "ffn", "head"), "int8")


def _exported(case, folder, monkeypatch, plan=PLAN, without=()):
    for name in without:
        monkeypatch.setattr(slim, name, lambda model: set())
    path = export(Student(case[0].copy(), case[0].tokenizer, plan), "onnx-plan", folder, case[1])
    monkeypatch.undo()
    return path, graph_of(path)


def test_names_and_zero_points_change_no_answer(case, tmp_path, monkeypatch):
    slimmed, graph = _exported(case, tmp_path / "a", monkeypatch, without=["vectors"])
    whole, before = _exported(
        case, tmp_path / "b", monkeypatch, without=["vectors", "drop_zero_points", "shorten_names"]
    )
    texts = case[1].dev.texts[:16]
    np.testing.assert_array_equal(Predictor(slimmed).logits(texts), Predictor(whole).logits(texts))
    assert not [t.name for t in graph.initializer if t.name.endswith(("zero_point", "weight_zero"))]
    assert sum(node.ByteSize() for node in graph.node) < 0.7 * sum(node.ByteSize() for node in before.node)


def test_vectors_in_16_bits_change_answers_by_less_than_a_thousandth(case, tmp_path, monkeypatch):
    half, graph = _exported(case, tmp_path / "a", monkeypatch)
    whole, _ = _exported(case, tmp_path / "b", monkeypatch, without=["vectors"])
    texts = case[1].dev.texts[:16]
    ours, theirs = Predictor(half).logits(texts), Predictor(whole).logits(texts)
    assert np.median(np.abs(ours - theirs)) < 5e-3 * np.abs(theirs).max()
    assert not [t.name for t in graph.initializer if t.data_type == 1 and np.prod(t.dims) >= slim.VECTOR]


def test_a_plan_with_float32_keeps_its_vectors(case, tmp_path, monkeypatch):
    _, graph = _exported(case, tmp_path / "a", monkeypatch, plan=PLAN | {"head": "fp32"})
    assert not [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]


def test_what_16_bits_cannot_hold_stays_in_32():
    assert slim._held(np.geomspace(1e-3, 1e3, 100))
    assert not slim._held(np.full(100, 1e5))
    assert not slim._held(np.full(100, 3e-7))
    assert slim._held(np.array([1.0] * 99 + [1e-9]))
