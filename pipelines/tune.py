"""Learning rates tried on dev, as many for one method as for another. `bench tune METHOD... --task TASK`.

A trial multiplies all learning rates of a method by one factor and trains as the stage compress does, with the first
seed and the whole budget. A finished trial is not run again while its code, budget, data and teacher are the same. What
is found is written down, and put into params.yaml by hand: nothing that a record depends on changes unseen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from leaderboard.schema import SCHEMA_VERSION, Trial, Tuning
from openautoglm.artifact import file_sha256
from openautoglm.task import Budget, Task, steps_of
from pipelines import caged, methods, params
from pipelines.errors import UserError
from pipelines.files import read_json, write_text
from pipelines.params import Params, paths

FACTORS = (0.25, 0.5, 1.0, 2.0)  # times the method's own default


class Plan(NamedTuple):
    """What is searched for one row of params.yaml."""

    row: str
    module: ModuleType
    fixed: dict[str, Any]  # every knob but the rates
    trials: list[dict[str, float]]  # the rates to try


def tune(rows: Sequence[str], tasks: Sequence[str]) -> None:
    """Write leaderboard/results/tuning/<row>/<task>.json, trial by trial; UserError before any training."""
    settings = params.load()
    plans = [plan(settings, row) for row in rows]
    for task in tasks:
        settings.task(task)
        if not _weights(settings, task).is_file():
            raise UserError(f"{task} has no teacher yet: run `dvc repro finetune@{task}-{settings.seeds[0]}`.")
    for task in tasks:
        for planned in plans:
            _search(settings, planned, task)


def plan(settings: Params, row: str) -> Plan:
    """The trials of a row; UserError where it has no learning rate, or its code is a submission's."""
    method, given = settings.method(row)
    if caged.needed(method):
        raise UserError(
            f"{row} is a submission, whose code runs in the sandbox only: try rates as variants in params.yaml, "
            f"`{row}_slow: {{method: {method}, learning_rate: ...}}`."
        )
    module = methods.load(method)
    rates = {knob: value for knob, value in methods.bind(module, {}).items() if knob.endswith("learning_rate")}
    if not rates:
        raise UserError(f"{row} has no knob whose name ends in learning_rate: there is nothing to try.")
    trials = [{knob: float(f"{factor * rate:.3g}") for knob, rate in rates.items()} for factor in FACTORS]
    fixed = {knob: value for knob, value in methods.bind(module, given, row).items() if knob not in rates}
    return Plan(row, module, fixed, trials)


def _search(settings: Params, plan: Plan, task_name: str) -> None:
    """Run the trials that are not done yet, and write each down as it is finished."""
    from pipelines.data import load_task
    from pipelines.instruments import machine

    task, path, here = load_task(task_name), paths.tuning(plan.row, task_name), machine.fingerprint()
    batch_size = settings.batch_size(plan.row)
    budget = Budget(steps_of(settings.budget.epochs, len(task.train), batch_size), batch_size)
    made_from: dict[str, Any] = {
        "knobs": str(plan.fixed),
        "sources": methods.sources_sha256([plan.module.__name__]),
        "steps": budget.steps,
        "batch_size": batch_size,
        "teacher": file_sha256(_weights(settings, task_name)),
        "dev": file_sha256(paths.split(task_name, "dev")),
        "seed": settings.seeds[0],
    }
    done = finished(path, made_from)
    for number, rates in enumerate(plan.trials, 1):
        title = f"{plan.row} on {task_name}, trial {number} of {len(plan.trials)} {rates}"
        found = next((trial for trial in done if trial.knobs == rates), None)
        if found is None:
            print(title, flush=True)
            found = _run(settings, plan, task, budget, rates)
            done = [*done, found]
            record = Tuning(
                schema_version=SCHEMA_VERSION,
                method=plan.row,
                task=task_name,
                metric=task.metrics[0],
                made_from=made_from,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                machine=f"{here.cpu}, {here.cores} cores",
                trials=done,
            )
            write_text(path, record.model_dump_json(indent=1) + "\n")
        print(f"{title}: {'diverged' if found.dev_score is None else f'{found.dev_score:.4f}'}", flush=True)


def finished(path: Path, made_from: dict[str, Any]) -> list[Trial]:
    """The trials that are done already; none where they were made from other code, budget, data or teacher."""
    if not path.is_file():
        return []
    found = Tuning.model_validate(read_json(path))
    if found.made_from == made_from:
        return found.trials
    changed = sorted(key for key in made_from if found.made_from.get(key) != made_from[key])
    print(f"{path}: {len(found.trials)} trials are replaced, for these have changed: {', '.join(changed)}")
    return []


def _run(settings: Params, plan: Plan, task: Task, budget: Budget, rates: dict[str, float]) -> Trial:
    """One training, scored on dev with the student's own tokenizer."""
    from openautoglm.distillation.data import encode
    from openautoglm.distillation.fit import TrainingError, dev_score, device
    from openautoglm.distillation.session import Session, open_session
    from openautoglm.student import Teacher, load_teacher
    from pipelines import training

    seed = settings.seeds[0]
    loaded = load_teacher(_weights(settings, task.name).parent)
    teacher = Teacher(loaded.model.to(device()), loaded.tokenizer)
    training.settle(seed)
    score, started = None, time.monotonic()
    with open_session(Session(seed=seed)) as session:
        try:
            student = plan.module.compress(teacher, task, budget, **plan.fixed, **rates)
        except TrainingError as error:
            print(error)
        else:
            score = dev_score(student.model, task, encode(student.tokenizer, task.dev, task.max_length))
    return Trial(knobs=rates, dev_score=score, steps=session.steps, wall_s=round(time.monotonic() - started, 1))


def _weights(settings: Params, task: str) -> Path:
    return paths.finetuned(task, settings.seeds[0]) / "model" / "model.safetensors"
