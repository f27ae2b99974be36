"""Put what the stages found into one record. `python -m pipelines.record METHOD TASK`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from leaderboard.schema import SCHEMA_VERSION, Code, Cost, Deployment, Method, Quality, Record, Run, TaskCard
from openautoglm import artifact
from pipelines import params, training
from pipelines.errors import stage
from pipelines.files import read_json, write_text
from pipelines.instruments import machine
from pipelines.params import paths


def main() -> None:
    """Write leaderboard/results/<profile>/<method>/<task>.json."""
    method, task = sys.argv[1], sys.argv[2]
    settings = params.load()
    card = TaskCard.model_validate(read_json(paths.task_card(settings.profile, task)))
    record = Record(
        schema_version=SCHEMA_VERSION,
        suite_version=settings.suite_version,
        profile=settings.profile,
        task=task,
        exam_sha256=card.sha256["exam"],
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        method=_method(method, task, settings.seeds[0]),
        code=_code(),
        machine=machine.fingerprint(),
        runs=[_run(method, task, seed) for seed in settings.seeds],
        deployments=_deployments(method, task, settings.seeds),
    )
    write_text(paths.record(settings.profile, method, task), record.model_dump_json(indent=1) + "\n")


def _method(method: str, task: str, seed: int) -> Method:
    card = read_json(paths.card(method))
    about = read_json(paths.compressed(task, method, seed) / "student.json")
    return Method(
        **{key: card[key] for key in ("name", "caption", "paper", "kept", "left_out", "knobs", "sources_sha256")},
        shape=about["shape"],
        report=about["report"],
    )


def _run(method: str, task: str, seed: int) -> Run:
    """One seed's making. The teacher's is its fine-tuning: as a method it does nothing."""
    made = paths.finetuned(task, seed) if method == "teacher" else paths.compressed(task, method, seed)
    footprint, steps, history = training.read_run(made)
    allowed = read_json(paths.compressed(task, method, seed) / "student.json")["budget_steps"]
    budget = steps if method == "teacher" else allowed
    return Run(seed=seed, steps=steps, budget_steps=budget, footprint=footprint, history=history)


def _deployments(method: str, task: str, seeds: list[int]) -> dict[str, Deployment]:
    costs: dict[str, Any] = read_json(paths.cost(task, method))
    qualities = [read_json(paths.cell(task, method, seed) / "predictions.json") for seed in seeds]
    found = {}
    for name, cost in costs.items():
        folder = paths.artifacts(task, method, seeds[0]) / name
        manifest = artifact.read(folder)
        found[name] = Deployment(
            runtime=manifest.runtime,
            precision=manifest.precision,
            parameters=manifest.parameters,
            bytes_on_disk=artifact.size(folder),
            artifact_sha256=artifact.sha256(folder),
            quality=[Quality.model_validate(quality[name]) for quality in qualities],
            cost=Cost.model_validate(cost),
        )
    return found


def _code() -> Code:
    lock = Path("requirements.lock")
    status = _git("status", "--porcelain", "--", "openautoglm", "baselines", "pipelines", "submissions")
    return Code(
        commit=_git("rev-parse", "HEAD"),
        dirty=None if status is None else bool(status),
        lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
    )


def _git(*arguments: str) -> str | None:
    """What git says, or None where there is no git or no commit."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    stage(main)
