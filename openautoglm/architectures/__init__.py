"""Model families. One file a family; `build` makes a model again from the config that was saved with its weights.

A family's file exposes `build(config) -> nn.Module`. A family that can be pruned also exposes `layers(model)`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

KNOWN = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def family(model_type: str) -> ModuleType:
    """The module of a model family; ValueError names the known ones."""
    if model_type not in KNOWN:
        raise ValueError(f"Model type {model_type!r} is not supported; known: {', '.join(KNOWN)}.")
    return importlib.import_module(f"openautoglm.architectures.{model_type}")


def build(config: dict[str, Any]) -> Any:
    """A model with fresh weights in the shape that `config` (config.json) describes."""
    return family(config.get("model_type", "(missing)")).build(config)


def shape(model: Any) -> dict[str, Any]:
    """The model's shape, for readers: layers, widths, sizes."""
    return family(model.config.model_type).shape(model)
