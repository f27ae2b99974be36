"""Is a published row true? A record made here beside the published one, item by item, each with its reason.

    exact        data, knobs, configuration, code, shapes: equal or not
    statistical  scores: paired tests on the stored predictions of the same exam
    volatile     speed: within intervals and noise floors; memory, energy: within a share; on the same machine only

Weights are trained again, and with other hardware or threads their bits differ: that is told, and what they predict
decides. Of many tests some fail by chance, so those of all rows are corrected together (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from leaderboard import agreement, rederive
from leaderboard.agreement import Finding, equal
from leaderboard.schema import Record, TaskCard
from leaderboard.seal import fits
from leaderboard.statistics import ALPHA

CODE = ("method's sources", "referee's sources")  # a change of them matters by what comes out of it
PROVED = "the code has changed since; the artifacts and predictions are the same, byte for byte"


def findings(published: Record, made: Record, card: TaskCard) -> list[Finding]:
    """All items of a row. `card` is the task's, with the labels of the exam that `made` was scored on."""
    found = list(_exact(published, made))
    if made.deployments and _result(published) == _result(made):
        found = [_harmless(finding) for finding in found]
    elsewhere = other_machine(published, made)
    for name in sorted({*published.deployments, *made.deployments}):
        ours, theirs = published.deployments.get(name), made.deployments.get(name)
        if ours is None or theirs is None:
            why = "the published row lacks it" if ours is None else "it was not made here"
            there = ["none" if form is None else form.runtime for form in (ours, theirs)]
            found.append(Finding(name, "exact", there[0], there[1], "differs", why))
            continue
        found += agreement.artifact(name, ours, theirs)
        found += _scores(name, published, made, card)
        for finding in agreement.costs(name, ours.cost, theirs.cost):
            found.append(replace(finding, verdict="not comparable", why=elsewhere) if elsewhere else finding)
    return found


def _exact(a: Record, b: Record) -> Iterator[Finding]:
    """Data, configuration, code and shape. The commit is not compared: a record is committed after it is made."""
    rows: list[tuple[str, Any, Any, str]] = [
        ("suite version", a.suite_version, b.suite_version, "the suites ask for different things"),
        ("exam", a.exam_sha256, b.exam_sha256, "other texts or labels: prepare made another split"),
        ("train", a.train_sha256, b.train_sha256, "other texts or labels: prepare made another split"),
        ("dev", a.dev_sha256, b.dev_sha256, "other texts or labels: prepare made another split"),
        ("knobs", a.method.knobs, b.method.knobs, "params.yaml or a default of the method has changed"),
        ("method's sources", a.method.sources_sha256, b.method.sources_sha256, "the method's code has changed since"),
        ("referee's sources", a.code.referee_sha256, b.code.referee_sha256, "the pipeline's code has changed since"),
        ("requirements.lock", a.code.lock_sha256, b.code.lock_sha256, "other versions of packages"),
        ("seeds", [run.seed for run in a.runs], [run.seed for run in b.runs], "params.yaml lists other seeds"),
        ("steps", [run.steps for run in a.runs], [run.steps for run in b.runs], "trained for longer or shorter"),
        ("budget", [r.budget_steps for r in a.runs], [r.budget_steps for r in b.runs], "allowed more or less"),
        ("shape", a.method.shape, b.method.shape, "the student has another form"),
    ]
    for section in sorted({*a.config_sha256, *b.config_sha256}):
        hashes = a.config_sha256.get(section), b.config_sha256.get(section)
        rows.append((f"params.yaml: {section}", *hashes, "its values have changed since"))
    yield from (equal(*row) for row in rows)
    for ours, theirs in zip(a.runs, b.runs, strict=False):
        yield agreement.weights(f"teacher's weights, seed {ours.seed}", ours.teacher_sha256, theirs.teacher_sha256)


def _result(record: Record) -> dict[str, Any]:
    """What the code made: of each deployment the artifact, and those of every seed with their predictions."""
    return {
        name: [form.artifact_sha256, *((q.seed, q.artifact_sha256, q.predictions) for q in form.quality)]
        for name, form in record.deployments.items()
    }


def _harmless(finding: Finding) -> Finding:
    changed = finding.item in CODE and finding.verdict == "differs"
    return replace(finding, verdict="within", why=PROVED) if changed else finding


def _scores(name: str, published: Record, made: Record, card: TaskCard) -> Iterator[Finding]:
    again = {quality.seed: quality for quality in made.deployments[name].quality}
    same_exam = published.exam_sha256 == made.exam_sha256 == card.sha256["exam"]
    for ours in published.deployments[name].quality:
        theirs, where = again.get(ours.seed), f"{name}, seed {ours.seed}"
        if theirs is None:
            yield Finding(where, "statistical", "predictions", "none", "differs", "this seed was not made here")
        elif not same_exam or not len(ours.predictions) == len(theirs.predictions) == len(card.exam_labels):
            why = "they are predictions of different exams"
            yield Finding(where, "statistical", "predictions", "predictions", "not comparable", why)
        else:
            here = published.machine.id == made.machine.id
            yield from agreement.scores(where, ours, theirs, card.exam_labels, here)


def other_machine(published: Record, made: Record) -> str:
    """Why costs cannot be compared; "" where both records are of one machine."""
    a, b = published.machine, made.machine
    if a.id == b.id:
        return ""
    keys = ("cpu", "cores", "memory_gb", "gpu", "virtualization", "cpu_flags")
    parts = [key for key in keys if getattr(a, key) != getattr(b, key)]
    parts += [name for name in sorted({*a.versions, *b.versions}) if a.versions.get(name) != b.versions.get(name)]
    return f"another machine (other {', '.join(parts) or 'id'}): times, memory and energy hold for one machine only"


def integrity(raw: bytes, record: Record, card: TaskCard) -> Iterator[Finding]:
    """A record by itself: its seal, and every figure derived again from what it stands on."""
    yield {
        None: Finding("seal", "exact", "fits", "none", "not comparable", "made before records were sealed"),
        True: Finding("seal", "exact", "fits", "fits", "same"),
        False: Finding("seal", "exact", "fits", "broken", "differs", "the file was edited after it was made"),
    }[fits(raw)]
    doubted = list(rederive.doubts(record, card))
    yield from (Finding(d.item, "exact", d.follows, d.said, "differs", d.why) for d in doubted)
    if not doubted:
        yield Finding("figures", "exact", "follow from raw data", "they do", "same")


def settle(rows: Sequence[list[Finding]]) -> list[list[Finding]]:
    """Holm's correction over the scores of all rows: what chance alone would separate is no difference."""
    values = sorted(f.p_value for row in rows for f in row if f.p_value is not None)
    rejected = 0
    while rejected < len(values) and values[rejected] <= ALPHA / (len(values) - rejected):
        rejected += 1
    limit = values[rejected - 1] if rejected else -1.0

    def settled(finding: Finding) -> Finding:
        if finding.p_value is None or finding.verdict != "differs" or finding.p_value <= limit:
            return finding
        why = f"{finding.why}; among {len(values)} tests chance alone gives such a one (Holm)"
        return replace(finding, verdict="within", why=why)

    return [[settled(finding) for finding in row] for row in rows]
