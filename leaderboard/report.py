"""What a method reports of itself, any JSON, as blocks that a page can draw: figures as bars and maps, else text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from leaderboard.columns import number
from leaderboard.trials import STAGES, Trials, are_trials, pictures

MOST = 200  # entries of one list or table that are shown


@dataclass(frozen=True)
class Block:
    """A titled piece: lines of (text, share) cells. Those of facts and bars are a name and a value; a map's begin with
    the name of the line."""

    title: str
    kind: Literal["facts", "bars", "map", "table", "trials"]
    head: list[str]
    lines: list[list[tuple[str, float]]]
    pictures: list[Trials] = field(default_factory=list)


def blocks(report: dict[str, Any], title: str = "") -> list[Block]:
    """Simple entries first, as one list of facts; then a block for each entry that has an inside."""
    simple = {key: value for key, value in report.items() if _is_simple(value)}
    made = [Block(title, "facts", [], [[(_name(k), 0.0), (text(v), 0.0)] for k, v in simple.items()])] if simple else []
    for key, value in report.items():
        if key not in simple:
            made += _inside(f"{title}, {_name(key)}" if title else _name(key), value)
    return made


def text(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        written = number(value, -4)
        return written.rstrip("0").rstrip(".") if "." in written else written
    if value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return "; ".join(f"{_name(key)}: {text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(text(inner) for inner in value)
    return str(value)


def _inside(title: str, value: Any) -> list[Block]:
    if isinstance(value, dict) and all(_is_number(v) for v in value.values()):
        return [_bars(title, {_name(k): v for k, v in value.items()})]
    if isinstance(value, dict):
        return blocks(value, title)
    if all(_is_number(v) for v in value):
        return [_bars(title, {str(i): v for i, v in enumerate(value, 1)})]
    if all(isinstance(row, list) and row and all(_is_number(v) for v in row) for row in value):
        return [_map(title, value)]
    if are_trials(value):
        return trials(title, value)
    if all(isinstance(row, dict) and {"part", "change"} <= row.keys() and _is_number(row.get("loss")) for row in value):
        return [_losses(title, value)]
    if all(isinstance(row, dict) for row in value):
        return _table(title, value)
    return [Block(title, "facts", [], [[(str(i), 0.0), (text(v), 0.0)] for i, v in enumerate(value[:MOST], 1)])]


def _bars(title: str, values: dict[str, float]) -> Block:
    shown = dict(list(values.items())[:MOST])
    most = max(map(abs, shown.values())) or 1
    return Block(title, "bars", [], [[(key, 0.0), (text(v), abs(v) / most)] for key, v in shown.items()])


def _map(title: str, rows: list[list[float]]) -> Block:
    most = max(abs(v) for row in rows for v in row) or 1
    shares = [[abs(v) / most for v in row[:MOST]] for row in rows[:MOST]]
    lines = [[(str(i), 0.0), *((number(100 * s, 0), s) for s in row)] for i, row in enumerate(shares, 1)]
    return Block(f"{title}, % of the largest", "map", [], lines)


def _losses(title: str, rows: list[dict[str, Any]]) -> Block:
    """A sensitivity table: a line a part, a column a change, shaded by the share of the column's largest loss."""
    found = {(str(row["part"]), str(row["change"])): float(row["loss"]) for row in rows}
    parts, changes = (list(dict.fromkeys(pair[i] for pair in found))[:MOST] for i in (0, 1))
    most = {c: max(abs(loss) for (_, other), loss in found.items() if other == c) or 1.0 for c in changes}

    def cell(part: str, change: str) -> tuple[str, float]:
        loss = found.get((part, change))
        return ("–", 0.0) if loss is None else (number(loss, -2), abs(loss) / most[change])

    lines = [[(part, 0.0), *(cell(part, change) for change in changes)] for part in parts]
    return Block(f"{title}: loss where one part is changed", "map", ["part", *changes], lines)


def trials(title: str, rows: list[dict[str, Any]]) -> list[Block]:
    """A search: its pictures, and a table of the trials without their parameters, those that took longest first."""
    dear = list(reversed(STAGES))
    ordered = sorted(rows, key=lambda row: dear.index(row["stage"]) if row["stage"] in dear else len(dear))
    simple = [{key: value for key, value in row.items() if _is_simple(value)} for row in ordered]
    cut = f"; {len(rows) - MOST:,} of {len(rows):,} are left out" if len(rows) > MOST else ""
    return [Block(title, "trials", [], [], pictures(rows)), *_table(f"{title}, one by one{cut}", simple)]


def _table(title: str, rows: list[dict[str, Any]]) -> list[Block]:
    """A table of the simple entries; what has an inside follows, named by its row."""
    rows = rows[:MOST]
    keys = dict.fromkeys(key for row in rows for key, value in row.items() if _is_simple(value))
    head = sorted(keys, key=lambda key: not all(isinstance(row.get(key), str) for row in rows))  # names come first
    lines = [[(text(row[key]) if key in row and _is_simple(row[key]) else "", 0.0) for key in head] for row in rows]
    made = [Block(title, "table", [_name(key) for key in head], lines)] if head else []
    for i, row in enumerate(rows, 1):
        name = next((text(value) for value in row.values() if isinstance(value, str)), str(i))
        for key, value in row.items():
            if not _is_simple(value):
                made += _inside(f"{name}, {_name(key)}", value)
    return made


def _is_simple(value: Any) -> bool:
    short = isinstance(value, list) and len(value) <= 12 and all(isinstance(v, (int, str)) for v in value)
    return short or not value or not isinstance(value, (dict, list))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name(key: str) -> str:
    return key.replace("_", " ")
