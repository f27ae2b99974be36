"""TinyBERT: a narrow, shallow student that copies the teacher's attention and hidden states on augmented text.

Stages: `td1` matches embeddings, attention scores and hidden states (eq. 7 to 9) without labels, `td2` matches the
teacher's predictions (eq. 10); both on the augmented text. Follows the authors' task_distill.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from openautoglm import architectures
from openautoglm.distillation.augment import augment
from openautoglm.distillation.capture import recorded_scores
from openautoglm.distillation.data import Batch, batch_of, encode
from openautoglm.distillation.embedding import copy_tables, fit_linear
from openautoglm.distillation.fit import Loss, Recipe, dev_score, fit
from openautoglm.distillation.losses import attention_mse, hidden_mse, soft_labels
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding, arXiv:1909.10351"
KEPT = (
    "TinyBERT4's proportions (a third of the layers, 312/768 of the width), uniform layer map, one shared projection, "
    "all weights 1; intermediate then prediction distillation (T = 1), both on augmented text."
)
LEFT_OUT = (
    "General distillation on Wikipedia: the embedding starts from the SVD of the teacher's and the intermediate stage "
    "does the rest. Replacement words come from the teacher's embedding table, not from a masked language model and "
    "GloVe. The stages share the steps (published: 20 to 3 epochs), with higher learning rates. On regression the "
    "student learns the teacher's values; the authors' code takes the labels."
)


def compress(
    teacher: Teacher,
    task: Task,
    budget: Budget,
    *,
    copies: int = 10,
    general: bool = True,
    intermediate: float = 0.5,
    learning_rate: float = 2e-3,
    prediction_learning_rate: float = 1e-3,
) -> Student:
    """`copies` of augmented text a text; `general`: start the embedding from the teacher's, not from chance.

    `intermediate` is td1's share of the steps, and `learning_rate` its learning rate.
    """
    expert: Any = teacher.model
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    student = shaped_like(expert).to(expert.device)
    project = nn.Linear(student.config.hidden_size, expert.config.hidden_size).to(expert.device)  # W_h
    if general:
        start_embedding(student, project, expert, batch_of(train, range(min(256, len(train)))))
    if copies:
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        words = expert.bert.embeddings.word_embeddings.weight.detach().cpu()
        train = augment(train, words, teacher.tokenizer, copies=copies, generator=generator)

    published: Any = {"batch_size": budget.batch_size, "weight_decay": 0.01, "warmup": 0.1}
    first = round(intermediate * budget.steps)
    if first:
        loss, both = intermediate_loss(student, project, expert), nn.ModuleList([student, project])
        fit(both, train, loss, Recipe(first, learning_rate, **published), stage="td1")

    def prediction_loss(batch: Batch) -> Tensor:
        with torch.no_grad():
            known = expert(**batch.inputs).logits
        return soft_labels(student(**batch.inputs).logits, known, task.kind)  # eq. 10, T = 1

    recipe = Recipe(max(1, budget.steps - first), prediction_learning_rate, **published)
    fit(student, train, prediction_loss, recipe, stage="td2", score=lambda: dev_score(student, task, dev))
    return Student(student, teacher.tokenizer)


def intermediate_loss(student: Any, project: nn.Linear, expert: Any) -> Loss:
    """Eq. 11 without its last term, every weight 1: layer m of M against m N / M of N; the embedding is m = 0."""
    layers, ratio = student.config.num_hidden_layers, layer_ratio(expert.config, student.config)

    def loss(batch: Batch) -> Tensor:
        mask = batch.attention_mask
        with torch.no_grad(), recorded_scores(expert.bert.encoder) as their_scores:
            theirs = expert.bert(**batch.inputs, output_hidden_states=True).hidden_states
        with recorded_scores(student.bert.encoder) as our_scores:
            ours = student.bert(**batch.inputs, output_hidden_states=True).hidden_states
        hidden = [hidden_mse(project(ours[m]), theirs[m * ratio], mask) for m in range(layers + 1)]  # eq. 8; 9: m = 0
        scores = [attention_mse(our_scores[m - 1], their_scores[m * ratio - 1], mask) for m in range(1, layers + 1)]
        return torch.stack(hidden + scores).sum()  # scores: eq. 7

    return loss


@torch.no_grad()
def start_embedding(student: Any, project: nn.Linear, expert: Any, sample: Batch) -> None:
    """What general distillation leaves of eq. 9, MSE(E_S W_h, E_T), in closed form: its minimum over all words.

    The tables are the SVD of the teacher's; W_h is the least squares fit behind the student's layer norm.
    """
    ours, theirs = student.bert.embeddings, expert.bert.embeddings
    copy_tables(ours, theirs)
    ids = sample.input_ids.to(expert.device)
    fit_linear(project, ours.eval()(ids).flatten(0, 1), theirs(ids).flatten(0, 1))


def shaped_like(bert: Any) -> Any:
    """A student with fresh weights in TinyBERT4's proportions to BERT-base: 4/12, 312/768 and 1200/3072."""
    teacher = bert.config
    heads = teacher.num_attention_heads
    changed = {
        "num_hidden_layers": max(1, teacher.num_hidden_layers * 4 // 12),
        "hidden_size": teacher.hidden_size * 312 // 768 // heads * heads,
        "intermediate_size": teacher.intermediate_size * 1200 // 3072,
    }
    return architectures.build(teacher.to_dict() | changed)


def layer_ratio(teacher: Any, student: Any) -> int:
    """N / M of the uniform map g(m) = m * N / M; ValueError where it is not whole."""
    ratio, rest = divmod(teacher.num_hidden_layers, student.num_hidden_layers)
    if rest:
        raise ValueError(
            f"TinyBERT maps {student.num_hidden_layers} layers to every N-th of the teacher's, which has "
            f"{teacher.num_hidden_layers}: take a teacher whose depth divides by 3."
        )
    return ratio
