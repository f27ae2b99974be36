"""ALBERT (arXiv 1909.11942): a factorised word embedding, and one layer's weights used at every depth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AlbertConfig, AlbertForSequenceClassification

from openautoglm.distillation.embedding import copy_tables, fit_linear
from openautoglm.parts import Layer, Sublayer, trim_table

READS = "first"


def build(config: dict[str, Any]) -> Any:
    """An AlbertForSequenceClassification with fresh weights in the shape of `config`."""
    return AlbertForSequenceClassification(AlbertConfig.from_dict(dict(config)))


def shaped_like(bert: Any, embedding_size: int) -> Any:
    """A student with fresh weights, as deep and as wide as `bert`, a BertForSequenceClassification."""
    teacher = bert.config
    return build(
        {
            "model_type": "albert",
            "vocab_size": teacher.vocab_size,
            "embedding_size": embedding_size,
            "hidden_size": teacher.hidden_size,
            "num_hidden_layers": teacher.num_hidden_layers,
            "num_hidden_groups": 1,
            "inner_group_num": 1,
            "num_attention_heads": teacher.num_attention_heads,
            "intermediate_size": teacher.intermediate_size,
            "hidden_act": teacher.hidden_act,
            "max_position_embeddings": teacher.max_position_embeddings,
            "type_vocab_size": teacher.type_vocab_size,
            "layer_norm_eps": teacher.layer_norm_eps,
            "pad_token_id": teacher.pad_token_id,
            "num_labels": teacher.num_labels,
        }
    )


@torch.no_grad()
def copy_from(student: Any, bert: Any, layer: int) -> None:
    """Start the shared layer of `student` from layer `layer` (0 is the first) of `bert`, and the head from its head."""
    block, source = student.albert.encoder.albert_layer_groups[0].albert_layers[0], bert.bert.encoder.layer[layer]
    pairs = {
        block.attention.query: source.attention.self.query,
        block.attention.key: source.attention.self.key,
        block.attention.value: source.attention.self.value,
        block.attention.dense: source.attention.output.dense,
        block.attention.LayerNorm: source.attention.output.LayerNorm,
        block.ffn: source.intermediate.dense,
        block.ffn_output: source.output.dense,
        block.full_layer_layer_norm: source.output.LayerNorm,
        student.albert.pooler: bert.bert.pooler.dense,
        student.classifier: bert.classifier,
    }
    for ours, theirs in pairs.items():
        ours.load_state_dict(theirs.state_dict())


@torch.no_grad()
def factorise_embedding(student: Any, bert: Any, input_ids: Tensor) -> None:
    """Start the factorised embedding of `student` from that of `bert`.

    The tables come from the SVD of the word table. A layer norm follows in E dimensions, so the projection behind it
    is the least squares fit to what the embeddings of `bert` give for `input_ids` (B, L), a sample of texts.
    """
    ours, theirs = student.albert.embeddings, bert.bert.embeddings
    copy_tables(ours, theirs)
    inputs, targets = ours.eval()(input_ids).flatten(0, 1), theirs(input_ids).flatten(0, 1)
    fit_linear(student.albert.encoder.embedding_hidden_mapping_in, inputs, targets)


def layers(model: Any) -> list[Layer]:
    """The layers whose weights are stored, usually one: what goes from it goes at every depth."""
    stored = [block for group in model.albert.encoder.albert_layer_groups for block in group.albert_layers]
    return [
        Layer(
            attention=Sublayer(
                (block.attention.query, block.attention.key, block.attention.value),
                block.attention.dense,
                width=block.attention.attention_head_size,
                drop=_refuse,
            ),
            ffn=Sublayer((block.ffn,), block.ffn_output, width=1, drop=_refuse),
        )
        for block in stored
    ]


def _refuse() -> None:
    raise ValueError("A sub-layer of ALBERT runs at every depth and cannot be dropped: keep a head and a neuron.")


def trim_positions(model: Any, length: int) -> None:
    """Positions start at 0."""
    trim_table(model, model.albert.embeddings, length)


def shape(model: Any) -> dict[str, Any]:
    """Its one layer's widths hold at every depth."""
    (layer,) = layers(model)
    return {"shared": True, "heads": layer.heads, "ffn": layer.neurons}
