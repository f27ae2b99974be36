"""From files to files: a model folder and two tables in, an artifact with its report out."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from leaderboard.aside import replacing, replacing_folder
from openautoglm import architectures
from openautoglm.artifact import refuse_foreign
from openautoglm.compressor import BATCH_SIZE, AutoCompressor
from openautoglm.config import CompressionConfig, read_config
from openautoglm.distillation.fit import TrainingError
from openautoglm.distillation.session import Point, Session, open_session
from openautoglm.errors import UserError
from openautoglm.export import DEPLOYMENTS
from openautoglm.side_by_side import compare
from openautoglm.student import Student, Teacher, parameter_count
from openautoglm.task import Budget, Task
from openautoglm.task_files import TaskFiles, digest
from openautoglm.teachers import as_teacher


def compress_files(
    model: str,
    files: TaskFiles,
    out: Path,
    *,
    config: Path | None = None,
    deployment: str = "onnx-plan",
    epochs: float = 4.0,
    seed: int = 0,
) -> str:
    """Write out/{artifact,student,report.json}, and tell in words what was asked, done and measured.

    Killed, the same call goes on from its checkpoints. UserError or ArtifactError for whatever a user can mend.
    """
    if deployment not in DEPLOYMENTS:
        raise UserError(f"Deployment {deployment!r} is unknown; known: {', '.join(sorted(DEPLOYMENTS))}.")
    if not 0 < epochs <= 1000:
        raise UserError(f"--epochs {epochs}: give more than 0, and at most 1000.")
    refuse_nameless(out)
    refuse_foreign(out, "report.json", ("artifact", "student", "report.json"))
    if Path(model).exists() and Path(model).resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out {out} holds the model, which would be lost: give another --out.")
    settings = read_config(config)
    _refuse_useless_exits(settings, deployment)
    teacher = as_teacher(model)
    _refuse_absent_layers(settings, teacher)
    task = files.task(teacher)
    print(_opening(model, teacher, task))
    budget = Budget.of(epochs, task, BATCH_SIZE)
    made_from = [settings.model_dump(), budget.steps, seed, digest(teacher, task)]
    student = _train(teacher, task, settings, budget, Session(seed, _checkpoints(out, made_from)))
    with replacing_folder(out) as aside:
        artifact = student.export(aside / "artifact", deployment, task=task)
        student.report["measured"] = compare(teacher, student, artifact, deployment, task)
        student.save(aside / "student")
        shutil.copy(aside / "student" / "report.json", aside / "report.json")
    shutil.rmtree(_checkpoints_home(out), ignore_errors=True)
    return f"{student.summary()}\n\nWritten: {out}/artifact (to serve), {out}/student (to go on), {out}/report.json"


def refuse_nameless(out: Path) -> None:
    """What is written aside and renamed needs a name of its own."""
    if out.name in ("", ".."):
        raise UserError(f"--out {out} has no name of its own. Give a new name, e.g. small or {out / 'small'}.")


def _refuse_useless_exits(settings: CompressionConfig, deployment: str) -> None:
    """Before any training: exits are not exported until its end, and only in one deployment."""
    if bool(settings.exits) != (deployment == "onnx-dynamic"):
        raise UserError(
            f"exits {settings.exits} and --deployment {deployment}: only onnx-dynamic has exits, and needs them."
        )


def _refuse_absent_layers(settings: CompressionConfig, teacher: Teacher) -> None:
    """Before any training: a plan is not applied until the export."""
    try:
        numbers = {str(i) for i in range(len(architectures.layers(teacher.model)))}
    except ValueError as error:  # a family that is a student alone
        raise UserError(str(error)) from None
    if absent := [name for name in settings.precision if "." in name and name.split(".")[1] not in numbers]:
        raise UserError(f"precision has {', '.join(absent)}, and the model's layers are 0 to {len(numbers) - 1}.")


def _opening(name: str, teacher: Teacher, task: Task) -> str:
    classes = f" of {', '.join(task.labels)}" if task.labels else ""
    size = f"{teacher.model.config.model_type}, {parameter_count(teacher.model):,} parameters"
    texts = f"{len(task.train):,} texts to train, {len(task.dev):,} to check, up to {task.max_length} word pieces each"
    told = f"{name}: {size}, {task.kind}{classes}; {texts}."
    if shared := len(set(task.train.texts) & set(task.dev.texts)):
        told += f"\nnote: {shared} texts of dev are in train too, so the score on dev will flatter."
    return told


def _train(teacher: Teacher, task: Task, config: CompressionConfig, budget: Budget, session: Session) -> Student:
    """The student, with its learning curve in its report, the points before a kill included."""
    assert session.checkpoints
    path = session.checkpoints / "curve.json"
    curve: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def keep(point: Point) -> None:
        earlier = [p for p in curve if (p["stage"], p["step"]) != (point.stage, point.step)]
        curve[:] = [*earlier, point._asdict()]
        with replacing(path) as aside:
            aside.write_text(json.dumps(curve), encoding="utf-8")

    session.on_point = keep
    torch.manual_seed(session.seed)
    try:
        with open_session(session):
            student = AutoCompressor(teacher, config).run(task, budget)
    except (TrainingError, ValueError) as error:  # a family or a tokenizer that a step of the config does not know
        raise UserError(str(error)) from None
    student.report["curve"] = curve
    return student


def _checkpoints(out: Path, made_from: list[Any]) -> Path:
    """Only a run of the same model, files and settings goes on from the checkpoints of one that was killed."""
    return _checkpoints_home(out) / hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _checkpoints_home(out: Path) -> Path:
    return out.with_name(f".{out.name}.checkpoints")
