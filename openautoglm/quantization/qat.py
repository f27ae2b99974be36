"""Quantisation-aware training, where rounding after training costs too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from openautoglm.distillation.data import Encoded
from openautoglm.distillation.fit import Loss, Recipe, fit
from openautoglm.quantization.fake_quant import fake_quantised


def fine_tune_quantised(
    model: nn.Module,
    plan: Mapping[str, str],
    train: Encoded,
    loss: Loss,
    score: Callable[[], float],
    steps: int,
    *,
    threshold: float = 0.002,
    learning_rate: float = 2e-5,
    batch_size: int = 32,
    window: int | None = None,
) -> dict[str, Any]:
    """Train `model`, in place, under the rounding of `plan`, with a cosine schedule; tells what it cost and gained.

    score: the dev score of `model` as it computes at the moment (higher is better, a fraction). Where rounding alone
    loses at most `threshold` of it, nothing is trained (`steps` is 0 in the answer), and where training does not gain
    on dev, the weights stay as they were. window: see fake_quant.fake_quantised.
    """
    float32 = score()
    with fake_quantised(model, plan, window=window):
        model.eval()
        rounded = score()
        told = {"float32": float32, "rounded": rounded, "steps": 0, "trained": rounded}
        if float32 - rounded <= threshold or not steps:
            return told
        before = {name: value.detach().clone() for name, value in model.state_dict().items()}
        recipe = Recipe(steps, learning_rate, batch_size, weight_decay=0.01, schedule="cosine")
        fit(model, train, loss, recipe, stage="quantisation-aware", score=score)
        trained = score()
    if trained <= rounded:
        model.load_state_dict(before)
    return told | {"steps": steps, "trained": max(trained, rounded)}
