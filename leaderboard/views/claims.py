"""The claims page."""

from __future__ import annotations

from typing import Any, get_args

from leaderboard import claims
from leaderboard.store import Board
from leaderboard.table import Table


def view(board: Board, rows: Table) -> dict[str, Any]:
    """Every claim with its finding, and how many have which verdict."""
    entries = [(claim, claims.judge(claim, board, rows)) for claim in claims.load()]
    counts = {v: sum(finding.verdict == v for _, finding in entries) for v in get_args(claims.Verdict)}
    return {"entries": entries, "counts": counts}
