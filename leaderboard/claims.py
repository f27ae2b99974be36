"""The article's claims beside what was measured: one small function a claim, judged by the claim's own numbers.

A ratio is reproduced where the measured one reaches the article's, a drop where it is not larger. A claim that a
command would answer is "not run yet"; one that this suite can never answer is "not comparable", and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from leaderboard import claims_ablated, report
from leaderboard.ablations import FORMS
from leaderboard.cautions import less_energy, unsure
from leaderboard.columns import number
from leaderboard.finding import Claim, Finding, Verdict, beyond, found, has, points, text, value, waiting, with_bounds
from leaderboard.select import not_told_apart
from leaderboard.store import Board, BoardError
from leaderboard.table import Row, Table

__all__ = ["Claim", "Finding", "Verdict", "judge", "load"]


GAP = ("parameters", "gap")


def load(path: Path = Path(__file__).parent / "claims.yaml") -> list[Claim]:
    """Every entry of claims.yaml; BoardError where it is not readable."""
    try:
        return TypeAdapter(list[Claim]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise BoardError(f"{path} is not a list of claims: {str(error).splitlines()[0]}") from None


def judge(claim: Claim, board: Board, table: Table) -> Finding:
    """The finding on one claim."""
    return CHECKS[claim.id](claim, board, table) or waiting("make repro")


def _overall(claim: Claim, board: Board, table: Table) -> Finding | None:
    row, teacher = _first(table, "open_autoglm", FORMS), table.row("teacher", "onnx-fp32")
    if not (has(row, "gap", "faster", "parameters") and has(teacher, "parameters")):
        return None
    parameters = value(teacher, "parameters") / value(row, "parameters")
    want = claim.as_ratios
    good = parameters >= want["params"] and value(row, "faster") >= want["latency"]
    good = good and -value(row, "gap") <= want["glue_drop"]
    faster = with_bounds(row.figures["faster"])
    said = f"{row.deployment}: {number(parameters)} times fewer parameters, {faster} times faster, "
    reason = (
        "The same comparison on another model: a 22.7 M encoder and this suite's tasks instead of GLM-Large and GLUE."
    )
    reason += unsure([(want["glue_drop"], row.figures["gap"])])
    return found(good, said + points(row), reason)


def _recipe(claim: Claim, board: Board, table: Table) -> Finding | None:
    records = board.of("open_autoglm")
    if not records:
        return None
    knobs, config = next(iter(records.values())).method.knobs, claim.values["config"]
    absent = [name for name in config if name not in knobs]
    others = [name for name in config if name in knobs and knobs[name] != config[name]]
    said = "; ".join(f"{name} {report.text(knobs[name])}" for name in config if name in knobs)
    reason = (
        f"Without {', '.join(absent)}." if absent else "The record binds every setting of the article's configuration."
    )
    if others:
        reason += f" This row sets {', '.join(others)} to values of its own; the article's are accepted as well."
    return found(not absent, said, reason)


def _distillation(claim: Claim, board: Board, table: Table) -> Finding | None:
    gaps = _task_gaps(board, table, "distilbert")
    if not gaps:
        return None
    want, drop = claim.values[0]["drop"], -sum(gaps.values()) / len(gaps)
    said = f"DistilBERT drops {number(drop, 1)} points, mean over {', '.join(gaps)}"
    temperature = next(iter(board.of("distilbert").values())).method.knobs.get("temperature")
    own = f" The row keeps the temperature of its own paper, {temperature:g}." if temperature not in (None, 3) else ""
    reason = "Text only, with this suite's teacher; the image networks are out of its scope." + own
    return found(drop <= want, said, reason)


def _mobilebert_vs_albert(claim: Claim, board: Board, table: Table) -> Finding | None:
    mobile, albert = table.row("mobilebert", "onnx-fp32"), table.row("albert", "onnx-fp32")
    keys = ("parameters", "score", "p50")
    if not (has(mobile, *keys) and has(albert, *keys)):
        return None
    good = value(mobile, "parameters") > value(albert, "parameters") and value(mobile, "score") >= value(
        albert, "score"
    )
    good = good and value(mobile, "p50") < value(albert, "p50")
    said = "; ".join(
        f"{row.method}: {text(row, 'parameters')} M, {with_bounds(row.figures['score'], 1)} points, "
        f"{text(row, 'p50')} ms"
        for row in (mobile, albert)
    )
    reason = "Judged by the order of the three figures, since the teacher and the tasks are others."
    if not_told_apart(table, mobile, [albert]):
        reason += " The exam does not tell the two scores apart: their order may be chance."
    return found(good, said, reason)


def _ag_news(claim: Claim, board: Board, table: Table) -> Finding | None:
    teacher, said, good = table.row("teacher", "onnx-fp32"), [], True
    base = claim.values[0]["accuracy"]
    for said_of, method in zip(claim.values[1:], ("distilbert", "albert"), strict=True):
        row = table.row(method, "onnx-fp32")
        if not (has(row, "parameters", "task-bbc") and has(teacher, "parameters", "task-bbc")):
            return None
        ratio = value(teacher, "parameters") / value(row, "parameters")
        drop = value(teacher, "task-bbc") - value(row, "task-bbc")
        good = good and ratio >= said_of["ratio"] and drop <= base - said_of["accuracy"] + 1e-9
        said.append(f"{method}: ratio {number(ratio)}, {number(drop, 1)} points lost on BBC News")
    reason = "BBC News stands in for AG News; more than half of this teacher's parameters are its word embedding."
    return found(good, "; ".join(said), reason)


def _int8_speedup(claim: Claim, board: Board, table: Table) -> Finding | None:
    row = table.row("teacher", "onnx-int8")
    if not has(row, "faster"):
        return None
    said = f"INT8 teacher: {with_bounds(row.figures['faster'])} times faster than float32"
    good = value(row, "faster") >= claim.values["ratio"]
    return found(good, said, "On this machine's CPU with a Transformer; the article's is an image network on a DSP.")


def _carbon(claim: Claim, board: Board, table: Table) -> Finding | None:
    teacher = table.row("teacher", "onnx-fp32")
    rows = [r for r in table.rows if r.deployment == "onnx-fp32" and r.method != "teacher" and has(r, "mwh")]
    if not rows or not has(teacher, "mwh"):
        return None
    row = min(rows, key=lambda r: value(r, "mwh"))
    saving = 1 - value(row, "mwh") / value(teacher, "mwh")
    said = f"{row.method} uses {less_energy(saving, row)} than the teacher, both in float32"
    if has(row, "gap"):
        said += f", at {points(row)}"
    reason = "The same question of Transformers: energy of inference alone. What it costs in score stands beside it."
    return found(saving >= claim.values["saving"], said, reason)


def _losses(claim: Claim, board: Board, table: Table) -> Finding:
    rows = [table.row(method, "onnx-fp32") for method in ("tinybert", "distilbert")]
    said = "; ".join(f"{row.method}, {text(row, 'parameters')} M: {points(row)}" for row in rows if has(row, *GAP))
    return beyond(
        "A formula without figures. What each method minimises here is on its page: kept, left out, knobs.", said
    )


def _edge_runtimes(claim: Claim, board: Board, table: Table) -> Finding:
    eager, graph = table.row("teacher", "torch-fp32"), table.row("teacher", "onnx-fp32")
    said = ""
    if has(eager, "p50", "memory") and has(graph, "p50", "memory"):
        said = "The teacher here: " + "; ".join(
            f"{name} {text(row, 'p50')} ms, {text(row, 'memory')} MB"
            for name, row in (("PyTorch", eager), ("ONNX Runtime", graph))
        )
    return beyond("The article's figures are of phones. Here two of its runtimes are timed, on one server's CPU.", said)


def _multilingual(claim: Claim, board: Board, table: Table) -> Finding:
    return beyond("The teacher is an English encoder and every task is in English: nothing near it is measured.")


def _federated(claim: Claim, board: Board, table: Table) -> Finding:
    return beyond("All training is on one machine: no gradients are sent, so there is no traffic to measure.")


def _auto_tuning(claim: Claim, board: Board, table: Table) -> Finding:
    tried = sum(len(tuning.trials) for tuning in board.tuning.values())
    said = f"{tried} trainings tried by bench tune, for {len(board.tuning)} pairs of method and task" if tried else ""
    return beyond(
        "A degree of automation is no figure. Here `openautoglm recommend` times this machine and answers a budget "
        "with a config, `advise` reads a run and says what limits it, `bench tune` gives each method as many trials.",
        said,
    )


def _first(table: Table, method: str, forms: tuple[str, ...]) -> Row | None:
    return next((row for form in forms if (row := table.row(method, form)) and row.figures.get("score")), None)


def _task_gaps(board: Board, table: Table, method: str) -> dict[str, float]:
    """Points against the teacher on each classification task, both in float32."""
    row, teacher = table.row(method, "onnx-fp32"), table.row("teacher", "onnx-fp32")
    keys = {task: f"task-{task}" for task, card in board.cards.items() if card.kind == "classification"}
    return {t: value(row, k) - value(teacher, k) for t, k in keys.items() if has(row, k) and has(teacher, k)}


CHECKS: dict[str, Callable[[Claim, Board, Table], Finding | None]] = {
    "overall": _overall,
    "recipe": _recipe,
    "distillation": _distillation,
    "mobilebert_vs_albert": _mobilebert_vs_albert,
    "ag_news": _ag_news,
    "int8_speedup": _int8_speedup,
    "carbon": _carbon,
    "tinybert_loss": _losses,
    "edge_runtimes": _edge_runtimes,
    "multilingual": _multilingual,
    "federated": _federated,
    "auto_tuning": _auto_tuning,
    **claims_ablated.CHECKS,
}
