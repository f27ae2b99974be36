"""What each page shows: the board and its table in, the template's names out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple, get_args

import numpy as np

from leaderboard import carbon, claims, downloads, drawings, figures, report, select, table
from leaderboard.columns import number
from leaderboard.schema import Certificate, Record, TaskCard
from leaderboard.store import Board
from leaderboard.table import Row, Table

PICTURES = (("p50", "Score against latency"), ("mb", "Score against size"), ("mwh", "Score against energy"))
BUDGET = {"mb": 10.0, "ms": 5.0}  # what the front answers before a reader asks
INFERENCES_A_DAY = 100_000
DRAWN = 24  # methods at most that a task's page draws one by one
VERDICTS_UP_TO = 150  # rows whose pairwise verdicts the page carries: they grow with the square
LINES = 12  # methods at most in the carbon picture


def shared(board: Board, rows: Table) -> dict[str, Any]:
    """What every page may use."""
    return {
        "made": made(board),
        "cards": cards(board),
        "rows": rows.rows,
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
    return {
        "records": len(board.records),
        "profile": board.profile,
        "suite_version": newest.suite_version,
        "newest": newest.created[:10],
        "machines": list({r.machine.id: r.machine for r in board.records.values()}.values()),
    }


def index(board: Board, rows: Table) -> dict[str, Any]:
    """The front."""
    fit = select.fitting(rows.rows, BUDGET["mb"], BUDGET["ms"])
    tied = [f"{row.method}, {row.deployment}" for row in select.not_told_apart(rows, fit[0], fit)[:3]] if fit else []
    columns = {column.key: column for column in rows.columns}
    plots = [figures.scatter(rows, columns[key], title) for key, title in PICTURES]
    return {
        "sentence": _sentence(board, rows),
        "budget": BUDGET | {"best": fit[0] if fit else None, "tied": tied, "count": len(fit)},
        "choices": select.within_a_point(rows),
        "deployments": sorted({row.deployment for row in rows.rows}),
        "groups": [(group, list(members)) for group, members in groupby(rows.columns, lambda column: column.group)],
        "plots": [plot for plot in plots if plot],
        "reference": rows.reference.id if rows.reference else "",
        "spread": table.seed_scores(board, rows.reference.method, rows.reference.deployment) if rows.reference else [],
        "reference_name": f"{rows.reference.method}, {rows.reference.deployment}" if rows.reference else "missing",
        "bibtex": downloads.as_bibtex(board),
        "data": _data(rows),
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


def _data(rows: Table) -> dict[str, Any]:
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
                "submitted": row.submitted,
                "rank": row.rank,
                "text": f"{row.method} {row.deployment} {row.caption}".lower(),
                "values": {key: float(f"{figure.value:.6g}") for key, figure in row.figures.items()},
            }
            for row in rows.rows
        ],
    }


def carbon_page(board: Board, rows: Table) -> dict[str, Any]:
    """Making and using each row, and its break-even against the float32 teacher in ONNX Runtime."""
    lines = _balances(rows)
    certificate = next(_certificates(board), None)
    return {
        "lines": lines,
        "certificate": certificate,
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


def claims_page(board: Board, rows: Table) -> dict[str, Any]:
    """Every claim with its finding, and how many have which verdict."""
    entries = [(claim, claims.judge(claim, board, rows)) for claim in claims.load()]
    counts = {v: sum(finding.verdict == v for _, finding in entries) for v in get_args(claims.Verdict)}
    return {"entries": entries, "counts": counts}


def measurement(board: Board, rows: Table) -> dict[str, Any]:
    """Noise floor, launches and repeated pairs of every row."""
    noise = []
    for row in rows.rows:
        costs = [
            r.deployments[row.deployment].cost for r in board.of(row.method).values() if row.deployment in r.deployments
        ]
        if costs:
            pairs = sum(len(launch.candidate_block_ms) for cost in costs for launch in cost.launches)
            dropped = sum(launch.dropped_pairs for cost in costs for launch in cost.launches)
            noise.append(
                {
                    "row": row,
                    "floor": max(cost.noise_floor for cost in costs),
                    "launches": min(len(cost.launches) for cost in costs),
                    "pairs": pairs,
                    "dropped": dropped / (pairs + dropped) if pairs + dropped else 0.0,
                    "noisy": any(cost.noisy for cost in costs),
                }
            )
    solos = [form.cost.solo.certificate for record in board.records.values() for form in record.deployments.values()]
    return {
        "noise": noise,
        "solo": solos[0] if solos else None,
        "energy_invalid": sum(not c.energy_valid for c in solos),
    }


def method(board: Board, rows: Table, name: str) -> dict[str, Any]:
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


CURVES = (("loss", "Loss while training"), ("dev_score", "Score on dev while training"))


def _commands(board: Board, name: str, records: dict[str, Record]) -> list[str]:
    """What a reader types in a clone of the project to make the method's records again."""
    newest = max(records.values(), key=lambda record: record.created, default=None)
    checkout = [f"git checkout {newest.code.commit}"] if newest and newest.code.commit else []
    if board.profile != "default":
        return [*checkout, f"make {board.profile}"]
    cells = " ".join(f"record@{name}-{task}" for task in records)
    return [*checkout, "make setup && . .venv/bin/activate", f"dvc repro {cells}"]


def task(board: Board, rows: Table, card: TaskCard) -> dict[str, Any]:
    """The task's card, and each method's answers in its first deployment (first seed)."""
    key, answers = f"task-{card.name}", {}
    for method in board.grid.methods:
        record = board.records.get((method, card.name))
        form = next((f for f in board.grid.deployments_of(method) if record and f in record.deployments), None)
        if record and form:
            answers[method] = (form, record.deployments[form].quality[0].predictions)
    drawn = dict(list(answers.items())[:DRAWN])
    draw = drawings.confusion if card.kind == "classification" else drawings.cloud
    return {
        "card": card,
        "column": next(column for column in rows.columns if column.key == key),
        "strip": figures.strip([r.figures[key] for r in rows.rows if key in r.figures]),
        "own": sorted((r for r in rows.rows if key in r.figures), key=lambda r: -r.figures[key].value),
        "answers": {method: (form, draw(predictions, card)) for method, (form, predictions) in drawn.items()},
        "left_out": len(answers) - len(drawn),
        "differing": _differing({m: p for m, (_, p) in drawn.items()}, card),
    }


def _differing(answers: dict[str, list[float]], card: TaskCard, most: int = 15) -> list[tuple[int, float, list[float]]]:
    """(index, label, answers) of the exam examples on which the methods differ most."""
    if len(answers) < 2:
        return []
    grid, labels = np.array(list(answers.values())), np.array(card.exam_labels)
    if card.kind == "classification":
        right = (grid == labels).mean(0)
        spread = np.minimum(right, 1 - right)
    else:
        spread = grid.std(0)
    worst = [int(i) for i in np.argsort(-spread, kind="stable")[:most] if spread[i] > 0]
    return [(i, card.exam_labels[i], grid[:, i].tolist()) for i in worst]
