"""What a reader of a finding must know beside it: that it is modelled, or that the exam cannot confirm it."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboard.columns import Figure
from leaderboard.table import Row


def less_energy(saving: float, row: Row) -> str:
    """A saving of energy in words, with the "~" of a figure that rests on declared watts: "~40% less energy"."""
    tilde = "~" if row.figures["mwh"].modelled else ""
    return f"{tilde}{abs(saving):.0%} {'less' if saving >= 0 else 'more'} energy"


def unsure(drops: Sequence[tuple[float, Figure]]) -> str:
    """A caution where a drop that the article names lies inside the interval of the measured difference."""
    inside = [f"{drop:g}" for drop, gap in drops if _within(-drop, gap)]
    if not inside:
        return ""
    drop = f"drops of {', '.join(inside)}" if len(inside) > 1 else f"drop of {inside[0]}"
    return f" The article's {drop} points could be the true one here: the exam alone cannot confirm the verdict."


def _within(value: float, figure: Figure) -> bool:
    return figure.low is not None and figure.high is not None and figure.low < value < figure.high
