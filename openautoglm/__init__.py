"""Open-AutoGLM: compresses a fine-tuned Transformer classifier automatically.

>>> from openautoglm import AutoCompressor, CompressionConfig
>>> student = AutoCompressor(model="my-model", config={"pruning_ratio": 0.3}).run(task)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openautoglm.compressor import AutoCompressor
    from openautoglm.config import CompressionConfig
    from openautoglm.task import Budget, Split, Task

__all__ = ["AutoCompressor", "Budget", "CompressionConfig", "Split", "Task"]

_HOMES = {
    "AutoCompressor": "compressor",
    "CompressionConfig": "config",
    "Task": "task",
    "Split": "task",
    "Budget": "task",
}


def __getattr__(name: str) -> Any:
    # Late, so that `openautoglm.runtime` and `openautoglm.artifact` start without torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'openautoglm' has no attribute {name!r}; it has {__all__}")
    import importlib

    return getattr(importlib.import_module(f"openautoglm.{_HOMES[name]}"), name)
