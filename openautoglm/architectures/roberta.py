"""RoBERTa (arXiv 1907.11692): BERT's layers, byte-level BPE, and positions that start behind the padding's id."""

from __future__ import annotations

from typing import Any

from transformers import RobertaConfig, RobertaForSequenceClassification

from openautoglm.architectures.bert import layer_of
from openautoglm.parts import Layer, trim_table

READS = "first"


def build(config: dict[str, Any]) -> Any:
    """A RobertaForSequenceClassification with fresh weights in the shape of `config`."""
    return RobertaForSequenceClassification(RobertaConfig.from_dict(dict(config)))


def layers(model: Any) -> list[Layer]:
    """Handles into every encoder layer."""
    return [layer_of(block) for block in model.roberta.encoder.layer]


def trim_positions(model: Any, length: int) -> None:
    """The first piece's position is padding_idx + 1."""
    embeddings = model.roberta.embeddings
    trim_table(model, embeddings, length + embeddings.padding_idx + 1)


def shape(model: Any) -> dict[str, Any]:
    """Nothing of its own."""
    return {}
