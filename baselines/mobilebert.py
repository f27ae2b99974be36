"""MobileBERT: as deep as the teacher but thin inside, taught one layer at a time, then by its soft labels.

Stages: `layer1`, `layer2`, ... each train one layer to do what the teacher's layer does, those below being frozen;
`distil` then trains the whole on labels and soft labels. Follows the authors' run_pretraining.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openautoglm.architectures import mobilebert
from openautoglm.distillation.capture import first_layers, recorded_scores
from openautoglm.distillation.data import Batch, encode
from openautoglm.distillation.fit import Loss, Recipe, dev_score, fit, logits_of
from openautoglm.distillation.losses import (
    attention_transfer,
    feature_map,
    mean_transfer,
    taught,
    variance_transfer,
)
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "Sun et al. 2020, MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices, arXiv:2004.02984"
KEPT = (
    "Bottlenecks, four stacked FFNs, trigram embedding, NoNorm, ReLU, no dropout; progressive transfer, one phase a "
    "layer, with its four losses (100, 1, 5000, 5), in a third of the steps; then 0.5 labels + 0.5 soft labels."
)
LEFT_OUT = (
    "Pre-training on Wikipedia and books, and the inverted-bottleneck teacher: the layers are as wide outside as the "
    "teacher's, so it needs none. Layers below the trained one are frozen, not at a tenth of the learning rate."
)
TRANSFER = 240 / 740  # the published share of steps: 240,000 of 740,000


def compress(
    teacher: Teacher,
    task: Task,
    budget: Budget,
    *,
    progressive: bool = True,
    learning_rate: float = 2e-3,
    distil_learning_rate: float = 5e-4,
) -> Student:
    """`progressive`: with the layerwise transfer. `learning_rate` is that of the transfer."""
    expert: Any = teacher.model
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    student = mobilebert.shaped_like(expert).to(expert.device)
    mobilebert.copy_from(student, expert)
    layers = student.mobilebert.encoder.layer
    phase = round(TRANSFER * budget.steps / len(layers)) if progressive else 0
    if phase:
        student.requires_grad_(False)
        for number, layer in enumerate(layers, 1):
            layer.requires_grad_(True)
            recipe = Recipe(phase, learning_rate, budget.batch_size, weight_decay=0.01)
            fit(student, train, transfer_loss(student, expert, number), recipe, stage=f"layer{number}")
            layer.requires_grad_(False)
        student.requires_grad_(True)

    known = logits_of(expert, train)

    def distil(batch: Batch) -> Tensor:
        logits = student(**batch.inputs).logits
        return taught(logits, known[batch.index].to(logits.device), batch.labels, task.kind)

    steps = max(1, budget.steps - phase * len(layers))
    recipe = Recipe(steps, distil_learning_rate, budget.batch_size, weight_decay=0.01)
    fit(student, train, distil, recipe, stage="distil", score=lambda: dev_score(student, task, dev))
    return Student(student, teacher.tokenizer)


def transfer_loss(student: Any, expert: Any, number: int) -> Loss:
    """The loss of one phase: what layer `number` (1 is the first) does, against the teacher's layer."""
    theirs, ours = expert.bert, student.mobilebert

    def loss(batch: Batch) -> Tensor:
        mask = batch.attention_mask
        with torch.no_grad(), first_layers(theirs.encoder, number), recorded_scores(theirs.encoder) as their_scores:
            their_map = theirs(**batch.inputs).last_hidden_state
        with first_layers(ours.encoder, number), recorded_scores(ours.encoder) as our_scores:
            our_map = ours(**batch.inputs).last_hidden_state
        return (
            100.0 * feature_map(our_map, their_map, mask)  # eq. 2
            + 1.0 * attention_transfer(our_scores[-1], their_scores[-1], mask)  # eq. 3
            + 5000.0 * mean_transfer(our_map, their_map, mask)  # of this layer; their code takes the teacher's stack
            + 5.0 * variance_transfer(our_map, their_map, mask)
        )

    return loss
