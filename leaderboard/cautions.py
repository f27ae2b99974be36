"""What a reader of a finding must know beside it: that it is modelled, or that the exam cannot confirm it."""

from __future__ import annotations

from leaderboard.columns import Figure
from leaderboard.table import Row


def modelled(row: Row, key: str) -> str:
    """The "~" of a figure that rests on declared watts."""
    return "~" if row.figures[key].modelled else ""


def unsure(name: str, figure: Figure, want: float) -> str:
    """A caution where the article's figure lies inside the measured interval: the point decides, the exam does not."""
    if figure.low is None or figure.high is None or not figure.low < want < figure.high:
        return ""
    return f" The article's {name} lies within the measured interval: the exam alone cannot confirm the verdict."
