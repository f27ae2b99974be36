"""Energy turned into what people ask of it: grams for a grid, and when a compression has paid for itself."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Grid(NamedTuple):
    """Carbon intensity of one country's electricity in one year."""

    iso3: str
    name: str
    g_per_kwh: float  # grams CO2e per kWh generated, life cycle
    year: int
    source: str


@cache
def grids() -> tuple[Grid, ...]:
    """The countries of grids.json, cleanest first."""
    table = json.loads((Path(__file__).parent / "grids.json").read_text(encoding="utf-8"))
    year, source = table["year"], table["source"]
    rows = [Grid(iso3, name, intensity, year, source) for iso3, (name, intensity) in table["grids"].items()]
    return tuple(sorted(rows, key=lambda grid: grid.g_per_kwh))


def emissions_g(kwh: float, g_per_kwh: float) -> float:
    """Grams CO2e of `kwh` on a grid of `g_per_kwh`."""
    return kwh * g_per_kwh


def break_even(making_kwh: float, saved_kwh_per_inference: float) -> float | None:
    """Inferences until the energy of making the model is saved by using it; None where it never is.

    >>> break_even(0.002, 1e-8)
    200000.0
    """
    return making_kwh / saved_kwh_per_inference if saved_kwh_per_inference > 0 else None
