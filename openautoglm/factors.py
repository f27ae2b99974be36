"""Linears of an encoder, and low-rank ones in their place: `config.linear_ranks` lets such a model load again."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

_IN_A_LAYER = re.compile(r"layers?\.\d+\.")


class LowRankLinear(nn.Module):
    """Two linears in a row, of rank r: (..., in) -> (..., r) -> (..., out); r (in + out) weights and a bias."""

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.first = nn.Linear(in_features, rank, bias=False)
        self.second = nn.Linear(rank, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.second(self.first(x))


def encoder_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Every linear inside a layer of the encoder, by its path in `model`; embedding and head are not in a layer."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and _IN_A_LAYER.search(n)}


def set_low_rank(model: Any, name: str, linear: LowRankLinear) -> None:
    """Put `linear` in the place `name` of `model`, and say so in the config."""
    model.set_submodule(name, linear)
    model.config.linear_ranks = (getattr(model.config, "linear_ranks", None) or {}) | {name: linear.first.out_features}


def restore(model: Any, ranks: dict[str, int]) -> Any:
    """`model` with fresh low-rank linears where a saved config's `linear_ranks` says so."""
    for name, rank in ranks.items():
        linear = model.get_submodule(name)
        set_low_rank(model, name, LowRankLinear(linear.in_features, linear.out_features, rank))
    return model
