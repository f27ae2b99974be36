"""Looking inside a model while it runs: what its submodules put out, without a change to the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from openautoglm.distillation.losses import attention_scores


@contextmanager
def recorded(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """While open, a forward pass appends each module's output to the list, in the order they run.

    A module that runs several times (a shared layer) appends each time.

    >>> with recorded(block.attention.self.query for block in bert.encoder.layer) as queries:  # doctest: +SKIP
    ...     bert(input_ids)  # queries: one (B, L, W) tensor a layer
    """
    outputs: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda _, __, output: outputs.append(output)) for module in modules]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recorded_scores(encoder: Any) -> Iterator[list[Tensor]]:
    """While open, a forward pass leaves each layer's (B, H, L, L) attention scores in the list: filled on leaving.

    Before the softmax and without the mask. `encoder` is that of a BERT or MobileBERT model.
    """
    attentions = [block.attention.self for block in encoder.layer]
    scores: list[Tensor] = []
    with recorded(a.query for a in attentions) as queries, recorded(a.key for a in attentions) as keys:
        yield scores
    for attention, query, key in zip(attentions, queries, keys, strict=True):
        scores.append(attention_scores(query, key, attention.num_attention_heads))


@contextmanager
def first_layers(encoder: Any, count: int) -> Iterator[None]:
    """While open, the encoder has only its first `count` layers, and a forward pass costs no more than they do."""
    layers = encoder.layer
    encoder.layer = layers[:count]
    try:
        yield
    finally:
        encoder.layer = layers
