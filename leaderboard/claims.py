"""The article's claims beside what was measured: one small function a claim, judged by the claim's own numbers.

A ratio is reproduced where the measured one reaches the article's, a drop where it is not larger. A claim that no row
of the board speaks to is "not run yet"; one that has no measurable figure here is "not comparable".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from leaderboard.columns import number
from leaderboard.schema import Strict
from leaderboard.store import Board, BoardError
from leaderboard.table import Row, Table

Verdict = Literal["reproduced", "not reproduced", "not comparable", "not run yet"]
PLAN = ("onnx-plan", "onnx-int8", "onnx-fp32")  # the forms that may stand for Open-AutoGLM, its own plan first


class Claim(Strict):
    """One entry of claims.yaml."""

    id: str
    title: str
    values: Any
    as_ratios: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What the board says of a claim."""

    measured: str
    verdict: Verdict
    reason: str


NOT_RUN = Finding("", "not run yet", "No row of this board speaks to it.")


def load(path: Path = Path(__file__).parent / "claims.yaml") -> list[Claim]:
    """Every entry of claims.yaml; BoardError where it is not readable."""
    try:
        return TypeAdapter(list[Claim]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise BoardError(f"{path} is not a list of claims: {str(error).splitlines()[0]}") from None


def judge(claim: Claim, board: Board, table: Table) -> Finding:
    """The finding on one claim."""
    check = CHECKS.get(claim.id)
    return (check(claim, board, table) if check else None) or NOT_RUN


def _overall(claim: Claim, board: Board, table: Table) -> Finding | None:
    row, teacher = _first(table, "open_autoglm", PLAN), table.row("teacher", "onnx-fp32")
    if not (_has(row, "gap", "faster", "parameters") and _has(teacher, "parameters")):
        return None
    parameters = _value(teacher, "parameters") / _value(row, "parameters")
    want = claim.as_ratios
    good = parameters >= want["params"] and _value(row, "faster") >= want["latency"]
    good = good and -_value(row, "gap") <= want["glue_drop"]
    said = (
        f"{row.deployment}: {number(parameters)} times fewer parameters, {_with_bounds(row, 'faster')} times faster, "
    )
    reason = (
        "The same comparison on another model: a 22.7 M encoder and this suite's tasks instead of GLM-Large and GLUE."
    )
    return _finding(good, said + f"{_with_bounds(row, 'gap')} points against the teacher", reason)


def _recipe(claim: Claim, board: Board, table: Table) -> Finding | None:
    records = board.of("open_autoglm")
    if not records:
        return None
    knobs = next(iter(records.values())).method.knobs
    absent = [name for name in claim.values["config"] if name not in knobs]
    said = "; ".join(f"{name}: {knobs[name]}" for name in claim.values["config"] if name in knobs)
    reason = (
        f"Without {', '.join(absent)}." if absent else "The record binds every setting of the article's configuration."
    )
    return _finding(not absent, said, reason)


def _distillation(claim: Claim, board: Board, table: Table) -> Finding | None:
    gaps = _task_gaps(board, table, "distilbert")
    if not gaps:
        return None
    want, drop = claim.values[0]["drop"], -sum(gaps.values()) / len(gaps)
    said = f"DistilBERT drops {number(drop, 1)} points, mean over {', '.join(gaps)}"
    return _finding(
        drop <= want, said, "Text only, with this suite's teacher; the image networks are out of its scope."
    )


def _co_optimisation(claim: Claim, board: Board, table: Table) -> Finding | None:
    row, quantised = _first(table, "open_autoglm", PLAN), table.row("teacher", "onnx-int8")
    if not (_has(row, "smaller", "gap") and _has(quantised, "smaller", "gap")):
        return None
    want = next(value for value in claim.values if value["method"] == "co-optimised")
    good = _value(row, "smaller") >= want["ratio"] and -_value(row, "gap") <= want["drop"]
    good = good and _value(row, "smaller") > _value(quantised, "smaller")
    pairs = [("Open-AutoGLM", row), ("INT8 alone", quantised)]
    said = "; ".join(
        f"{name}: {_text(r, 'smaller')} times smaller, {_with_bounds(r, 'gap')} points" for name, r in pairs
    )
    return _finding(good, said, "Ratios of bytes on disk. Low rank alone is no row of this board.")


def _mobilebert_vs_albert(claim: Claim, board: Board, table: Table) -> Finding | None:
    mobile, albert = table.row("mobilebert", "onnx-fp32"), table.row("albert", "onnx-fp32")
    keys = ("parameters", "score", "p50")
    if not (_has(mobile, *keys) and _has(albert, *keys)):
        return None
    good = _value(mobile, "parameters") > _value(albert, "parameters") and _value(mobile, "score") >= _value(
        albert, "score"
    )
    good = good and _value(mobile, "p50") < _value(albert, "p50")
    said = "; ".join(
        f"{row.method}: {_text(row, 'parameters')} M, {_with_bounds(row, 'score')} points, {_text(row, 'p50')} ms"
        for row in (mobile, albert)
    )
    return _finding(good, said, "Judged by the order of the three figures, since the teacher and the tasks are others.")


def _ag_news(claim: Claim, board: Board, table: Table) -> Finding | None:
    teacher, said, good = table.row("teacher", "onnx-fp32"), [], True
    base = claim.values[0]["accuracy"]
    for value, method in zip(claim.values[1:], ("distilbert", "albert"), strict=True):
        row = table.row(method, "onnx-fp32")
        if not (_has(row, "parameters", "task-bbc") and _has(teacher, "parameters", "task-bbc")):
            return None
        ratio = _value(teacher, "parameters") / _value(row, "parameters")
        drop = _value(teacher, "task-bbc") - _value(row, "task-bbc")
        good = good and ratio >= value["ratio"] and drop <= base - value["accuracy"] + 1e-9
        said.append(f"{method}: ratio {number(ratio)}, {number(drop, 1)} points lost on BBC News")
    reason = "BBC News stands in for AG News; more than half of this teacher's parameters are its word embedding."
    return _finding(good, "; ".join(said), reason)


def _int8_speedup(claim: Claim, board: Board, table: Table) -> Finding | None:
    row = table.row("teacher", "onnx-int8")
    if not _has(row, "faster"):
        return None
    said = f"INT8 teacher: {_with_bounds(row, 'faster')} times faster than float32"
    good = _value(row, "faster") >= claim.values["ratio"]
    return _finding(good, said, "On this machine's CPU with a Transformer; the article's is an image network on a DSP.")


def _carbon(claim: Claim, board: Board, table: Table) -> Finding | None:
    teacher = table.row("teacher", "onnx-fp32")
    rows = [r for r in table.rows if r.deployment == "onnx-fp32" and r.method != "teacher" and _has(r, "mwh")]
    if not rows or not _has(teacher, "mwh"):
        return None
    row = min(rows, key=lambda r: _value(r, "mwh"))
    saving = 1 - _value(row, "mwh") / _value(teacher, "mwh")
    said = f"{row.method} uses {saving:.0%} less energy than the teacher, both in float32"
    reason = "The same question of Transformers: inference energy of the thriftiest architecture against the teacher."
    return _finding(saving >= claim.values["saving"], said, reason)


def _losses(claim: Claim, board: Board, table: Table) -> Finding | None:
    if not (board.of("tinybert") and board.of("distilbert")):
        return None
    reason = "A formula without figures. What each method minimises here is on its page: kept, left out, and knobs."
    return Finding("", "not comparable", reason)


CHECKS: dict[str, Callable[[Claim, Board, Table], Finding | None]] = {
    "overall": _overall,
    "recipe": _recipe,
    "distillation": _distillation,
    "co_optimisation": _co_optimisation,
    "mobilebert_vs_albert": _mobilebert_vs_albert,
    "ag_news": _ag_news,
    "int8_speedup": _int8_speedup,
    "carbon": _carbon,
    "tinybert_loss": _losses,
}


def _finding(good: bool, measured: str, reason: str) -> Finding:
    return Finding(measured, "reproduced" if good else "not reproduced", reason)


def _first(table: Table, method: str, forms: tuple[str, ...]) -> Row | None:
    return next((row for form in forms if (row := table.row(method, form)) and row.figures.get("score")), None)


def _task_gaps(board: Board, table: Table, method: str) -> dict[str, float]:
    """Points against the teacher on each classification task, both in float32."""
    row, teacher = table.row(method, "onnx-fp32"), table.row("teacher", "onnx-fp32")
    keys = {task: f"task-{task}" for task, card in board.cards.items() if card.kind == "classification"}
    return {t: _value(row, k) - _value(teacher, k) for t, k in keys.items() if _has(row, k) and _has(teacher, k)}


def _has(row: Row | None, *keys: str) -> TypeGuard[Row]:
    return row is not None and all(key in row.figures for key in keys)


def _value(row: Row, key: str) -> float:
    return row.figures[key].value


def _text(row: Row, key: str) -> str:
    return number(_value(row, key))


def _with_bounds(row: Row, key: str) -> str:
    """ "−1.2 (−2.0 to −0.3)" """
    figure, digits = row.figures[key], 1 if key in ("gap", "score") else -3
    bounds = (
        ""
        if figure.low is None or figure.high is None
        else f" ({number(figure.low, digits)} to {number(figure.high, digits)})"
    )
    return number(figure.value, digits) + bounds
