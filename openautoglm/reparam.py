"""Structural re-parameterisation: linears with parallel branches while they train, plain linears again afterwards.

A branched linear computes x (W + sum_i B_i A_i + diag(d))^T + b. The branches (as the 1x1 and identity branches of
RepVGG, Ding et al. 2021, arXiv 2101.03697, and the extra linears of ExpandNets, Guo et al. 2020, arXiv 1811.10495) give
the optimiser more ways to move W; since all are linear, they fold into one W at no cost to the deployed model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from openautoglm.factors import encoder_linears


class Branches(nn.Module):
    """The parallel branches of one linear, as a parametrization of its weight: they start as the identity map."""

    def __init__(self, out_features: int, in_features: int, ranks: Sequence[int], diagonal: bool) -> None:
        super().__init__()
        self.down = nn.ParameterList([torch.empty(rank, in_features) for rank in ranks])  # A_i
        self.up = nn.ParameterList([torch.zeros(out_features, rank) for rank in ranks])  # B_i
        self.diagonal = nn.Parameter(torch.zeros(out_features)) if diagonal else None
        for factor in self.down:
            nn.init.kaiming_uniform_(factor, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) W -> (out, in) W + sum_i B_i A_i + diag(d)."""
        for up, down in zip(self.up, self.down, strict=True):
            weight = weight + up @ down
        return weight if self.diagonal is None else weight + torch.diag(self.diagonal)


def add_branches(
    model: nn.Module,
    ranks: Sequence[int] = (8, 8),
    *,
    diagonal: bool = True,
    where: Callable[[str], bool] = lambda name: True,
) -> int:
    """Give the encoder's linears whose path `where` accepts a branch of each rank, and the square ones a diagonal.

    In place; the model computes what it did until it is trained. Returns the number of branched linears. ValueError
    for a rank below 1, no branch at all, no linear, or a linear that has branches already.
    """
    if any(rank < 1 for rank in ranks) or not (ranks or diagonal):
        raise ValueError(f"Branches of rank {list(ranks)}: give at least one rank, each of 1 or more, or a diagonal.")
    chosen = {name: linear for name, linear in encoder_linears(model).items() if where(name)}
    if branched := [name for name, linear in chosen.items() if parametrize.is_parametrized(linear)]:
        raise ValueError(f"{branched[0]} has branches already: fuse the model first.")
    if not chosen:
        raise ValueError("No linear of the encoder was chosen, so there is nothing to give branches to.")
    for linear in chosen.values():
        out_features, in_features = linear.weight.shape
        branches = Branches(out_features, in_features, ranks, diagonal and out_features == in_features)
        parametrize.register_parametrization(linear, "weight", branches.to(linear.weight))
    return len(chosen)


def fuse(model: nn.Module) -> int:
    """Fold every branch into its linear's weight, in place; the number of linears fused (0: there were none)."""
    branched = [module for module in model.modules() if parametrize.is_parametrized(module, "weight")]
    for linear in branched:
        parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
    return len(branched)
