"""Structured pruning: which heads and neurons stay, a least-squares refit of what reads them, and physical slicing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm.architectures import family
from openautoglm.architectures.bert import narrow
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import device
from openautoglm.importance import Importance

RIDGE = 1e-3  # share of the mean diagonal that is added to the Gram matrix: keeps the solve well-posed


@dataclass(frozen=True)
class Kept:
    """What stays in each layer: indices of heads and of neurons, ascending."""

    heads: list[Tensor]
    neurons: list[Tensor]


def choose(model: Any, importance: Importance, ratio: float) -> Kept:
    """Keep the heads and neurons that minimise the removed importance, with a share `ratio` of their weights removed.

    Kwon et al. 2022 (arXiv 2204.09656), algorithm 1, with weights as the cost: for each number of heads the budget
    fixes the number of neurons, and under a diagonal Fisher the best set of a given size is the top of the ranking.
    The first head and neuron of each layer's ranking always stay.
    """
    layers = family(model.config.model_type).layers(model)
    hidden, head_size = layers[0].query.in_features, layers[0].head_size
    head_cost, neuron_cost = 4 * hidden * head_size, 2 * hidden
    heads, neurons = _Ranking(importance.heads), _Ranking(importance.neurons)
    budget = (1 - ratio) * (len(heads) * head_cost + len(neurons) * neuron_cost)
    best, best_loss = (heads.least, neurons.least), float("inf")
    for count in range(heads.least, len(heads) + 1):
        left = int((budget - count * head_cost) // neuron_cost)
        if left < neurons.least:
            break
        loss = heads.removed(count) + neurons.removed(min(left, len(neurons)))
        if loss < best_loss:
            best, best_loss = (count, min(left, len(neurons))), loss
    return Kept(heads.top(best[0]), neurons.top(best[1]))


class _Ranking:
    """Items of all layers by importance; the best of each layer comes first, so that no layer is emptied."""

    def __init__(self, scores: list[Tensor]) -> None:
        self.widths = [len(layer) for layer in scores]
        flat = torch.cat([layer.double() for layer in scores])
        protected = flat.clone()
        start = 0
        for layer in scores:
            protected[start + int(layer.argmax())] = float("inf")
            start += len(layer)
        self.order = protected.argsort(descending=True, stable=True)
        self.sorted_sum = torch.cat([torch.zeros(1, dtype=torch.double), flat[self.order].cumsum(0)])
        self.least = len(scores)

    def __len__(self) -> int:
        return sum(self.widths)

    def removed(self, kept: int) -> float:
        """Importance that goes when the top `kept` stay."""
        return float(self.sorted_sum[-1] - self.sorted_sum[kept])

    def top(self, kept: int) -> list[Tensor]:
        """Indices inside each layer of the top `kept`."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[self.order[:kept]] = True
        return [part.nonzero().squeeze(1) for part in chosen.split(self.widths)]


def prune(model: Any, kept: Kept, examples: Encoded) -> None:
    """Remove all but `kept` from `model`, in place, after refitting the two output linears of each layer.

    The refit (as in Kwon et al. 2022, section 4.3, and ZipLM, arXiv 2302.04089, eq. 2) solves
    min_W' E |x_kept W' - x W|^2 over the calibration texts, x being what enters the linear in the unpruned model.
    """
    architecture = family(model.config.model_type)
    layers = architecture.layers(model)
    grams = _gram_matrices(
        model, [linear for layer in layers for linear in (layer.attention_output, layer.down)], examples
    )
    for i, layer in enumerate(layers):
        rows = (kept.heads[i][:, None] * layer.head_size + torch.arange(layer.head_size)).flatten()
        _refit(layer.attention_output, rows, grams[2 * i])
        _refit(layer.down, kept.neurons[i], grams[2 * i + 1])
        for linear in (layer.query, layer.key, layer.value):
            narrow(linear, rows=rows)
        narrow(layer.up, rows=kept.neurons[i])
    architecture.record_slices(model)


@torch.inference_mode()
def _gram_matrices(model: Any, linears: list[nn.Linear], examples: Encoded) -> list[Tensor]:
    """E x^T x of what enters each linear, over all real tokens, with a constant 1 appended to x for the bias."""
    grams = [torch.zeros(linear.in_features + 1, linear.in_features + 1, device=device()) for linear in linears]
    mask = torch.empty(0)

    def collect(i: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0][mask]  # (tokens, width)
            x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
            grams[i] += x.T @ x

        return hook

    hooks = [linear.register_forward_pre_hook(collect(i)) for i, linear in enumerate(linears)]
    model.to(device()).eval()
    for batch in in_order(examples, 32):
        batch = batch.to(device())
        mask = batch.attention_mask.bool()
        model(**batch.inputs)
    for hook in hooks:
        hook.remove()
    return [gram.cpu() for gram in grams]


@torch.no_grad()
def _refit(linear: nn.Linear, kept: Tensor, gram: Tensor) -> None:
    """Keep the input columns `kept` of `linear`, weights and bias refitted to give what all columns gave."""
    narrowed = torch.cat([kept, torch.tensor([linear.in_features])])
    full = torch.cat([linear.weight, linear.bias[:, None]], dim=1).cpu()  # (out, in + 1)
    inner = gram[narrowed][:, narrowed].double()
    ridge = RIDGE * inner.diagonal().mean() * torch.eye(len(narrowed), dtype=torch.double)
    target = (
        gram[narrowed].double() @ full.T.double() + ridge @ full[:, narrowed].T.double()
    )  # ridge towards the old weights
    solved = torch.linalg.solve(inner + ridge, target).float().T.to(linear.weight.device)
    narrow(linear, columns=kept)
    linear.weight.copy_(solved[:, :-1])
    assert linear.bias is not None
    linear.bias.copy_(solved[:, -1])
