"""How much a model's loss depends on each head, each FFN neuron, and each whole sub-layer.

With a mask m = 1 on every unit, and g = dL/dm for one text:

    fisher     mean over texts of g^2: removing the unit costs about half of it. Kwon et al. 2022, "A Fast Post-Training
               Pruning Framework for Transformers" (arXiv 2204.09656), section 4.1
    taylor     mean over texts of |g m| = |g|, the first-order change of the loss. Michel et al. 2019, "Are Sixteen
               Heads Really Better than One?" (arXiv 1905.10650), eq. 2; Molchanov et al. 2019, "Importance Estimation
               for Neural Network Pruning" (arXiv 1906.10771), eq. 8 with gates, has its square
    magnitude  the L2 norm of the unit's weights, for comparison: it sees no text

A sub-layer's own mask multiplies all its units, so its g is the sum of theirs. The bias of its output is not masked: it
stays when the sub-layer goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm import architectures
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import device
from openautoglm.distillation.losses import task_loss
from openautoglm.parts import Sublayer
from openautoglm.task import Task

METHODS = ("fisher", "taylor", "magnitude")


@dataclass(frozen=True)
class Importance:
    """Scores of one method, higher is more needed. A dropped sub-layer has no units and the score 0."""

    heads: list[Tensor]  # a layer (heads,); where heads share keys and values, (groups,)
    neurons: list[Tensor]  # a layer (neurons,)
    attention: Tensor = field(default_factory=lambda: torch.empty(0))  # (layers,), of whole attentions
    ffn: Tensor = field(default_factory=lambda: torch.empty(0))  # (layers,), of whole feed-forward networks


def importance(model: Any, examples: Encoded, task: Task, method: str = "fisher", batch_size: int = 32) -> Importance:
    """The importance of every part of `model` for the task's loss on `examples`; ValueError for an unknown method."""
    if method not in METHODS:
        raise ValueError(f"Importance by {method!r}; known: {', '.join(METHODS)}.")
    parts = architectures.sublayers(model)
    if method == "magnitude":
        squares = [_squared_weights(part) for part in parts]
        units, whole = [s.sqrt() for s in squares], torch.stack([s.sum().sqrt() for s in squares])
    else:
        units, whole = _by_gradient(model, parts, examples, task, method, batch_size)
    return Importance(units[0::2], units[1::2], whole[0::2], whole[1::2])


def _by_gradient(
    model: Any, parts: Sequence[Sublayer], examples: Encoded, task: Task, method: str, batch_size: int
) -> tuple[list[Tensor], Tensor]:
    size = torch.square if method == "fisher" else torch.abs
    units, whole = [torch.zeros(part.units) for part in parts], torch.zeros(len(parts))
    alive = [i for i, part in enumerate(parts) if part.units]
    model.to(device()).eval()
    for batch in in_order(examples, batch_size):
        batch = batch.to(device())
        masks = [torch.ones(len(batch.labels), parts[i].units, device=device(), requires_grad=True) for i in alive]
        with _masked([parts[i] for i in alive], masks):
            # The sum over texts, because each text has masks of its own: one pass gives every text's gradient.
            loss = task_loss(model(**batch.inputs).logits, batch.labels, task.kind) * len(batch.labels)
        for i, gradient in zip(alive, torch.autograd.grad(loss, masks), strict=True):  # (batch, units)
            units[i] += size(gradient).sum(0).cpu()
            whole[i] += size(gradient.sum(1)).sum().cpu()
    return [total / len(examples) for total in units], whole / len(examples)


@torch.no_grad()
def _squared_weights(part: Sublayer) -> Tensor:
    """(units,) sums of squares of each unit's weights: its rows of the inputs, its columns of the output."""
    if not part.units:
        return torch.zeros(0)
    total = part.output.weight.float().square().sum(0).view(part.units, -1).sum(1)
    for linear in part.inputs:
        total = total + linear.weight.float().square().sum(1).view(part.copies, part.units, -1).sum((0, 2))
    return total.cpu()


@contextmanager
def _masked(parts: Sequence[Sublayer], masks: Sequence[Tensor]) -> Iterator[None]:
    """Multiply what enters the output linear of each sub-layer by its (batch, units) mask."""
    hooks = [
        part.output.register_forward_pre_hook(_multiply(mask.repeat_interleave(part.width, dim=1)))
        for part, mask in zip(parts, masks, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _multiply(mask: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0] * mask[:, None, :],)  # (batch, length, width)

    return hook
