"""Learning rates or passes tried on dev, as many for one method as for another. `bench tune METHOD... --task TASK`.

A trial multiplies all learning rates of a method by one factor and trains as the stage compress does, with the first
seed and the whole budget; or, with `--passes`, it keeps the row's rates and trains for so many passes over the train
split, each time from the start and with the whole schedule. A finished trial is not run again while its code, data and
teacher are the same. What is found is written down, and put into params.yaml by hand: nothing that a record depends on
changes unseen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from leaderboard.schema import SCHEMA_VERSION, Trial, Tuning
from openautoglm.artifact import file_sha256
from openautoglm.task import Budget, Task
from pipelines import caged, methods, params, workspace
from pipelines.errors import UserError
from pipelines.files import read_model, write_text
from pipelines.params import Params, paths

if TYPE_CHECKING:  # torch takes seconds to import, and a mistake in the command is told at once
    from openautoglm.student import Student, Teacher

FACTORS = (0.25, 0.5, 1.0, 2.0)  # times the method's own default
MOST_PASSES = 1000


class Plan(NamedTuple):
    """What is searched for one row of params.yaml."""

    row: str
    task: str
    module: ModuleType
    fixed: dict[str, Any]  # every knob but the rates
    trials: list[tuple[dict[str, float], float]]  # the rates and the passes to try


def tune(rows: Sequence[str], tasks: Sequence[str], passes: Sequence[float] = (), profile: str = "default") -> None:
    """Write leaderboard/results/tuning/<row>/<task>.json, trial by trial; UserError before any training.

    Another profile's data and teachers are those of its folder below .work; the records stand here all the same.
    """
    if wrong := [count for count in passes if not 0 < count <= MOST_PASSES]:
        raise UserError(f"--passes takes numbers above 0 and up to {MOST_PASSES}, not {wrong[0]:g}.")
    root = Path.cwd()
    with workspace.opened(profile) as (folder, _):
        os.chdir(folder)
        settings = params.load()
        plans = [plan(settings, row, task, passes) for task in tasks for row in rows]
        run = "dvc repro" if profile == "default" else f"bench run --profile {profile}"
        for task in tasks:
            if not _weights(settings, task).is_file():
                raise UserError(f"{task} has no teacher yet: run `{run} finetune@{task}-{settings.seeds[0]}`.")
        for planned in plans:
            _search(settings, planned, root / paths.tuning(planned.row, planned.task))


def plan(settings: Params, row: str, task: str, passes: Sequence[float] = ()) -> Plan:
    """The trials of a row: its rates by FACTORS at the task's passes, or the given passes at its own rates.

    UserError where it has no learning rate, or its code is a submission's.
    """
    (method, given), epochs = settings.method(row), settings.task(task).epochs
    if caged.needed(method):
        raise UserError(
            f"{row} is a submission, whose code runs in the sandbox only: try rates as variants in params.yaml, "
            f"`{row}_slow: {{method: {method}, learning_rate: ...}}`."
        )
    module = methods.load(method)
    defaults = methods.knobs(module).items()
    rates = {knob: x for knob, x in defaults if knob.endswith("learning_rate") and isinstance(x, (int, float))}
    if not rates:
        raise UserError(f"{row} has no knob with a default whose name ends in learning_rate: there is nothing to try.")
    bound = methods.bind(module, given, row)
    fixed = {knob: value for knob, value in bound.items() if knob not in rates}
    if passes:
        return Plan(row, task, module, fixed, [({knob: bound[knob] for knob in rates}, count) for count in passes])
    scaled = [{knob: float(f"{factor * rate:.3g}") for knob, rate in rates.items()} for factor in FACTORS]
    return Plan(row, task, module, fixed, [(tried, epochs) for tried in scaled])


def _search(settings: Params, plan: Plan, path: Path) -> None:
    """Run the trials that are not done yet, and write each down as it is finished."""
    from pipelines.data import load_task
    from pipelines.instruments import machine

    task, here = load_task(plan.task), machine.fingerprint()
    batch_size = settings.batch_size_of(plan.row)
    made_from: dict[str, Any] = {
        "knobs": str(plan.fixed),
        "sources": methods.sources_sha256([plan.module.__name__]),
        "batch_size": batch_size,
        "teacher": file_sha256(_weights(settings, plan.task)),
        "dev": file_sha256(paths.split(plan.task, "dev")),
        "seed": settings.seeds[0],
    }
    done, teacher_score = finished(path, made_from), _score(_teacher(settings, task), task)
    for number, (rates, passes) in enumerate(plan.trials, 1):
        title = f"{plan.row} on {plan.task}, trial {number} of {len(plan.trials)} {rates}, {passes:g} passes"
        found = next((trial for trial in done if (trial.knobs, trial.passes) == (rates, passes)), None)
        if found is None:
            print(title, flush=True)
            budget = Budget.of(passes, task, batch_size)
            found = _run(settings, plan, task, budget, rates, passes)
            done = [*done, found]
            record = Tuning(
                schema_version=SCHEMA_VERSION,
                method=plan.row,
                task=plan.task,
                metric=task.metrics[0],
                teacher_dev_score=teacher_score,
                made_from=made_from,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                machine=f"{here.cpu}, {here.cores} cores",
                trials=done,
            )
            write_text(path, record.model_dump_json(indent=1) + "\n")
        print(f"{title}: {'diverged' if found.dev_score is None else f'{found.dev_score:.4f}'}", flush=True)


def finished(path: Path, made_from: dict[str, Any]) -> list[Trial]:
    """The trials that are done already; none where they were made from other code, data or teacher."""
    if not path.is_file():
        return []
    found = read_model(path, Tuning)
    if found.made_from == made_from:
        return found.trials
    changed = sorted(key for key in made_from if found.made_from.get(key) != made_from[key])
    print(f"{path}: {len(found.trials)} trials are replaced, for these have changed: {', '.join(changed)}")
    return []


def _run(settings: Params, plan: Plan, task: Task, budget: Budget, rates: dict[str, float], passes: float) -> Trial:
    """One training, scored on dev with the student's own tokenizer."""
    from openautoglm.distillation.fit import TrainingError
    from openautoglm.distillation.session import Session, open_session
    from pipelines import training

    seed, teacher = settings.seeds[0], _teacher(settings, task)
    training.settle(seed)
    score, started = None, time.monotonic()
    with open_session(Session(seed=seed)) as session:
        try:
            score = _score(plan.module.compress(teacher, task, budget, **plan.fixed, **rates), task)
        except TrainingError as error:
            print(error)
    wall_s = round(time.monotonic() - started, 1)
    return Trial(knobs=rates, passes=passes, dev_score=score, steps=session.steps, wall_s=wall_s)


def _teacher(settings: Params, task: Task) -> Teacher:
    from openautoglm.distillation.fit import device
    from openautoglm.student import Teacher, load_teacher

    loaded = load_teacher(_weights(settings, task.name).parent)
    return Teacher(loaded.model.to(device()), loaded.tokenizer)


def _score(made: Teacher | Student, task: Task) -> float:
    from openautoglm.distillation.data import encode
    from openautoglm.distillation.fit import dev_score

    return dev_score(made.model, task, encode(made.tokenizer, task.dev, task.max_length))


def _weights(settings: Params, task: str) -> Path:
    return paths.finetuned(task, settings.seeds[0]) / "model" / "model.safetensors"
