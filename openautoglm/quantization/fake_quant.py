"""A PyTorch model that computes with the rounding of the ONNX deployments, and passes gradients straight through it.

Weights: QInt8, symmetric, one scale an output channel (a row of an embedding); or those that few bits hold.
Activations: UINT8, asymmetric, with the range of each text by itself, as ONNX Runtime's dynamic quantisation finds it
at batch 1. The products of the codes are exact in the runtime (int32) and here (whole numbers up to 255 are exact even
in bfloat16), so a linear differs from the runtime's by float32 rounding alone. Straight-through estimator: Bengio et
al. 2013, arXiv 1308.3432; quantisation-aware training: Jacob et al. 2018, arXiv 1712.05877.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openautoglm.quantization import embedding_tables, four_bits, onnx_graph
from openautoglm.quantization.observers import SlidingRange, scale_and_zero_point
from openautoglm.quantization.plan import INTEGER, check_plan, format_of, linear_format


@contextmanager
def fake_quantised(
    model: nn.Module, plan: Mapping[str, str], *, window: int | None = None, activations: bool = True
) -> Iterator[None]:
    """Inside, `model` rounds as `plan` (onnx_graph.apply_plan) does when deployed; its parameters stay float32.

    window: None for the runtime's dynamic ranges; else activations have the range of the last `window` training
    batches (observers.SlidingRange), as a runtime with fixed ranges has them.
    activations: False rounds weights alone: what is left makes training a quarter longer.
    """
    check_plan(plan)
    changed: list[Any] = []
    for name, module in model.named_modules():
        if forward := _forward(
            module, plan, part_of(name), bool(embedding_tables.WORDS.search(name)), window, activations
        ):
            module.forward = forward  # type: ignore[method-assign]
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def part_of(module: str) -> str:
    """The part of a plan that a module belongs to, by its path in the model.

    >>> part_of("bert.encoder.layer.3.attention.self.query")
    'layer.3.attention'
    """
    return onnx_graph.part("/" + re.sub(r"\.(?!\d)", "/", module) + "/")


def _forward(
    module: nn.Module, plan: Mapping[str, str], part: str, words: bool, window: int | None, activations: bool
) -> Callable[[Tensor], Tensor] | None:
    number_format = format_of(plan, part)
    if isinstance(module, nn.Linear) and number_format in INTEGER:
        seen, stored = SlidingRange(window) if window else None, linear_format(plan, part)
        if not activations:
            return lambda x: F.linear(x, rounded_weight(module.weight, stored), module.bias)
        return lambda x: int8_linear(x, module.weight, module.bias, _observed(seen, x, module.training), stored)
    if isinstance(module, nn.Embedding) and number_format in INTEGER:
        stored = number_format if words else "int8"
        return lambda ids: rounded_rows(F.embedding(ids, module.weight), stored)
    if isinstance(module, (nn.Linear, nn.Embedding)) and number_format == "fp16":
        return lambda x: _half(module, x)
    return None


def int8_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ranges: tuple[Tensor, Tensor] | None = None,
    stored: str = "int8",
) -> Tensor:
    """x (batch, ..., in), weight (out, in) -> (batch, ..., out), with the runtime's rounding.

    ranges: scale and zero point of x, or None for those of each text. stored: its format, of INTEGER.
    """
    if ranges is None:
        inner = tuple(range(1, x.dim()))
        ranges = scale_and_zero_point(x.detach().amin(inner, keepdim=True), x.detach().amax(inner, keepdim=True))
    scale, zero = ranges
    steps = x.float() / scale
    codes = (steps + (steps.round() - steps).detach() + zero).clamp(0, 255) - zero
    whole, per_row = _codes(weight.detach().float(), stored)
    steps = weight / per_row
    product = F.linear(codes, steps + (whole - steps).detach()).float()
    product = product * (scale * per_row.flatten())
    return product if bias is None else product + bias


def rounded_weight(weight: Tensor, stored: str) -> Tensor:
    """(out, in) -> what `stored` makes of it; gradients pass straight through."""
    codes, scale = _codes(weight.detach().float(), stored)
    return weight + (codes * scale - weight).detach()


def _codes(weight: Tensor, stored: str) -> tuple[Tensor, Tensor]:
    """(out, in) -> INT8 codes (out, in) and scales (out, 1), both float32."""
    if stored == "int8":
        per_row = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        return (weight / per_row).round(), per_row
    codes, scale = four_bits.int8(weight.cpu().numpy(), four_bits.BITS[stored])
    return torch.from_numpy(codes).to(weight), torch.from_numpy(scale).to(weight)


def rounded_rows(rows: Tensor, number_format: str) -> Tensor:
    """(..., width) rows of an embedding, with the rounding of embedding_tables; gradients pass straight through."""
    flat = rows.detach().float().cpu().reshape(-1, rows.shape[-1]).numpy()
    values = embedding_tables.rounded(flat, number_format)
    return rows + (torch.from_numpy(values).view(rows.shape).to(rows) - rows).detach()


def _half(module: nn.Linear | nn.Embedding, x: Tensor) -> Tensor:
    weight = module.weight + (module.weight.half().float() - module.weight).detach()
    return F.linear(x, weight, module.bias) if isinstance(module, nn.Linear) else F.embedding(x, weight)


def _observed(seen: SlidingRange | None, x: Tensor, training: bool) -> tuple[Tensor, Tensor] | None:
    if seen is None:
        return None
    if training or seen.low == seen.high:
        seen.observe(x)
    scale, zero = seen.scale_and_zero_point()
    return scale.to(x.device), zero.to(x.device)
