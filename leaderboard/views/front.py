"""The front: the best choices for a budget, the table, the pictures."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from leaderboard import downloads, figures, select, table
from leaderboard.columns import number
from leaderboard.store import Board
from leaderboard.table import Row, Table
from leaderboard.views.common import Bounds, Shower

PICTURES = (("p50", "Score against latency"), ("mb", "Score against size"), ("mwh", "Score against energy"))
BUDGET = {"mb": 10.0, "ms": 5.0}  # what the front answers before a reader asks
VERDICTS_UP_TO = 150  # rows whose pairwise verdicts the page carries: they grow with the square


def view(board: Board, rows: Table) -> dict[str, Any]:
    """The front."""
    fit = select.fitting(rows.rows, BUDGET["mb"], BUDGET["ms"])
    best, said = select.best(rows, fit), Saying(rows)
    tied = [f"{row.method}, {row.deployment}" for row in select.not_told_apart(rows, best, fit)[:3]] if best else []
    columns = {column.key: column for column in rows.columns}
    plots = [figures.scatter(rows, columns[key], title) for key, title in PICTURES]
    return {
        "sentence": _sentence(board, rows),
        "budget": BUDGET | {"best": best, "said": said(best) if best else "", "tied": tied, "count": len(fit)},
        "choices": select.within_a_point(rows),
        "deployments": sorted({row.deployment for row in rows.rows}),
        "groups": [(group, list(members)) for group, members in groupby(rows.columns, lambda column: column.group)],
        "forms": _forms(board),
        "plots": [plot for plot in plots if plot],
        "reference": rows.reference.id if rows.reference else "",
        "spread": table.seed_scores(board, rows.reference.method, rows.reference.deployment) if rows.reference else [],
        "reference_name": f"{rows.reference.method}, {rows.reference.deployment}" if rows.reference else "missing",
        "bibtex": downloads.as_bibtex(board),
        "data": _data(rows, said),
    }


def _sentence(board: Board, rows: Table) -> str:
    methods = [m for m in board.grid.methods if m != "teacher" and board.of(m)]
    teacher = rows.reference.figures.get("parameters") if rows.reference else None
    size = f"a {number(teacher.value)} million parameter teacher" if teacher else "one teacher"
    tasks = len(board.cards)
    place = " on one machine" if len({record.machine.id for record in board.records.values()}) == 1 else ""
    return (
        f"{len(methods)} way{'s' if len(methods) != 1 else ''} of compressing {size}, trained and examined on "
        f"{tasks} task{'s' if tasks != 1 else ''}, and measured in the same forms{place}."
    )


class Saying:
    """said(row): what the answer to a budget says of a row: its score, how far from the teacher's, and its costs."""

    def __init__(self, rows: Table) -> None:
        self.show, self.bounds = Shower(rows), Bounds(rows)

    def __call__(self, row: Row) -> str:
        """One sentence."""
        show, gap = self.show, self.bounds(row, "gap")
        gap = f", {show(row, 'gap')} points ({gap}) against the teacher" if gap else ""
        return f"Score {show(row, 'score')}{gap}; {show(row, 'mb')} MB, {show(row, 'p50')} ms."


def _forms(board: Board) -> dict[str, list[str]]:
    """deployment -> its number formats, in the words of its records."""
    made = [(name, form) for record in board.records.values() for name, form in record.deployments.items()]
    return {
        name: list(dict.fromkeys(f"{form.runtime}: {form.precision}" for other, form in made if other == name))
        for name in sorted({name for name, _ in made})
    }


def _data(rows: Table, said: Saying) -> dict[str, Any]:
    """What the script needs: names and plain numbers."""
    return {
        "budget": {key: float(f"{value:g}") for key, value in BUDGET.items()},
        "shown": [column.key for column in rows.columns if column.shown],
        "verdicts": rows.verdicts if len(rows.rows) <= VERDICTS_UP_TO else None,
        "speeds": table.speed_verdicts(rows.rows) if len(rows.rows) <= VERDICTS_UP_TO else None,
        "rows": [
            {
                "id": row.id,
                "method": row.method,
                "deployment": row.deployment,
                "tier": row.tier,
                "rank": row.rank,
                "text": f"{row.method} {row.deployment} {row.caption}".lower(),
                "said": said(row),
                "values": {key: float(f"{figure.value:.6g}") for key, figure in row.figures.items()},
            }
            for row in rows.rows
        ],
    }
