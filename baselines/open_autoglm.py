"""Open-AutoGLM: trimmed vocabulary, low-rank embedding, Fisher pruning, progressive distillation, INT8 by plan."""

from __future__ import annotations

from typing import Any

from openautoglm.compressor import AutoCompressor
from openautoglm.config import CompressionConfig
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "This project's own compressor; importance and refit after Kwon et al. 2022 (arXiv 2204.09656)"
KEPT = (
    "The article's interface and keys (pruning_ratio, quantize_layers, distill_loss_weight 0.7, calibration_steps), "
    "pruning of heads and FFN neurons by importance, mixed precision, progressive distillation at T = 3."
)
LEFT_OUT = (
    "Search, re-parameterisation, quantisation-aware training and dynamic inference are not in this version. "
    "The vocabulary is the task's own: the model is specific to it."
)


KNOBS = CompressionConfig().model_dump()


def compress(teacher: Teacher, task: Task, budget: Budget, **config: Any) -> Student:
    """The library's AutoCompressor; the knobs are the keys of its config."""
    return AutoCompressor(model=teacher, config=config).run(task, budget)
