"""Measure the artifacts that a submission brings, and write its records. `python -m pipelines.brought NAME`.

One artifact a task, in submissions/<name>/artifacts/<task>/, scored and timed like any other. What making it cost is
not known, so its records hold no run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from leaderboard import seal
from leaderboard.schema import Method, Record
from leaderboard.submission import FILE, Card, read_card
from openautoglm import artifact
from pipelines import evaluate, measure, params, record
from pipelines.data import load_exam
from pipelines.errors import UserError, stage
from pipelines.files import write_text
from pipelines.instruments import machine
from pipelines.params import paths


def main() -> None:
    """Write leaderboard/results/<profile>/<name>/<task>.json for every task."""
    name, settings = sys.argv[1], params.load()
    card = read_card(Path("submissions", name, FILE))
    forms = params.known(settings.submitted, name, "row", "submitted, in params.yaml")
    if len(forms) != 1:
        raise UserError(f"submitted.{name} is {forms}: an artifact is brought in one form, such as [onnx-int8].")
    for task in settings.tasks:
        made = _record(card, task, forms[0], settings)
        write_text(paths.record(settings.profile, name, task), seal.sealed(made))


def _record(card: Card, task: str, form: str, settings: params.Params) -> Record:
    folder, seed = Path("submissions", card.name, "artifacts", task), settings.seeds[0]
    manifest, exam = artifact.read(folder), load_exam(task)
    reference, int8 = measure.teachers(task, settings)
    costs = measure.measure(
        {form: folder},
        reference,
        exam.texts,
        settings.measurement,
        settings.carbon,
        int8=int8,
        title=f"{card.name} on {task}",
    )
    quality = [evaluate.score(folder, exam, settings.task(task).metrics, seed)]
    return record.record_of(
        settings,
        task,
        method=Method(
            name=card.name,
            caption=f"Brought as an artifact by {', '.join(card.authors)}",
            paper=card.paper,
            kept=card.kept,
            left_out=card.left_out,
            knobs={},
            sources_sha256=artifact.sha256(folder),
            shape=manifest.shape,
        ),
        machine=machine.fingerprint(),
        runs=[],
        deployments={form: record.deployment(folder, quality, costs[form])},
    )


if __name__ == "__main__":
    stage(main)
