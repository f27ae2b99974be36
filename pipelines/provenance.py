"""Does a record name what lies here? Its chain back to data, weights, predictions and timings in data/ and runs/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from leaderboard.agreement import Finding, equal, short
from leaderboard.rederive import different
from leaderboard.schema import Deployment, Quality, Record, Strict, TaskCard
from openautoglm import artifact
from pipelines import params
from pipelines.errors import UserError
from pipelines.files import read_json, read_model
from pipelines.measure import Measured
from pipelines.params import paths

OTHER_RUN = "runs/ holds what another run made, or it was edited: `bench run` brings the two together"


def findings(record: Record) -> Iterator[Finding]:
    """One finding a link of the chain. What is not here cannot be compared, and that is said."""
    if record.profile != params.load().profile:
        return
    task, method = record.task, record.method.name
    for run in record.runs:
        weights = paths.finetuned(task, run.seed) / "model" / "model.safetensors"
        got = artifact.file_sha256(weights) if weights.is_file() else None
        yield _link(str(weights), run.teacher_sha256, got)
    for name, form in record.deployments.items():
        yield from (_artifact(paths.artifacts(task, method, q.seed) / name, q) for q in form.quality)
        yield from (_predictions(paths.cell(task, method, q.seed) / "predictions.json", name, q) for q in form.quality)
        yield _timings(paths.cost(task, method), name, form)


def data(card: TaskCard) -> Iterator[Finding]:
    """The texts and labels of a task that lie here, beside its card."""
    from pipelines.data import load_split
    from pipelines.task_card import sha256

    for split, expected in card.sha256.items():
        path = paths.split(card.name, split)
        try:
            yield _link(str(path), expected, sha256(load_split(card.name, split)) if path.is_file() else None)
        except UserError as error:
            yield Finding(str(path), "exact", short(expected), "broken", "differs", str(error))


def _link(item: str, expected: str | None, got: str | None) -> Finding:
    if got is None:
        return Finding(item, "exact", short(expected), "none", "not comparable", "not here: `bench run` makes it")
    if expected is None:
        return Finding(item, "exact", "none", short(got), "not comparable", "the record is of a version without it")
    return equal(item, expected, got, OTHER_RUN)


def _artifact(folder: Path, quality: Quality) -> Finding:
    if not folder.is_dir():
        return _link(str(folder), quality.artifact_sha256, None)
    try:
        artifact.read(folder)
    except artifact.ArtifactError as error:
        return Finding(str(folder), "exact", short(quality.artifact_sha256), "broken", "differs", str(error))
    return _link(str(folder), quality.artifact_sha256, artifact.sha256(folder))


def _predictions(path: Path, name: str, quality: Quality) -> Finding:
    return _stored(path, name, quality, lambda: Quality.model_validate(read_json(path)[name]))


def _timings(path: Path, name: str, form: Deployment) -> Finding:
    return _stored(path, name, form.cost, lambda: read_model(path, Measured).costs[name])


def _stored(path: Path, name: str, recorded: Strict, read: Callable[[], Strict]) -> Finding:
    """What a stage left as JSON, deployment by deployment, is what the record holds."""
    item = f"{path}, {name}"
    if not path.is_file():
        return _link(item, "as recorded", None)
    try:
        stored = read()
    except (UserError, ValidationError, KeyError, TypeError) as error:
        return Finding(item, "exact", "as recorded", "broken", "differs", str(error).splitlines()[0])
    if different(stored.model_dump(), recorded.model_dump()):
        return Finding(item, "exact", "as recorded", "other figures", "differs", OTHER_RUN)
    return Finding(item, "exact", "as recorded", "as recorded", "same")
