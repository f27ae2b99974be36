"""The multiple-choice knapsack: one level for every sub-layer, the least loss within a latency and a byte budget.

Dynamic programming over both budgets, cut into cells. Costs are rounded up to whole cells, so that a budget is never
exceeded; what rounding wastes is at most one cell a sub-layer. Frantar & Alistarh 2022, SPDY (arXiv 2201.11096),
section 3.3, has one budget; a second one adds a dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CELLS = (512, 128)  # of the latency and of the byte budget


class Infeasible(ValueError):
    """No choice fits the budgets."""


@dataclass(frozen=True)
class Level:
    """One way to keep a sub-layer, or to drop it (width 0)."""

    width: int  # heads or neurons
    loss: float  # what removing the rest costs
    ms: float
    bytes: float


def solve(
    choices: Sequence[Sequence[Level]], ms: float, size: float, cells: tuple[int, int] = CELLS
) -> tuple[Level, ...]:
    """One level of each sub-layer's `choices`, with the least sum of losses, sum of ms <= `ms` and of bytes <= `size`.

    With costs in whole cells (a cell is ms / cells[0] and size / cells[1]) the answer is the optimum. Infeasible where
    the cheapest levels do not fit together.
    """
    if ms < 0 or size < 0:
        raise Infeasible(f"The budgets are {ms:.3g} ms and {size:.3g} bytes: nothing is left for the sub-layers.")
    least = np.zeros((cells[0] + 1, cells[1] + 1))  # least loss of the sub-layers so far within so many cells
    picked = []
    for levels in choices:
        best, pick = np.full_like(least, np.inf), np.full(least.shape, -1, dtype=np.int16)
        for i, level in enumerate(levels):
            a, b = _cells(level.ms, ms, cells[0]), _cells(level.bytes, size, cells[1])
            if a > cells[0] or b > cells[1]:
                continue
            reached = least[: cells[0] + 1 - a, : cells[1] + 1 - b] + level.loss
            better = reached < best[a:, b:]
            best[a:, b:][better], pick[a:, b:][better] = reached[better], i
        least = best
        picked.append(pick)
    if not math.isfinite(least[-1, -1]):
        cheapest = sum(min(level.ms for level in levels) for levels in choices)
        smallest = sum(min(level.bytes for level in levels) for levels in choices)
        raise Infeasible(
            f"The sub-layers need {cheapest:.3g} ms and {smallest:.3g} bytes at least, and {ms:.3g} ms and {size:.3g} "
            "bytes are left for them: raise the budget, or allow them to be dropped."
        )
    chosen, at = [], cells
    for levels, pick in zip(reversed(choices), reversed(picked), strict=True):
        level = levels[pick[at]]
        chosen.append(level)
        at = (at[0] - _cells(level.ms, ms, cells[0]), at[1] - _cells(level.bytes, size, cells[1]))
    return tuple(reversed(chosen))


def _cells(cost: float, budget: float, cells: int) -> int:
    """Cells that a cost takes, rounded up; a rounding error of floating point does not count as a cell."""
    if cost <= 0:
        return 0
    return math.ceil(cost / budget * cells - 1e-9) if budget > 0 else cells + 1
