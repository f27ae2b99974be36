"""Open-AutoGLM: Fisher pruning with refit, progressive distillation, a coded embedding, weights in few bits by plan."""

from __future__ import annotations

from typing import Any

from openautoglm.compressor import AutoCompressor
from openautoglm.config import CompressionConfig
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "This project's own compressor; importance and refit after Kwon et al. 2022 (arXiv 2204.09656)"
KEPT = (
    "The article's interface and keys (pruning_ratio, quantize_layers, distill_loss_weight, calibration_steps), "
    "pruning of heads and FFN neurons by importance, mixed precision, progressive distillation at T = 3, weight 0.7."
)
LEFT_OUT = (
    "This row prunes by one ratio over all layers; the search's structures, low-rank linears, re-parameterised "
    "branches, quantisation-aware training and early exits are knobs that it leaves off. The vocabulary loses the "
    "pieces that the task's texts and others use least. Added: product codes for rarer pieces, new texts crossed from "
    "the task's own where it has many passes, and gzip around the files."
)

KNOBS = CompressionConfig().model_dump()


def compress(teacher: Teacher, task: Task, budget: Budget, **config: Any) -> Student:
    """The library's AutoCompressor; the knobs are the keys of its config."""
    return AutoCompressor(model=teacher, config=config).run(task, budget)
