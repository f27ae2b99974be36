"""Tasks from a user's own table: CSV, TSV, JSON lines or Parquet, with named columns.

source: {path: mine/reviews.csv, text: review, label: stars}             # split by hash
source: {path: mine/reviews.parquet, text: review, label: stars, split: part}  # keeps its own splits
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from leaderboard.schema import Strict
from pipelines.errors import UserError
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
    table = _table(source.path, wanted)
    return Rows(
        texts=columns.texts(table[source.text], where),
        labels=columns.labels(table[source.label], task.kind, where),
        source=f"{source.path.name}, columns {', '.join(wanted)}",
        licence=source.licence,
        splits=columns.splits(table[source.split], where) if source.split is not None else None,
    )


def _table(path: Path, wanted: list[str]) -> dict[str, list[Any]]:
    """The wanted columns of a file."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(f"{path}: unknown kind of file; known: {', '.join(readers)}.")
    try:
        rows = readers[path.suffix](path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there. `source.path` is relative to the project's root.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give one file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it, e.g. with iconv.") from None
    if not rows:
        raise UserError(f"{path} holds no rows.")
    if missing := [name for name in wanted if name not in rows[0]]:
        raise UserError(f"{path} has no column {missing}; it has {[name for name in rows[0] if name]}.")
    return {name: [row.get(name) for row in rows] for name in wanted}


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True))
        except csv.Error as error:
            raise UserError(f"{path} is broken ({error}). Save it again as {path.suffix[1:].upper()}.") from None
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise UserError(f"{path}, row {number}: more fields than the header has. Put texts in double quotes.")
    return rows


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number} is not JSON ({error}).") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: give an object with named fields, not {type(row).__name__}.")
            rows.append(row)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{path} is not readable Parquet ({error}).") from None
