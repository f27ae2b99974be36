"""Does a record say what its own raw data say? Every summary in it, derived again from what it stands on.

Scores from predictions and the task card's labels, costs from raw timings, energy from certificates. An edited figure
is found unless what it follows from was edited to fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import Any, NamedTuple

from leaderboard import derive
from leaderboard.carbon import emissions_g
from leaderboard.metrics import METRICS
from leaderboard.schema import Deployment, Footprint, Record, TaskCard
from leaderboard.statistics import bootstrap_interval

CLOSE = 1e-6  # relative: what another order of summation moves is far below it


class Doubt(NamedTuple):
    """One figure that does not follow from the record's own data."""

    item: str
    follows: str
    said: str
    why: str


def doubts(record: Record, card: TaskCard) -> Iterator[Doubt]:
    """Every figure of `record` that does not follow from its raw data and its task's card."""
    if record.exam_sha256 != card.sha256["exam"]:
        yield Doubt("exam", card.sha256["exam"], record.exam_sha256, "the card is of another version of the exam")
        return
    for split, said in (("train", record.train_sha256), ("dev", record.dev_sha256)):
        if said and said != card.sha256[split]:  # type: ignore[index]
            yield Doubt(split, card.sha256[split], said, "the card is of another version of the split")  # type: ignore[index]
    for run in record.runs:
        yield from _making(f"making, seed {run.seed}", run.footprint)
    for name, form in record.deployments.items():
        yield from artifact(name, form, record)
        yield from scores(name, form, card)
        yield from cost(name, form)


def _making(item: str, made: Footprint) -> Iterator[Doubt]:
    certificate = made.certificate
    try:
        follows = derive.kwh_range(certificate)
    except ValueError as error:
        yield Doubt(f"{item}: energy", "a figure", str(error).splitlines()[0], "none follows from its certificate")
        return
    if different(follows.model_dump(), made.energy_kwh.model_dump()):
        yield Doubt(f"{item}: energy", str(follows), str(made.energy_kwh), "it does not follow from its certificate")
    grams = emissions_g(made.energy_kwh.likely, certificate.grid_g_per_kwh)
    if different(grams, made.emissions_g):
        yield Doubt(
            f"{item}: emissions", f"{grams:g} g", f"{made.emissions_g:g} g", "it does not follow from its energy"
        )


def artifact(name: str, form: Deployment, record: Record) -> Iterator[Doubt]:
    """The artifact that was timed is the first seed's; one that was brought has no run, and one seed."""
    seed = record.runs[0].seed if record.runs else None
    first = next((q for q in form.quality if seed in (None, q.seed)), None)
    if first is None:
        yield Doubt(f"{name}: predictions", "one set a seed", "none of the first seed", "nothing was scored")
    elif first.artifact_sha256 != form.artifact_sha256:
        why = "what was scored is not what was timed"
        yield Doubt(f"{name}: artifact", form.artifact_sha256, first.artifact_sha256, why)


def scores(name: str, form: Deployment, card: TaskCard) -> Iterator[Doubt]:
    """Those of every seed, against its predictions and the card's labels."""
    for quality in form.quality:
        where = f"{name}, seed {quality.seed}"
        said, labels = quality.predictions, card.exam_labels
        if len(said) != len(labels):
            yield Doubt(f"{where}: predictions", str(len(labels)), str(len(said)), "one prediction an exam text")
            continue
        for metric in sorted({*card.metrics, *quality.scores}):
            follows = bootstrap_interval(said, labels, metric) if metric in METRICS else None
            score = quality.scores.get(metric)
            if different(follows and follows.model_dump(), score and score.model_dump()):
                why = "it does not follow from the predictions and the exam's labels"
                yield Doubt(f"{where}: {metric}", str(follows), str(score), why)


def cost(name: str, form: Deployment) -> Iterator[Doubt]:
    """Every summary, against the raw samples."""
    said = form.cost.model_dump()
    try:
        follows = derive.summarise(form.cost.launches, form.cost.solo).model_dump()
    except (ValueError, ArithmeticError, IndexError) as error:
        yield Doubt(f"{name}: cost", "figures", str(error), "nothing can be derived from its raw samples")
        return
    for key, value in follows.items():
        if different(value, said[key]):
            why = "it does not follow from the raw samples"
            yield Doubt(f"{name}: {key}", str(value), str(said[key]), why)


def different(a: Any, b: Any) -> bool:
    """Do two trees of figures differ by more than rounding?"""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() != b.keys() or any(different(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) != len(b) or any(map(different, a, b))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return not isclose(a, b, rel_tol=CLOSE, abs_tol=1e-12)
    return bool(a != b)
