"""The page on how it is measured: the noise floor, the launches, the machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leaderboard.store import Board
from leaderboard.table import Table


def view(board: Board, rows: Table) -> dict[str, Any]:
    """Noise floor, launches and repeated rounds of every row."""
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
                    "pressure": _most(launch.pressure for cost in costs for launch in cost.launches),
                    "noisy": any(cost.noisy for cost in costs),
                }
            )
    solos = [form.cost.solo.certificate for record in board.records.values() for form in record.deployments.values()]
    runs = [run.footprint.certificate for record in board.records.values() for run in record.runs]
    return {
        "noise": noise,
        "solo": solos[0] if solos else None,
        "energy_invalid": sum(not c.energy_valid for c in solos + runs),
        "energy_measured": len(solos + runs),
    }


def _most(values: Iterable[float | None]) -> float | None:
    """The largest of those that were recorded."""
    return max((v for v in values if v is not None), default=None)
