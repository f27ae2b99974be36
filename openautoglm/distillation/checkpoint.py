"""Unfinished training on disk: named tensors and a few facts. Safetensors only, written aside and renamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from leaderboard.aside import replacing

Tensors = dict[str, Tensor]


def save(path: Path, tensors: Tensors, facts: dict[str, Any]) -> None:
    """Write tensors and facts (numbers, text, None) to `path` in one step."""
    # clones, because safetensors refuses tensors that share memory (tied weights)
    whole = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    with replacing(path) as aside:
        save_file(whole, str(aside), metadata={"facts": json.dumps(facts)})


def load(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """What `save` wrote; None where the file is missing or broken: then training begins anew."""
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def under(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose name begins with `prefix`, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
