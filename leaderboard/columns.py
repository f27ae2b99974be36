"""The board's columns: where each figure stands, how it is written, and what it means (from the schema's own words)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Literal

from pydantic import BaseModel

from leaderboard.schema import Cost, Deployment, Footprint, TaskCard


@dataclass(frozen=True)
class Figure:
    """A figure in the unit that the page writes, with the bounds it has."""

    value: float
    low: float | None = None
    high: float | None = None
    modelled: bool = False  # rests on declared watts of the processor: written with a "~"
    note: str = ""  # what a reader must know beside it, e.g. "noisy"


@dataclass(frozen=True)
class Column:
    """One figure of the table. `digits` are decimals (fixed) or, below 0, significant digits."""

    key: str
    group: str
    label: str
    unit: str
    meaning: str
    better: Literal["low", "high"]
    digits: int = -3
    shown: bool = True
    signed: bool = False
    watts: bool = False  # its bounds are low and high declared watts, no interval

    def text(self, value: float) -> str:
        """12345.6 -> "12,346"; -1.23 -> "−1.2"; figures are never written in exponents."""
        return number(value, self.digits, signed=self.signed)


def number(value: float, digits: int = -3, *, signed: bool = False) -> str:
    """A figure as the page writes it: `digits` decimals, or as many significant digits where it is negative."""
    if not abs(value) < 1e15:  # infinity and NaN too
        return f"{value:g}"
    decimals = digits
    if digits < 0:
        value = float(f"{value:.{-digits - 1}e}")
        decimals = max(0, -digits - 1 - (floor(log10(abs(value))) if value else 0))
    text = f"{abs(value):,.{decimals}f}"
    zero = not text.strip("0.,")
    return ("" if zero else "−" if value < 0 else "+" if signed else "") + text


def _says(model: type[BaseModel], field: str) -> str:
    text = model.model_fields[field].description or ""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]  # "kWh" stays


def columns(cards: Sequence[TaskCard]) -> list[Column]:
    """Every column of a board of these tasks, grouped."""
    return [*_quality(cards), *_size(), *_speed(), *_energy(), *_making()]


def _quality(cards: Sequence[TaskCard]) -> list[Column]:
    group = "Quality"
    suite = "Mean over the tasks of each task's first metric, times 100; 95 % interval from resampled exam examples"
    kept = "Share of the teacher's score that is kept, in percent"
    gap = "Points above (+) or below (−) the teacher, on the same resampled examples"
    tasks = [
        Column(f"task-{card.name}", group, card.name, card.metrics[0], f"{card.title} {_metric(card)}", "high", 1)
        for card in cards
    ]
    return [
        Column("score", group, "Score", "of 100", suite, "high", 1),
        Column("gap", group, "vs teacher", "points", gap, "high", 1, signed=True),
        Column("kept", group, "Kept", "%", kept, "high", 1, shown=False),
        *tasks,
    ]


def _metric(card: TaskCard) -> str:
    return f"({card.metrics[0]}, times 100; {len(card.exam_labels):,} exam texts)"


def _size() -> list[Column]:
    group = "Size"
    smaller = "The teacher's float32 artifact's bytes over this one's, geometric mean over the tasks"
    return [
        Column("mb", group, "On disk", "MB", _says(Deployment, "bytes_on_disk") + ". Millions of bytes", "low"),
        Column("smaller", group, "Smaller", "times", smaller, "high"),
        Column("parameters", group, "Params", "millions", _says(Deployment, "parameters"), "low"),
    ]


def _speed() -> list[Column]:
    group = "Speed and memory"
    return [
        Column("faster", group, "Faster", "times", _says(Cost, "speedup") + "; geometric mean over the tasks", "high"),
        Column(
            "faster_int8",
            group,
            "vs INT8",
            "times",
            _says(Cost, "speedup_int8") + "; geometric mean over the tasks",
            "high",
        ),
        Column("p50", group, "Median", "ms", _says(Cost, "latency_p50_ms") + "; mean over the tasks", "low"),
        Column(
            "p90",
            group,
            "90th centile",
            "ms",
            _says(Cost, "latency_p90_ms") + "; mean over the tasks",
            "low",
            shown=False,
        ),
        Column(
            "p50_all",
            group,
            "Median, all cores",
            "ms",
            _says(Cost, "latency_all_cores_p50_ms") + "; mean over the tasks",
            "low",
            shown=False,
        ),
        Column(
            "throughput",
            group,
            "Throughput",
            "texts/s",
            "Offline: length-sorted batches, all cores",
            "high",
            shown=False,
        ),
        Column("memory", group, "Memory", "MB", _says(Cost, "peak_memory_mb") + "; the largest over the tasks", "low"),
    ]


def _energy() -> list[Column]:
    group = "Using 1,000 texts"
    energy = _says(Cost, "energy_kwh_per_1000") + ", written in milliwatt-hours; bounds from the low and high watts"
    carbon = _says(Cost, "emissions_g_per_1000") + ", written in milligrams"
    return [
        Column("cpu", group, "CPU time", "s", _says(Cost, "cpu_s_per_1000"), "low", shown=False),
        Column("mwh", group, "Energy", "mWh", energy, "low", watts=True),
        Column("mg", group, "CO₂e", "mg", carbon, "low", watts=True),
    ]


def _making() -> list[Column]:
    group = "Making one student"
    energy = "Energy of one compression, mean over tasks and seeds, watt-hours; the teacher's row shows its fine-tuning"
    carbon = _says(Footprint, "emissions_g") + "; mean over tasks and seeds"
    return [
        Column("making_wh", group, "Energy", "Wh", energy, "low", watts=True),
        Column("making_g", group, "CO₂e", "g", carbon, "low", shown=False),
        Column(
            "making_min",
            group,
            "Time",
            "min",
            "Wall-clock minutes of one compression, mean over tasks and seeds",
            "low",
        ),
    ]
