"""A `source` entry of params.yaml, checked against the fields of its kind."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from leaderboard.schema import Strict
from pipelines.errors import UserError

Model = TypeVar("Model", bound=Strict)


def options(model: type[Model], given: dict[str, Any]) -> Model:
    """`given` as a model; UserError names each wrong key or value and the known keys."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        known = ", ".join(model.model_fields)
        raise UserError(f"source {given}: {'; '.join(problems)}. Known keys: {known}.") from None
