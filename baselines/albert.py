"""ALBERT: a factorised word embedding and one layer's weights at every depth, distilled from the teacher.

Stage: `distil` trains on labels, soft labels and the teacher's hidden states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openautoglm.architectures import albert
from openautoglm.distillation.data import Batch, batch_of, encode
from openautoglm.distillation.fit import Recipe, dev_score, fit
from openautoglm.distillation.losses import hidden_mse, taught
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "Lan et al. 2020, ALBERT: A Lite BERT for Self-supervised Learning, arXiv:1909.11942"
KEPT = "Factorised embedding, one layer's weights at every depth, no dropout in the encoder."
LEFT_OUT = (
    "Pre-training from nothing, with its sentence-order prediction: the texts are single passages. Instead the "
    "embedding starts from the SVD of the teacher's, the layer from one of the teacher's, and the student is distilled."
)


def compress(
    teacher: Teacher,
    task: Task,
    budget: Budget,
    *,
    embedding_size: int = 64,
    shared_from: int = 2,
    hidden_weight: float = 1.0,
    learning_rate: float = 3e-4,
) -> Student:
    """`shared_from`: the teacher layer (0 is the first) that the shared one starts from."""
    expert: Any = teacher.model
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    student = albert.shaped_like(expert, embedding_size).to(expert.device)
    albert.copy_from(student, expert, shared_from)
    sample = batch_of(train, range(min(256, len(train)))).to(expert.device)
    albert.factorise_embedding(student, expert, sample.input_ids)

    def loss(batch: Batch) -> Tensor:
        with torch.no_grad():
            theirs = expert(**batch.inputs, output_hidden_states=True)
        ours = student(**batch.inputs, output_hidden_states=True)
        pairs = zip(ours.hidden_states, theirs.hidden_states, strict=True)
        hidden = torch.stack([hidden_mse(s, t, batch.attention_mask) for s, t in pairs]).mean()
        return taught(ours.logits, theirs.logits, batch.labels, task.kind, temperature=2.0) + hidden_weight * hidden

    recipe = Recipe(budget.steps, learning_rate, budget.batch_size, weight_decay=0.01)
    fit(student, train, loss, recipe, stage="distil", score=lambda: dev_score(student, task, dev))
    return Student(student, teacher.tokenizer)
