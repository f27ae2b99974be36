"""Pruning: the choice is the best one, the refit is least squares, and what is left loads again."""

from __future__ import annotations

import itertools

import pytest
import torch

from openautoglm import importance, pruning
from openautoglm.architectures import bert, build
from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import logits_of
from openautoglm.distillation.losses import task_loss
from openautoglm.importance import Importance
from openautoglm.pruning import Kept


@pytest.fixture
def train(case):
    teacher, task = case
    return encode(teacher.tokenizer, task.train, task.max_length)


def test_fisher_is_the_mean_of_squared_gradients_of_each_text(case, train):
    teacher, task = case
    model = teacher.copy().eval()
    few = type(train)(train.ids[:6], train.labels[:6])
    found = importance.importance(model, few, task, batch_size=4)
    expected = torch.zeros(4)
    for ids, label in zip(few.ids, few.labels, strict=True):  # one text at a time, by its own formula
        mask = torch.ones(4, requires_grad=True)
        hook = bert.layers(model)[2].attention.output.register_forward_pre_hook(
            lambda module, inputs, mask=mask: (inputs[0] * mask.repeat_interleave(6),)
        )
        task_loss(model(torch.tensor([ids])).logits, label[None], task.kind).backward()
        hook.remove()
        expected += mask.grad.square() / 6
    torch.testing.assert_close(found.heads[2], expected, rtol=1e-3, atol=1e-9)


def test_a_pruned_model_saves_and_builds_again(case, train):
    teacher, _ = case
    model = teacher.copy()
    pruning.prune(
        model, Kept([torch.tensor([i % 4]) for i in range(6)], [torch.arange(5 + i) for i in range(6)]), train
    )
    again = build(model.config.to_dict())
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(logits_of(again, train), logits_of(model, train))


def test_refitting_beats_slicing(case, train):
    teacher, _ = case
    kept = Kept([torch.tensor([0, 1])] * 6, [torch.arange(16)] * 6)
    full = logits_of(teacher.model, train)
    refitted, sliced = teacher.copy(), teacher.copy()
    pruning.prune(refitted, kept, train)
    for layer in bert.layers(sliced):
        layer.attention.keep(kept.heads[0])
        layer.ffn.keep(kept.neurons[0])
    assert (logits_of(refitted, train) - full).square().mean() < (logits_of(sliced, train) - full).square().mean()


def refitted(x, linear, kept):
    """Weight and bias after the refit, from the inputs (rows, in) of `linear`."""
    ones = torch.cat([x, torch.ones(len(x), 1)], 1)
    return pruning._refitted(linear, torch.arange(kept), ones.T @ ones)


def test_the_refit_is_least_squares_with_a_ridge_towards_the_old_weights():
    torch.manual_seed(0)
    x, linear = torch.randn(200, 8), torch.nn.Linear(8, 3)
    x[:, 7] = x[:, 0] + 0.1 * x[:, 7]  # what goes can be told from what stays
    weight, bias = refitted(x, linear, 7)
    seen, old = torch.cat([x[:, :7], torch.ones(200, 1)], 1), torch.cat([linear.weight[:, :7], linear.bias[:, None]], 1)
    pull = (pruning.RIDGE * seen.square().sum() / 8).sqrt() * torch.eye(8)
    solution = torch.linalg.lstsq(torch.cat([seen, pull]), torch.cat([linear(x), pull @ old.T])).solution.detach()
    torch.testing.assert_close(weight, solution[:7].T)
    torch.testing.assert_close(bias, solution[7])
    assert (weight[:, 0] - linear.weight[:, 0] - linear.weight[:, 7]).abs().max() < 0.1  # takes over what went


def test_a_unit_that_hardly_moves_stands_in_for_nothing():
    """Its weights would be many times the others', which training cannot follow and 4 bits do not hold."""
    torch.manual_seed(0)
    x, linear = torch.randn(200, 8), torch.nn.Linear(8, 3)
    x[:, 6] = 0.05 * x[:, 7]
    weight, _ = refitted(x, linear, 7)
    assert weight.abs().max() < 2 * linear.weight.abs().max()


def test_the_choice_is_the_best_of_all(case):
    """By brute force over every set of heads, with neurons filled from the top."""
    teacher, _ = case
    torch.manual_seed(1)
    model = bert.build(teacher.model.config.to_dict() | {"num_hidden_layers": 2})
    given = Importance([torch.rand(4) for _ in range(2)], [torch.rand(48) * 0.1 for _ in range(2)])
    kept = pruning.choose(model, given, 0.5)
    head, neuron = 4 * 24 * 6, 2 * 24
    budget = 0.5 * (8 * head + 96 * neuron)
    cost = sum(map(len, kept.heads)) * head + sum(map(len, kept.neurons)) * neuron
    assert cost <= budget
    assert all(len(layer) for layer in (*kept.heads, *kept.neurons))
    flat = torch.cat(given.heads)
    ranked = torch.cat(given.neurons).sort(descending=True).values
    best = min(
        float(flat.sum() - flat[list(chosen)].sum() + ranked[max(0, int((budget - count * head) // neuron)) :].sum())
        for count in range(2, 9)
        for chosen in itertools.combinations(range(8), count)
        if {i // 4 for i in chosen} == {0, 1} and budget - count * head >= 2 * neuron
    )
    removed = flat.sum() - sum(s[k].sum() for s, k in zip(given.heads, kept.heads, strict=True))
    removed += ranked.sum() - sum(s[k].sum() for s, k in zip(given.neurons, kept.neurons, strict=True))
    assert float(removed) == pytest.approx(best, rel=1e-4)
