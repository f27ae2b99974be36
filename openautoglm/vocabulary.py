"""Keep the word pieces that a task uses. The model becomes specific to the task, and its summary says so.

Every single character stays (and its ## form, where it can stand inside a word; of a byte-level vocabulary, every
byte), so that a word outside the vocabulary decomposes instead of becoming [UNK].
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from openautoglm import architectures


def trim(tokenizer: Tokenizer, texts: Sequence[str], size: int | None) -> tuple[Tokenizer, list[int]]:
    """A tokenizer with `size` pieces (None: all that can occur), and their old ids in the order of the new ones.

    Special pieces and characters are kept first, then the most used pieces of `texts`. Where these use fewer, the
    lowest ids fill up: a vocabulary is sorted by how frequent its pieces were where it was made, and other texts will
    use them. New ids go from the special and the most used pieces to the least. A text whose pieces are all kept is cut
    as before: a BPE piece stays with every shorter piece that its merges pass through. ValueError where the vocabulary
    is neither WordPiece nor byte-level BPE.
    """
    state = json.loads(tokenizer.to_str())
    kind = _kind(state)
    vocabulary = dict(state["model"]["vocab"]) | {token["content"]: token["id"] for token in state["added_tokens"]}
    special = {token["content"] for token in state["added_tokens"]}
    counts: Counter[int] = Counter()
    for encoding in _untruncated(tokenizer).encode_batch_fast(list(texts)):
        counts.update(encoding.ids)
    used = {piece: inf if piece in special else counts[i] for piece, i in vocabulary.items()}
    ranked = sorted(vocabulary, key=lambda piece: (-used[piece], vocabulary[piece]))
    if kind == "WordPiece":
        ranked = [piece for piece in ranked if piece in special or _can_occur(tokenizer, piece)]
    if size is not None:
        merges = _Merges(state["model"].get("merges", []))
        kept = {piece for piece in ranked if piece in special or len(piece.removeprefix("##")) == 1}
        for piece in ranked:
            needed = {piece} | (merges.passed_through(piece) if kind == "BPE" else set())
            if len(kept) + len(needed - kept) > size:
                break
            kept |= needed
        ranked = [piece for piece in ranked if piece in kept]
    return _with_vocabulary(state, {piece: new for new, piece in enumerate(ranked)}), [vocabulary[p] for p in ranked]


def special_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the pieces that stand for no text ([CLS], <s>)."""
    return [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]


def _can_occur(tokenizer: Tokenizer, piece: str) -> bool:
    """Whether some word can hold the piece of a WordPiece vocabulary: no [unused7], no mark that is normalised away."""
    start, rest = ("a", piece[2:]) if piece.startswith("##") and len(piece) > 2 else ("", piece)
    text = tokenizer.normalizer.normalize_str(start + rest) if tokenizer.normalizer else start + rest
    words = tokenizer.pre_tokenizer.pre_tokenize_str(text) if tokenizer.pre_tokenizer else [(text, None)]
    return [word for word, _ in words] == [start + rest]


def keep_rows(model: Any, old_ids: list[int]) -> None:
    """Keep the word embedding's rows of the pieces that `trim` kept, in place; the config's ids follow."""
    table = architectures.word_embedding(model)
    rows = table.weight.detach()[torch.tensor(old_ids, device=table.weight.device)].clone()
    architectures.set_word_embedding(model, nn.Embedding.from_pretrained(rows, freeze=False))
    new_ids = {old: new for new, old in enumerate(old_ids)}
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        old: Any = getattr(model.config, name, None)
        moved = [new_ids[i] for i in old if i in new_ids] if isinstance(old, list) else new_ids.get(old)
        setattr(model.config, name, moved)


def _kind(state: dict[str, Any]) -> str:
    """ "WordPiece" or "BPE" (byte-level); ValueError for others."""
    model, cut = state["model"], state["pre_tokenizer"] or {}
    steps = [cut, *cut.get("pretokenizers", [])]
    byte_level = any(step.get("type") == "ByteLevel" for step in steps)
    marked = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model["type"] == "WordPiece" or (model["type"] == "BPE" and byte_level and not marked):
        return model["type"]
    raise ValueError(
        f"Only WordPiece and byte-level BPE vocabularies can be trimmed; this tokenizer is {model['type']} without a "
        "byte-level pre-tokenizer. Set vocabulary_size and embedding_codes to null."
    )


class _Merges:
    """The merges of a BPE model, in the order of their priority."""

    def __init__(self, merges: list[list[str]]) -> None:
        self.rank = {(left, right): i for i, (left, right) in enumerate(merges)}

    def passed_through(self, piece: str) -> set[str]:
        """The pieces that become `piece` step by step. They do not depend on the text around: in a text that is cut
        into `piece` at all, no merge reached across its borders.
        """
        parts, seen = list(piece), set(piece)
        while True:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: self.rank.get(pair, len(self.rank)), default=None)
            if best not in self.rank:
                return seen
            at = pairs.index(best)
            parts[at : at + 2] = ["".join(best)]
            seen.add(parts[at])


def _untruncated(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _with_vocabulary(state: dict[str, Any], vocabulary: dict[str, int]) -> Tokenizer:
    model = state["model"]
    model["vocab"] = vocabulary
    if "merges" in model:
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if left in vocabulary and right in vocabulary and left + right in vocabulary
        ]
    for token in state["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    if state["padding"]:
        state["padding"]["pad_id"] = vocabulary[state["padding"]["pad_token"]]
    _renumber(state["post_processor"] or {}, vocabulary)
    return Tokenizer.from_str(json.dumps(state))


def _renumber(processor: dict[str, Any], vocabulary: dict[str, int]) -> None:
    """Give the pieces that a post-processor adds their new ids: templates, BERT's and RoBERTa's own, sequences."""
    for name, token in processor.get("special_tokens", {}).items():
        token["ids"] = [vocabulary[name]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = vocabulary[processor[name][0]]
    for inner in processor.get("processors", []):
        _renumber(inner, vocabulary)
