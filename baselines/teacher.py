"""The fine-tuned teacher itself, uncompressed.

Copy this file to begin a method of your own: `compress` gets a frozen teacher, a task without its exam split and a
budget, and returns a Student. Its keyword-only arguments are its knobs, set in params.yaml under `methods:`.
"""

from __future__ import annotations

from openautoglm.student import Student, Teacher
from openautoglm.task import Budget, Task

PAPER = "MiniLM (Wang et al. 2020, arXiv 2002.10957), as all-MiniLM-L6-v2 of Sentence-Transformers"
KEPT = "All of it: the encoder fine-tuned on the task, the best epoch on dev."
LEFT_OUT = "Nothing. Its cost of making is its fine-tuning, which every method's teacher shares."


def compress(teacher: Teacher, task: Task, budget: Budget) -> Student:
    """The teacher as it is."""
    return Student(teacher.model, teacher.tokenizer)
