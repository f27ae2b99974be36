"""A tiny teacher that has learnt a tiny task, so that each method can be run whole in seconds."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import pytest

from openautoglm.student import Teacher
from openautoglm.task import Task
from pipelines.tiny import make_task, make_teacher, tokenizer

__all__ = ["busy", "case", "copy_project", "make_task", "make_teacher", "tokenizer"]


@pytest.fixture(scope="session", params=["classification", "regression"])
def case(request) -> tuple[Teacher, Task]:
    task = make_task(request.param)
    return make_teacher(task), task


def busy(seconds: float) -> None:
    """So much CPU time, however long it takes; other threads run meanwhile, as beside a model.

    CodeCarbon reads the time of every process from a thread. Where that waits for the interpreter at each, it counts up
    to a second too much.
    """
    end, block = time.process_time() + seconds, bytes(1 << 20)
    while time.process_time() < end:
        hashlib.sha256(block)


def copy_project(folder: Path) -> None:
    """The parts of the project that running a submission needs."""
    for name in ("params.yaml", "baselines", "leaderboard", "openautoglm", "pipelines"):
        source = Path(__file__).parents[1] / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
