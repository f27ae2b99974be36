"""The table as CSV, JSON and BibTeX: names and figures only, so that no text of a submission reaches a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from leaderboard.store import Board
from leaderboard.table import Table

SHARED = {"": "", "=": "tied", "?": "untestable"}
HEAD = ["rank", "rank_shared", "method", "deployment", "tier"]


def as_csv(table: Table) -> str:
    """A line a row; each figure with its bounds; what is missing is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [column.key for column in table.columns]
    writer.writerow(HEAD + [name for key in keys for name in (key, f"{key}_low", f"{key}_high")])
    for row in table.rows:
        cells: list[Any] = [row.rank, SHARED[row.shared], row.method, row.deployment, row.tier]
        for key in keys:
            figure = row.figures.get(key)
            cells += [None] * 3 if figure is None else [_short(v) for v in (figure.value, figure.low, figure.high)]
        writer.writerow(cells)
    return out.getvalue()


def as_json(board: Board, table: Table) -> str:
    """The same with the columns' meanings; what is missing is null, a figure with the reason beside it."""
    rows = []
    for row in table.rows:
        figures = {
            column.key: figure
            and {
                "value": _short(figure.value),
                "low": _short(figure.low),
                "high": _short(figure.high),
                "modelled": figure.modelled,
                "note": figure.note,
            }
            for column in table.columns
            for figure in [row.figures.get(column.key)]
        }
        head = {"rank": row.rank, "rank_shared": SHARED[row.shared], "method": row.method, "deployment": row.deployment}
        rows.append({**head, "tier": row.tier, "figures": figures, "missing": row.missing})
    meanings = {
        c.key: {"group": c.group, "label": c.label, "unit": c.unit, "meaning": c.meaning} for c in table.columns
    }
    return (
        json.dumps({"profile": board.profile, "columns": meanings, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    )


def as_bibtex(board: Board) -> str:
    """How to cite this board: its suite version, profile and the code that made it."""
    newest = max(board.records.values(), key=lambda record: record.created)
    commits = sorted({record.code.commit[:12] for record in board.records.values() if record.code.commit})
    code = f"commit {', '.join(commits)}" if commits else "no commit recorded"
    return (
        f"@misc{{openautoglm_board_v{newest.suite_version},\n"
        f"  title = {{Open-AutoGLM board: compressed Transformers, measured (suite version {newest.suite_version})}},\n"
        f"  year  = {{{newest.created[:4]}}},\n"
        f"  note  = {{Profile {board.profile}, {len(board.records)} records, {code}}},\n"
        "}\n"
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
