"""A compression in words: what was asked, what came out, layer by layer and step by step, what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def summary(report: dict[str, Any], plan: dict[str, str] | None = None) -> str:
    """A Student's report as text. Parts that the report does not have are left out."""
    parts = [_asked(report), _shapes(report), _layers(report), _formats(plan), _steps(report), measured(report)]
    return "\n\n".join(part for part in parts if part) or "This student's report is empty."


def aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as columns: the first one flush left, the others flush right; None is blank."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in cells)  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def size_in_words(size: float) -> str:
    """Bytes for readers: 5,730,816 -> 5.73 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size:.0f} B"


def _asked(report: dict[str, Any]) -> str:
    """What differs from the defaults."""
    if (given := report.get("changed")) is None:
        return ""
    told = [f"{key} {_plain(value)}" for key, value in given.items()]
    return f"Asked: {', '.join(told)}; all else as by default" if told else "Asked: all as by default"


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) or "none" if isinstance(value, list) else "none" if value is None else str(value)


def _shapes(report: dict[str, Any]) -> str:
    before, after = report.get("before"), report.get("after")
    if not before or not after:
        return ""
    rows = [["", "before", "after"]]
    for key in ("parameters", "layers", "hidden_size", "embedding_size", "vocabulary"):
        if key in before and key in after:
            rows.append([key.replace("_", " "), f"{before[key]:,}", f"{after[key]:,}"])
    specific = any(step.get("task_specific") for step in report.get("steps", []))
    return aligned(rows) + (
        "\nIts vocabulary is the task's own: the model is specific to the task." if specific else ""
    )


def _layers(report: dict[str, Any]) -> str:
    before, after = report.get("before") or {}, report.get("after") or {}
    if not isinstance(after.get("heads"), list) or len(after["heads"]) != len(after.get("ffn") or []):
        return ""
    rows = [["layer", "heads", "FFN neurons"]]
    for i, (heads, neurons) in enumerate(zip(after["heads"], after["ffn"], strict=True)):
        rows.append([str(i), _change(before.get("heads"), i, heads), _change(before.get("ffn"), i, neurons)])
    return aligned(rows)


def _change(before: Any, i: int, now: int) -> str:
    return f"{before[i]} -> {now}" if isinstance(before, list) and i < len(before) else str(now)


def _formats(plan: dict[str, str] | None) -> str:
    return "Number formats: " + ", ".join(f"{group} {form}" for group, form in plan.items()) if plan else ""


def _steps(report: dict[str, Any]) -> str:
    rows: list[list[Any]] = [["step", "parameters", "dev score"]]
    for step in report.get("steps", []):
        score = step.get("dev_score")
        rows.append([step["step"], f"{step['parameters']:,}", None if score is None else f"{score:.4f}"])
    return aligned(rows) if len(rows) > 1 else ""


def measured(report: dict[str, Any]) -> str:
    """The side-by-side measurement (openautoglm.side_by_side), with the FLOPs that were promised beside it."""
    found = report.get("measured")
    if not found:
        return ""
    rows: list[list[Any]] = [["", "size", "ms a text", "times faster (95 %)", found["metric"]]]
    for name, row in found["rows"].items():
        low, value, high = (row["speedup"][key] for key in ("low", "value", "high"))
        speed = "the reference" if name == found["reference"] else f"{value:.2f} ({low:.2f} to {high:.2f})"
        rows.append([name, size_in_words(row["bytes"]), f"{row['latency_p50_ms']:.2f}", speed, f"{row['score']:.4f}"])
    teacher, student = (found["multiply_adds"][who] for who in ("teacher", "student"))
    promised = f"{2 * teacher / 1e6:,.1f} -> {2 * student / 1e6:,.1f} million FLOPs a text"
    return (
        f"{aligned(rows)}\n"
        f"Promised: {promised}, {teacher / student:.1f}x fewer. Delivered: the table above.\n"
        f"Timed side by side in this process, text by text, {found['threads']} thread: {found['texts']} dev texts of "
        f"{found['mean_length']:.0f} word pieces in the mean.\n"
        f"Tokenisation is included, {found['tokenize_share']:.0%} of the student's time. "
        "The intervals do not hold what differs between processes.\n"
        f"The score is of {found['scored']} dev texts, on which the weights were chosen too: keep an exam aside."
    )
