"""Model families. One file a family, named like the `model_type` of its config; a new family is one new file.

A family's file offers

    build(config)                  a model with fresh weights in the shape of `config`, before anything was made smaller
    shape(model)                   what is the family's own in the shape, for readers (a dict, or more often nothing)

and, where the family can be compressed and not only be a student,

    READS = "first" or "last"      the piece whose state the head reads
    layers(model)                  its layers, first to last: handles to what can be sliced (openautoglm.parts.Layer)
    trim_positions(model, length)  keep the position embeddings that texts of `length` pieces need

The model's forward takes `input_ids` and `attention_mask`, padded on the right with any id, and answers with `.logits`
and, where asked, `.hidden_states`. What was made smaller stands in its config (`slices`, `embedding_rank` or
`embedding_codes` and `whole_rows`, `linear_ranks`), so that `build` makes it again.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from openautoglm import factors
from openautoglm.parts import CodedEmbedding, FactorisedEmbedding, Layer, Sublayer
from openautoglm.task import SHORTEST

MADE_SMALLER = ("slices", "embedding_rank", "embedding_codes", "linear_ranks")
KNOWN = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def family(model_type: str) -> ModuleType:
    """The module of a model family; ValueError names the known ones."""
    if model_type not in KNOWN:
        raise ValueError(f"Model type {model_type!r} is not supported; known: {', '.join(KNOWN)}.")
    return importlib.import_module(f"openautoglm.architectures.{model_type}")


def build(config: dict[str, Any]) -> Any:
    """A model with fresh weights in the shape that `config` (config.json) describes."""
    model = family(config.get("model_type", "(missing)")).build(config)
    if config.get("slices"):
        for layer, kept in zip(layers(model), config["slices"], strict=True):
            layer.attention.keep(torch.arange(kept["heads"]))
            layer.ffn.keep(torch.arange(kept["neurons"]))
    if rank := config.get("embedding_rank"):
        table = word_embedding(model)
        set_word_embedding(model, FactorisedEmbedding(table.num_embeddings, rank, table.embedding_dim))
    if codes := config.get("embedding_codes"):
        table, whole = word_embedding(model), config["whole_rows"]
        set_word_embedding(model, CodedEmbedding(whole, table.num_embeddings - whole, codes, table.embedding_dim))
    return factors.restore(model, config.get("linear_ranks") or {})


def adopt(model: Any) -> Any:
    """A copy in float32 of a transformers model, as its family builds it; ValueError where the family is unknown."""
    made = build(model.config.to_dict())
    made.load_state_dict(model.state_dict())
    return made


def layers(model: Any) -> list[Layer]:
    """Handles into every layer of `model`, first to last; ValueError for a family that cannot be sliced."""
    return _compressible(model).layers(model)


def sublayers(model: Any) -> list[Sublayer]:
    """The attention and the FFN of every layer, first to last; ValueError as `layers`."""
    return [part for layer in layers(model) for part in (layer.attention, layer.ffn)]


def record_slices(model: Any) -> None:
    """Write the present widths of every layer into the config, so that `build` makes them again."""
    model.config.slices = [{"heads": layer.heads, "neurons": layer.neurons} for layer in layers(model)]


def trim_positions(model: Any, length: int) -> None:
    """Keep the position embeddings that texts of `length` pieces need: inputs are cut at that length anyway. Tracing
    and its checks need SHORTEST.
    """
    _compressible(model).trim_positions(model, max(length, SHORTEST))


def word_embedding(model: Any) -> Any:
    """The word embedding: nn.Embedding, or what made it smaller (FactorisedEmbedding, CodedEmbedding)."""
    return model.get_input_embeddings()


def set_word_embedding(model: Any, embedding: Any) -> None:
    """Replace the word embedding, and say its shape in the config."""
    model.set_input_embeddings(embedding)
    model.config.embedding_rank = model.config.embedding_codes = model.config.whole_rows = None
    if isinstance(embedding, CodedEmbedding):
        coded, model.config.embedding_codes = embedding.codes.shape
        model.config.whole_rows = embedding.whole.num_embeddings
        model.config.vocab_size = model.config.whole_rows + coded
    elif isinstance(embedding, FactorisedEmbedding):
        model.config.vocab_size, model.config.embedding_rank = embedding.table.weight.shape
    else:
        model.config.vocab_size = embedding.num_embeddings


def made_smaller(model: Any) -> list[str]:
    """What of a model was compressed before, in the words of its config: slices, linear_ranks, ..."""
    return [name for name in MADE_SMALLER if getattr(model.config, name, None)]


def read_state(model: Any, states: Tensor, attention_mask: Tensor) -> Tensor:
    """The state that the head reads: (batch, length, hidden) -> (batch, hidden)."""
    if _compressible(model).READS == "first":
        return states[:, 0]
    return states[torch.arange(len(states), device=states.device), attention_mask.sum(1) - 1]


def shape(model: Any) -> dict[str, Any]:
    """The model's shape, for readers: layers, widths (one for all layers, or a list), sizes."""
    config, module = model.config, family(model.config.model_type)
    if hasattr(module, "layers"):
        found = module.layers(model)
        heads: Any = [layer.heads for layer in found]
        ffn: Any = [layer.neurons for layer in found]
    else:
        heads, ffn = config.num_attention_heads, config.intermediate_size
    return {
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "heads": heads,
        "ffn": ffn,
        "vocabulary": config.vocab_size,
        "embedding_size": _embedding_size(model),
        **module.shape(model),
    }


def _embedding_size(model: Any) -> int:
    """Numbers a word piece has: the table's width, the rank, or the codes."""
    config = model.config
    made_smaller = getattr(config, "embedding_rank", None) or getattr(config, "embedding_codes", None)
    return made_smaller or word_embedding(model).embedding_dim


def _compressible(model: Any) -> ModuleType:
    module = family(model.config.model_type)
    if hasattr(module, "layers"):
        return module
    able = ", ".join(name for name in KNOWN if hasattr(family(name), "layers"))
    raise ValueError(f"A {model.config.model_type} model cannot be compressed further; these families can: {able}.")
