"""One trace serves all deployments: the artifacts are those that each export alone writes, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from openautoglm import artifact, export
from openautoglm.artifact import ArtifactError
from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import logits_of
from openautoglm.quantization.plan import GROUPS
from openautoglm.runtime import Predictor
from openautoglm.student import Student
from openautoglm.task import Split

DEPLOYMENTS = ["onnx-plan", "onnx-int8", "onnx-fp32", "torch-fp32"]  # those that change a graph come first


@pytest.fixture(scope="module")
def student(case):
    plan = {"embedding": "int8", "attention": "fp16", "ffn": "int8", "head": "fp32"}
    return Student(case[0].copy(), case[0].tokenizer, plan)


def test_together_or_alone_the_bytes_are_the_same(case, student, tmp_path):
    together = export.export_all(student, DEPLOYMENTS, tmp_path / "together", case[1])
    for folder, deployment in zip(together, DEPLOYMENTS, strict=True):
        alone = export.export(student, deployment, tmp_path / "alone" / deployment, case[1])
        assert artifact.read(folder) == artifact.read(alone)


def test_the_model_is_traced_once(case, student, tmp_path, monkeypatch):
    traced, trace = [], export.tracing.graph
    monkeypatch.setattr(export.tracing, "graph", lambda model: traced.append(model) or trace(model))
    export.export_all(student, ["onnx-fp32", "onnx-int8", "onnx-plan"], tmp_path, case[1])
    assert len(traced) == 1
    assert traced[0] is not student.model


def test_an_artifact_that_answers_differently_is_refused(case, student, tmp_path, monkeypatch):
    monkeypatch.setattr(export.onnx_graph, "quantize", _with_other_biases)
    monkeypatch.setitem(export.TOLERANCE, "onnx-int8", 1e-3)
    good = export.export(student, "onnx-fp32", tmp_path / "a", case[1])
    before = artifact.sha256(good)
    with pytest.raises(ArtifactError, match="differ from PyTorch's"):
        export.export(student, "onnx-int8", good, case[1])
    assert artifact.sha256(good) == before  # a wrong one takes no good one's place


def test_a_folder_of_other_things_is_not_replaced(case, student, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds other things"):
        student.export(tmp_path, "onnx-fp32", task=case[1])
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("manifest", ['{"name": "An app", "icons": []}', "not JSON", None])
def test_a_folder_is_no_artifact_because_it_has_a_manifest(case, student, tmp_path, manifest):
    folder = student.export(tmp_path / "a", "onnx-fp32", task=case[1])
    if manifest is None:  # ours, but beside the user's notes
        manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds other things"):
        student.export(folder, "onnx-fp32", task=case[1])
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_plan_is_compared_with_the_weights_that_it_rounds_to(case, tmp_path, monkeypatch):
    """Training may have made up for the rounding, so that the unrounded model is no measure of the graph."""
    teacher, task = case
    student = Student(teacher.copy(), teacher.tokenizer, dict.fromkeys(GROUPS, "int3"))
    folder = export.export(student, "onnx-plan", tmp_path / "a", task)
    texts = task.dev.texts[: export.CHECKED]
    unrounded = logits_of(teacher.model, encode(teacher.tokenizer, Split(texts, task.dev.labels[: len(texts)]), 32))
    missed = export._rms(Predictor(folder).logits(texts) - unrounded.numpy()) / export._rms(unrounded.numpy())
    monkeypatch.setitem(export.TOLERANCE, "onnx-plan", 0.7 * missed)
    export.export(student, "onnx-plan", tmp_path / "b", task)


def _with_other_biases(graph):
    """The graph with the biases of its linears doubled: wrong, but it runs."""
    changed = type(graph)()
    changed.CopyFrom(graph)
    from onnx import numpy_helper

    for tensor in changed.graph.initializer:
        if "bias" in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor) + 1, tensor.name))
    return changed


def test_one_text_that_int8_misses_is_rounding_and_every_text_is_a_wrong_graph():
    expected = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32) * 2
    missed = expected.copy()
    missed[0] += 0.8 * np.abs(expected).max()
    export._compare("onnx-int8", missed, expected)
    with pytest.raises(ArtifactError, match="the exported graph is wrong"):
        export._compare("onnx-int8", expected[::-1], expected)
    with pytest.raises(ArtifactError, match="nan"):
        export._compare("onnx-int8", expected * np.nan, expected)
