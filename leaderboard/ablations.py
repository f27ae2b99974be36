"""A method with and without its parts: the records of the profile "ablations", each beside the full method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from leaderboard import aggregate, table
from leaderboard.columns import Figure
from leaderboard.schema import Method, Record
from leaderboard.store import Board, Grid
from leaderboard.table import Row, Table

COMMAND = "bench run --profile ablations"
FORMS = ("onnx-plan", "onnx-int8", "onnx-fp32", "onnx-dynamic")  # the first that is there is the one that is shown


@dataclass(frozen=True)
class Ablations:
    """The full method and its variants in every form of theirs; `names` begins with the full method."""

    names: list[str]
    form: str  # the one that they are shown in
    table: Table  # the teacher's float32 row is its 100 %
    changed: dict[str, list[tuple[str, Any, Any]]]  # variant -> (knob, its value, the full method's)
    records: dict[str, list[Record]]

    def row(self, name: str, form: str | None = None) -> Row | None:
        """A variant's row, in the form that is shown or another; None where there is none with a score."""
        row = self.table.row(name, form or self.form)
        return row if row and "score" in row.figures else None

    def difference(self, one: Row, other: Row) -> Figure | None:
        """Points of `one` above `other`, on the same resampled examples."""
        rows = self.table.rows
        return aggregate.percent(self.table.scores.gap(rows.index(one), rows.index(other)))


def of(board: Board, method: str) -> Ablations | None:
    """The ablations of a method; None where no variant of it was run."""
    there = board.ablations
    said = {name: _said(there, name) for name in there.grid.methods} if there else {}
    names = [method, *(name for name, what in said.items() if what and what.variant_of == method)]
    if there is None or len(names) == 1:
        return None
    records = {name: list(there.of(name).values()) for name in names}
    made = [record for of_name in records.values() for record in of_name]
    forms = [form for form in FORMS if any(form in record.deployments for record in made)]
    deployments = dict.fromkeys(names, forms) | {"teacher": ["onnx-fp32"]}
    grid = Grid(["teacher", *names], there.grid.tasks, deployments)
    full = said.get(method) or _said(board, method)
    return Ablations(
        names=names,
        form=forms[0],
        table=table.build(replace(there, grid=grid)),
        changed={name: _changed(said[name], full) for name in names[1:]},
        records=records,
    )


def _said(board: Board, name: str) -> Method | None:
    return next((record.method for record in board.of(name).values()), None)


def _changed(variant: Method | None, full: Method | None) -> list[tuple[str, Any, Any]]:
    """The knobs in which the two differ. One that only the variant knows is new, and so it differs."""
    if variant is None or full is None:
        return []
    return [
        (knob, value, full.knobs.get(knob))
        for knob, value in sorted(variant.knobs.items())
        if knob not in full.knobs or full.knobs[knob] != value
    ]


def made_where(records: Sequence[Record]) -> list[str]:
    """Machine, day and commit of records: one line each."""
    lines = (
        f"{r.machine.cpu}, {r.machine.cores} cores; {r.created[:10]}; "
        f"commit {(r.code.commit or 'unknown')[:12]}{' with uncommitted changes' if r.code.dirty else ''}"
        for r in records
    )
    return list(dict.fromkeys(lines))
