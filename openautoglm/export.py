"""Student -> artifact: one function a deployment. Every export is run once and compared with the PyTorch model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from openautoglm import architectures, artifact, segments, tracing
from openautoglm.artifact import ArtifactError, Manifest
from openautoglm.distillation.data import encode, in_order, limited
from openautoglm.dynamic import outputs
from openautoglm.parts import CodedEmbedding
from openautoglm.quantization import beside, onnx_graph
from openautoglm.quantization.coded_rows import CodedRows
from openautoglm.quantization.fake_quant import fake_quantised
from openautoglm.quantization.plan import INTEGER, format_of
from openautoglm.route import Route
from openautoglm.runtime import Predictor
from openautoglm.student import Student, parameter_count, save_model
from openautoglm.task import Split, Task

# Root mean square of the logits' differences from PyTorch over CHECKED dev texts, as a share of the logits' own, or of
# 1 where that is smaller: the logits of a barely trained model are near 0, and rounding is not. The mean, because INT8
# may miss one text of a hard-pruned model by half its size; a wrong graph is wrong about them all. PyTorch computes in
# float32, and for a plan with the weights that it rounds to, for training may have made up for the rounding.
TOLERANCE = {"torch-fp32": 1e-4, "onnx-fp32": 1e-3, "onnx-int8": 0.5, "onnx-plan": 0.5, "onnx-dynamic": 0.5}
CHECKED = 32
PACKED = ("onnx-plan", "onnx-dynamic")  # our own: the others are as the off-the-shelf tools leave them


def export(student: Student, deployment: str, folder: Path, task: Task) -> Path:
    """Write `student` as an artifact in one of DEPLOYMENTS; ArtifactError where the result answers differently.

    The tolerance for INT8 is wide: it catches a broken graph, not rounding. What rounding costs is what the board's
    scores tell.
    """
    return _Exporter(student, task).write(deployment, folder)


def export_all(student: Student, deployments: Iterable[str], folder: Path, task: Task) -> list[Path]:
    """As `export`, into folder/<deployment> each; the model is traced once for all of them."""
    exporter = _Exporter(student, task)
    return [exporter.write(deployment, folder / deployment) for deployment in deployments]


class _Exporter:
    """A frozen copy of a student, with what its deployments share: the traced graph and PyTorch's answers."""

    def __init__(self, student: Student, task: Task) -> None:
        model = copy.deepcopy(student.model).cpu().float().eval()
        exits = copy.deepcopy(student.exits).cpu().float().eval() if student.exits else None
        self.student, self.task = Student(model, student.tokenizer, student.plan, exits=exits), task

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """The float32 graph; shared, so never changed."""
        return tracing.graph(self.student.model)

    @cached_property
    def coded(self) -> CodedRows | None:
        """The word rows in product codes that a plan in INT8 leaves to the loader."""
        embedding = architectures.word_embedding(self.student.model)
        number_format = format_of(self.student.plan or {}, "embedding")
        if not isinstance(embedding, CodedEmbedding) or number_format not in INTEGER:
            return None
        parts = embedding.codes, embedding.codebooks.weight, embedding.turn.weight, embedding.turn.bias
        return CodedRows(*(part.detach().numpy() for part in parts))

    def traced_without_codes(self, trace: Callable[[Any], onnx.ModelProto]) -> onnx.ModelProto:
        """The float32 graph in which only whole rows are looked up, where there are `coded` ones."""
        model, embedding = self.student.model, architectures.word_embedding(self.student.model)
        if self.coded is None:
            return trace(model)
        model.set_input_embeddings(embedding.whole)
        try:
            return trace(model)
        finally:
            model.set_input_embeddings(embedding)

    @property
    def checked(self) -> Split:
        """The first CHECKED texts of dev."""
        return Split(self.task.dev.texts[:CHECKED], self.task.dev.labels[:CHECKED])

    def answers(self) -> np.ndarray:
        """PyTorch's logits of the checked texts, (texts, outputs)."""
        split, model = self.checked, self.student.model
        logits = np.empty((len(split), self.task.outputs), dtype=np.float32)
        with torch.inference_mode():
            for batch in in_order(encode(self.student.tokenizer, split, self.task.max_length), 1):
                logits[batch.index.numpy()] = model(**batch.inputs).logits.numpy()
        return logits

    def write(self, deployment: str, folder: Path) -> Path:
        """The artifact of one deployment, checked."""
        if deployment not in DEPLOYMENTS:
            raise ArtifactError(f"Deployment {deployment!r} is unknown; known: {', '.join(sorted(DEPLOYMENTS))}.")
        runtime, precision, fill = DEPLOYMENTS[deployment](self)
        student, task = self.student, self.task

        def write(aside: Path) -> None:
            limited(student.tokenizer, task.max_length).save(str(aside / "tokenizer.json"), pretty=False)
            fill(aside)

        manifest = Manifest(
            runtime=runtime,
            precision=precision,
            kind=task.kind,
            labels=task.labels,
            max_length=task.max_length,
            parameters=parameter_count(student.model),
            shape=architectures.shape(student.model),
        )
        if deployment == "onnx-dynamic":
            manifest = self._with_exits(manifest)
        plan = student.plan or {} if deployment in PACKED else {}

        def check(aside: Path) -> None:
            with fake_quantised(student.model, plan, activations=False):
                self._check(aside, deployment)

        return artifact.write(folder, manifest, write, check, pack=deployment in PACKED)

    def _with_exits(self, manifest: Manifest) -> Manifest:
        exits = self.student.exits
        listed = [segment_file(i) for i in range(len(exits.after) + 1)]
        described = {"segments": listed, "route": exits.route.describe()}
        return replace(manifest, parameters=manifest.parameters + parameter_count(exits), exits=described)

    def _check(self, folder: Path, deployment: str) -> None:
        predictor = Predictor(folder)
        if not isinstance(predictor.session, segments.Segments):
            _compare(deployment, predictor.logits(self.checked.texts), self.answers())
            return
        student, exits, checked = self.student, self.student.exits, self.checked
        ends = outputs(student.model, exits, encode(student.tokenizer, checked, self.task.max_length))[1]
        for i, expected in enumerate(ends):  # every way by itself: which one a text takes may hang on rounding
            predictor.session.route = Route.only(i, len(exits.after))
            _compare(deployment, predictor.logits(checked.texts), expected)


def _compare(deployment: str, got: np.ndarray, expected: np.ndarray) -> None:
    difference, tolerance = _rms(got - expected) / max(_rms(expected), 1.0), TOLERANCE[deployment]
    if not difference <= tolerance:
        raise ArtifactError(
            f"{deployment}: the exported graph is wrong: its logits differ from PyTorch's by {difference:.2g} of their "
            f"size (allowed {tolerance}). Nothing was written."
        )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def _torch_fp32(exporter: _Exporter) -> tuple[str, str, Callable[[Path], None]]:
    return "torch", "float32", lambda folder: save_model(exporter.student.model, folder)


def _onnx_fp32(exporter: _Exporter) -> tuple[str, str, Callable[[Path], None]]:
    return "onnx", "float32", lambda folder: onnx.save(exporter.graph, str(folder / "model.onnx"))


def _onnx_int8(exporter: _Exporter) -> tuple[str, str, Callable[[Path], None]]:
    """The off-the-shelf quantizer: ONNX Runtime dynamic INT8, weights QInt8 per channel."""
    return (
        "onnx",
        "INT8 weights (one scale a channel, the embedding one in all), INT8 activations (dynamic)",
        lambda folder: onnx.save(onnx_graph.quantize(exporter.graph), str(folder / "model.onnx")),
    )


def _onnx_plan(exporter: _Exporter) -> tuple[str, str, Callable[[Path], None]]:
    """The student's own precision plan (openautoglm.quantization.onnx_graph.apply_plan)."""
    plan = exporter.student.plan
    if not plan:
        raise ArtifactError("Deployment 'onnx-plan' needs a student with a precision plan; this one has none.")
    words = ", ".join(f"{group} {number_format}" for group, number_format in plan.items())
    graph = exporter.graph if exporter.coded is None else exporter.traced_without_codes(tracing.graph)
    planned = onnx_graph.apply_plan(graph, plan, exporter.coded)
    return "onnx", words, lambda folder: beside.save(planned, folder / "model.onnx")


def _onnx_dynamic(exporter: _Exporter) -> tuple[str, str, Callable[[Path], None]]:
    """The precision plan's graph, cut at the exits (openautoglm.segments); float32 without a plan."""
    student = exporter.student
    if student.exits is None:
        raise ArtifactError("Deployment 'onnx-dynamic' needs a student with exits; this one has none.")
    plan, count = student.plan or {}, len(student.exits.after)
    words = ", ".join(f"{group} {number_format}" for group, number_format in plan.items()) or "float32"

    def fill(folder: Path) -> None:
        whole = exporter.traced_without_codes(lambda model: tracing.graph_with_exits(model, student.exits))
        planned = onnx_graph.apply_plan(whole, plan, exporter.coded)
        for i, segment in enumerate(segments.cut(planned, count)):
            beside.save(segment, folder / segment_file(i))

    return "onnx", words, fill


def segment_file(number: int) -> str:
    """The name of a segment in an artifact."""
    return f"segment_{number}.onnx"


DEPLOYMENTS = {
    "torch-fp32": _torch_fp32,
    "onnx-fp32": _onnx_fp32,
    "onnx-int8": _onnx_int8,
    "onnx-plan": _onnx_plan,
    "onnx-dynamic": _onnx_dynamic,
}
