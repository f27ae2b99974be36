"""Teacher and student measured side by side in this process: bytes, milliseconds from text to label, score on dev."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard.statistics import mean_ratio_interval
from openautoglm import artifact
from openautoglm.artifact import ArtifactError
from openautoglm.distillation.data import limited
from openautoglm.export import export_all
from openautoglm.flops import multiply_adds
from openautoglm.runtime import Predictor
from openautoglm.student import Student, Teacher
from openautoglm.task import Split, Task

FLOAT, INT8 = "onnx-fp32", "onnx-int8"
REFERENCE = f"teacher {FLOAT}"
TEXTS, SCORED, ROUNDS = 64, 1000, 3
COLD = 6  # calls in a row that do not count: the caches still hold the other models' weights (docs/measurement.md)


def compare(teacher: Teacher, student: Student, folder: Path, deployment: str, task: Task) -> dict[str, Any]:
    """What summary.measured prints: the student in `folder` against the teacher in float32 and off-the-shelf INT8."""
    with tempfile.TemporaryDirectory() as aside:
        exported = _exported(teacher, Path(aside), task)
        folders = {f"teacher {path.name}": path for path in exported} | {f"student {deployment}": folder}
        predictors = {name: Predictor(path) for name, path in folders.items()}
        texts = task.dev.texts[:TEXTS]
        times = paired_ms({name: _call(p) for name, p in predictors.items()}, texts, ROUNDS)
        scored, labels = task.dev.texts[:SCORED], task.dev.labels[:SCORED]
        rows = {
            name: {
                "bytes": artifact.size(folders[name]),
                "latency_p50_ms": float(np.median(ms)),
                "speedup": mean_ratio_interval([np.log(times[REFERENCE] / ms).tolist()]).model_dump(),
                "score": task.score(predictors[name].logits(scored), labels),
            }
            for name, ms in times.items()
        }
    ours = predictors[f"student {deployment}"]
    cut = limited(teacher.tokenizer, task.max_length)
    length = statistics.mean(len(encoding.ids) for encoding in cut.encode_batch_fast(list(texts)))
    pair = {"teacher": teacher.model, "student": student.model}
    counted = {who: multiply_adds(model, round(length))["total"] for who, model in pair.items()}
    return {
        "reference": REFERENCE,
        "rows": rows,
        "metric": task.metrics[0],
        "float_score": student.evaluate(Split(scored, labels))[task.metrics[0]],
        "texts": len(texts),
        "scored": len(scored),
        "dev": len(task.dev),
        "mean_length": length,
        "threads": 1,
        "multiply_adds": counted,
        "tokenize_share": tokenize_ms(ours, texts) / float(np.mean(times[f"student {deployment}"])),
    }


def _exported(teacher: Teacher, folder: Path, task: Task) -> list[Path]:
    """The teacher in float32, and in INT8 where that leaves its answers what they are: of some families it does not."""
    whole = Student(teacher.model, teacher.tokenizer)
    try:
        return export_all(whole, [FLOAT, INT8], folder, task)
    except ArtifactError as error:
        print(f"note: off-the-shelf INT8 changes the teacher's answers, so float32 alone is compared with ({error})")
        return export_all(whole, [FLOAT], folder, task)


def _call(predictor: Predictor) -> Callable[[str], Any]:
    return lambda text: predictor.logits([text])


def paired_ms(calls: dict[str, Callable[[str], Any]], texts: Sequence[str], rounds: int) -> dict[str, np.ndarray]:
    """name -> (len(texts),) milliseconds, the median of `rounds` calls. All are called on a text in turn, in
    alternating order, so that a drift of the machine meets all, each after calls that do not count. The reference has
    one of these, for it is larger than the caches. A first round warms up and does not count either.
    """
    samples = {name: np.empty((rounds, len(texts))) for name in calls}
    for turn in range(-1, rounds):
        for i, text in enumerate(texts):
            for name in list(calls)[:: 1 if (turn + i) % 2 else -1]:
                for _ in range(1 if name == REFERENCE else COLD):
                    calls[name](text)
                start = time.perf_counter_ns()
                calls[name](text)
                samples[name][max(turn, 0), i] = (time.perf_counter_ns() - start) / 1e6
    return {name: np.median(ms, axis=0) for name, ms in samples.items()}


def tokenize_ms(predictor: Predictor, texts: Sequence[str]) -> float:
    """Mean milliseconds of tokenisation a text."""
    start = time.perf_counter_ns()
    for text in texts:
        predictor.tokenize([text])
    return (time.perf_counter_ns() - start) / 1e6 / len(texts)
