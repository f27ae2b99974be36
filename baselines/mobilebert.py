"""MobileBERT: as deep as the teacher but thin inside, taught one layer at a time, then by its soft labels.

Stages: `layer1`, `layer2`, ... each train one layer to do what the teacher's layer does, those below being frozen;
`distil` then trains the whole on labels and soft labels. Follows the authors' run_pretraining.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openautoglm.architectures import mobilebert
from openautoglm.distillation.capture import first_layers, recorded_scores
from openautoglm.distillation.data import Batch, encode
from openautoglm.distillation.fit import Recipe, dev_score, device, fit, logits_of
from openautoglm.distillation.losses import (
    attention_transfer,
    feature_map,
    mean_transfer,
    soft_labels,
    task_loss,
    variance_transfer,
)
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "Sun et al. 2020, MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices, arXiv:2004.02984"
KEPT = (
    "Bottlenecks, four stacked FFNs, trigram embedding, NoNorm, ReLU, no dropout; progressive transfer, one phase a layer, "
    "with its four losses (100, 1, 5000, 5), in a third of the steps; then 0.5 labels + 0.5 soft labels"
)
LEFT_OUT = (
    "Pre-training on Wikipedia and books, and the inverted-bottleneck teacher: the layers are as wide outside as the "
    "teacher's, so it needs none. Layers below the trained one are frozen, not at a tenth of the learning rate"
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
    expert = teacher.model.to(device())
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    student = mobilebert.shaped_like(expert).to(device())
    mobilebert.copy_from(student, expert)
    blocks = student.mobilebert.encoder.layer
    phase = round(TRANSFER * budget.steps / len(blocks)) if progressive else 0
    for number in range(1, len(blocks) + 1 if phase else 1):
        student.requires_grad_(False)
        blocks[number - 1].requires_grad_(True)
        recipe = Recipe(phase, learning_rate, batch_size=budget.batch_size, weight_decay=0.01)
        fit(student, train, _transfer(student, expert, number), recipe, stage=f"layer{number}")
    student.requires_grad_(True)
    soft = logits_of(expert, train)

    def distil(batch: Batch) -> Tensor:
        logits = student(**batch.inputs).logits
        known = soft[batch.index].to(logits.device)
        return 0.5 * task_loss(logits, batch.labels, task.kind) + 0.5 * soft_labels(logits, known, task.kind)

    steps = max(1, budget.steps - phase * len(blocks))
    recipe = Recipe(steps, distil_learning_rate, batch_size=budget.batch_size, weight_decay=0.01)
    fit(student, train, distil, recipe, stage="distil", score=lambda: dev_score(student, task, dev))
    return Student(student, teacher.tokenizer)


def _transfer(student, expert, number: int):
    """The loss of phase `number`: what layer `number` (1 is the first) does, against the teacher's layer."""

    def loss(batch: Batch) -> Tensor:
        mask = batch.attention_mask
        with (
            torch.no_grad(),
            first_layers(expert.bert.encoder, number),
            recorded_scores(expert.bert.encoder) as their_scores,
        ):
            theirs = expert.bert(**batch.inputs).last_hidden_state
        with (
            first_layers(student.mobilebert.encoder, number),
            recorded_scores(student.mobilebert.encoder) as our_scores,
        ):
            ours = student.mobilebert(**batch.inputs).last_hidden_state
        return (
            100.0 * feature_map(ours, theirs, mask)  # eq. 2
            + 1.0 * attention_transfer(our_scores[-1], their_scores[-1], mask)  # eq. 3
            + 5000.0 * mean_transfer(ours, theirs, mask)  # section 3.3; of this layer, not of all as in their code
            + 5.0 * variance_transfer(ours, theirs, mask)
        )

    return loss
