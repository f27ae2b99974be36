"""Low-rank factors: of the word embedding, where frequent pieces count more, and of linears for the inputs they see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm.distillation.data import Encoded
from openautoglm.distillation.embedding import leading_directions
from openautoglm.factors import LowRankLinear, encoder_linears, set_low_rank
from openautoglm.parts import FactorisedEmbedding
from openautoglm.pruning import gram_matrices


def factorise(embedding: nn.Embedding, counts: Tensor, rank: int) -> FactorisedEmbedding:
    """The best rank-r table for texts in which piece i occurs `counts[i]` times.

    Minimises sum_i c_i |e_i - t_i P|^2 by the SVD of sqrt(c) E (weighted low rank with a diagonal row weight has this
    closed form); counts are smoothed by one, so that unseen pieces keep their direction.
    """
    table = embedding.weight.detach().double()
    weights = (counts.double() + 1).sqrt()[:, None]
    basis = leading_directions(weights * table, rank)  # (hidden, rank), orthonormal
    factors = FactorisedEmbedding(table.shape[0], basis.shape[1], table.shape[1])
    with torch.no_grad():
        factors.table.weight.copy_(table @ basis)
        factors.projection.weight.copy_(basis)
    return factors


def factorise_linears(
    model: Any,
    examples: Encoded,
    *,
    energy: float | None = None,
    share: float | None = None,
    where: Callable[[str], bool] = lambda name: True,
) -> dict[str, int]:
    """Replace the encoder's linears whose path `where` accepts by low-rank ones, in place; path -> rank.

    Each gets a rank of its own: the smallest that keeps the share `energy` of its outputs' variance on `examples`, or
    all together the ranks that lose least with a `share` of their weights left. A linear that its rank would not make
    smaller stays whole. The config records the ranks, so that the model loads again. Prune before, not after.
    """
    if (energy is None) == (share is None) or not 0 < (energy or share or 0) <= 1:
        raise ValueError(f"energy is {energy} and share is {share}: give one of them, above 0 and at most 1.")
    linears = {name: linear for name, linear in encoder_linears(model).items() if where(name)}
    grams = gram_matrices(model, list(linears.values()), examples)
    outputs = {name: _outputs(linear, gram) for (name, linear), gram in zip(linears.items(), grams, strict=True)}
    variances = {name: variance for name, (_, variance) in outputs.items()}
    if energy is not None:
        ranks = {name: _rank_of_energy(variance, energy) for name, variance in variances.items()}
    else:
        ranks = _ranks_of_share(variances, linears, share or 1.0)
    smaller = {n: r for n, r in ranks.items() if r * _per_rank(linears[n]) < linears[n].weight.numel()}
    for gram, (name, linear) in zip(grams, linears.items(), strict=True):
        if name in smaller:
            set_low_rank(model, name, factorise_linear(linear, gram, smaller[name]))
    return smaller


@torch.no_grad()
def factorise_linear(linear: nn.Linear, gram: Tensor, rank: int) -> LowRankLinear:
    """The rank-r linear that is nearest to `linear` for inputs x whose (in + 1, in + 1) `gram` is sum [x, 1]^T [x, 1].

    Minimises sum |x W^T + b - (x A^T B^T + b')|^2: with U the r leading principal directions of the outputs, B = U,
    A = U^T W, and b' keeps the outputs' mean (the closed form of DRONE, Chen et al. 2021, and of SVD-LLM, arXiv
    2403.07378, for inputs that are centred first). ValueError for a rank that the linear cannot have.
    """
    if not 1 <= rank <= min(linear.weight.shape):
        raise ValueError(f"Rank {rank} for a linear of {tuple(linear.weight.shape)}: 1 to {min(linear.weight.shape)}.")
    basis = _outputs(linear, gram)[0][:, :rank]
    weight = linear.weight.double().cpu()
    mean = weight @ (gram[-1, :-1] / gram[-1, -1]).double()  # of the outputs, without the bias
    lost = mean - basis @ (basis.T @ mean)
    bias = lost if linear.bias is None else lost + linear.bias.double().cpu()
    found = LowRankLinear(linear.in_features, linear.out_features, rank)
    found.first.weight.copy_(basis.T @ weight)
    found.second.weight.copy_(basis)
    found.second.bias.copy_(bias)
    return found.to(linear.weight)


@torch.no_grad()
def _outputs(linear: nn.Linear, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Principal directions of a linear's outputs, (out, k) orthonormal, and the variance along each, descending."""
    gram = gram.double()
    mean = gram[-1, :-1] / gram[-1, -1]
    values, vectors = torch.linalg.eigh(gram[:-1, :-1] / gram[-1, -1] - mean[:, None] * mean)
    root = linear.weight.double().cpu() @ (vectors * values.clamp(min=0).sqrt())  # root @ root.T: their covariance
    directions, singular, _ = torch.linalg.svd(root, full_matrices=False)
    return directions, singular.square()


def _rank_of_energy(variance: Tensor, energy: float) -> int:
    kept = variance.cumsum(0) / variance.sum()
    return min(int((kept < energy - 1e-12).sum()) + 1, len(variance))


def _ranks_of_share(variances: dict[str, Tensor], linears: dict[str, nn.Linear], share: float) -> dict[str, int]:
    """Directions of all linears in the order of what they keep (of their own linear's variance) a weight, as far as
    the weights go. Each linear has at least one.
    """
    ranked = sorted(
        (
            (-float(part), name, rank)
            for name, variance in variances.items()
            for rank, part in enumerate(variance / variance.sum() / _per_rank(linears[name]), 1)
        )
    )
    left = share * sum(linear.weight.numel() for linear in linears.values())
    ranks = dict.fromkeys(variances, 1)
    left -= sum(_per_rank(linears[name]) for name in ranks)
    for _, name, rank in ranked:
        cost = _per_rank(linears[name])
        if rank > 1 and cost <= left:
            ranks[name], left = ranks[name] + 1, left - cost
    return ranks


def _per_rank(linear: nn.Linear) -> int:
    """Weights that a rank costs."""
    return linear.in_features + linear.out_features
