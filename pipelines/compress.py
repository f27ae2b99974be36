"""Let a method compress the teacher, and deploy what it returns. `python -m pipelines.compress METHOD TASK SEED`."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines import caged, methods, params, training
from pipelines.errors import UserError, stage
from pipelines.files import read_json, write_json
from pipelines.params import paths


def main() -> None:
    """Write runs/<task>/<method>/<seed>/compressed/{artifacts/, student.json, footprint.json, history.tsv}."""
    method, task_name, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    settings, card = params.load(), read_json(paths.card(method))
    if caged.needed(card["variant_of"] or method):
        _in_a_sandbox(method, task_name, seed)
        return

    from openautoglm import architectures, artifact
    from openautoglm.config import ConfigError
    from openautoglm.distillation.fit import TrainingError, device
    from openautoglm.export import export_all
    from openautoglm.student import Student, Teacher, load_teacher
    from openautoglm.task import Budget
    from pipelines.data import load_task

    weights = paths.finetuned(task_name, seed) / "model" / "model.safetensors"
    task, loaded, spec = load_task(task_name), load_teacher(weights.parent), settings.task(task_name)
    teacher = Teacher(loaded.model.to(device()), loaded.tokenizer)
    knobs = dict(card["knobs"])
    batch_size = knobs.pop("batch_size")
    budget = Budget.of(spec.epochs, task, batch_size)
    code = card["variant_of"] or method
    made_from = {
        "card": card,
        "budget": asdict(budget),
        "task": spec.model_dump(include={"max_length", "metrics"}),
        "teacher": artifact.file_sha256(weights),
    }
    try:
        with training.run(task_name, method, seed, made_from) as run:
            caged.enter()  # what surrounds a training is loaded by now, and no method is
            student = methods.load(code).compress(teacher, task, budget, **knobs)
    except (TrainingError, ConfigError) as error:
        raise UserError(f"{method} on {task_name}: {error}") from None
    if not isinstance(student, Student):
        raise UserError(f"{method}: compress returned {type(student).__name__}; it returns an openautoglm Student.")

    def fill(aside: Path) -> None:
        export_all(student, card["deployments"], aside / "artifacts", task)
        about = {"budget_steps": budget.steps, "shape": architectures.shape(student.model), "report": student.report}
        write_json(aside / "student.json", about)
        run.write(aside)

    training.finish(task_name, method, seed, paths.compressed(task_name, method, seed), fill)


def _in_a_sandbox(method: str, task: str, seed: int) -> None:
    """The same, where it sees train, dev and the teacher, and writes its own cell."""
    cell, checkpoints = paths.cell(task, method, seed), paths.checkpoints(task, method, seed)
    for folder in (cell, checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    seen = [paths.split(task, "train"), paths.split(task, "dev"), paths.finetuned(task, seed), paths.card(method)]
    with caged.box() as box:
        scored = [cell / name for name in ("quality.json", "predictions.json")]  # by an earlier run
        caged.stage("compress", [method, task, str(seed)], Path(box), [cell, checkpoints], seen, scored)
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    stage(main)
