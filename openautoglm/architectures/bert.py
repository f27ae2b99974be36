"""BERT encoders with a classification head: where heads, FFN neurons and the embedding lie, and thinner copies of them.

A pruned model keeps its thinner shapes in the config (`slices`, `embedding_rank`), so that it loads again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification


@dataclass(frozen=True)
class Layer:
    """The six linears of an encoder layer; a head is a block of `head_size` rows of query, key and value."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    up: nn.Linear
    down: nn.Linear
    head_size: int

    @property
    def heads(self) -> int:
        """Attention heads that are left."""
        return self.query.out_features // self.head_size

    @property
    def neurons(self) -> int:
        """FFN neurons that are left."""
        return self.up.out_features


class FactorisedEmbedding(nn.Module):
    """A word embedding of rank r: table (vocabulary, r) times projection (r, hidden)."""

    def __init__(self, vocabulary: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, rank)
        self.projection = nn.Linear(rank, hidden, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, length) ids -> (batch, length, hidden)."""
        return self.projection(self.table(input_ids))


def build(config: dict[str, Any]) -> Any:
    """A BertForSequenceClassification in the shape of `config`, thinner where `slices` and `embedding_rank` say so."""
    model = BertForSequenceClassification(BertConfig.from_dict(dict(config)))
    for layer, kept in zip(layers(model), config.get("slices") or [], strict=False):
        width = kept["heads"] * layer.head_size
        for linear in (layer.query, layer.key, layer.value):
            narrow(linear, rows=torch.arange(width))
        narrow(layer.attention_output, columns=torch.arange(width))
        narrow(layer.up, rows=torch.arange(kept["neurons"]))
        narrow(layer.down, columns=torch.arange(kept["neurons"]))
    if rank := config.get("embedding_rank"):
        set_word_embedding(model, FactorisedEmbedding(config["vocab_size"], rank, config["hidden_size"]))
    return model


def layers(model: Any) -> list[Layer]:
    """Handles into every encoder layer of `model`, first to last."""
    return [
        Layer(
            query=block.attention.self.query,
            key=block.attention.self.key,
            value=block.attention.self.value,
            attention_output=block.attention.output.dense,
            up=block.intermediate.dense,
            down=block.output.dense,
            head_size=block.attention.self.attention_head_size,
        )
        for block in model.bert.encoder.layer
    ]


def record_slices(model: Any) -> None:
    """Write the present widths of every layer into the config, so that `build` makes them again."""
    model.config.slices = [{"heads": layer.heads, "neurons": layer.neurons} for layer in layers(model)]


def word_embedding(model: Any) -> Any:
    """The word embedding: nn.Embedding, or FactorisedEmbedding after factorisation."""
    return model.bert.embeddings.word_embeddings


def set_word_embedding(model: Any, embedding: nn.Module) -> None:
    """Replace the word embedding, and say its shape in the config."""
    model.bert.embeddings.word_embeddings = embedding
    table = embedding.table if isinstance(embedding, FactorisedEmbedding) else embedding
    model.config.vocab_size = table.num_embeddings
    model.config.embedding_rank = table.embedding_dim if isinstance(embedding, FactorisedEmbedding) else None


def trim_positions(model: Any, length: int) -> None:
    """Keep the first `length` position embeddings: inputs are cut at that length anyway."""
    embeddings = model.bert.embeddings
    table = embeddings.position_embeddings
    if length >= table.num_embeddings:
        return
    embeddings.position_embeddings = nn.Embedding.from_pretrained(table.weight[:length].clone(), freeze=False)
    embeddings.position_ids = embeddings.position_ids[:, :length].clone()
    embeddings.token_type_ids = embeddings.token_type_ids[:, :length].clone()
    model.config.max_position_embeddings = length


@torch.no_grad()
def narrow(linear: nn.Linear, *, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Keep some outputs (rows) or inputs (columns) of a linear, in place."""
    if rows is not None:
        linear.weight = nn.Parameter(linear.weight[rows].clone())
        linear.bias = nn.Parameter(linear.bias[rows].clone())
        linear.out_features = len(rows)
    if columns is not None:
        linear.weight = nn.Parameter(linear.weight[:, columns].clone())
        linear.in_features = len(columns)


def shape(model: Any) -> dict[str, Any]:
    """The model's shape, for readers."""
    config, widths = model.config, layers(model)
    return {
        "layers": len(widths),
        "hidden_size": config.hidden_size,
        "heads": [layer.heads for layer in widths],
        "ffn": [layer.neurons for layer in widths],
        "vocabulary": config.vocab_size,
        "embedding_size": getattr(config, "embedding_rank", None) or config.hidden_size,
    }
