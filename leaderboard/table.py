"""The summary rows, method x deployment: what the page's table, its pictures, the downloads and the terminal show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from leaderboard import aggregate, suite
from leaderboard.columns import Column, Figure, columns
from leaderboard.metrics import METRICS
from leaderboard.schema import Deployment, Interval, Record
from leaderboard.statistics import faster
from leaderboard.store import Board

OF_ONE_MACHINE = ("p50", "p90", "p50_all", "throughput", "cpu", "mwh", "mg")  # never compared with another machine's
RATIOS = ("faster", "faster_int8")  # paired, so they stay, with a note: what an artifact gains depends on the machine
ELSEWHERE = "measured on another machine than the teacher"
Tier = Literal["reproduced", "measured", "submitted"]
TIERS: dict[Tier, str] = {
    "reproduced": "reproduced by us",
    "measured": "made by others, measured by us",
    "submitted": "submitted, not reproduced",
}
REFERENCE = ("torch-fp32", "onnx-fp32")  # the teacher's forms that may be the 100 % row, best first


@dataclass(frozen=True)
class Row:
    """One method in one deployment. A key that is not in `figures` is missing, and `missing` may say why."""

    id: str
    method: str
    deployment: str
    caption: str
    tier: Tier
    rank: int | None
    shared: Literal["", "=", "?"]  # the rank is shared with rows it ties with; "?": with one the exam cannot test
    figures: dict[str, Figure]
    missing: dict[str, str] = field(default_factory=dict)
    noise_floor: float = 0.0  # of its timings, the largest over the tasks, as a fraction
    timed: tuple[tuple[str, str | None], ...] = ()  # on which machine and how (hash of the settings), task by task

    def text(self, column: Column) -> str:
        """The cell in the terminal: "~12.3", or "–" where it is missing."""
        figure = self.figures.get(column.key)
        return "–" if figure is None else ("~" if figure.modelled else "") + column.text(figure.value)


@dataclass(frozen=True)
class Table:
    """Rows, best first, with the suite's scores and verdicts in the same order."""

    columns: list[Column]
    rows: list[Row]
    scores: suite.Scores
    verdicts: list[str]
    reference: Row | None

    def row(self, method: str, deployment: str) -> Row | None:
        """The row of a method in a deployment, if there is one."""
        return next((r for r in self.rows if (r.method, r.deployment) == (method, deployment)), None)


def build(board: Board) -> Table:
    """Every cell of the grid, missing ones too, ranked by the suite's score."""
    cells = [(m, d) for m in board.grid.methods for d in board.grid.deployments_of(m)]
    per_task = [_scores_of(board, task, cells) for task in board.grid.tasks]
    scores = suite.mean(per_task)
    order = suite.order(scores, _submitted(board, cells))
    cells = [cells[i] for i in order]
    scores = suite.Scores(scores.values[order], scores.draws[order])
    per_task = [suite.Scores(s.values[order], s.draws[order]) for s in per_task]
    verdicts = scores.verdicts()
    ranks = suite.ranks(verdicts, scores.values, _submitted(board, cells))
    reference = next((cells.index(("teacher", form)) for form in REFERENCE if ("teacher", form) in cells), None)
    rows = []
    for i, (method, deployment) in enumerate(cells):
        quality = _quality(board, scores, per_task, i, reference)
        rows.append(_row(board, method, deployment, quality, ranks[i], _shared(verdicts[i], ranks, i)))
    cards = [board.cards[task] for task in board.grid.tasks if task in board.cards]
    return Table(columns(cards), rows, scores, verdicts, None if reference is None else rows[reference])


def tier(records: dict[str, Record]) -> Tier:
    """What we did of a method's records: an artifact that was brought has no runs."""
    if any(record.method.submitted for record in records.values()):
        return "submitted"
    return "measured" if records and not any(record.runs for record in records.values()) else "reproduced"


def _submitted(board: Board, cells: Sequence[tuple[str, str]]) -> list[bool]:
    return [tier(board.of(method)) == "submitted" for method, _ in cells]


def _shared(signs: str, ranks: Sequence[int | None], i: int) -> Literal["", "=", "?"]:
    others = [signs[j] for j, rank in enumerate(ranks) if rank is not None and rank == ranks[i] and j != i]
    return "" if not others else "?" if suite.UNTESTABLE in others else "="


def speed_verdicts(rows: Sequence[Row]) -> list[str]:
    """As for scores, one sign a row in a string a row: > faster, < slower, = a tie, ? not timed both on one machine in
    the same way.
    """
    signs = {"better": suite.BETTER, "worse": suite.WORSE, "tied": suite.TIED}
    speeds = [_speed_interval(row) for row in rows]
    return [
        "".join(
            suite.UNTESTABLE
            if not (a and b and one.timed == other.timed)
            else signs[faster(a, b, max(one.noise_floor, other.noise_floor))]
            for other, b in zip(rows, speeds, strict=True)
        )
        for one, a in zip(rows, speeds, strict=True)
    ]


def _speed_interval(row: Row) -> Interval | None:
    figure = row.figures.get("faster")
    if figure is None or figure.low is None or figure.high is None:
        return None
    return Interval(value=figure.value, low=figure.low, high=figure.high)


def seed_scores(board: Board, method: str, deployment: str) -> list[float]:
    """The suite's score of each seed that every task has: how far training alone moves a row."""
    found = _deployments(board, method, deployment)
    if len(found) < len(board.grid.tasks):
        return []
    tasks = []
    for task, form in found.items():
        card = board.cards[task]
        score, labels = METRICS[card.metrics[0]], np.array(card.exam_labels)
        tasks.append({q.seed: score(np.array(q.predictions), labels) for q in form.quality})
    return [aggregate.average(task[seed] for task in tasks) for seed in sorted(set.intersection(*map(set, tasks)))]


def _scores_of(board: Board, task: str, cells: Sequence[tuple[str, str]]) -> suite.Scores:
    card = board.cards.get(task)
    found = [_deployments(board, m, d).get(task) for m, d in cells]
    predictions = [[q.predictions for q in form.quality] if form else None for form in found]
    if card is None:
        return suite.task_scores([None] * len(cells), [0.0], "accuracy")
    return suite.task_scores(predictions, card.exam_labels, card.metrics[0])


def _quality(
    board: Board, scores: suite.Scores, per_task: Sequence[suite.Scores], i: int, reference: int | None
) -> dict[str, Figure | None]:
    percent = aggregate.percent
    figures = {"score": percent(scores.interval(i))}
    if i == reference:
        figures |= {"gap": figures["score"] and Figure(0.0), "kept": figures["score"] and Figure(100.0)}
    elif reference is not None:
        figures |= {"gap": percent(scores.gap(i, reference)), "kept": percent(scores.kept(i, reference))}
    return figures | {f"task-{t}": percent(s.interval(i)) for t, s in zip(board.grid.tasks, per_task, strict=True)}


def _row(
    board: Board, method: str, deployment: str, quality: dict[str, Figure | None], rank: int | None, shared: Any
) -> Row:
    found = _deployments(board, method, deployment)
    records = board.of(method)
    figures = dict(quality)
    missing = {
        f"task-{task}": board.refused.get((method, task), "not run yet")
        for task in board.grid.tasks
        if task not in found
    }
    absent = f"not run yet: {', '.join(t for t in board.grid.tasks if t not in found)}"
    if len(found) == len(board.grid.tasks):
        figures |= aggregate.size(found, _reference(board)) | aggregate.times(found.values())
        figures |= aggregate.use(found.values())
        absent = "not measured"
    if len(records) == len(board.grid.tasks):
        figures |= aggregate.making([run for record in records.values() for run in record.runs])
    if not _same_machine(board, records):
        figures = {key: figure for key, figure in figures.items() if key not in OF_ONE_MACHINE}
        missing |= dict.fromkeys(OF_ONE_MACHINE, ELSEWHERE)
        figures |= {key: _elsewhere(figure) for key in RATIOS if (figure := figures.get(key))}
    said = next(iter(records.values())).method if records else None
    return Row(
        id=f"{method}.{deployment}",
        method=method,
        deployment=deployment,
        caption=said.caption if said else "",
        tier=tier(records),
        rank=rank,
        shared=shared,
        figures={key: figure for key, figure in figures.items() if figure is not None},
        noise_floor=max((form.cost.noise_floor for form in found.values()), default=0.0),
        timed=tuple((record.machine.id, record.config_sha256.get("measurement")) for record in records.values()),
        missing={key: missing.get(key) or _why(key, absent, figures) for key in _absent_keys(board, figures)},
    )


def _elsewhere(figure: Figure) -> Figure:
    return replace(figure, note="; ".join(note for note in (figure.note, ELSEWHERE) if note))


def _absent_keys(board: Board, figures: dict[str, Figure | None]) -> list[str]:
    cards = [board.cards[task] for task in board.grid.tasks if task in board.cards]
    return [column.key for column in columns(cards) if figures.get(column.key) is None]


def _why(key: str, absent: str, figures: dict[str, Figure | None]) -> str:
    if key == "kept" and figures.get("gap"):
        return "so few texts that the teacher may score 0"
    if "faster" in figures and key == "faster_int8":
        return "not timed beside the teacher in INT8"
    return "n too small" if key in ("p50", "p90") and "faster" in figures else absent


def _deployments(board: Board, method: str, deployment: str) -> dict[str, Deployment]:
    found = {task: record.deployments.get(deployment) for task, record in board.of(method).items()}
    return {task: form for task, form in found.items() if form is not None}


def _reference(board: Board) -> dict[str, Deployment]:
    """The teacher's float32 artifacts, of the form that most tasks have."""
    return max((_deployments(board, "teacher", form) for form in REFERENCE), key=len)


def _same_machine(board: Board, records: dict[str, Record]) -> bool:
    teacher = board.of("teacher")
    return all(task not in teacher or teacher[task].machine.id == r.machine.id for task, r in records.items())
