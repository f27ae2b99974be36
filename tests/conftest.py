"""A tiny teacher that has learnt a tiny task, so that each method can be run whole in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from openautoglm.student import Teacher
from openautoglm.task import Task
from pipelines.tiny import make_task, make_teacher, tokenizer

__all__ = ["case", "copy_project", "make_task", "make_teacher", "tokenizer"]


@pytest.fixture(scope="session", params=["classification", "regression"])
def case(request) -> tuple[Teacher, Task]:
    task = make_task(request.param)
    return make_teacher(task), task


def copy_project(folder: Path) -> None:
    """The parts of the project that running a submission needs."""
    for name in ("params.yaml", "baselines", "leaderboard", "openautoglm", "pipelines"):
        source = Path(__file__).parents[1] / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
