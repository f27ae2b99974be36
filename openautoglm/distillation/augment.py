"""TinyBERT's data augmentation (arXiv 1909.10351, algorithm 1), on word pieces and vectorised.

Each word is replaced with probability p by one of its M nearest words. The paper asks a masked language model for
words of one piece and GloVe for the others; here both come from the teacher's own embedding table, a word of several
pieces being the mean of their rows. Stop words, numbers and punctuation stay.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from openautoglm.distillation.data import Encoded
from openautoglm.vocabulary import special_ids

# fmt: off
STOP_WORDS = frozenset({
    "a", "about", "above", "after", "again", "against", "all", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "being", "below", "between", "both", "but", "by", "can", "did", "do", "does",
    "doing", "don", "down", "during", "each", "few", "for", "from", "further", "had", "has", "have", "having", "he",
    "her", "here", "hers", "herself", "him", "himself", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "itself", "just", "me", "more", "most", "my", "myself", "no", "nor", "not", "now", "of", "off", "on", "once",
    "only", "or", "other", "our", "ours", "ourselves", "out", "over", "own", "s", "same", "she", "should", "so",
    "some", "such", "t", "than", "that", "the", "their", "theirs", "them", "themselves", "then", "there", "these",
    "they", "this", "those", "through", "to", "too", "under", "until", "up", "very", "was", "we", "were", "what",
    "when", "where", "which", "while", "who", "whom", "why", "will", "with", "you", "your", "yours", "yourself",
    "yourselves", "ll", "ve", "re", "d", "m",
})
# fmt: on
Word = tuple[int, ...]  # its word pieces


def augment(
    examples: Encoded,
    embedding: Tensor,
    tokenizer: Tokenizer,
    *,
    copies: int,
    probability: float = 0.4,
    candidates: int = 15,
    generator: torch.Generator,
) -> Encoded:
    """The examples, followed by `copies` changed copies of each, with its label.

    `embedding` (V, W) is the teacher's word table. The same generator state gives the same copies; two copies may be
    alike.
    """
    pieces = _Pieces(tokenizer, len(embedding))
    texts = [pieces.words(ids) for ids in examples.ids]
    number: dict[Word, int] = {word: i for i, word in enumerate(dict.fromkeys(w for text in texts for w in text))}
    neighbours = _neighbours(list(number), pieces, embedding, candidates)  # (words, candidates)
    flat = torch.tensor([number[word] for text in texts for word in text])
    ids = list(examples.ids)
    for _ in range(copies):
        choice = torch.randint(candidates, (len(flat),), generator=generator)
        new = neighbours[flat, choice]
        new[torch.rand(len(flat), generator=generator) >= probability] = -1
        drawn = iter(new.tolist())
        ids += [[i for word in text for i in _or(next(drawn), word)] for text in texts]
    return Encoded(ids, examples.labels.repeat(copies + 1))


def _or(replacement: int, word: Word) -> Word:
    return word if replacement < 0 else (replacement,)


class _Pieces:
    """What augmentation must know of each word piece, by id."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        texts = [tokenizer.id_to_token(i) or "" for i in range(size)]
        special = special_ids(tokenizer)
        self.continues = [text.startswith("##") for text in texts]  # goes on with the word before it
        self.replaceable = [t.isalpha() and i not in special and t not in STOP_WORDS for i, t in enumerate(texts)]
        self.candidates = [ok and len(text) > 1 for ok, text in zip(self.replaceable, texts, strict=True)]

    def words(self, ids: list[int]) -> list[Word]:
        """A text's ids, cut into words."""
        words: list[Word] = []
        for i in ids:
            if self.continues[i] and words:
                words[-1] += (i,)
            else:
                words.append((i,))
        return words


def _neighbours(words: list[Word], pieces: _Pieces, embedding: Tensor, count: int) -> Tensor:
    """(words, count) ids of the nearest whole words by cosine, never the word itself; -1 where it must stay."""
    result = torch.full((len(words), count), -1)
    candidates = torch.tensor(pieces.candidates).nonzero()[:, 0]
    replaced = torch.tensor([n for n, word in enumerate(words) if pieces.replaceable[word[0]]], dtype=torch.long)
    if len(replaced) == 0 or len(candidates) <= count:
        return result
    table = F.normalize(embedding.float()[candidates], dim=-1)
    for chunk in replaced.split(2048):
        chosen = [words[n] for n in chunk.tolist()]
        vectors = torch.stack([embedding[list(word)].float().mean(0) for word in chosen])
        similarity = F.normalize(vectors, dim=-1) @ table.T  # (chunk, candidates)
        itself = torch.tensor([word[0] if len(word) == 1 else -1 for word in chosen])
        similarity.masked_fill_(itself[:, None] == candidates, -2.0)
        result[chunk] = candidates[similarity.topk(count).indices]
    return result
