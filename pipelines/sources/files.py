"""Tasks from a user's own table: CSV, TSV, JSON lines or Parquet, with named columns.

source: {path: mine/reviews.csv, text: review, label: stars}             # split by hash
source: {path: mine/reviews.parquet, text: review, label: stars, split: part}  # keeps its own splits
"""

from __future__ import annotations

from pathlib import Path

from leaderboard.schema import Strict
from openautoglm import tables
from openautoglm.errors import UserError
from pipelines.params import TaskParams
from pipelines.sources import Rows, columns
from pipelines.sources.options import options


class FileSource(Strict):
    """`source: {path: ..., text: ..., label: ...}`; `path` is relative to the project's root."""

    path: Path
    text: str
    label: str
    split: str | None = None
    licence: str = "not stated"


def read(task: TaskParams) -> Rows:
    """The rows of a table; UserError names the file, the row and what to do."""
    source = options(FileSource, task.source)
    where = str(source.path)
    wanted = [name for name in (source.text, source.label, source.split) if name is not None]
    if not source.path.exists():
        raise UserError(f"{source.path} is not there. `source.path` is relative to the project's root.")
    table = tables.read_columns(source.path, wanted)
    return Rows(
        texts=tables.texts(table[source.text], where),
        labels=tables.labels(table[source.label], task.kind, where),
        source=f"{source.path.name}, columns {', '.join(wanted)}",
        licence=source.licence,
        splits=columns.splits(table[source.split], where) if source.split is not None else None,
    )
