"""A page a method: what it is, what it scored, how it came about, and how to make it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from leaderboard import ablations, drawings, report, shapes
from leaderboard.columns import Column
from leaderboard.schema import Record, Tuning
from leaderboard.store import Board
from leaderboard.table import Table, tier

BESIDE = ("score", "mb", "faster")  # figures of an ablation, after its difference to the full method
ABOVE = "Points above (+) or below (−) the full method"
DIFFERENCE = Column("difference", "Quality", "vs full", "points", ABOVE, "high", 1, signed=True)
CURVES = (("loss", "Loss while training"), ("dev_score", "Score on dev while training"))
SECTIONS = {  # id -> name, in the page's order
    "results": "Results",
    "again": "Make it again",
    "shapes": "Shape",
    "curves": "Learning curves",
    "ablations": "Ablations",
    "tuning": "Rates and passes tried",
    "searches": "Search",
    "reports": "Its own report",
    "knobs": "Settings",
}


def view(board: Board, rows: Table, name: str) -> dict[str, Any]:
    """One method: what it says of itself, its rows, pictures and provenance."""
    records = board.of(name)
    teacher = board.of("teacher")
    said = next(iter(records.values())).method if records else None
    tuned = [found for (row, _), found in board.tuning.items() if row == name]
    parts = {
        "shapes": _shapes(records, teacher),
        "curves": [c for c in (drawings.curves(records, *kind) for kind in CURVES) if c],
        "searches": [
            (task, found, report.trials("Trials", [trial.model_dump() for trial in found.trials]))
            for (row, task), found in board.searches.items()
            if row == name
        ],
        "reports": [(task, made) for task, r in records.items() if (made := report.blocks(r.method.report))],
        "knobs": [(key, report.text(value)) for key, value in sorted(said.knobs.items())] if said else [],
    }
    return parts | {
        "name": name,
        "sections": [(id, title) for id, title in SECTIONS.items() if said and parts.get(id, True)],
        "said": said,
        "tier": tier(records),
        "records": records,
        "formats": _formats(records),
        "own": [row for row in rows.rows if row.method == name],
        "ablations": _ablations(board, name),
        "tuning": [_tuning(found, records.get(found.task)) for found in tuned],
        "passes": drawings.passes(tuned),
        "hashes": board.hashes,
        "commands": _commands(board, name, records),
    }


def _formats(records: dict[str, Record]) -> dict[str, str]:
    """deployment -> its number formats in words; several where the tasks' plans differ."""
    said: dict[str, dict[str, None]] = {}
    for record in records.values():
        for name, form in record.deployments.items():
            said.setdefault(name, {})[form.precision] = None
    return {name: "; or ".join(words) for name, words in said.items()}


def _shapes(records: dict[str, Record], teacher: dict[str, Record]) -> list[tuple[list[str], list, list]]:
    """(tasks, parts to draw, other facts) of each different shape: a pruned student's may differ from task to task."""
    different: list[tuple[list[str], dict[str, Any]]] = []
    for task, record in records.items():
        same = next((tasks for tasks, shape in different if shape == record.method.shape), None)
        if same is not None:
            same.append(task)
        elif record.method.shape:
            different.append(([task], record.method.shape))
    made = []
    for tasks, shape in different:
        over = teacher[tasks[0]].method.shape if tasks[0] in teacher else {}
        drawn = shapes.drawn(shape, over)
        told = {"layers", "heads", "ffn", "vocabulary", "embedding_size"} if drawn else set()  # by the drawing
        facts = [(key.replace("_", " "), report.text(v)) for key, v in sorted(shape.items()) if key not in told]
        made.append((tasks, drawn, facts))
    return made


def _ablations(board: Board, name: str) -> dict[str, Any] | None:
    """The method and its variants, in one form: what is changed, and the figures."""
    found = ablations.of(board, name)
    if found is None:
        return None
    full, lines = found.row(name), []
    for variant in found.names:
        row = found.table.row(variant, found.form)
        assert row  # the table has every cell of its grid
        figure = found.difference(row, full) if full and variant != name else None
        if figure:
            row = replace(row, figures=row.figures | {"difference": figure})
        elif variant == name:
            row = replace(row, missing=row.missing | {"difference": "this is the full method"})
        changed = [(knob, *map(report.text, values)) for knob, *values in found.changed.get(variant, [])]
        lines.append((variant, changed, row))
    return {
        "form": found.form,
        "tasks": sorted({record.task for records in found.records.values() for record in records}),
        "columns": [DIFFERENCE, *(c for c in found.table.columns if c.key in BESIDE)],
        "lines": lines,
        "made": ablations.made_where([record for records in found.records.values() for record in records]),
    }


def _tuning(found: Tuning, record: Record | None) -> dict[str, Any]:
    """The trials on a task, in the order of their passes and rates; which is the best, and which the record's."""
    knobs = record.method.knobs if record else {}
    steps = {run.budget_steps for run in record.runs} if record else set()
    best = max((t.dev_score for t in found.trials if t.dev_score is not None), default=None)
    return {
        "found": found,
        "trials": [
            (
                trial,
                drawings.kept(found, trial),
                trial.dev_score is not None and trial.dev_score == best,
                trial.knobs.items() <= knobs.items() and trial.steps in steps,
            )
            for trial in sorted(found.trials, key=lambda t: (t.passes, *t.knobs.values()))
        ],
    }


def _commands(board: Board, name: str, records: dict[str, Record]) -> list[str]:
    """What a reader types in a clone of the project to make the method's records again; nothing for a result."""
    if tier(records) == "submitted":
        return []
    newest = max(records.values(), key=lambda record: record.created, default=None)
    checkout = [f"git checkout {newest.code.commit}"] if newest and newest.code.commit else []
    profile = "" if board.profile == "default" else f" --profile {board.profile}"
    if tier(records) == "reproduced":
        cells = " ".join(f"record@{name}-{task}" for task in records)
        run = f"bench run{profile} {cells}" if profile else f"dvc repro {cells}"
    else:  # a brought artifact: no stage makes it
        run = f"bench run {name}{profile}"
    return [*checkout, "make setup && . .venv/bin/activate", run, "make board"]
