"""A page a method: what it is, what it scored, how it came about, and how to make it again."""

from __future__ import annotations

from typing import Any

from leaderboard import drawings, report
from leaderboard.schema import Record
from leaderboard.store import Board
from leaderboard.table import Table

CURVES = (("loss", "Loss while training"), ("dev_score", "Score on dev while training"))


def view(board: Board, rows: Table, name: str) -> dict[str, Any]:
    """One method: what it says of itself, its rows, pictures and provenance."""
    records = board.of(name)
    teacher = board.of("teacher")
    said = next(iter(records.values())).method if records else None
    return {
        "name": name,
        "said": said,
        "records": records,
        "own": [row for row in rows.rows if row.method == name],
        "shapes": _shapes(records, teacher),
        "reports": [(task, made) for task, r in records.items() if (made := report.blocks(r.method.report))],
        "knobs": [(key, report.text(value)) for key, value in sorted(said.knobs.items())] if said else [],
        "curves": [c for c in (drawings.curves(records, *kind) for kind in CURVES) if c],
        "hashes": board.hashes,
        "commands": _commands(board, name, records),
    }


def _shapes(records: dict[str, Record], teacher: dict[str, Record]) -> list[tuple[list[str], list, list]]:
    """(tasks, layers to draw, facts) of each different shape: a pruned student's may differ from task to task."""
    shapes: list[tuple[list[str], dict[str, Any]]] = []
    for task, record in records.items():
        same = next((tasks for tasks, shape in shapes if shape == record.method.shape), None)
        if same is not None:
            same.append(task)
        elif record.method.shape:
            shapes.append(([task], record.method.shape))
    made = []
    for tasks, shape in shapes:
        over = teacher[tasks[0]].method.shape if tasks[0] in teacher else {}
        facts = [(key.replace("_", " "), report.text(value)) for key, value in sorted(shape.items())]
        made.append((tasks, drawings.layers(shape, over), facts))
    return made


def _commands(board: Board, name: str, records: dict[str, Record]) -> list[str]:
    """What a reader types in a clone of the project to make the method's records again."""
    newest = max(records.values(), key=lambda record: record.created, default=None)
    checkout = [f"git checkout {newest.code.commit}"] if newest and newest.code.commit else []
    if board.profile != "default":
        return [*checkout, f"make {board.profile}"]
    cells = " ".join(f"record@{name}-{task}" for task in records)
    return [*checkout, "make setup && . .venv/bin/activate", f"dvc repro {cells}"]
