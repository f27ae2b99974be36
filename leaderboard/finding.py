"""A claim of the article, and what the board says of it; small helpers for the checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from pydantic import Field

from leaderboard.columns import Figure, number
from leaderboard.schema import Strict
from leaderboard.table import Row

Verdict = Literal["reproduced", "not reproduced", "not comparable", "not run yet"]


class Claim(Strict):
    """One entry of claims.yaml."""

    id: str
    title: str
    values: Any
    as_ratios: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What the board says of a claim."""

    measured: str
    verdict: Verdict
    reason: str


def found(good: bool, measured: str, reason: str) -> Finding:
    """A verdict by the claim's own numbers."""
    return Finding(measured, "reproduced" if good else "not reproduced", reason)


def waiting(command: str) -> Finding:
    """Nothing to judge by yet; the command that would make it."""
    return Finding("", "not run yet", f"The records that answer it are missing: `{command}` makes them.")


def beyond(reason: str, measured: str = "") -> Finding:
    """What this suite cannot answer, and the nearest thing that it measured."""
    return Finding(measured, "not comparable", reason)


def has(row: Row | None, *keys: str) -> TypeGuard[Row]:
    """Whether there is a row with all these figures."""
    return row is not None and all(key in row.figures for key in keys)


def value(row: Row, key: str) -> float:
    """A figure of a row that has it."""
    return row.figures[key].value


def text(row: Row, key: str) -> str:
    """The same as text."""
    return number(value(row, key))


def with_bounds(figure: Figure, digits: int = -3) -> str:
    """A figure and its interval: "−1.2 (−2.0 to −0.3)"."""
    if figure.low is None or figure.high is None:
        return number(figure.value, digits)
    return f"{number(figure.value, digits)} ({number(figure.low, digits)} to {number(figure.high, digits)})"


def points(row: Row) -> str:
    """A row's difference to the teacher."""
    return f"{with_bounds(row.figures['gap'], 1)} points against the teacher"
