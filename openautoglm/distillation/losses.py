"""The losses of distillation: pure functions of tensors, one formula each.

Shapes: B texts, L word pieces, W width (the two sides may differ where it says so), H heads, C outputs, V vocabulary.
`mask` is (B, L), 1 for a real piece and 0 for padding: padding counts neither in a sum nor in a mean.
Every loss is a scalar in float32, and gradients reach the student's side only.

    DistilBERT  Sanh et al. 2019, arXiv 1910.01108          TinyBERT   Jiao et al. 2020, arXiv 1909.10351
    MobileBERT  Sun et al. 2020, arXiv 2004.02984           MiniLMv2   Wang et al. 2021, arXiv 2012.15828
    KD          Hinton et al. 2015, arXiv 1503.02531
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def task_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """(B, C) logits and (B,) labels: cross entropy for a "classification", squared error for a "regression"."""
    logits = logits.float()
    return F.cross_entropy(logits, labels) if kind == "classification" else F.mse_loss(logits[:, 0], labels.float())


def soft_labels(student: Tensor, teacher: Tensor, kind: str, temperature: float = 1.0) -> Tensor:
    """(B, C) logits of both sides: T^2 KL(softmax(teacher / T) || softmax(student / T)), KD section 2.

    Gradient-equal to the soft cross entropy of TinyBERT eq. 10; T^2 keeps its size independent of T. A value has no
    softness, so for a "regression" it is the squared error to the teacher's value.
    """
    if kind == "regression":
        return F.mse_loss(_wide(student), _wide(teacher.detach()))
    return temperature**2 * kl(student / temperature, teacher / temperature)


def taught(
    student: Tensor, teacher: Tensor, labels: Tensor, kind: str, temperature: float = 1.0, soft_weight: float = 0.5
) -> Tensor:
    """(B, C) logits of both sides and (B,) labels: the soft labels' loss and the task's, weighted (KD section 2)."""
    soft = soft_labels(student, teacher, kind, temperature)
    return soft_weight * soft + (1 - soft_weight) * task_loss(student, labels, kind)


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """(N, V) logits of both sides: the mean over N of KL(softmax(teacher) || softmax(student))."""
    log_p, log_q = _wide(teacher.detach()).log_softmax(-1), _wide(student).log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def _wide(x: Tensor) -> Tensor:
    """float32 of half precision; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, L, W) hidden states: the mean over pieces of 1 - cos(student, teacher); DistilBERT section 2, L_cos."""
    return mean(1 - F.cosine_similarity(student.float(), teacher.detach().float(), dim=-1), mask)


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, L, W) hidden states of one width (project the student's first): mean squared error.

    TinyBERT eq. 8, MSE(H_S W_h, H_T), and eq. 9 for the embeddings.
    """
    return mean((student.float() - teacher.detach().float()).pow(2).mean(-1), mask)


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, H, L, L) scores before the softmax and without the mask: mean squared error; TinyBERT eq. 7.

    A pair of pieces with padding on either side is zeroed and not counted: an attention mask adds about -1e4 to its
    score, which would drown the rest.
    """
    pairs = mask[:, :, None] * mask[:, None, :]  # (B, L, L)
    return mean((student.float() - teacher.detach().float()).pow(2).mean(1), pairs)


def feature_map(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, L, W) outputs of one layer: mean squared error after a layer norm without parameters; MobileBERT eq. 2.

    The norm is that of the authors' code: it leaves the size of the features to `mean_transfer` and
    `variance_transfer`, which NoNorm needs.
    """
    width = (student.shape[-1],)
    norms = F.layer_norm(student.float(), width), F.layer_norm(teacher.float(), width)
    return hidden_mse(*norms, mask)


def attention_transfer(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, H, L, L) scores before the softmax: mean over heads and pieces of KL(teacher || student); MobileBERT eq. 3.

    The authors' code has the cross entropy: the same gradient, but its value does not end at 0.
    """
    hidden = (mask == 0)[:, None, None, :]  # no piece attends to padding
    log_p = teacher.detach().float().masked_fill(hidden, -1e4).log_softmax(-1)
    log_q = student.float().masked_fill(hidden, -1e4).log_softmax(-1)
    return mean(F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean(1), mask)


def mean_transfer(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, L, W) outputs of one layer: squared error between each piece's means over W; MobileBERT section 3.3."""
    return mean((student.float().mean(-1) - teacher.detach().float().mean(-1)).pow(2), mask)


def variance_transfer(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """(B, L, W) outputs of one layer: absolute error between each piece's variances over W; MobileBERT section 3.3."""
    variances = student.float().var(-1, correction=0), teacher.detach().float().var(-1, correction=0)
    return mean((variances[0] - variances[1]).abs(), mask)


def relation(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """(B, L, W_s) and (B, L, W_t) queries, keys or values of one layer each; MiniLMv2 eq. 5 and 6.

    Both are cut into `heads` relation heads of width d, R = softmax(A A^T / sqrt(d)); the mean over heads and pieces
    of KL(R_teacher || R_student). The widths need only divide by `heads`.
    """
    return attention_transfer(
        attention_scores(student, student, heads), attention_scores(teacher, teacher, heads), mask
    )


def attention_scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """(B, L, W) outputs of the query and key linears -> (B, heads, L, L) scores Q K^T / sqrt(W / heads)."""
    q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key))  # (B, heads, L, d)
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where the mask of the same shape is 1; masked values may be anything finite."""
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1)
