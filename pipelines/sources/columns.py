"""A column of a table that says which split each row is of; each complaint names the row."""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError

SPLIT_NAMES = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "exam": "exam", "test": "exam"}


def splits(values: list[Any], where: str) -> list[str]:
    """train, dev or exam; a source must at least have train and exam (dev is then taken from train)."""
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str) or value not in SPLIT_NAMES:
            raise UserError(f"{where}, row {row}: unknown split {value!r}; known: {', '.join(SPLIT_NAMES)}.")
    named = [SPLIT_NAMES[value] for value in values]
    if missing := {"train", "exam"} - set(named):
        raise UserError(
            f"{where}: its split column has no {' and no '.join(sorted(missing))}. Leave `split` out to split by hash."
        )
    return named
