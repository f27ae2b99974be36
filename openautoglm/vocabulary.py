"""Keep the word pieces that a task uses. The model becomes specific to the task, and its summary says so.

Every single character stays (and its ## form, where it can stand inside a word; of a byte-level vocabulary, every
byte), so that a word outside the vocabulary decomposes instead of becoming [UNK]. Ids keep their order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from openautoglm import architectures


def trim(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> tuple[Tokenizer, list[int]]:
    """A tokenizer with the `size` most used pieces of `texts`, and the old ids of its pieces in order.

    Special pieces and characters are kept first, and count. A text whose pieces are all kept is cut as before: a BPE
    piece stays with every shorter piece that its merges pass through. ValueError where the vocabulary is neither
    WordPiece nor byte-level BPE.
    """
    state = json.loads(tokenizer.to_str())
    kind = _kind(state)
    vocabulary = dict(state["model"]["vocab"]) | {token["content"]: token["id"] for token in state["added_tokens"]}
    pieces = {i: piece for piece, i in vocabulary.items()}
    special = {token["content"] for token in state["added_tokens"]}
    kept = {piece for piece in vocabulary if piece in special or _is_needed_character(tokenizer, piece)}
    merges = _Merges(state["model"].get("merges", []))
    counts: Counter[int] = Counter()
    for encoding in _untruncated(tokenizer).encode_batch_fast(list(texts)):
        counts.update(encoding.ids)
    for i, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        needed = {pieces[i]} | (merges.passed_through(pieces[i]) if kind == "BPE" else set())
        if len(kept | needed) > size:
            break
        kept |= needed
    old_ids = sorted(vocabulary[piece] for piece in kept)
    return _with_vocabulary(state, {pieces[old]: new for new, old in enumerate(old_ids)}), old_ids


def _is_needed_character(tokenizer: Tokenizer, piece: str) -> bool:
    """A character, or a ## form that some word can hold: not of a mark that is cut off, or normalised away."""
    character = piece.removeprefix("##")
    if len(character) != 1 or character == piece:
        return len(character) == 1
    text = tokenizer.normalizer.normalize_str(f"a{character}") if tokenizer.normalizer else f"a{character}"
    words = tokenizer.pre_tokenizer.pre_tokenize_str(text) if tokenizer.pre_tokenizer else [(text, None)]
    return any(word.endswith(f"a{character}") for word, _ in words)


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
        "byte-level pre-tokenizer. Set vocabulary_size to null."
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
