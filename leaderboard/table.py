"""The summary rows, method x deployment: what the page's table, its pictures, the downloads and the terminal show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, Literal

import numpy as np

from leaderboard import suite
from leaderboard.columns import Column, Figure, columns
from leaderboard.metrics import METRICS
from leaderboard.schema import Cost, Deployment, Interval, Range, Record, Run
from leaderboard.statistics import faster
from leaderboard.store import Board

REFERENCE = ("torch-fp32", "onnx-fp32")  # the teacher's forms that may be the 100 % row, best first


@dataclass(frozen=True)
class Row:
    """One method in one deployment. A key that is not in `figures` is missing, and `missing` may say why."""

    id: str
    method: str
    deployment: str
    caption: str
    submitted: bool
    rank: int | None
    shared: Literal["", "=", "?"]  # the rank is shared with rows it ties with; "?": with one the exam cannot test
    figures: dict[str, Figure]
    missing: dict[str, str] = field(default_factory=dict)
    noise_floor: float = 0.0  # of its timings, the largest over the tasks, as a fraction

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
    order = sorted(range(len(cells)), key=lambda i: (np.isnan(scores.values[i]), -np.nan_to_num(scores.values[i]), i))
    cells = [cells[i] for i in order]
    scores = suite.Scores(scores.values[order], scores.draws[order])
    per_task = [suite.Scores(s.values[order], s.draws[order]) for s in per_task]
    verdicts = scores.verdicts()
    ranks = suite.ranks(verdicts, scores.values)
    reference = next((cells.index(("teacher", form)) for form in REFERENCE if ("teacher", form) in cells), None)
    rows = []
    for i, (method, deployment) in enumerate(cells):
        quality = _quality(board, scores, per_task, i, reference)
        rows.append(_row(board, method, deployment, quality, ranks[i], _shared(verdicts[i], ranks, i)))
    cards = [board.cards[task] for task in board.grid.tasks if task in board.cards]
    return Table(columns(cards), rows, scores, verdicts, None if reference is None else rows[reference])


def _shared(signs: str, ranks: Sequence[int | None], i: int) -> Literal["", "=", "?"]:
    others = [signs[j] for j, rank in enumerate(ranks) if rank is not None and rank == ranks[i] and j != i]
    return "" if not others else "?" if suite.UNTESTABLE in others else "="


def speed_verdicts(rows: Sequence[Row]) -> list[str]:
    """As for scores, one sign a row in a string a row: > faster, < slower, = a tie, ? not timed both."""
    signs = {"better": suite.BETTER, "worse": suite.WORSE, "tied": suite.TIED}
    speeds = [_speed_interval(row) for row in rows]
    return [
        "".join(
            suite.UNTESTABLE if not (a and b) else signs[faster(a, b, max(one.noise_floor, other.noise_floor))]
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
    return [_average(task[seed] for task in tasks) for seed in sorted(set.intersection(*map(set, tasks)))]


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
    figures = {"score": _percent(scores.interval(i))}
    if i == reference:
        figures |= {"gap": figures["score"] and Figure(0.0), "kept": figures["score"] and Figure(100.0)}
    elif reference is not None:
        figures |= {"gap": _percent(scores.gap(i, reference)), "kept": _percent(scores.kept(i, reference))}
    return figures | {f"task-{t}": _percent(s.interval(i)) for t, s in zip(board.grid.tasks, per_task, strict=True)}


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
        figures |= _size(board, found) | _use(found.values()) | _times(found.values(), _same_machine(board, records))
        absent = "not measured"
    if len(records) == len(board.grid.tasks):
        figures |= _making([run for record in records.values() for run in record.runs])
    if not _same_machine(board, records):
        missing |= dict.fromkeys(("p50", "p90", "throughput"), "timed on another machine than the teacher")
    said = next(iter(records.values())).method if records else None
    return Row(
        id=f"{method}.{deployment}",
        method=method,
        deployment=deployment,
        caption=said.caption if said else "",
        submitted=bool(said and said.submitted),
        rank=rank,
        shared=shared,
        figures={key: figure for key, figure in figures.items() if figure is not None},
        noise_floor=max((form.cost.noise_floor for form in found.values()), default=0.0),
        missing={key: missing.get(key) or _why(key, absent, figures) for key in _absent_keys(board, figures)},
    )


def _absent_keys(board: Board, figures: dict[str, Figure | None]) -> list[str]:
    cards = [board.cards[task] for task in board.grid.tasks if task in board.cards]
    return [column.key for column in columns(cards) if figures.get(column.key) is None]


def _why(key: str, absent: str, figures: dict[str, Figure | None]) -> str:
    return "n too small" if key in ("p50", "p90") and "faster" in figures else absent


def _deployments(board: Board, method: str, deployment: str) -> dict[str, Deployment]:
    found = {task: record.deployments.get(deployment) for task, record in board.of(method).items()}
    return {task: form for task, form in found.items() if form is not None}


def _same_machine(board: Board, records: dict[str, Record]) -> bool:
    teacher = board.of("teacher")
    return all(task not in teacher or teacher[task].machine.id == r.machine.id for task, r in records.items())


def _size(board: Board, found: dict[str, Deployment]) -> dict[str, Figure | None]:
    figures: dict[str, Figure | None] = {
        "mb": _mean([form.bytes_on_disk / 1e6 for form in found.values()]),
        "parameters": _mean([form.parameters / 1e6 for form in found.values()]),
    }
    for reference in REFERENCE:
        teacher = _deployments(board, "teacher", reference)
        if len(teacher) == len(found):
            ratios = [teacher[task].bytes_on_disk / form.bytes_on_disk for task, form in found.items()]
            return figures | {"smaller": Figure(float(np.exp(np.mean(np.log(ratios)))))}
    return figures


def _times(found: Iterable[Deployment], same_machine: bool) -> dict[str, Figure | None]:
    costs = [form.cost for form in found]
    noisy = "noisy: more than 30 % of the pairs had to be repeated" if any(c.noisy for c in costs) else ""
    figures: dict[str, Figure | None] = {"faster": _geometric([c.speedup for c in costs], noisy)}
    if same_machine:  # milliseconds of two machines are never compared; the ratio was paired, so it stays
        figures |= {
            "p50": _arithmetic([c.latency_p50_ms for c in costs], noisy),
            "p90": _arithmetic([c.latency_p90_ms for c in costs], noisy),
            "throughput": _mean([c.throughput_texts_per_s for c in costs]),
        }
    return figures


def _use(found: Iterable[Deployment]) -> dict[str, Figure | None]:
    costs = [form.cost for form in found]
    modelled = any(c.solo.certificate.method == "modelled" for c in costs)
    doubt = (
        ""
        if all(c.solo.certificate.energy_valid for c in costs)
        else "CodeCarbon and our formula differ by more than 5 %"
    )

    def carbon(bound: Callable[[Range], float]) -> float:
        return float(np.mean([1e3 * bound(c.energy_kwh_per_1000) * c.solo.certificate.grid_g_per_kwh for c in costs]))

    return {
        "memory": Figure(max(c.peak_memory_mb for c in costs)),
        "cpu": _mean([c.cpu_s_per_1000 for c in costs]),
        "mwh": _range([c.energy_kwh_per_1000 for c in costs], 1e6, modelled, doubt),
        "mg": Figure(
            _average(1e3 * c.emissions_g_per_1000 for c in costs), carbon(_low), carbon(_high), modelled, doubt
        ),
    }


def _making(runs: Sequence[Run]) -> dict[str, Figure | None]:
    made = [run.footprint for run in runs]
    if not made:
        return {}
    modelled = any(m.certificate.method == "modelled" for m in made)
    doubt = (
        "" if all(m.certificate.energy_valid for m in made) else "CodeCarbon and our formula differ by more than 5 %"
    )
    over = "went over its budget" if any(run.steps > run.budget_steps for run in runs) else ""
    return {
        "making_wh": _range([m.energy_kwh for m in made], 1e3, modelled, doubt),
        "making_g": Figure(_average(m.emissions_g for m in made), modelled=modelled, note=doubt),
        "making_min": Figure(_average(m.wall_s / 60 for m in made), note=over),
    }


def energy_kwh(costs: Iterable[Cost]) -> float:
    """Likely kWh per inference, mean over the tasks."""
    return _average(c.energy_kwh_per_1000.likely / 1000 for c in costs)


def _low(r: Range) -> float:
    return r.low


def _high(r: Range) -> float:
    return r.high


def _average(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _mean(values: Sequence[float]) -> Figure:
    return Figure(_average(values))


def _percent(interval: Interval | None) -> Figure | None:
    return None if interval is None else Figure(100 * interval.value, 100 * interval.low, 100 * interval.high)


def _range(ranges: Sequence[Range], scale: float, modelled: bool, note: str) -> Figure:
    low, likely, high = (scale * _average(getattr(r, bound) for r in ranges) for bound in ("low", "likely", "high"))
    return Figure(likely, low, high, modelled, note)


def _arithmetic(intervals: Sequence[Interval | None], note: str) -> Figure | None:
    """Mean over the tasks; None where one has no interval."""
    there = [i for i in intervals if i is not None]
    if len(there) < len(intervals):
        return None
    mean = _mean_interval(there)
    return Figure(mean.value, mean.low, mean.high, note=note)


def _geometric(intervals: Sequence[Interval], note: str) -> Figure:
    """Geometric mean over the tasks."""
    logs = [Interval(value=log(i.value), low=log(i.low), high=log(i.high)) for i in intervals]
    mean = _mean_interval(logs)
    return Figure(exp(mean.value), exp(mean.low), exp(mean.high), note=note)


def _mean_interval(intervals: Sequence[Interval]) -> Interval:
    """Mean of independent figures: their half-widths add in squares."""
    value, n = _average(i.value for i in intervals), len(intervals)
    down = sum((i.value - i.low) ** 2 for i in intervals) ** 0.5 / n
    up = sum((i.high - i.value) ** 2 for i in intervals) ** 0.5 / n
    return Interval(value=value, low=value - down, high=value + up)
