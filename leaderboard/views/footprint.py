"""The carbon page: making and using each row, and when the making has paid for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from leaderboard import carbon, drawings
from leaderboard.schema import Certificate
from leaderboard.store import Board
from leaderboard.table import Row, Table

INFERENCES_A_DAY = 100_000  # until a reader says how many
LINES = 12  # methods at most in the picture


def view(board: Board, rows: Table) -> dict[str, Any]:
    """Making and using each row, and its break-even against the float32 teacher in ONNX Runtime."""
    base, lines = rows.row("teacher", "onnx-fp32"), _balances(rows)
    certificate = next(_certificates(board), None)
    return {
        "lines": lines,
        "has_base": "mwh" in base.figures if base else False,
        "certificate": certificate,
        "country": _country(certificate.grid) if certificate else "",
        "grids": carbon.grids(),
        "volume": INFERENCES_A_DAY,
        "totals": drawings.totals(_thriftiest(lines), certificate.grid_g_per_kwh) if certificate else None,
        "data": {"lines": [{"id": x.row.id, "use": x.use, "making": x.making, "break_even": x.pays} for x in lines]},
    }


def _certificates(board: Board) -> Iterator[Certificate]:
    """Those of use, then those of making."""
    for record in board.records.values():
        yield from (form.cost.solo.certificate for form in record.deployments.values())
    for record in board.records.values():
        yield from (run.footprint.certificate for run in record.runs)


def _country(iso3: str) -> str:
    """Its name, or the code where grids.json does not know it."""
    return next((grid.name for grid in carbon.grids() if grid.iso3 == iso3), iso3)


class Balance(NamedTuple):
    """What making a row costs, what an inference costs, and after how many the saving has paid for the making."""

    row: Row
    making: float  # kWh; 0 for the teacher, which every student needs
    use: float  # kWh an inference
    pays: float | None


def _balances(rows: Table) -> list[Balance]:
    base = rows.row("teacher", "onnx-fp32")
    reference = base.figures["mwh"].value * 1e-9 if base and "mwh" in base.figures else 0.0
    lines = []
    for row in rows.rows:
        if {"mwh", "making_wh"} <= row.figures.keys():
            use, making = row.figures["mwh"].value * 1e-9, row.figures["making_wh"].value * 1e-3
            student = row.method != "teacher"
            pays = carbon.break_even(making, reference - use) if student else None
            lines.append(Balance(row, making if student else 0.0, use, pays))
    return lines


def _thriftiest(lines: list[Balance]) -> list[tuple[str, str, float, float]]:
    """(id, name, making, use) of each method's thriftiest row, and of the float32 teacher."""
    best: dict[str, Balance] = {}
    for line in sorted(lines, key=lambda line: line.use):
        best.setdefault(line.row.method, line)
    drawn = list(best.values())[:LINES]
    drawn += [x for x in lines if x.row.id == "teacher.onnx-fp32" and x not in drawn]
    return [(x.row.id, f"{x.row.method} {x.row.deployment}", x.making, x.use) for x in drawn]
