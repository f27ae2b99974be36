"""The claims that compare Open-AutoGLM with itself, answered by its ablations (profiles/ablations.yaml)."""

from __future__ import annotations

from collections.abc import Callable

from leaderboard import ablations
from leaderboard.ablations import Ablations
from leaderboard.cautions import less_energy, unsure
from leaderboard.columns import number
from leaderboard.finding import Claim, Finding, beyond, found, has, points, value, waiting, with_bounds
from leaderboard.statistics import MARGIN
from leaderboard.store import Board
from leaderboard.table import Row, Table

METHOD = "open_autoglm"
WHOLE = "onnx-fp32"  # parts that are no number format are judged in float32

Check = Callable[[Claim, Ablations], "Finding | None"]


def _pruning_vs_reparam(claim: Claim, parts: Ablations) -> Finding | None:
    teacher, good, said, drops = parts.row("teacher", WHOLE), True, [], []
    for want, name in zip(claim.values, ("pruning_only", "reparam"), strict=True):
        own = _row(parts, name, WHOLE)
        if not (has(own, "parameters", "gap") and has(teacher, "parameters")):
            return None
        removed = 1 - value(own, "parameters") / value(teacher, "parameters")
        good = good and removed >= want["reduction"] and -value(own, "gap") <= want["drop"]
        said.append(f"{want['method']}: {removed:.0%} of the parameters removed, {points(own)}")
        drops.append((want["drop"], own.figures["gap"]))
    reason = "Of all parameters, half of which are the word embedding: neither touches it."
    return found(good, "; ".join(said), reason + unsure(drops))


def _co_optimisation(claim: Claim, parts: Ablations) -> Finding | None:
    low, quantised, both = (
        _row(parts, "low_rank_only", WHOLE),
        _row(parts, "quantization_only"),
        _row(parts, "co_optimised"),
    )
    if not (has(low, "smaller", "gap") and has(quantised, "smaller", "gap") and has(both, "smaller", "gap")):
        return None
    good = value(both, "smaller") > max(value(low, "smaller"), value(quantised, "smaller"))
    said = []
    for want, own in zip(claim.values, (low, quantised, both), strict=True):
        good = good and value(own, "smaller") >= want["ratio"] and -value(own, "gap") <= want["drop"]
        said.append(f"{want['method']}: {number(value(own, 'smaller'))} times smaller, {points(own)}")
    reason = "Ratios of bytes on disk, each with the article's ratio and drop to reach."
    drops = [(want["drop"], own.figures["gap"]) for want, own in zip(claim.values, (low, quantised, both), strict=True)]
    return found(good, "; ".join(said), reason + unsure(drops))


def _qat(claim: Claim, parts: Ablations) -> Finding | None:
    """Without a row that was trained so, the nearest is what the plan costs when it is applied after training."""
    trained, rounded, whole = _row(parts, "qat"), parts.row(METHOD), _row(parts, "without_quantization")
    shown = trained or rounded
    if not (
        shown and whole and (gap := parts.difference(shown, whole)) and gap.low is not None and gap.high is not None
    ):
        return None
    said = f"{with_bounds(gap, 1)} points against the same student in 16 bits"
    if trained is None:
        return beyond("No row is trained with fake quantisation. The nearest: the plan applied after training.", said)
    if gap.low <= 0 <= gap.high and (gap.high - gap.low) / 2 > 100 * MARGIN:
        return beyond("The exam is too small: a loss of a point would not have been seen, so nothing is shown.", said)
    return found(gap.high >= 0, said, "Kept, where no loss is seen although one of a point would have been.")


def _dynamic_inference(claim: Claim, parts: Ablations) -> Finding | None:
    fast, static = _row(parts, "dynamic", "onnx-dynamic"), parts.row(METHOD)
    if not (has(fast, "faster") and has(static, "faster") and (gap := parts.difference(fast, static))):
        return None
    was, became = claim.values
    ratio = value(fast, "faster") / value(static, "faster")
    good = ratio >= was["latency"] / became["latency"] and gap.value >= became["accuracy"] - was["accuracy"]
    said = f"Dynamic: {number(ratio)} times as fast as static in the mean, {with_bounds(gap, 1)} points"
    return found(good, said, "Mean time of the same exam texts: exits are taken where the first ones are sure.")


def _adaptive_energy(claim: Claim, parts: Ablations) -> Finding | None:
    fast, static = _row(parts, "dynamic", "onnx-dynamic"), parts.row(METHOD)
    if not (has(fast, "mwh") and has(static, "mwh")):
        return None
    saving = 1 - value(fast, "mwh") / value(static, "mwh")
    said = f"{less_energy(saving, fast)} than the same compressor without exits"
    if has(fast, "gap") and has(static, "gap"):
        said += f"; {points(fast)}, without exits {number(value(static, 'gap'), 1)}"
    return found(saving >= claim.values["saving"], said, "Energy of inference by the same certificate.")


def _row(parts: Ablations, name: str, form: str | None = None) -> Row | None:
    return parts.row(f"{METHOD}_{name}", form)


def _answered_by(check: Check) -> Callable[[Claim, Board, Table], Finding]:
    """The check, given the ablations; where one of its rows is missing, the command that makes it."""

    def judged(claim: Claim, board: Board, table: Table) -> Finding:
        parts = ablations.of(board, METHOD)
        return (check(claim, parts) if parts else None) or waiting(ablations.COMMAND)

    return judged


CHECKS = {
    "pruning_vs_reparam": _answered_by(_pruning_vs_reparam),
    "co_optimisation": _answered_by(_co_optimisation),
    "qat": _answered_by(_qat),
    "dynamic_inference": _answered_by(_dynamic_inference),
    "adaptive_energy": _answered_by(_adaptive_energy),
}
