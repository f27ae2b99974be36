"""How much a model's loss depends on each attention head and FFN neuron: the diagonal of the mask's Fisher information.

Kwon et al. 2022, "A Fast Post-Training Pruning Framework for Transformers" (arXiv 2204.09656), section 4.1: with a mask
m = 1 on every head and neuron, removing item i costs about 1/2 * I_ii, where I_ii = mean over texts of (dL/dm_i)^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm.architectures import family
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import device
from openautoglm.distillation.losses import task_loss
from openautoglm.task import Task


@dataclass(frozen=True)
class Importance:
    """Fisher information per layer: `heads[l]` (heads,), `neurons[l]` (neurons,). Higher: more needed."""

    heads: list[Tensor]
    neurons: list[Tensor]


def fisher(model: Any, examples: Encoded, task: Task, batch_size: int = 32) -> Importance:
    """The importance of every head and neuron of `model` for the task's loss on `examples`."""
    model.to(device()).eval()
    layers = family(model.config.model_type).layers(model)
    sums = [torch.zeros(width) for layer in layers for width in (layer.heads, layer.neurons)]
    for batch in in_order(examples, batch_size):
        batch = batch.to(device())
        masks = [torch.ones(len(batch.labels), len(total), device=device(), requires_grad=True) for total in sums]
        with _masked(layers, masks):
            # The sum over texts, because each text has masks of its own: one pass gives every text's gradient.
            loss = task_loss(model(**batch.inputs).logits, batch.labels, task.kind) * len(batch.labels)
        for total, gradient in zip(sums, torch.autograd.grad(loss, masks), strict=True):
            total += gradient.square().sum(0).cpu()
    means = [total / len(examples) for total in sums]
    return Importance(heads=means[0::2], neurons=means[1::2])


@contextmanager
def _masked(layers: list[Any], masks: list[Tensor]) -> Iterator[None]:
    """Multiply what enters the two output linears of every layer by (batch, heads) and (batch, neurons) masks."""
    hooks = []
    for i, layer in enumerate(layers):
        heads = masks[2 * i].repeat_interleave(layer.head_size, dim=1)
        hooks.append(layer.attention_output.register_forward_pre_hook(_multiply(heads)))
        hooks.append(layer.down.register_forward_pre_hook(_multiply(masks[2 * i + 1])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _multiply(mask: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0] * mask[:, None, :],)  # (batch, length, width)

    return hook
