"""Every other layer of the teacher, taught by its soft labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from openautoglm.distillation.data import Batch, encode
from openautoglm.distillation.fit import Recipe, dev_score, fit, logits_of
from openautoglm.distillation.losses import taught
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task


def compress(
    teacher: Teacher, task: Task, budget: Budget, *, temperature: float = 2.0, learning_rate: float = 1e-4
) -> Student:
    """Keyword-only arguments are knobs: params.yaml sets them."""
    student: Any = teacher.copy()
    del student.bert.encoder.layer[1::2]
    student.config.num_hidden_layers = len(student.bert.encoder.layer)

    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    known = logits_of(teacher.model, train)  # (texts, outputs)

    def loss(batch: Batch) -> Tensor:
        logits = student(**batch.inputs).logits
        return taught(logits, known[batch.index].to(logits.device), batch.labels, task.kind, temperature)

    recipe = Recipe(budget.steps, learning_rate, budget.batch_size)
    fit(student, train, loss, recipe, stage="distil", score=lambda: dev_score(student, task, dev))
    return Student(student, teacher.tokenizer)
