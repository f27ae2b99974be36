"""MobileBERT (arXiv 2004.02984): thin layers between bottlenecks, stacked FFNs, trigram embedding, NoNorm."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MobileBertConfig, MobileBertForSequenceClassification

from openautoglm.distillation.embedding import leading_directions


def build(config: dict[str, Any]) -> Any:
    """A MobileBertForSequenceClassification with fresh weights in the shape of `config`."""
    return MobileBertForSequenceClassification(MobileBertConfig.from_dict(dict(config)))


def shaped_like(bert: Any) -> Any:
    """A student with fresh weights, as deep and, between its layers, as wide as `bert`; no dropout, as published.

    The published ratios: bottleneck and embedding a quarter of the width (128 / 512), four stacked FFNs a layer, each
    widening the bottleneck 4 times.
    """
    teacher = bert.config
    heads = teacher.num_attention_heads
    bottleneck = max(1, teacher.hidden_size // 4 // heads) * heads
    return build(
        {
            "model_type": "mobilebert",
            "vocab_size": teacher.vocab_size,
            "embedding_size": bottleneck,
            "trigram_input": True,
            "hidden_size": teacher.hidden_size,
            "intra_bottleneck_size": bottleneck,
            "intermediate_size": 4 * bottleneck,
            "num_feedforward_networks": 4,
            "num_hidden_layers": teacher.num_hidden_layers,
            "num_attention_heads": heads,
            "normalization_type": "no_norm",
            "attention_probs_dropout_prob": 0.0,
            "classifier_activation": False,  # the authors' setting: the classifier reads the first piece, no pooler
            "max_position_embeddings": teacher.max_position_embeddings,
            "type_vocab_size": teacher.type_vocab_size,
            "pad_token_id": teacher.pad_token_id,
            "num_labels": teacher.num_labels,
        }
    )


@torch.no_grad()
def copy_from(student: Any, bert: Any) -> None:
    """Start the embedding of `student` from that of `bert`, which the layerwise transfer leaves alone (section 3.4).

    The word table is wider there: ours is its best approximation of that rank (SVD), unfolded by the middle third of
    the trigram's linear; the neighbours' thirds start at zero. NoNorm takes the layer norm's gain over the mean
    deviation of the teacher's words, so that both give features of the same size.
    """
    ours, theirs = student.mobilebert.embeddings, bert.bert.embeddings
    words = theirs.word_embeddings.weight
    rank = student.config.embedding_size
    basis = leading_directions(words, rank)  # (hidden, rank)
    ours.word_embeddings.weight.copy_(words @ basis)
    ours.word_embeddings.weight[student.config.pad_token_id] = 0  # beyond the text there is nothing, padded or not
    ours.embedding_transformation.weight.zero_()
    ours.embedding_transformation.weight[:, rank : 2 * rank] = basis
    ours.embedding_transformation.bias.zero_()
    for name in ("position_embeddings", "token_type_embeddings"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    typical = words + theirs.position_embeddings.weight.mean(0) + theirs.token_type_embeddings.weight[0]
    gain = theirs.LayerNorm.weight / typical.std(-1).mean()
    ours.LayerNorm.weight.copy_(gain)
    ours.LayerNorm.bias.copy_(theirs.LayerNorm.bias - gain * typical.mean())


def shape(model: Any) -> dict[str, Any]:
    """Its bottleneck and its stacked FFNs."""
    config = model.config
    return {"bottleneck": config.intra_bottleneck_size, "ffns_per_layer": config.num_feedforward_networks}
