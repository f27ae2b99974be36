"""Geometry of the pictures: numbers to places on the paper. The templates draw them; nothing here is text of SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10

import numpy as np

from leaderboard import pareto
from leaderboard.columns import Column, Figure, number
from leaderboard.table import Row, Table

PLACES = (  # of a name beside its point: right, left, above, below, then the corners
    *((9, 4, "start"), (-9, 4, "end"), (0, -10, "middle"), (0, 18, "middle")),
    *((9, -8, "start"), (9, 15, "start"), (-9, -8, "end"), (-9, 15, "end")),
)
FEW = 40  # points at most in a picture that names every method
MARKS = ("circle", "square", "diamond", "triangle")  # one a deployment


Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on a stretch of paper from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value, held within the paper."""
        low, high, v = self.low, self.high, value
        if self.log:
            low, high, v = log10(low), log10(high), log10(max(v, 1e-30))
        share = (v - low) / (high - low)
        return round(self.start + min(1.02, max(-0.02, share)) * (self.stop - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of four to eight round values."""
        values = _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)
        return [(self.at(v), self._written(v)) for v in values]

    def _written(self, value: float) -> str:
        if self.log:
            digits = -1 if self.high / self.low > 3 else -2
            return f"{number(value / 1e6, digits)} M" if value >= 1e6 else number(value, digits)
        return number(value, max(0, -floor(log10(_step(self.low, self.high)))))


@dataclass(frozen=True)
class Point:
    """One row in a picture: place, interval bars, and what is said of it."""

    row: Row
    x: float
    y: float
    x_bar: tuple[float, float] | None
    y_bar: tuple[float, float] | None
    mark: str
    on_front: float  # probability
    note: str
    by: str  # id of the row that dominates it; "" on the front
    label: tuple[float, float, str] | None = None  # x, y, text-anchor


@dataclass(frozen=True)
class Scatter:
    """Score against one cost."""

    key: str
    title: str
    x: Axis
    y: Axis
    x_title: str
    points: list[Point]
    front: list[tuple[float, float]]  # a staircase
    left_out: int
    marks: dict[str, str]  # deployment -> mark


def scatter(table: Table, column: Column, title: str, *, width: int = 400, height: int = 300) -> Scatter | None:
    """The picture of score against a column, or None where fewer than two rows have both figures."""
    at = [i for i, row in enumerate(table.rows) if {"score", column.key} <= row.figures.keys()]
    at = [i for i in at if table.rows[i].figures[column.key].value > 0]
    if len(at) < 2:
        return None
    rows = [table.rows[i] for i in at]
    scores, costs = [r.figures["score"] for r in rows], [r.figures[column.key] for r in rows]
    quality, cost = np.array([f.value for f in scores]), np.array([f.value for f in costs])
    bounds = [(f.value, f.value) if column.watts else (f.low or f.value, f.high or f.value) for f in costs]
    low, high = (np.array(side) for side in zip(*bounds, strict=True))
    draws = pareto.cost_draws(cost, low, high, table.scores.draws.shape[1])
    chances = pareto.probability(table.scores.draws[at], draws)
    x = Axis(*log_span(cost), 44, width - 12, log=True)
    y = Axis(*span([v for f in scores for v in (f.value, f.low, f.high) if v is not None]), height - 40, 12)
    forms = dict.fromkeys(form for row in rows for form in [row.deployment])
    marks = {form: MARKS[k % len(MARKS)] for k, form in enumerate(sorted(forms))}
    points = [
        Point(
            row,
            x.at(c.value),
            y.at(s.value),
            None if bound[0] == bound[1] else (x.at(bound[0]), x.at(bound[1])),
            None if s.low is None or s.high is None else (y.at(s.low), y.at(s.high)),
            marks[row.deployment],
            float(chance),
            *_note(rows, quality, cost, column, i, float(chance)),
        )
        for i, (row, c, s, chance, bound) in enumerate(zip(rows, costs, scores, chances, bounds, strict=True))
    ]
    on = pareto.on_front(quality[:, None], cost[:, None])[:, 0]
    stairs = _stairs(sorted({(points[i].x, points[i].y) for i in np.flatnonzero(on)}), x.stop)
    unit = f"{column.label.lower() if column.label != 'CO₂e' else column.label}, {column.unit}"
    return Scatter(column.key, title, x, y, unit, _labelled(points, x, y), stairs, len(table.rows) - len(rows), marks)


def _note(
    rows: Sequence[Row], quality: np.ndarray, cost: np.ndarray, column: Column, i: int, chance: float
) -> tuple[str, str]:
    """What is said of a point, and the id of the row that dominates it."""
    row, tilde = rows[i], "~" if rows[i].figures[column.key].modelled else ""
    said = (
        f"{row.method}, {row.deployment}: {number(quality[i], 1)} points, {tilde}{column.text(cost[i])} {column.unit}."
    )
    certainty = f"Probability of being on the front: {_percent(chance)}."
    j = pareto.dominator(quality, cost, i)
    if j is None:
        return f"{said} Nothing dominates it. {certainty}", ""
    by = f"{number(quality[j] - quality[i], 1)} points better, {number(cost[i] / cost[j])} times less {column.unit}"
    return f"{said} Dominated by {rows[j].method}, {rows[j].deployment}: {by}. {certainty}", rows[j].id


def _percent(chance: float) -> str:
    """A share of resamples is never certain: "under 1 %", "37 %", "over 99 %"."""
    return "under 1 %" if chance < 0.01 else "over 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


def _stairs(corners: list[tuple[float, float]], right: float) -> list[tuple[float, float]]:
    """The front as a staircase from the cheapest row to the best: nothing is known to be up and left of it."""
    if not corners:
        return []
    line = [corners[0]]
    for x, y in corners[1:]:
        line += [(x, line[-1][1]), (x, y)]
    return [*line, (right, line[-1][1])]


def _labelled(points: list[Point], x: Axis, y: Axis) -> list[Point]:
    """Names, where there is room: of the points that are likely on the front, and of every method once if few."""
    taken = [(p.x - 5, p.y - 5, p.x + 5, p.y + 5) for p in points]
    done: list[Point] = []
    named: set[str] = set()
    for point in sorted(points, key=lambda p: -p.on_front):
        wanted = point.on_front >= 0.5 or (len(points) <= FEW and point.row.method not in named)
        place = _room(point, taken, x, y) if wanted else None
        if place:
            taken.append(place[0])
            named.add(point.row.method)
            point = replace(point, label=place[1])
        done.append(point)
    return sorted(done, key=lambda p: p.on_front)  # the front is drawn last, on top


def _room(point: Point, taken: list[Box], x: Axis, y: Axis) -> tuple[Box, tuple[float, float, str]] | None:
    wide, tall = 6.4 * len(point.row.method), 11.0
    for dx, dy, anchor in PLACES:
        left = point.x + dx - (0 if anchor == "start" else wide if anchor == "end" else wide / 2)
        box = (left, point.y + dy - tall, left + wide, point.y + dy + 2)
        inside = box[0] >= x.start and box[2] <= x.stop + 10 and box[1] >= y.stop - 8 and box[3] <= y.start
        if inside and not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
            return box, (round(point.x + dx, 1), round(point.y + dy, 1), anchor)
    return None


def strip(figures: Sequence[Figure]) -> Axis:
    """The shared scale of a table's intervals, on 300 units of paper."""
    bounds = [v for f in figures for v in (f.value, f.low, f.high) if v is not None]
    return Axis(*span(bounds or [0.0, 1.0]), 0, 300)


def span(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value with a margin."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def log_span(values: np.ndarray) -> tuple[float, float]:
    """The same on a logarithmic axis."""
    low, high = float(values.min()), float(values.max())
    margin = max(1.12, (high / low) ** 0.08)
    return low / margin, high * margin


def _step(low: float, high: float) -> float:
    rough = (high - low) / 5
    unit = 10.0 ** floor(log10(rough))
    return next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    return [k * step for k in range(ceil(low / step), floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), tuple(range(1, 10))):
        values = [k * 10.0**e for e in range(floor(log10(low)), ceil(log10(high)) + 1) for k in steps]
        values = [v for v in values if low <= v <= high]
        if len(values) >= 4:
            return values
    return values if len(values) >= 3 else _ticks(low, high)
