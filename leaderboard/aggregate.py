"""One figure a row from one a task: means over the tasks, with their bounds, in the units that the page writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from typing import Literal

import numpy as np

from leaderboard.columns import Figure
from leaderboard.schema import Certificate, Deployment, Interval, Range, Run

Figures = dict[str, "Figure | None"]


def size(found: dict[str, Deployment], teacher: dict[str, Deployment]) -> Figures:
    """Megabytes, millions of parameters, and how many times smaller than the teacher's artifact of the same task."""
    figures: Figures = {
        "mb": _mean([form.bytes_on_disk / 1e6 for form in found.values()]),
        "parameters": _mean([form.parameters / 1e6 for form in found.values()]),
    }
    if found.keys() <= teacher.keys():
        ratios = [teacher[task].bytes_on_disk / form.bytes_on_disk for task, form in found.items()]
        figures["smaller"] = Figure(float(np.exp(np.mean(np.log(ratios)))))
    return figures


def times(found: Iterable[Deployment]) -> Figures:
    """Times faster than the teacher in float32 and in INT8; milliseconds and texts a second."""
    costs = [form.cost for form in found]
    noisy = "noisy: more than 40 % of all rounds taken were repeats" if any(c.noisy for c in costs) else ""
    return {
        "faster": _geometric([c.speedup for c in costs], noisy),
        "faster_int8": _geometric([c.speedup_int8 for c in costs], noisy),
        "p50": _arithmetic([c.latency_p50_ms for c in costs], noisy),
        "p90": _arithmetic([c.latency_p90_ms for c in costs], noisy),
        "p50_all": _arithmetic([c.latency_all_cores_p50_ms for c in costs], noisy),
        "throughput": _mean([c.throughput_texts_per_s for c in costs]),
    }


def use(found: Iterable[Deployment]) -> Figures:
    """Memory, and what 1,000 texts cost: CPU-seconds, milliwatt-hours, milligrams of CO2e."""
    costs = [form.cost for form in found]
    modelled, doubt = _remarks([c.solo.certificate for c in costs])

    def carbon(bound: Literal["low", "high"]) -> float:
        return average(1e3 * getattr(c.energy_kwh_per_1000, bound) * c.solo.certificate.grid_g_per_kwh for c in costs)

    grams = average(1e3 * c.emissions_g_per_1000 for c in costs)
    return {
        "memory": Figure(max(c.peak_memory_mb for c in costs)),
        "cpu": _mean([c.cpu_s_per_1000 for c in costs]),
        "mwh": _range([c.energy_kwh_per_1000 for c in costs], 1e6, modelled, doubt),
        "mg": Figure(grams, carbon("low"), carbon("high"), modelled, doubt),
    }


def making(runs: Sequence[Run]) -> Figures:
    """Watt-hours, grams of CO2e and minutes of one compression, mean over tasks and seeds."""
    made = [run.footprint for run in runs]
    if not made:
        return {}
    modelled, doubt = _remarks([m.certificate for m in made])
    over = "went over its budget" if any(run.steps > run.budget_steps for run in runs) else ""
    return {
        "making_wh": _range([m.energy_kwh for m in made], 1e3, modelled, doubt),
        "making_g": Figure(average(m.emissions_g for m in made), modelled=modelled, note=doubt),
        "making_min": Figure(average(m.wall_s / 60 for m in made), note=over),
    }


def percent(interval: Interval | None) -> Figure | None:
    """A fraction as points."""
    return None if interval is None else Figure(100 * interval.value, 100 * interval.low, 100 * interval.high)


def _remarks(certificates: Sequence[Certificate]) -> tuple[bool, str]:
    """Whether any of the processor's part is modelled (NVML measures the GPU alone), and what is doubtful about it."""
    valid = all(certificate.energy_valid for certificate in certificates)
    modelled = any(certificate.method in ("modelled", "nvml") for certificate in certificates)
    return modelled, "" if valid else "CodeCarbon and our formula differ by more than 5 %"


def average(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(list(values)))


def _mean(values: Sequence[float]) -> Figure:
    return Figure(average(values))


def _range(ranges: Sequence[Range], scale: float, modelled: bool, note: str) -> Figure:
    low, likely, high = (scale * average(getattr(r, bound) for r in ranges) for bound in ("low", "likely", "high"))
    return Figure(likely, low, high, modelled, note)


def _arithmetic(intervals: Sequence[Interval | None], note: str) -> Figure | None:
    """Mean over the tasks; None where one has no interval."""
    there = [i for i in intervals if i is not None]
    if len(there) < len(intervals):
        return None
    mean = _mean_interval(there)
    return Figure(mean.value, mean.low, mean.high, note=note)


def _geometric(intervals: Sequence[Interval | None], note: str) -> Figure | None:
    """Geometric mean over the tasks; None where one has no interval."""
    logs = [Interval(value=log(i.value), low=log(i.low), high=log(i.high)) for i in intervals if i is not None]
    if len(logs) < len(intervals):
        return None
    mean = _mean_interval(logs)
    return Figure(exp(mean.value), exp(mean.low), exp(mean.high), note=note)


def _mean_interval(intervals: Sequence[Interval]) -> Interval:
    """Mean of independent figures: their half-widths add in squares."""
    value, n = average(i.value for i in intervals), len(intervals)
    down = sum((i.value - i.low) ** 2 for i in intervals) ** 0.5 / n
    up = sum((i.high - i.value) ** 2 for i in intervals) ** 0.5 / n
    return Interval(value=value, low=value - down, high=value + up)
