"""Keep the word pieces that a task uses. The model becomes specific to the task, and its summary says so.

Every single character (and its ## form) stays, so that a word outside the vocabulary decomposes instead of becoming
[UNK]. Ids keep their order, so [PAD] stays 0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn


def trim(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> tuple[Tokenizer, list[int]]:
    """A WordPiece tokenizer with the `size` most used pieces of `texts`, and the old ids of its pieces in order.

    Special pieces and characters are kept first, and count. ValueError for another kind of tokenizer.
    """
    state = json.loads(tokenizer.to_str())
    if state["model"]["type"] != "WordPiece":
        raise ValueError(f"Only WordPiece vocabularies can be trimmed; this tokenizer is {state['model']['type']}.")
    vocabulary: dict[str, int] = state["model"]["vocab"]
    special = {token["content"] for token in state["added_tokens"]}
    needed = [piece for piece in vocabulary if piece in special or len(piece.removeprefix("##")) == 1]
    counts: Counter[int] = Counter()
    for encoding in _untruncated(tokenizer).encode_batch_fast(list(texts)):
        counts.update(encoding.ids)
    pieces = {i: piece for piece, i in vocabulary.items()}
    used = [pieces[i] for i, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    kept = set(needed)
    for piece in used:
        if len(kept) >= size:
            break
        kept.add(piece)
    old_ids = sorted(vocabulary[piece] for piece in kept)
    return _with_vocabulary(state, {pieces[old]: new for new, old in enumerate(old_ids)}), old_ids


def _untruncated(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _with_vocabulary(state: dict[str, Any], vocabulary: dict[str, int]) -> Tokenizer:
    state["model"]["vocab"] = vocabulary
    for token in state["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    for name, token in (state["post_processor"] or {}).get("special_tokens", {}).items():
        token["ids"] = [vocabulary[name]]
    return Tokenizer.from_str(json.dumps(state))


def select_rows(embedding: nn.Embedding, old_ids: list[int]) -> nn.Embedding:
    """The rows of the kept pieces."""
    return nn.Embedding.from_pretrained(embedding.weight.detach()[torch.tensor(old_ids)].clone(), freeze=False)
