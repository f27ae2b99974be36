"""Do two measurements of one thing agree? Scores, sizes, times: each with its verdict and the reason for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from leaderboard.rederive import different
from leaderboard.schema import Cost, Deployment, Interval, Quality
from leaderboard.statistics import MARGIN, compare, faster

Kind = Literal["exact", "statistical", "volatile"]
Verdict = Literal["same", "within", "differs", "not comparable"]
MEMORY, MEMORY_MB = 0.05, 4.0  # of the published peak, at least so many MB: allocators give memory in steps
ONCE = 0.2  # of what is measured once, at one moment of a shared machine: CPU time, energy


@dataclass(frozen=True)
class Finding:
    """One item of one row."""

    item: str
    kind: Kind
    expected: str
    got: str
    verdict: Verdict
    why: str = ""
    p_value: float | None = None


def equal(item: str, expected: Any, got: Any, why: str) -> Finding:
    """Exact: equal or not; `why` says what it means that it is not. None: a record of a version without the field."""
    if isinstance(expected, dict) and isinstance(got, dict):  # of two tables, what differs
        apart = {key for key in {*expected, *got} if different(expected.get(key), got.get(key))}
        if apart:
            expected, got = ({k: side[k] for k in sorted(apart & side.keys())} for side in (expected, got))
    shown = (short(expected), short(got))
    if expected is None or got is None:
        side = "published" if expected is None else "new"
        return Finding(
            item, "exact", *shown, "not comparable", f"the {side} record is of a version that did not name it"
        )
    if different(expected, got):
        return Finding(item, "exact", *shown, "differs", why)
    return Finding(item, "exact", *shown, "same")


def weights(item: str, expected: str | None, got: str | None) -> Finding:
    """Hashes of weights. Other bits are no difference yet: what the weights predict decides."""
    found = equal(item, expected, got, "trained again, other bits: what it predicts is compared below")
    return replace(found, verdict="within") if found.verdict == "differs" else found


def near(
    item: str, expected: float, got: float, share: float, *, least: float = 0.0, kind: Kind = "volatile"
) -> Finding:
    """Equal, or apart by at most a share of the published figure (and at least `least`)."""
    shown = (f"{expected:.6g}", f"{got:.6g}")
    if expected == got:
        return Finding(item, kind, *shown, "same")
    if abs(got - expected) <= max(share * abs(expected), least):
        return Finding(item, kind, *shown, "within", f"at most {share:.1%} apart")
    return Finding(item, kind, *shown, "differs", f"more than {share:.1%} apart")


def scores(where: str, published: Quality, made: Quality, labels: list[float], here: bool) -> Iterator[Finding]:
    """One seed's predictions and metrics. `here`: both were made on one machine. Predictions: (n,), labels: (n,)."""
    yield _predictions(f"{where}: predictions", published, made, here)
    for metric in sorted({*published.scores} & {*made.scores}):
        a, b = published.scores[metric], made.scores[metric]
        item, shown = f"{where}: {metric}", (_interval(a), _interval(b))
        if published.predictions == made.predictions:
            yield Finding(item, "statistical", *shown, "same")
            continue
        test = compare(made.predictions, published.predictions, labels, metric)
        shown_apart, gap = test.verdict in ("better", "worse"), abs(b.value - a.value)
        overlap = "overlap" if a.low <= b.high and b.low <= a.high else "lie apart"
        why = f"paired test p = {test.p_value:.3g}; the intervals {overlap}"
        if shown_apart and gap <= MARGIN:
            why += f"; {100 * gap:.2f} points are less than the board speaks of"
        verdict: Verdict = "differs" if shown_apart and gap > MARGIN else "within"
        yield Finding(item, "statistical", *shown, verdict, why, test.p_value)


def _predictions(item: str, published: Quality, made: Quality, here: bool) -> Finding:
    share = sum(map(float.__eq__, published.predictions, made.predictions)) / len(made.predictions)
    shown = (f"{len(published.predictions)} predictions", f"{share:.2%} equal")
    if share == 1:
        return Finding(item, "statistical", *shown, "same")
    if published.artifact_sha256 != made.artifact_sha256:
        return Finding(item, "statistical", *shown, "within", "trained again: the scores decide")
    if here:
        why = "one artifact on one machine gives one answer: edited, or the runtime is not deterministic"
        return Finding(item, "statistical", *shown, "differs", why)
    return Finding(
        item, "statistical", *shown, "within", "the same artifact; another processor rounds in another order"
    )


def costs(name: str, published: Cost, made: Cost) -> Iterator[Finding]:
    """Speed, memory, CPU time and energy of one deployment, both measured on one machine."""
    floor = max(published.noise_floor, made.noise_floor)
    word = faster(made.speedup, published.speedup, floor)
    shown = (_interval(published.speedup), _interval(made.speedup))
    if word == "tied":
        why = f"the intervals overlap, or the gap is within the noise floor of {floor:.1%}"
        yield Finding(f"{name}: times faster", "volatile", *shown, "within", why)
    else:
        why = f"{word}: the intervals lie apart, by more than the noise floor of {floor:.1%}"
        yield Finding(f"{name}: times faster", "volatile", *shown, "differs", why)
    yield near(f"{name}: peak MB", published.peak_memory_mb, made.peak_memory_mb, MEMORY, least=MEMORY_MB)
    # the machine itself is faster on one day than on another: the reference, timed beside it, tells by how much
    drift = _drift(published, made)
    for what, a, b in (
        ("CPU-seconds per 1,000", published.cpu_s_per_1000, made.cpu_s_per_1000),
        ("kWh per 1,000", published.energy_kwh_per_1000.likely, made.energy_kwh_per_1000.likely),
    ):
        found = near(f"{name}: {what}", a, b / drift, ONCE)
        yield replace(found, why=f"{found.why}, the machine's drift of {drift:.2f} taken out" if found.why else "")


def _drift(published: Cost, made: Cost) -> float:
    blocks = [[ms for launch in cost.launches for ms in launch.reference_block_ms] for cost in (published, made)]
    then, now = (median(ms) if ms else 0.0 for ms in blocks)
    return now / then if then > 0 and now > 0 else 1.0


def artifact(name: str, published: Deployment, made: Deployment) -> Iterator[Finding]:
    """How a student is deployed, and its bytes."""
    for key in ("runtime", "precision", "parameters"):
        yield equal(f"{name}: {key}", getattr(published, key), getattr(made, key), "it is deployed in another way")
    yield weights(f"{name}: artifact", published.artifact_sha256, made.artifact_sha256)
    # a manifest's own digits may take some bytes more or less
    yield near(f"{name}: bytes", published.bytes_on_disk, made.bytes_on_disk, 0.001, kind="exact")


def _interval(x: Interval) -> str:
    return f"{x.value:.4g} ({x.low:.4g} to {x.high:.4g})"


def short(value: Any) -> str:
    """A value for one line of a report."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}…{text[-24:]}"
