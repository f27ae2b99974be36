"""Which parts of a model bear being rounded, factorised or dropped: each is changed alone, and the loss is measured."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openautoglm import architectures
from openautoglm.distillation.data import Encoded, in_order
from openautoglm.distillation.fit import device
from openautoglm.distillation.losses import soft_labels
from openautoglm.factors import encoder_linears
from openautoglm.lowrank import factorise_linear
from openautoglm.pruning import gram_matrices
from openautoglm.quantization import four_bits
from openautoglm.quantization.fake_quant import fake_quantised, part_of

BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": four_bits.BYTES}  # a weight; scales are few
RANK_SHARE = 0.5  # of a linear's weights that its factors have


@dataclass(frozen=True)
class Entry:
    """One part changed, all others as they were."""

    part: str  # as in a precision plan: "embedding", "layer.3.ffn", "head"
    change: str  # a number format, "rank" (half the weights) or "drop"
    loss: float  # KL (T = 1) or squared error to the unchanged model's logits
    bytes: int  # of the part's weights after the change


def sensitivity(model: Any, examples: Encoded, kind: str) -> list[Entry]:
    """The table of `model` on calibration texts (a few hundred do); `model` is left as it was.

    Each loss is against the model's own logits: what the change itself costs.
    """
    model = copy.deepcopy(model).eval()
    weights = part_weights(model)
    reference = _logits(model, examples)

    def loss() -> float:
        return float(soft_labels(_logits(model, examples), reference, kind))

    def measured(part: str, change: str, share: float, inside: AbstractContextManager) -> Entry:
        with inside:
            return Entry(part, change, loss(), int(weights[part] * share))

    entries = []
    for part in weights:
        for number_format in ("fp16", "int8", "int4"):
            inside = fake_quantised(model, {part: number_format})
            entries.append(measured(part, number_format, BYTES[number_format], inside))
    entries += [measured(part, "rank", 4 * RANK_SHARE, inside) for part, inside in _factorised(model, examples)]
    entries += [measured(part, "drop", 0.0, inside) for part, inside in _dropped(model)]
    return sorted(entries, key=lambda entry: list(weights).index(entry.part))


@torch.inference_mode()
def _logits(model: Any, examples: Encoded) -> Tensor:
    """(texts, outputs) in the order of the examples. Losses lie below what a softmax of float32 rounds away."""
    model.to(device())
    found: dict[int, Tensor] = {}
    for batch in in_order(examples, 64):
        found.update(zip(batch.index.tolist(), model(**batch.to(device()).inputs).logits.cpu(), strict=True))
    return torch.stack([found[i] for i in range(len(examples))]).double()


def as_json(entries: list[Entry]) -> list[dict[str, Any]]:
    """For a student's report, under "sensitivity"."""
    return [asdict(entry) | {"loss": float(f"{entry.loss:.4g}")} for entry in entries]


def part_weights(model: nn.Module) -> dict[str, int]:
    """Weights of linears and embedding tables of each part; those that modules share, once."""
    counts: dict[str, int] = {}
    seen = set()
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and id(module.weight) not in seen:
            seen.add(id(module.weight))
            counts[part_of(name)] = counts.get(part_of(name), 0) + module.weight.numel()
    return counts


def _factorised(model: Any, examples: Encoded) -> Iterator[tuple[str, AbstractContextManager]]:
    linears = encoder_linears(model)
    grams = dict(zip(linears, gram_matrices(model, list(linears.values()), examples), strict=True))
    for part in dict.fromkeys(part_of(name) for name in linears):
        found: dict[nn.Linear, nn.Module] = {}
        for name in [name for name in linears if part_of(name) == part]:
            rows, columns = linears[name].weight.shape
            rank = max(1, int(RANK_SHARE * rows * columns / (rows + columns)))
            found[linears[name]] = factorise_linear(linears[name], grams[name], rank)
        yield part, _forwards({linear: factors.forward for linear, factors in found.items()})


def _dropped(model: Any) -> Iterator[tuple[str, AbstractContextManager]]:
    for i, layer in enumerate(architectures.layers(model)):
        for name, sublayer in (("attention", layer.attention), ("ffn", layer.ffn)):
            if sublayer.units:
                yield f"layer.{i}.{name}", _forwards({sublayer.output: _bias_alone(sublayer.output)})


def _bias_alone(output: Any) -> Callable[[Tensor], Tensor]:
    bias = getattr(output, "bias", None)

    def forward(x: Tensor) -> Tensor:
        zeros = x.new_zeros(*x.shape[:-1], output.out_features)
        return zeros if bias is None else zeros + bias

    return forward


@contextmanager
def _forwards(forwards: dict[Any, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Inside, the modules compute something else."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward
