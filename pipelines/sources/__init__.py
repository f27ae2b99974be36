"""Where tasks come from: packages.py (embedded), files.py (a user's own), hub.py (Hugging Face).

A source is the `source` entry of a task in params.yaml. Each reader turns it into Rows; pipelines/prepare.py does the
rest, the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

from pipelines.errors import UserError
from pipelines.params import TaskParams

READERS = {"package": "packages", "path": "files", "hub": "hub"}


@dataclass(frozen=True)
class Rows:
    """A task as its source gives it: not cleaned, not yet split (unless the source has splits of its own)."""

    texts: list[str]
    labels: list[str] | list[int] | list[float]  # class names, class indices, or values
    source: str
    licence: str
    splits: list[str] | None = None  # train, dev or exam for each row
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows left out by the reader


def read(task: TaskParams) -> Rows:
    """The rows of a task; UserError where its source is unknown, missing or broken."""
    kinds = [key for key in READERS if key in task.source]
    if len(kinds) != 1:
        raise UserError(f"source {task.source}: give exactly one of {', '.join(READERS)} (see README, 'Add a task').")
    return import_module(f"pipelines.sources.{READERS[kinds[0]]}").read(task)
