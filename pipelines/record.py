"""Put what the stages found into one record. `python -m pipelines.record METHOD TASK`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from leaderboard import seal
from leaderboard.schema import SCHEMA_VERSION, Code, Cost, Deployment, Method, Quality, Record, Run, TaskCard
from leaderboard.submission import FILE, read_card
from openautoglm import artifact
from pipelines import methods, params, training
from pipelines.errors import stage
from pipelines.files import read_json, read_model, write_text
from pipelines.measure import Measured
from pipelines.params import paths

CARD = ("name", "variant_of", "caption", "paper", "kept", "left_out", "knobs", "sources_sha256")
STAGES = ("fetch", "prepare", "sources.files", "sources.hub", "finetune", "compress", "evaluate", "measure")


def main() -> None:
    """Write leaderboard/results/<profile>/<method>/<task>.json."""
    method, task = sys.argv[1], sys.argv[2]
    settings, measured = params.load(), read_model(paths.cost(task, method), Measured)
    made = record_of(
        settings,
        task,
        method=_method(method, task, settings.seeds[0]),
        machine=measured.machine,
        runs=[_run(method, task, seed) for seed in settings.seeds],
        deployments=_deployments(method, task, settings.seeds, measured.costs),
    )
    write_text(paths.record(settings.profile, method, task), seal.sealed(made))


def record_of(settings: params.Params, task: str, **found: Any) -> Record:
    """A record of what was `found`, on the data, the settings and the code of now."""
    card = read_model(paths.task_card(settings.profile, task), TaskCard)
    return Record(
        schema_version=SCHEMA_VERSION,
        suite_version=settings.suite_version,
        profile=settings.profile,
        task=task,
        exam_sha256=card.sha256["exam"],
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        code=code(),
        train_sha256=card.sha256["train"],
        dev_sha256=card.sha256["dev"],
        config_sha256=config_sha256(settings, task),
        **found,
    )


def config_sha256(settings: params.Params, task: str) -> dict[str, str]:
    """What a record depends on in params.yaml, beside the method's knobs, which it holds: section -> hash."""
    sections = {"teacher", "limit", "batch_size", "training", "measurement", "carbon"}
    values: dict[str, Any] = settings.model_dump(include=sections)
    values |= {"task": settings.task(task).model_dump(), "packages": dict(settings.packages)}
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in values.items()
    }


def _method(method: str, task: str, seed: int) -> Method:
    card = read_json(paths.card(method))
    about = read_json(paths.compressed(task, method, seed) / "student.json")
    return Method(
        **{key: card[key] for key in CARD},
        submitted=is_result(method),
        shape=about["shape"],
        report=about["report"],
    )


def is_result(method: str) -> bool:
    """Whether its authors keep the code to themselves: then what they measured is shown, and called submitted."""
    path = Path("submissions", method, FILE)
    return path.is_file() and read_card(path).kind == "result"


def _run(method: str, task: str, seed: int) -> Run:
    """One seed's making. The teacher's is its fine-tuning: as a method it does nothing."""
    made = paths.finetuned(task, seed) if method == "teacher" else paths.compressed(task, method, seed)
    footprint, steps, history = training.read_run(made)
    allowed = read_json(paths.compressed(task, method, seed) / "student.json")["budget_steps"]
    budget = steps if method == "teacher" else allowed
    teacher = artifact.file_sha256(paths.finetuned(task, seed) / "model" / "model.safetensors")
    return Run(
        seed=seed, steps=steps, budget_steps=budget, footprint=footprint, history=history, teacher_sha256=teacher
    )


def _deployments(method: str, task: str, seeds: list[int], costs: dict[str, Cost]) -> dict[str, Deployment]:
    qualities = [read_json(paths.cell(task, method, seed) / "predictions.json") for seed in seeds]
    found = {}
    for name, cost in costs.items():
        quality = [Quality.model_validate(seed[name]) for seed in qualities]
        folder = paths.artifacts(task, method, seeds[0]) / name
        found[name] = deployment(folder, quality, cost)
    return found


def deployment(folder: Path, quality: list[Quality], cost: Cost) -> Deployment:
    """What the record says of an artifact; ArtifactError where the folder is none."""
    manifest = artifact.read(folder)
    return Deployment(
        runtime=manifest.runtime,
        precision=manifest.precision,
        parameters=manifest.parameters,
        bytes_on_disk=artifact.size(folder),
        artifact_sha256=artifact.sha256(folder),
        quality=quality,
        cost=cost,
    )


def code() -> Code:
    """The version of the code, and the hashes of what it runs with."""
    lock = Path("requirements.lock")
    status = _git("status", "--porcelain", "--", "openautoglm", "baselines", "pipelines", "submissions")
    return Code(
        commit=_git("rev-parse", "HEAD"),
        dirty=None if status is None else bool(status),
        lock_sha256=artifact.file_sha256(lock) if lock.is_file() else None,
        referee_sha256=methods.sources_sha256(f"pipelines.{name}" for name in STAGES),
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
