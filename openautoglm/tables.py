"""Texts and labels from a table: CSV, TSV, JSON lines, or Parquet where pyarrow is installed. Each complaint names
the file and the row.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openautoglm.errors import UserError


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """The wanted columns of a file, by name; UserError where it cannot be read or lacks one."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(f"{path}: unknown kind of file; known: {', '.join(readers)}.")
    try:
        rows = readers[path.suffix](path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give one file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it, e.g. with iconv.") from None
    if not rows:
        raise UserError(f"{path} holds no rows.")
    if missing := [name for name in wanted if name not in rows[0]]:
        raise UserError(f"{path} has no column {missing}; it has {[name for name in rows[0] if name]}.")
    return {name: [row.get(name) for row in rows] for name in wanted}


def texts(values: list[Any], where: str) -> list[str]:
    """Texts as they are; a missing one is empty."""
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str | None):
            raise UserError(f"{where}, row {row}: the text is {value!r}, not a string. Is `text` the right column?")
    return [value or "" for value in values]


def labels(values: list[Any], kind: str, where: str) -> list[str] | list[float]:
    """Class names or indices as strings; values as finite numbers."""
    return [_value(v, where, row) if kind == "regression" else _class(v, where, row) for row, v in enumerate(values, 1)]  # type: ignore[return-value]


def numbers(given: Sequence[str | int | float], kind: str, names: Sequence[str]) -> list[float]:
    """Labels as class indices or values. A class is given by its name or, where no name fits, by its index."""
    if kind == "regression":
        return [float(label) for label in given]
    by_name = {name: index for index, name in enumerate(names)}
    by_index = {form: index for index in range(len(by_name)) for form in (str(index), f"{index}.0")}  # as in _class
    table = by_name if {str(label) for label in given} & set(by_name) else by_index
    if unknown := sorted({str(label) for label in given} - set(table)):
        raise UserError(f"Labels {unknown[:5]} are unknown; the task lists {list(names)} (or their index from 0).")
    return [table[str(label)] for label in given]


def _class(value: Any, where: str, row: int) -> str:
    if value is None or value == "" or (isinstance(value, float) and not value.is_integer()):
        raise UserError(f"{where}, row {row}: the label is {value!r}. Give each text a class, or remove the row.")
    # 1.0 is how tables write the integer 1 once a cell of the column was empty
    return str(int(value)) if isinstance(value, float) else str(value).strip()


def _value(value: Any, where: str, row: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}, row {row}: the label {value!r} is not a finite number. Mend or remove the row.")
    return number


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
            except (ValueError, RecursionError) as error:  # numbers of thousands of digits; nested too deep
                raise UserError(f"{path}, line {number} is not JSON ({error}).") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: give an object with named fields, not {type(row).__name__}.")
            rows.append(row)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(f"{path}: reading Parquet needs pyarrow. `pip install pyarrow`, or give CSV.") from None
    try:
        return pq.read_table(path).to_pylist()
    except (FileNotFoundError, IsADirectoryError):
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # no instant of year 1e308
        raise UserError(f"{path} is not readable Parquet ({error}).") from None
