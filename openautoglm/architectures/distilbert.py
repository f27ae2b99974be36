"""DistilBERT (arXiv 1910.01108): some of BERT's layers, at its width, without token types."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from openautoglm.parts import Dropped, Layer, Sublayer, dropped, trim_table

READS = "first"


def build(config: dict[str, Any]) -> Any:
    """A DistilBertForSequenceClassification with fresh weights in the shape of `config`."""
    return DistilBertForSequenceClassification(DistilBertConfig.from_dict(dict(config)))


def shaped_like(bert: Any, layers: int) -> Any:
    """A student with fresh weights, `layers` deep and otherwise as wide as `bert`, a BertForSequenceClassification."""
    teacher = bert.config
    return build(
        {
            "model_type": "distilbert",
            "vocab_size": teacher.vocab_size,
            "max_position_embeddings": teacher.max_position_embeddings,
            "n_layers": layers,
            "n_heads": teacher.num_attention_heads,
            "dim": teacher.hidden_size,
            "hidden_dim": teacher.intermediate_size,
            "activation": teacher.hidden_act,
            "pad_token_id": teacher.pad_token_id,
            "num_labels": teacher.num_labels,
        }
    )


@torch.no_grad()
def copy_from(student: Any, bert: Any, layers: Sequence[int]) -> None:
    """Start `student` from the embeddings, the head and the given layers of `bert`.

    The vector of token type 0, which BERT adds to every piece, goes into the positions: the same sum.
    """
    inner, outer = student.distilbert, bert.bert
    table = outer.embeddings
    inner.embeddings.word_embeddings.load_state_dict(table.word_embeddings.state_dict())
    inner.embeddings.position_embeddings.weight.copy_(
        table.position_embeddings.weight + table.token_type_embeddings.weight[0]
    )
    inner.embeddings.LayerNorm.load_state_dict(table.LayerNorm.state_dict())
    for block, number in zip(inner.transformer.layer, layers, strict=True):
        source = outer.encoder.layer[number]
        pairs = {
            block.attention.q_lin: source.attention.self.query,
            block.attention.k_lin: source.attention.self.key,
            block.attention.v_lin: source.attention.self.value,
            block.attention.out_lin: source.attention.output.dense,
            block.sa_layer_norm: source.attention.output.LayerNorm,
            block.ffn.lin1: source.intermediate.dense,
            block.ffn.lin2: source.output.dense,
            block.output_layer_norm: source.output.LayerNorm,
        }
        for ours, theirs in pairs.items():
            ours.load_state_dict(theirs.state_dict())
    student.pre_classifier.load_state_dict(outer.pooler.dense.state_dict())
    student.classifier.load_state_dict(bert.classifier.state_dict())


def layers(model: Any) -> list[Layer]:
    """Handles into every encoder layer."""
    return [_layer(block) for block in model.distilbert.transformer.layer]


def _layer(block: Any) -> Layer:
    attention, ffn = block.attention, block.ffn
    return Layer(
        attention=dropped(attention)
        if isinstance(attention, Dropped)
        else Sublayer(
            (attention.q_lin, attention.k_lin, attention.v_lin),
            attention.out_lin,
            width=attention.attention_head_size,
            drop=partial(_drop_attention, block),
        ),
        ffn=dropped(ffn)
        if isinstance(ffn, Dropped)
        else Sublayer((ffn.lin1,), ffn.lin2, width=1, drop=partial(_drop_ffn, block)),
    )


def _drop_attention(block: Any) -> None:
    block.attention = Dropped(block.attention.out_lin.bias, attention=True)


def _drop_ffn(block: Any) -> None:
    block.ffn = Dropped(block.ffn.lin2.bias)


def trim_positions(model: Any, length: int) -> None:
    """Positions start at 0."""
    trim_table(model, model.distilbert.embeddings, length)


def shape(model: Any) -> dict[str, Any]:
    """Nothing of its own."""
    return {}
