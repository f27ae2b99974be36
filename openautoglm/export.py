"""Student -> artifact: one function a deployment. Every export is run once and compared with the PyTorch model."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from openautoglm import architectures, artifact
from openautoglm.artifact import ArtifactError, Manifest
from openautoglm.distillation.data import encode, in_order, limited
from openautoglm.quantization import onnx_graph
from openautoglm.runtime import Predictor
from openautoglm.student import Student, parameter_count, save_model
from openautoglm.task import Split, Task

OPSET = 17
# Largest |difference| of logits from PyTorch in float32 over CHECKED dev texts, as a share of their largest |value|,
# or of 1 where that is smaller: the logits of a barely trained model are all near 0, and rounding is not.
TOLERANCE = {"torch-fp32": 1e-4, "onnx-fp32": 1e-3, "onnx-int8": 0.5, "onnx-plan": 0.5}
CHECKED = 32


def export(student: Student, deployment: str, folder: Path, task: Task) -> Path:
    """Write `student` as an artifact in one of DEPLOYMENTS; ArtifactError where the result answers differently.

    The tolerance for INT8 is wide: it catches a broken graph, not rounding. What rounding costs is what the board's
    scores tell.
    """
    if deployment not in DEPLOYMENTS:
        raise ArtifactError(f"Deployment {deployment!r} is unknown; known: {', '.join(sorted(DEPLOYMENTS))}.")
    model = copy.deepcopy(student.model).cpu().float().eval()
    ready = Student(model, student.tokenizer, student.plan)
    runtime, precision, fill = DEPLOYMENTS[deployment](ready)

    def write(aside: Path) -> None:
        limited(student.tokenizer, task.max_length).save(str(aside / "tokenizer.json"), pretty=False)
        fill(aside)

    manifest = Manifest(
        runtime=runtime,
        precision=precision,
        kind=task.kind,
        labels=task.labels,
        max_length=task.max_length,
        parameters=parameter_count(model),
        shape=architectures.shape(model),
    )
    artifact.write(folder, manifest, write)
    _check(folder, ready, task, TOLERANCE[deployment])
    return folder


def _torch_fp32(student: Student) -> tuple[str, str, Callable[[Path], None]]:
    return "torch", "float32", lambda folder: save_model(student.model, folder)


def _onnx_fp32(student: Student) -> tuple[str, str, Callable[[Path], None]]:
    return "onnx", "float32", lambda folder: onnx.save(_graph(student.model), str(folder / "model.onnx"))


def _onnx_int8(student: Student) -> tuple[str, str, Callable[[Path], None]]:
    """The off-the-shelf quantizer: ONNX Runtime dynamic INT8, weights QInt8 per channel."""
    return (
        "onnx",
        "INT8 weights (one scale a channel, the embedding one in all), INT8 activations (dynamic)",
        lambda folder: onnx.save(onnx_graph.quantize(_graph(student.model)), str(folder / "model.onnx")),
    )


def _onnx_plan(student: Student) -> tuple[str, str, Callable[[Path], None]]:
    """The student's own precision plan (openautoglm.quantization.onnx_graph.apply_plan)."""
    if not student.plan:
        raise ArtifactError("Deployment 'onnx-plan' needs a student with a precision plan; this one has none.")
    plan = student.plan
    words = ", ".join(f"{group} {number_format}" for group, number_format in plan.items())
    return (
        "onnx",
        words,
        lambda folder: onnx.save(onnx_graph.apply_plan(_graph(student.model), plan), str(folder / "model.onnx")),
    )


DEPLOYMENTS = {
    "torch-fp32": _torch_fp32,
    "onnx-fp32": _onnx_fp32,
    "onnx-int8": _onnx_int8,
    "onnx-plan": _onnx_plan,
}


class _Logits(nn.Module):
    """Ids and mask in, the bare logits out: what the ONNX graph computes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def _graph(model: Any) -> onnx.ModelProto:
    """The model as an ONNX graph with free batch and length; equal weights are stored once."""
    model.config._attn_implementation = "eager"
    buffer = io.BytesIO()
    example = torch.ones(2, 8, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer warnings of transformers' own code
        torch.onnx.export(
            _Logits(model).eval(),  # the exporter puts this mode back afterwards
            (example, example),
            buffer,  # type: ignore[arg-type]  # the exporter that is not dynamo's writes to any file
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
            | {"logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx_graph.share_equal_weights(graph)
    return graph


def _check(folder: Path, student: Student, task: Task, tolerance: float) -> None:
    split = Split(task.dev.texts[:CHECKED], task.dev.labels[:CHECKED])
    got = Predictor(folder).logits(split.texts)
    expected = np.empty_like(got)
    with torch.inference_mode():
        for batch in in_order(encode(student.tokenizer, split, task.max_length), 1):
            expected[batch.index.numpy()] = student.model(**batch.inputs).logits.numpy()
    difference = float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1.0))
    if not difference <= tolerance:
        raise ArtifactError(
            f"{folder}: its logits differ from PyTorch's by {difference:.2g} of their size (allowed {tolerance}); "
            "the exported graph is wrong."
        )
