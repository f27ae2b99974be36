"""Geometry of the smaller pictures: learning curves, carbon against use, answers against truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from leaderboard.figures import Axis, log_span, span
from leaderboard.schema import HistoryPoint, Record, TaskCard, Trial, Tuning

COLOURS = 8
DOTTED = 24  # points of a learning curve that are marked one by one


@dataclass(frozen=True)
class Line:
    """A polyline, broken where a point starts anew, with its name at the end."""

    name: str
    points: list[tuple[float, float]]
    key: str = ""
    starts: frozenset[int] = frozenset({0})  # indices of the points that are not joined to the one before
    label_y: float = 0.0
    colour: int = 0


@dataclass(frozen=True)
class Lines:
    """Lines on axes."""

    title: str
    x: Axis
    y: Axis
    x_title: str
    y_title: str
    lines: list[Line]
    dotted: bool = False  # few points: each is marked


def curves(records: dict[str, Record], field: str, title: str) -> Lines | None:
    """Learning curves of a method, a line a task (first seed): `field` is "loss", or "dev_score" (times 100)."""
    scale = 100 if field == "dev_score" else 1
    data = {task: _curve(record.runs[0].history, field, scale) for task, record in records.items() if record.runs}
    data = {task: points for task, points in data.items() if len(points) > 1}
    if not data:
        return None
    every = [point for points in data.values() for point in points]
    x = Axis(0, max(1, *(step for step, _, _ in every)), 44, 350)
    y = Axis(*span([value for _, value, _ in every]), 190, 16)
    lines = [
        Line(
            task,
            [(x.at(step), y.at(value)) for step, value, _ in points],
            starts=frozenset(i for i, point in enumerate(points) if i == 0 or point[2] != points[i - 1][2]),
            colour=list(records).index(task) % COLOURS,  # the same in every picture of the page
        )
        for task, points in data.items()
    ]
    dotted = max(len(points) for points in data.values()) <= DOTTED
    return Lines(title, x, y, "optimiser steps", field.replace("_", " "), _spread(lines), dotted)


def _curve(history: Sequence[HistoryPoint], field: str, scale: int) -> list[tuple[float, float, str]]:
    """(step, value, stage) points; where a stage counts its steps anew, they go on from the last."""
    points: list[tuple[float, float, str]] = []
    offset, last, stage = 0, 0, ""
    for point in history:
        if point.step < last or (point.step == last and point.stage != stage):
            offset += last
        last, stage = point.step, point.stage
        value = getattr(point, field)
        if value is not None:
            points.append((float(offset + last), scale * float(value), point.stage))
    return points


def passes(found: Sequence[Tuning]) -> Lines | None:
    """What of the teacher's score is kept on dev against the passes that a method trains for, a line a task.

    Only trials at the rates that were tried with more than one number of passes.
    """
    data = {tuning.task: points for tuning in found if len(points := by_passes(tuning)) > 1}
    if not data:
        return None
    every = [point for points in data.values() for point in points]
    x = Axis(*log_span(np.array([count for count, _ in every])), 44, 350, log=True)
    y = Axis(*span([share for _, share in every]), 190, 16)
    lines = [
        Line(task, [(x.at(count), y.at(share)) for count, share in points], colour=number % COLOURS)
        for number, (task, points) in enumerate(data.items())
    ]
    return Lines("Kept of the teacher on dev", x, y, "passes over the train split", "%", _spread(lines), dotted=True)


def by_passes(found: Tuning) -> list[tuple[float, float]]:
    """(passes, percent of the teacher's dev score) of the rates that were tried with the most numbers of passes."""
    tried: dict[tuple[tuple[str, float], ...], dict[float, float]] = {}
    for trial in found.trials:
        if (share := kept(found, trial)) is not None:
            tried.setdefault(tuple(sorted(trial.knobs.items())), {})[trial.passes] = share
    return sorted(max(tried.values(), key=len, default={}).items())


def kept(found: Tuning, trial: Trial) -> float | None:
    """Percent of the teacher's dev score; None where the trial has none, or the teacher's is 0."""
    if trial.dev_score is None or not found.teacher_dev_score:
        return None
    return 100 * trial.dev_score / found.teacher_dev_score


def _spread(lines: list[Line], apart: float = 13.0) -> list[Line]:
    """Move the names at the lines' ends so that none covers another."""
    placed, last = [], -1e9
    for line in sorted(lines, key=lambda line: line.points[-1][1]):
        last = max(line.points[-1][1] + 4, last + apart)
        placed.append(replace(line, label_y=round(last, 1)))
    return placed


@dataclass(frozen=True)
class Totals:
    """Grams of CO2e against the number of inferences; the script moves the lines when another grid is chosen."""

    picture: Lines
    decade: float  # height of a factor of ten on the paper
    grid_g_per_kwh: float


def totals(rows: Sequence[tuple[str, str, float, float]], g_per_kwh: float) -> Totals | None:
    """(id, name, kWh of making, kWh an inference) -> lines from a thousand to a thousand million inferences."""
    if not rows:
        return None
    counts = np.logspace(3, 9, 49)
    grams = {name: g_per_kwh * (making + counts * use) for _, name, making, use in rows}
    x = Axis(1e3, 1e9, 56, 560, log=True)
    y = Axis(*log_span(np.concatenate(list(grams.values()))), 320, 16, log=True)
    lines = [
        Line(name, [(x.at(n), y.at(g)) for n, g in zip(counts, grams[name], strict=True)], key)
        for key, name, _, _ in rows
    ]
    decade = abs(y.stop - y.start) / np.log10(y.high / y.low)
    picture = Lines("Total carbon: making and using", x, y, "inferences", "g CO₂e", _spread(lines))
    return Totals(picture, round(float(decade), 2), g_per_kwh)


def confusion(predictions: Sequence[float], card: TaskCard) -> list[list[int]]:
    """counts[true][predicted]."""
    k = len(card.labels)
    true, said = np.asarray(card.exam_labels, dtype=int), np.asarray(predictions, dtype=int)
    inside = (said >= 0) & (said < k)
    counts = np.bincount(true[inside] * k + said[inside], minlength=k * k).reshape(k, k)
    return counts.tolist()


@dataclass(frozen=True)
class Cloud:
    """Predicted against true value, as places on a square of 200."""

    dots: list[tuple[int, int]]
    low: float
    high: float


def cloud(predictions: Sequence[float], card: TaskCard) -> Cloud:
    """The scatter of a regression; equal places are drawn once."""
    low, high = span([*card.exam_labels])
    at = Axis(low, high, 0, 200)
    dots = {(round(at.at(y)), round(200 - at.at(p))) for p, y in zip(predictions, card.exam_labels, strict=True)}
    return Cloud(sorted(dots), low, high)
