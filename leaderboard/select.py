"""The rows to choose: for a budget of bytes and milliseconds, and the least costly within a point of the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leaderboard.suite import TIED, UNTESTABLE
from leaderboard.table import Row, Table

POINTS = 1.0  # how far below the teacher "as good" may be


@dataclass(frozen=True)
class Choice:
    """The best row by one measure; `row` is None where no row qualifies."""

    title: str
    key: str
    row: Row | None


def within_a_point(table: Table) -> list[Choice]:
    """The smallest, the fastest and the greenest row at most a point below the teacher's score."""
    near = [row for row in table.rows if "gap" in row.figures and row.figures["gap"].value >= -POINTS]
    return [
        Choice("Smallest", "mb", _least(near, "mb")),
        Choice("Fastest", "p50", _least(near, "p50")),
        Choice("Greenest", "mwh", _least(near, "mwh")),
    ]


def fitting(rows: Sequence[Row], megabytes: float, milliseconds: float) -> list[Row]:
    """The rows that are known to fit, best score first; a row without one of the figures cannot be said to."""
    fit = [
        row
        for row in rows
        if {"score", "mb", "p50"} <= row.figures.keys()
        and row.figures["mb"].value <= megabytes
        and row.figures["p50"].value <= milliseconds
    ]
    return sorted(fit, key=lambda row: -row.figures["score"].value)


def best(table: Table, fit: Sequence[Row]) -> Row | None:
    """Of `fitting` rows the one of the highest score, or the smallest that the exam shows to be its equal."""
    if not fit:
        return None
    signs = table.verdicts[table.rows.index(fit[0])]
    equal = [row for row in fit if row.id == fit[0].id or signs[table.rows.index(row)] == TIED]
    return min(equal, key=lambda row: row.figures["mb"].value)


def not_told_apart(table: Table, row: Row, others: Sequence[Row]) -> list[Row]:
    """Those of the others that the exam cannot tell apart from the row."""
    signs = table.verdicts[table.rows.index(row)]
    return [o for o in others if o.id != row.id and signs[table.rows.index(o)] in TIED + UNTESTABLE]


def _least(rows: Sequence[Row], key: str) -> Row | None:
    return min((row for row in rows if key in row.figures), key=lambda row: row.figures[key].value, default=None)
