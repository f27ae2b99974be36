"""Unfinished training on disk: weights, optimiser state, random state. Safetensors only, written aside and renamed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

if TYPE_CHECKING:
    from openautoglm.distillation.fit import _Fit


def save(path: Path, run: _Fit) -> None:
    """Write the state of `run` to `path`."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (run.best or {}).items()}
    for i, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    scalars = {"step": run.step, "losses": run.losses, "counted": run.counted, "best_score": run.best_score}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    # clones, because safetensors refuses tensors that share memory (tied weights)
    save_file(
        {name: value.detach().clone().contiguous() for name, value in tensors.items()},
        str(aside),
        metadata={name: repr(value) for name, value in scalars.items()} | {"stage": run.stage},
    )
    aside.replace(path)


def load(path: Path, run: _Fit) -> None:
    """Put the state in `path` into `run`; a missing, broken or foreign file leaves `run` at its start."""
    try:
        with safe_open(str(path), framework="pt") as file:
            scalars, names = file.metadata(), list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError):
        return
    weights = _under(tensors, "model.")
    if scalars["stage"] != run.stage or not _fits(weights, run.model.state_dict()):
        return
    run.model.load_state_dict(weights)
    run.best = _under(tensors, "best.") or None
    run.best_score = None if scalars["best_score"] == "None" else float(scalars["best_score"])
    run.step, run.losses, run.counted = int(scalars["step"]), float(scalars["losses"]), int(scalars["counted"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _under(tensors, "optimizer.").items():
        i, key = name.split(".", 1)
        state.setdefault(int(i), {})[key] = value
    run.optimizer.load_state_dict(run.optimizer.state_dict() | {"state": state})
    torch.set_rng_state(tensors["random"])


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _fits(weights: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in other.items()}
