"""DistilBERT: half of the teacher's layers, taught its word predictions and hidden states, then the task.

Stages: `head` trains a masked-language-model head on the frozen teacher (it comes without one), `distil` is the triple
loss on the task's text, `task` is the fine-tuning with the teacher's soft labels. Follows the authors' distiller.py.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from openautoglm.architectures import distilbert
from openautoglm.distillation.data import Batch, Encoded, encode
from openautoglm.distillation.fit import Loss, Recipe, dev_score, fit, logits_of
from openautoglm.distillation.losses import cosine, kl, taught
from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "Sanh et al. 2019, DistilBERT, a distilled version of BERT: smaller, faster, cheaper, lighter, arXiv:1910.01108"
KEPT = (
    "Alternate teacher layers, no token types, started from the teacher; 5 KL (T = 2) + 2 masked language model + "
    "1 cosine, rare pieces masked more often; then the task with the teacher's soft labels."
)
LEFT_OUT = (
    "Wikipedia and books: the task's own text stands in, and the softmax runs over its word pieces only. The teacher "
    "comes without a language-model head, so one is trained on it first. Learning rates fit the smaller budget."
)
HEAD, DISTIL = 0.1, 0.4  # shares of the budget's steps; the task gets the rest
MASKED, AS_IS, RANDOM = 0.15, 0.1, 0.1  # the first of all pieces, the others of the masked ones
SMOOTHING = 0.7  # a piece is masked in proportion to its count ** -0.7


def compress(
    teacher: Teacher,
    task: Task,
    budget: Budget,
    *,
    from_teacher: bool = True,
    mlm_weight: float = 2.0,
    temperature: float = 2.0,
    learning_rate: float = 2e-4,
    task_learning_rate: float = 1e-4,
) -> Student:
    """`from_teacher`: start from the teacher's layers, not from chance. `learning_rate` is that of the triple loss."""
    expert: Any = teacher.model
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    kept = alternate(expert.config.num_hidden_layers)
    student = distilbert.shaped_like(expert, len(kept)).to(expert.device)
    if from_teacher:
        distilbert.copy_from(student, expert, kept)
    published: Any = {"betas": (0.9, 0.98), "eps": 1e-6, "warmup": 0.05, "clip_norm": 5.0}
    head, distil = (round(share * budget.steps) for share in (HEAD, DISTIL))

    masking = Masking(train, teacher.tokenizer)
    their_head, our_head = (Head(expert.config.hidden_size, masking.pieces).to(expert.device) for _ in range(2))
    if head:
        recipe = Recipe(head, 1e-3, budget.batch_size, **published)
        fit(their_head, train, head_loss(expert, their_head, masking), recipe, stage="head")
    our_head.load_state_dict(their_head.requires_grad_(False).state_dict())

    if distil:
        loss = triple_loss(student, our_head, expert, their_head, masking, temperature, mlm_weight)
        recipe = Recipe(distil, learning_rate, budget.batch_size, **published)
        fit(nn.ModuleList([student, our_head]), train, loss, recipe, stage="distil")

    known = logits_of(expert, train)
    recipe = Recipe(budget.steps - head - distil, task_learning_rate, budget.batch_size)

    def fine_tune(batch: Batch) -> Tensor:
        logits = student(**batch.inputs).logits
        return taught(logits, known[batch.index].to(logits.device), batch.labels, task.kind, temperature)

    fit(student, train, fine_tune, recipe, stage="task", score=lambda: dev_score(student, task, dev))
    return Student(student, teacher.tokenizer, report={"layers_kept": kept})


def head_loss(expert: Any, head: Head, masking: Masking) -> Loss:
    """Masked language modelling on the frozen teacher."""
    words = expert.bert.embeddings.word_embeddings.weight

    def loss(batch: Batch) -> Tensor:
        inputs, targets = masking(batch)
        with torch.no_grad():
            hidden = expert.bert(inputs, batch.attention_mask).last_hidden_state
        chosen = targets >= 0
        return F.cross_entropy(head(hidden[chosen], words).float(), targets[chosen])

    return loss


def triple_loss(
    student: Any, our_head: Head, expert: Any, their_head: Head, masking: Masking, temperature: float, mlm_weight: float
) -> Loss:
    """5 L_ce + 2 L_mlm + 1 L_cos (section 2; the weights are those of the authors' command line)."""
    their_words = expert.bert.embeddings.word_embeddings.weight
    our_words = student.distilbert.embeddings.word_embeddings.weight

    def loss(batch: Batch) -> Tensor:
        inputs, targets = masking(batch)
        mask = batch.attention_mask
        real, hidden = mask == 1, targets[mask == 1]
        with torch.no_grad():
            theirs = expert.bert(inputs, mask).last_hidden_state
            their_logits = their_head(theirs[real], their_words)
        ours = student.distilbert(inputs, mask).last_hidden_state
        our_logits = our_head(ours[real], our_words)
        return (
            5.0 * temperature**2 * kl(our_logits / temperature, their_logits / temperature)  # L_ce, of every real piece
            + mlm_weight * F.cross_entropy(our_logits.float(), hidden, ignore_index=-1)  # L_mlm, of the masked ones
            + 1.0 * cosine(ours, theirs, mask)  # L_cos
        )

    return loss


def alternate(depth: int) -> list[int]:
    """One layer out of two: the authors' choice for 12, and 0, 2, 4, ... for other depths."""
    return [0, 2, 4, 7, 9, 11] if depth == 12 else list(range(0, depth, 2))


class Head(nn.Module):
    """The masked-language-model head: dense, GELU, layer norm, and the word embedding again (tied), plus a bias."""

    pieces: Tensor

    def __init__(self, width: int, pieces: Tensor) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))
        self.bias = nn.Parameter(torch.zeros(len(pieces)))
        self.register_buffer("pieces", pieces)

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """(N, W) hidden states and the (V, W) word table -> (N, pieces) logits."""
        return self.transform(hidden) @ words[self.pieces].T + self.bias


def mask_id(tokenizer: Tokenizer) -> int:
    """The id of [MASK]; ValueError where the tokenizer has none."""
    found = tokenizer.token_to_id("[MASK]")
    if found is None:
        raise ValueError("The teacher's tokenizer has no [MASK] piece, which DistilBERT's language-model loss needs.")
    return found


class Masking:
    """Hides 15 % of a batch's pieces, rare ones more often: 80 % as [MASK], 10 % as a random piece, 10 % not at all."""

    def __init__(self, examples: Encoded, tokenizer: Tokenizer) -> None:
        counts = Counter(i for ids in examples.ids for i in ids)
        self.mask_id = mask_id(tokenizer)
        self.pieces = torch.tensor(sorted(counts))  # the output classes
        self.place = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.long)  # piece -> class
        self.place[self.pieces] = torch.arange(len(self.pieces))
        self.weight = torch.zeros(tokenizer.get_vocab_size())  # 0: never hidden
        self.weight[self.pieces] = torch.tensor([counts[int(i)] for i in self.pieces]).float() ** -SMOOTHING
        self.weight[[i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = 0

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """-> ids (B, L) with some hidden, and targets (B, L): the class of a hidden piece, -1 elsewhere."""
        ids = batch.input_ids.cpu()
        weight = self.weight[ids].flatten()
        count = min(math.ceil(MASKED * int(batch.attention_mask.sum())), int((weight > 0).sum()))
        hidden = torch.zeros(ids.numel(), dtype=torch.bool)
        hidden[torch.multinomial(weight, count)] = True
        hidden = hidden.view_as(ids)
        draw = torch.rand(ids.shape)
        random = self.pieces[torch.randint(len(self.pieces), ids.shape)]
        shown = torch.where(draw < AS_IS, ids, torch.where(draw < AS_IS + RANDOM, random, self.mask_id))
        inputs, targets = torch.where(hidden, shown, ids), torch.where(hidden, self.place[ids], -1)
        return inputs.to(batch.input_ids.device), targets.to(batch.input_ids.device)
