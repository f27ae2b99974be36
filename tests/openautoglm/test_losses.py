"""Every loss against a few lines written from its formula, one piece at a time and in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from openautoglm.distillation import losses

B, L, W, H = 3, 5, 8, 2
LENGTHS = (5, 3, 2)
MASK = torch.tensor([[1] * n + [0] * (L - n) for n in LENGTHS])
REAL = [(b, i) for b, n in enumerate(LENGTHS) for i in range(n)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def kl(teacher: np.ndarray, student: np.ndarray) -> float:
    p, q = softmax(teacher), softmax(student)
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))


def close(loss: Tensor, reference: float | np.floating) -> None:
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference, rel=1e-5, abs=1e-7)


STUDENT, TEACHER = draw(B, L, W, seed=1), draw(B, L, W, seed=2)
SCORES = draw(B, H, L, L, seed=3), draw(B, H, L, L, seed=4)
s, t = STUDENT.double().numpy(), TEACHER.double().numpy()
a, c = (x.double().numpy() for x in SCORES)


def test_task_loss_of_a_classification_is_cross_entropy():
    logits, labels = draw(4, 3), torch.tensor([0, 2, 1, 1])
    rows = zip(logits.double().numpy(), labels, strict=True)
    close(losses.task_loss(logits, labels, "classification"), np.mean([-math.log(softmax(x)[y]) for x, y in rows]))


def test_task_loss_of_a_regression_is_squared_error():
    logits, labels = draw(4, 1), draw(4, seed=9)
    close(losses.task_loss(logits, labels, "regression"), np.mean((logits[:, 0] - labels).double().numpy() ** 2))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_soft_labels_of_a_classification_are_t_squared_times_kl(temperature):
    student, teacher = draw(4, 3), draw(4, 3, seed=7)
    rows = zip(teacher.double().numpy(), student.double().numpy(), strict=True)
    reference = np.mean([temperature**2 * kl(p / temperature, q / temperature) for p, q in rows])
    close(losses.soft_labels(student, teacher, "classification", temperature), reference)


def test_soft_labels_have_the_gradient_of_the_soft_cross_entropy():
    student, teacher = draw(4, 3).requires_grad_(), draw(4, 3, seed=7)
    ours = torch.autograd.grad(losses.soft_labels(student, teacher, "classification"), student)[0]
    cross_entropy = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(ours, torch.autograd.grad(cross_entropy, student)[0])


def test_soft_labels_of_a_regression_are_squared_error_to_the_teacher():
    student, teacher = draw(4, 1), draw(4, 1, seed=7)
    close(losses.soft_labels(student, teacher, "regression"), np.mean((student - teacher).double().numpy() ** 2))


def test_taught_weighs_soft_labels_and_labels():
    student, teacher, labels = draw(4, 3), draw(4, 3, seed=7), torch.tensor([0, 2, 1, 1])
    parts = (
        losses.soft_labels(student, teacher, "classification", 2.0),
        losses.task_loss(student, labels, "classification"),
    )
    loss = losses.taught(student, teacher, labels, "classification", temperature=2.0, soft_weight=0.7)
    close(loss, 0.7 * parts[0].item() + 0.3 * parts[1].item())


def test_cosine():
    cosines = [s[x] @ t[x] / np.linalg.norm(s[x]) / np.linalg.norm(t[x]) for x in REAL]
    close(losses.cosine(STUDENT, TEACHER, MASK), np.mean([1 - x for x in cosines]))


def test_hidden_mse():
    close(losses.hidden_mse(STUDENT, TEACHER, MASK), np.mean([(s[x] - t[x]) ** 2 for x in REAL]))


def test_attention_mse_leaves_out_every_pair_with_padding():
    errors = [
        (a[b, h, i, j] - c[b, h, i, j]) ** 2
        for b, n in enumerate(LENGTHS)
        for h in range(H)
        for i in range(n)
        for j in range(n)
    ]
    close(losses.attention_mse(*SCORES, MASK), np.mean(errors))


def test_feature_map_compares_after_a_layer_norm():
    def norm(x):
        return (x - x.mean()) / math.sqrt(x.var() + 1e-5)

    close(losses.feature_map(STUDENT, TEACHER, MASK), np.mean([(norm(s[x]) - norm(t[x])) ** 2 for x in REAL]))


def test_attention_transfer_is_kl_over_real_pieces():
    rows = [(b, h, i, slice(LENGTHS[b])) for b, i in REAL for h in range(H)]
    close(losses.attention_transfer(*SCORES, MASK), np.mean([kl(c[x], a[x]) for x in rows]))


def test_mean_transfer():
    close(losses.mean_transfer(STUDENT, TEACHER, MASK), np.mean([(s[x].mean() - t[x].mean()) ** 2 for x in REAL]))


def test_variance_transfer():
    close(losses.variance_transfer(STUDENT, TEACHER, MASK), np.mean([abs(s[x].var() - t[x].var()) for x in REAL]))


def test_attention_scores():
    scores = losses.attention_scores(STUDENT, TEACHER, H)
    assert scores.shape == (B, H, L, L)
    d = W // H
    reference = s[1, 2, d:] @ t[1, 4, d:] / math.sqrt(d)  # text 1, the second head, from piece 2 to piece 4
    assert scores[1, 1, 2, 4].item() == pytest.approx(reference, rel=1e-5)


def test_relation_takes_sides_of_different_width():
    wide, d, e = draw(B, L, 2 * W, seed=5), W // H, 2 * W // H
    w = wide.double().numpy()
    terms = []
    for b, i in REAL:
        for h in range(H):
            ours = s[b, : LENGTHS[b], h * d : (h + 1) * d]
            theirs = w[b, : LENGTHS[b], h * e : (h + 1) * e]
            terms.append(kl(theirs @ theirs[i] / math.sqrt(e), ours @ ours[i] / math.sqrt(d)))
    close(losses.relation(STUDENT, wide, MASK, H), np.mean(terms))


PAIRS = {
    "cosine": (losses.cosine, STUDENT, TEACHER),
    "hidden_mse": (losses.hidden_mse, STUDENT, TEACHER),
    "feature_map": (losses.feature_map, STUDENT, TEACHER),
    "mean_transfer": (losses.mean_transfer, STUDENT, TEACHER),
    "variance_transfer": (losses.variance_transfer, STUDENT, TEACHER),
    "attention_mse": (losses.attention_mse, *SCORES),
    "attention_transfer": (losses.attention_transfer, *SCORES),
    "relation": (lambda x, y, mask: losses.relation(x, y, mask, H), STUDENT, TEACHER),
}


@pytest.mark.parametrize("name", PAIRS)
def test_is_zero_only_at_the_teacher_and_does_not_see_padding(name):
    loss, student, teacher = PAIRS[name]
    assert loss(teacher, teacher, MASK).item() == pytest.approx(0, abs=1e-6)
    clean = loss(student, teacher, MASK).item()
    assert clean > 1e-3
    changed = student.clone()
    for b, n in enumerate(LENGTHS):
        changed[b, ..., n:, :] = 50.0
        if changed.ndim == 4:
            changed[b, ..., n:] = 50.0
    assert loss(changed, teacher, MASK).item() == pytest.approx(clean, rel=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_reach_the_student_only(name):
    loss, student, teacher = PAIRS[name]
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    loss(student, teacher, MASK).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.any()
    assert teacher.grad is None or not teacher.grad.any()
