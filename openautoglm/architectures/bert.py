"""BERT (arXiv 1810.04805) with a classification head."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from openautoglm.parts import Dropped, Layer, Sublayer, dropped, trim_table

READS = "first"


def build(config: dict[str, Any]) -> Any:
    """A BertForSequenceClassification with fresh weights in the shape of `config`."""
    return BertForSequenceClassification(BertConfig.from_dict(dict(config)))


def layers(model: Any) -> list[Layer]:
    """Handles into every encoder layer."""
    return [layer_of(block) for block in model.bert.encoder.layer]


def layer_of(block: Any) -> Layer:
    """The sub-layers of a layer that is built as BERT's is."""
    attention, inner = block.attention.output.dense, block.attention.self
    down = block.output.dense
    return Layer(
        attention=dropped(attention)
        if isinstance(attention, Dropped)
        else Sublayer(
            (inner.query, inner.key, inner.value),
            attention,
            width=inner.attention_head_size,
            drop=partial(_drop_attention, block.attention),
        ),
        ffn=dropped(down)
        if isinstance(down, Dropped)
        else Sublayer((block.intermediate.dense,), down, width=1, drop=partial(_drop_ffn, block)),
    )


def _drop_attention(attention: Any) -> None:
    attention.self = Dropped(attention=True)
    attention.output.dense = Dropped(attention.output.dense.bias)


def _drop_ffn(block: Any) -> None:
    block.intermediate = nn.Identity()
    block.output.dense = Dropped(block.output.dense.bias)


def trim_positions(model: Any, length: int) -> None:
    """Positions start at 0."""
    trim_table(model, model.bert.embeddings, length)


def shape(model: Any) -> dict[str, Any]:
    """Nothing of its own."""
    return {}
