"""Columns of a table as texts, labels and splits; each complaint names the row."""

from __future__ import annotations

import math
from typing import Any

from pipelines.errors import UserError

SPLIT_NAMES = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "exam": "exam", "test": "exam"}


def texts(values: list[Any], where: str) -> list[str]:
    """Texts as they are; a missing one is empty (prepare counts and drops it)."""
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str | None):
            raise UserError(f"{where}, row {row}: the text is {value!r}, not a string. Is `text` the right column?")
    return [value or "" for value in values]


def labels(values: list[Any], kind: str, where: str) -> list[str] | list[float]:
    """Class names or indices as strings; values as finite numbers."""
    return [_value(v, where, row) if kind == "regression" else _class(v, where, row) for row, v in enumerate(values, 1)]  # type: ignore[return-value]


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


def splits(values: list[Any], where: str) -> list[str]:
    """train, dev or exam; a source must at least have train and exam (dev is then taken from train)."""
    for row, value in enumerate(values, start=1):
        if value not in SPLIT_NAMES:
            raise UserError(f"{where}, row {row}: unknown split {value!r}; known: {', '.join(SPLIT_NAMES)}.")
    named = [SPLIT_NAMES[value] for value in values]
    if missing := {"train", "exam"} - set(named):
        raise UserError(
            f"{where}: its split column has no {' and no '.join(sorted(missing))}. Leave `split` out to split by hash."
        )
    return named
