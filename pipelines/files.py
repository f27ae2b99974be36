"""Small files between stages: JSON and TSV, written aside and renamed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from leaderboard.aside import replacing
from leaderboard.schema import Strict
from pipelines.errors import UserError

Model = TypeVar("Model", bound=Strict)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """JSON with sorted keys, lists of numbers on one line: the same value gives the same bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # a real line break never stands inside a JSON string, so this only ever joins numbers
    text = re.sub(r"\[\n[-+.\deE,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`; UserError where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro` to make it.") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, numbers of thousands of digits
        raise UserError(f"{path} is broken ({error}): delete it and run `dvc repro` again.") from None


def read_model(path: Path, model: type[Model]) -> Model:
    """The JSON in `path` as a model; UserError where it is missing, broken or says something else."""
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{path} is no {model.__name__} ({place}): delete it and run `dvc repro` again.") from None
