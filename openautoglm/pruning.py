"""Structured pruning: which heads and neurons stay, a least-squares refit of what reads them, and physical slicing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm import architectures
from openautoglm.config import ConfigError
from openautoglm.cost_table import Structure, Widths
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import device
from openautoglm.importance import Importance

# Share of the mean diagonal that is added to the Gram matrix: smaller ones let a unit that hardly moves stand in for
# many, with weights that training follows badly and 4 bits do not hold.
RIDGE = 0.1


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
    layers = architectures.layers(model)
    head_cost = max(layer.attention.unit_weights for layer in layers)
    neuron_cost = max(layer.ffn.unit_weights for layer in layers)
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


def between(full: Structure, wanted: Structure, done: float) -> list[Widths]:
    """Widths on the way from `full` (done = 0) to `wanted` (done = 1); ConfigError where one exceeds the model's."""
    wider = [w for a, b in zip(full, wanted, strict=False) for f, w in zip(a, b, strict=True) if w > f]
    if len(full) != len(wanted) or wider:
        raise ConfigError(
            f"The structure is {_pairs(wanted)}, and the model has {_pairs(full)} heads and neurons: give every layer, "
            "each at most as wide; 0 drops a sub-layer."
        )
    return [
        Widths(*(round(f + (w - f) * done) for f, w in zip(a, b, strict=True)))
        for a, b in zip(full, wanted, strict=True)
    ]


def _pairs(structure: Structure) -> list[list[int]]:
    return [list(widths) for widths in structure]


def choose_widths(importance: Importance, structure: Structure) -> Kept:
    """Keep so many heads and neurons of each layer, those that matter most; 0 keeps none."""
    return Kept(
        [_top(scores, layer.heads) for scores, layer in zip(importance.heads, structure, strict=True)],
        [_top(scores, layer.neurons) for scores, layer in zip(importance.neurons, structure, strict=True)],
    )


def _top(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores, ascending."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


class _Ranking:
    """Items of all layers by importance; the best of each layer comes first, so that no layer is emptied."""

    def __init__(self, scores: list[Tensor]) -> None:
        self.widths = [len(layer) for layer in scores]
        flat = torch.cat([layer.double() for layer in scores])
        protected = flat.clone()
        start = 0
        for layer in scores:
            if len(layer):
                protected[start + int(layer.argmax())] = float("inf")
            start += len(layer)
        self.order = protected.argsort(descending=True, stable=True)
        self.sorted_sum = torch.cat([torch.zeros(1, dtype=torch.double), flat[self.order].cumsum(0)])
        self.least = sum(len(layer) > 0 for layer in scores)

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
    outputs = [part.output for part in architectures.sublayers(model) if part.units]
    slice_refitted(model, kept, gram_matrices(model, outputs, examples))


def slice_refitted(model: Any, kept: Kept, grams: list[Tensor]) -> None:
    """`prune`, given the Gram matrices of what enters the output of every sub-layer that is there, first to last."""
    units = [left for layer in zip(kept.heads, kept.neurons, strict=True) for left in layer]
    wanted = [(part, left) for part, left in zip(architectures.sublayers(model), units, strict=True) if part.units]
    for (part, left), gram in zip(wanted, grams, strict=True):
        weight, bias = _refitted(part.output, part.columns(left), gram)
        with torch.no_grad():
            if bias is not None:
                part.output.bias.copy_(bias)
            part.keep(left)
            if len(left):
                part.output.weight.copy_(weight)
    architectures.record_slices(model)


@torch.inference_mode()
def gram_matrices(model: Any, linears: list[nn.Linear], examples: Encoded) -> list[Tensor]:
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
def _refitted(linear: nn.Linear, kept: Tensor, gram: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight (out, kept) and bias with which the inputs `kept` of `linear` give what all inputs gave."""
    full, narrowed = linear.weight.cpu(), kept
    if linear.bias is not None:  # the bias is the weight of a constant input
        full = torch.cat([full, linear.bias[:, None].cpu()], dim=1)
        narrowed = torch.cat([kept, torch.tensor([linear.in_features])])
    gram = gram[: full.shape[1], : full.shape[1]].double()
    inner = gram[narrowed][:, narrowed]
    ridge = RIDGE * inner.diagonal().sum() / max(1, len(narrowed)) * torch.eye(len(narrowed), dtype=torch.double)
    target = gram[narrowed] @ full.T.double() + ridge @ full[:, narrowed].T.double()  # ridge towards the old weights
    solved = torch.linalg.solve(inner + ridge, target).T.to(linear.weight)
    return (solved, None) if linear.bias is None else (solved[:, :-1], solved[:, -1])
