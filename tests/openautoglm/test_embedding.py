"""A narrow start from a wide embedding."""

import torch
from torch import nn

from openautoglm.distillation.embedding import fit_linear, leading_directions


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_leading_directions_lose_only_the_smallest_singular_values():
    table = draw(50, 12)
    basis = leading_directions(table, 5)
    torch.testing.assert_close(basis.T @ basis, torch.eye(5))
    lost = (table - table @ basis @ basis.T).pow(2).sum()
    torch.testing.assert_close(lost, torch.linalg.svdvals(table)[5:].pow(2).sum())


def test_fit_linear_finds_the_map_that_made_the_targets():
    made, found, inputs = nn.Linear(6, 9), nn.Linear(6, 9), draw(100, 6)
    fit_linear(found, inputs, made(inputs).detach())
    torch.testing.assert_close(found.weight, made.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bias, made.bias, rtol=1e-4, atol=1e-5)


def test_fit_linear_stays_small_behind_a_layer_norm():
    inputs = nn.functional.layer_norm(draw(100, 6), (6,))  # sums to 0: the six inputs and the bias are dependent
    found = nn.Linear(6, 2)
    fit_linear(found, inputs, draw(100, 2))
    assert found.weight.abs().max() < 1


def test_fit_linear_does_not_depend_on_where_its_inputs_lie():
    inputs, targets, found, kept = draw(500, 24), draw(500, 24).flip(0), nn.Linear(24, 24), []
    weights = []
    for i in range(5):
        kept.append(torch.empty(7 * i + 1))  # moves what is allocated next
        fit_linear(found, inputs.clone(), targets.clone())
        weights.append(found.weight.clone())
    assert all(torch.equal(weights[0], weight) for weight in weights)
