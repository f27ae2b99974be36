"""The rows of a method beside the nearest ones: what a reader of a proposal wants to see, as Markdown."""

from __future__ import annotations

import re

from leaderboard.table import TIERS, Row, Table

SHOWN = ("score", "gap", "mb", "smaller", "faster", "faster_int8", "p50", "mwh", "making_wh")
NEAREST = 2  # rows of others on either side


def markdown(table: Table, method: str) -> str:
    """A table of the method's rows, those around each of them, and the reference."""
    mine = [i for i, row in enumerate(table.rows) if row.method == method]
    if not any(table.rows[i].figures for i in mine):
        return f"**{plain(method)}** has no row with a figure yet.\n"
    near = {j for i in mine for j in range(i - NEAREST, i + NEAREST + 1) if 0 <= j < len(table.rows)}
    rows = [row for i, row in enumerate(table.rows) if i in near or i in mine or row is table.reference]
    columns = [column for key in SHOWN for column in table.columns if column.key == key]
    head = ["#", "method", "deployment", *(f"{column.label} ({column.unit})".replace(" ()", "") for column in columns)]
    lines = [head, ["---"] * len(head)]
    lines += [_cells(row, [row.text(column) for column in columns], method) for row in rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def _cells(row: Row, figures: list[str], method: str) -> list[str]:
    rank = "" if row.rank is None else f"{row.rank}{row.shared}"
    name = plain(row.method) + ("" if row.tier == "reproduced" else f" ({TIERS[row.tier]})")
    return [rank, f"**{name}**" if row.method == method else name, plain(row.deployment), *figures]


def plain(text: str) -> str:
    """Text that Markdown shows as it is: nothing of it is a link, a mention, markup or HTML.

    >>> plain("a_b <img> [x](y) @you")
    'a\\\\_b &lt;img&gt; \\\\[x\\\\](y) @\\u200byou'
    """
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", " ".join(escaped.split()))
