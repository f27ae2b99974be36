"""A search's trials as pictures: what each promises against its latency, its bytes as the size of its mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leaderboard.columns import number
from leaderboard.figures import Axis, log_span, span

STAGES = ("cheap", "short", "full")  # rungs of the search, each with a colour of its own; others share the last
FIELDS = {"dev_score": "Score on dev", "loss": "Loss without training"}


@dataclass(frozen=True)
class Dot:
    """One trial: place, radius, its stage's number and what is said of it."""

    x: float
    y: float
    radius: float
    stage: int
    note: str


@dataclass(frozen=True)
class Trials:
    """All trials that measured one thing."""

    title: str
    x: Axis
    y: Axis
    dots: list[Dot]
    stages: list[tuple[int, str]]  # its number and name, of those that are drawn


def are_trials(rows: Sequence[Any]) -> bool:
    """Whether a list of a report is a search's trials: each says its milliseconds, bytes and stage."""
    return bool(rows) and all(isinstance(row, dict) and {"ms", "bytes", "stage"} <= row.keys() for row in rows)


def pictures(rows: Sequence[dict[str, Any]]) -> list[Trials]:
    """One picture of what was scored on dev, one of what was only tried without training."""
    return [made for field, title in FIELDS.items() if (made := _picture(rows, field, title))]


def _picture(rows: Sequence[dict[str, Any]], field: str, title: str) -> Trials | None:
    found = [row for row in rows if _positive(row, "ms") and _positive(row, "bytes") and _is_number(row.get(field))]
    if field == "loss":
        found = [row for row in found if not _is_number(row.get("dev_score"))]
    if len(found) < 2:
        return None
    x = Axis(*log_span(np.array([row["ms"] for row in found])), 44, 388, log=True)
    y = Axis(*span([row[field] for row in found]), 190, 16)
    most = max(row["bytes"] for row in found)
    dots = [
        Dot(
            x.at(row["ms"]), y.at(row[field]), round(1.5 + 4.5 * (row["bytes"] / most) ** 0.5, 1), _stage(row),
            f"{row['stage']}: {number(row['ms'])} ms, {number(row['bytes'] / 1e6)} MB, {field.replace('_', ' ')} "
            f"{number(row[field])}",
        )
        for row in found
    ]  # fmt: skip
    stages = dict(sorted((_stage(row), str(row["stage"])) for row in found))
    return Trials(title, x, y, dots, list(stages.items()))


def _stage(row: dict[str, Any]) -> int:
    return STAGES.index(row["stage"]) if row["stage"] in STAGES else len(STAGES)


def _positive(row: dict[str, Any], key: str) -> bool:
    return _is_number(row.get(key)) and 1e-9 < row[key] < 1e15


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
