"""What every page may use."""

from __future__ import annotations

from typing import Any

from leaderboard.schema import TaskCard
from leaderboard.store import Board
from leaderboard.table import TIERS, Row, Table


def shared(board: Board, rows: Table) -> dict[str, Any]:
    """What every page may use."""
    return {
        "made": made(board),
        "cards": cards(board),
        "rows": rows.rows,
        "tiers": TIERS,
        "columns": rows.columns,
        "unit": {column.key: column.unit for column in rows.columns},
        "show": Shower(rows),
        "bounds": Bounds(rows),
    }


class Shower:
    """show(row, key): the figure as text, with its "~"."""

    def __init__(self, rows: Table) -> None:
        self.columns = {column.key: column for column in rows.columns}

    def __call__(self, row: Row, key: str) -> str:
        """The figure as text; "–" where it is missing."""
        return row.text(self.columns[key])


class Bounds(Shower):
    """bounds(row, key): "low to high", or "" where the figure has none."""

    def __call__(self, row: Row, key: str) -> str:
        """The two bounds as text."""
        figure, column = row.figures.get(key), self.columns[key]
        if figure is None or figure.low is None or figure.high is None:
            return ""
        return f"{column.text(figure.low)} to {column.text(figure.high)}"


def cards(board: Board) -> list[TaskCard]:
    """The cards of the grid's tasks that there are, in its order."""
    return [board.cards[task] for task in board.grid.tasks if task in board.cards]


def made(board: Board) -> dict[str, Any]:
    """Where the records come from."""
    newest = max(board.records.values(), key=lambda record: record.created)
    seeds = max(len(record.runs) for record in board.records.values())
    return {
        "records": len(board.records),
        "profile": board.profile,
        "scope": f"{_counted(len(cards(board)), 'task')}, {_counted(seeds, 'seed')}",
        "suite_version": newest.suite_version,
        "newest": newest.created[:10],
        "machines": list({r.machine.id: r.machine for r in board.records.values()}.values()),
    }


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
