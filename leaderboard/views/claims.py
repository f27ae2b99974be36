"""The claims page."""

from __future__ import annotations

from typing import Any, get_args

from leaderboard import claims
from leaderboard.store import Board
from leaderboard.table import Table

UNITS = {  # key of claims.yaml -> how its figure is written
    "params": "{:g} M parameters",
    "latency": "{:g} ms",
    "glue": "GLUE {:g}",
    "accuracy": "accuracy {:g} %",
    "drop": "drop of {:g} points",
    "peak_memory_mb": "peak memory {:g} MB",
    "english": "English {:g} %",
    "chinese": "Chinese {:g} %",
    "transfer": "transfer {:g} %",
    "ratio": "{:g} times",
    "traffic": "{:.0%} of the traffic",
    "reduction": "{:.0%} removed",
    "saving": "{:.0%} saved",
    "as_ratios.params": "{:g} times fewer parameters",
    "as_ratios.latency": "{:g} times faster",
    "as_ratios.glue_drop": "drop of {:g} points",
}


def written(key: str, value: Any) -> str:
    """A figure of the article with its unit; what is no figure as it stands, after its key."""
    if isinstance(value, (int, float)) and (form := UNITS.get(key)):
        return form.format(value)
    return f"{key.replace('_', ' ')} {value}"


def view(board: Board, rows: Table) -> dict[str, Any]:
    """Every claim with its finding, and how many have which verdict."""
    entries = [(claim, claims.judge(claim, board, rows)) for claim in claims.load()]
    counts = {v: sum(finding.verdict == v for _, finding in entries) for v in get_args(claims.Verdict)}
    return {"entries": entries, "counts": counts, "written": written}
