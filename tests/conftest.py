"""A tiny teacher that has learnt a tiny task, so that each method can be run whole in seconds."""

from __future__ import annotations

import pytest

from openautoglm.student import Teacher
from openautoglm.task import Task
from pipelines.tiny import make_task, make_teacher, tokenizer

__all__ = ["case", "make_task", "make_teacher", "tokenizer"]


@pytest.fixture(scope="session", params=["classification", "regression"])
def case(request) -> tuple[Teacher, Task]:
    task = make_task(request.param)
    return make_teacher(task), task
