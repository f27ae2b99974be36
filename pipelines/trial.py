"""What runs inside the sandbox, in two processes: `make` runs a submission's code, `judge` only what it left.

    python -m pipelines.trial make NAME KNOBS     the method on two tiny tasks -> made/<kind>/<deployment>/
    python -m pipelines.trial judge               question.json: artifacts and texts -> answer.json

The code sees train and dev of a task made on the spot; its exam is drawn elsewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KINDS = ("classification", "regression")
STEPS, BATCH = 24, 16


def make(name: str, knobs: dict[str, Any], secret: list[Path]) -> None:
    """Run the method on each kind of task, and write its artifacts and what it said."""
    from openautoglm import architectures
    from openautoglm.distillation.session import Session, open_session
    from openautoglm.export import export_all
    from openautoglm.student import Student
    from openautoglm.task import Budget
    from pipelines import methods
    from pipelines.errors import UserError
    from pipelines.guard import guard
    from pipelines.tiny import make_task, make_teacher

    tasks = {kind: make_task(kind) for kind in KINDS}
    teachers = {kind: make_teacher(task) for kind, task in tasks.items()}
    guard([Path.cwd()], secret)
    module = methods.load(name)
    bound = methods.bind(module, knobs)
    made = {}
    for kind, task in tasks.items():
        with open_session(Session(seed=0)) as session:
            student = module.compress(teachers[kind], task, Budget(STEPS, BATCH), **bound)
        if not isinstance(student, Student):
            raise UserError(f"compress returned {type(student).__name__}; it returns an openautoglm Student.")
        forms = ["onnx-fp32", "onnx-int8", *(["onnx-plan"] if student.plan else [])]
        export_all(student, forms, Path("made") / kind, task)
        shape = architectures.shape(student.model)
        made[kind] = {"steps": session.steps, "budget": STEPS, "shape": shape, "report": student.report}
    Path("made/made.json").write_text(json.dumps(made), encoding="utf-8")


def judge() -> None:
    """Ask every artifact of question.json for its answers, and whether it hears long texts to their end."""
    from openautoglm.artifact import ArtifactError

    question = json.loads(Path("question.json").read_text(encoding="utf-8"))
    answers = {}
    for folder, texts in question["texts"].items():
        try:
            answers[folder] = _answers(Path(folder), texts["exam"], texts["dev"], texts["max_length"])
        except ArtifactError as error:
            answers[folder] = {"error": str(error)}
    Path("answer.json").write_text(json.dumps(answers), encoding="utf-8")


def _answers(folder: Path, exam: list[str], dev: list[str], max_length: int) -> dict[str, Any]:
    import numpy as np

    from openautoglm.runtime import Predictor

    predictor = Predictor(folder, threads=1)

    def answer(texts: list[str]) -> np.ndarray:
        return np.concatenate([predictor.logits([text]) for text in texts])

    said = answer(exam)
    long, changed = long_texts(exam + dev, lambda text: len(predictor.tokenizer.encode(text).ids), max_length)
    heard = np.abs(answer(long) - answer(changed)).max(axis=1) > 0
    classify = predictor.manifest.kind == "classification"
    decided = {
        name: (rows.argmax(1) if classify else rows[:, 0]) for name, rows in (("exam", said), ("dev", answer(dev)))
    }
    return {
        "kind": predictor.manifest.kind,
        "labels": list(predictor.manifest.labels),
        "max_length": predictor.manifest.max_length,
        "predictions": {name: rows.astype(float).tolist() for name, rows in decided.items()},
        "finite": bool(np.isfinite(said).all()),
        "repeatable": bool(np.array_equal(said[:16], answer(exam[:16]))),
        "long": len(long),
        "heard": int(heard.sum()),
    }


def long_texts(texts: list[str], pieces: Any, max_length: int, count: int = 16) -> tuple[list[str], list[str]]:
    """Texts as long as the task lets them be, made of several; and the same with other words in their last quarter.

    `pieces(text)` counts word pieces, cut or not.
    """
    words = [word for text in texts for word in text.split()]
    long, changed = [], []
    for i in range(count):
        begun = [words[(i * 37 + j) % len(words)] for j in range(max_length)]
        size = max_length
        while size > 4 and pieces(" ".join(begun[:size])) >= max_length:
            size -= 1
        kept = size - max(1, size // 4)
        other = [words[(i * 37 + 11 + 2 * j) % len(words)] for j in range(size)]
        end = [
            b if b != a else words[(i + j) % len(words)]
            for j, (a, b) in enumerate(zip(begun[kept:size], other[kept:], strict=True))
        ]
        long.append(" ".join(begun[:size]))
        changed.append(" ".join(begun[:kept] + end))
    return long, changed


def main() -> None:
    """The command line above."""
    if sys.argv[1] == "make":
        make(sys.argv[2], json.loads(sys.argv[3]), [Path(path) for path in sys.argv[4:]])
    else:
        judge()


if __name__ == "__main__":
    from pipelines.errors import stage

    stage(main)
