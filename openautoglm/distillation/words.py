"""Hidden states of teacher and student, word by word: a trimmed vocabulary cuts a word into other pieces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from openautoglm.distillation.data import limited


def words_of(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[Tensor]:
    """Of each text, which word each piece belongs to, (pieces,); -1 for special pieces."""
    encodings = limited(tokenizer, max_length).encode_batch(list(texts))
    return [torch.tensor([-1 if word is None else word for word in each.word_ids]) for each in encodings]


def mean_states(states: Tensor, words: Sequence[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """(layers, texts, length, hidden) states of pieces -> the mean of each word's, (layers, texts, count, hidden), and
    which words are there, (texts, count). Words that were cut off have no piece.
    """
    place = torch.nn.utils.rnn.pad_sequence(list(words), batch_first=True, padding_value=-1).to(states.device)
    belongs = (place[:, None, :] == torch.arange(count, device=states.device)[:, None]).to(states.dtype)
    pieces = belongs.sum(-1, keepdim=True)
    return (belongs / pieces.clamp(min=1)) @ states, pieces[..., 0] > 0


def words_mse(student: Tensor, teacher: Tensor, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """(layers, texts, length, hidden) states of both sides, and the words of their pieces: the mean squared error
    between the means of each word that both have; TinyBERT eq. 8 with words for pieces.
    """
    count = max(1, 1 + max(int(words.max()) for words in (*ours, *theirs)))
    (mine, here), (wanted, there) = mean_states(student, ours, count), mean_states(teacher.detach(), theirs, count)
    both = (here & there).float()
    error = (mine.float() - wanted.float()).pow(2).mean((0, -1))  # (texts, count)
    return (error * both).sum() / both.sum().clamp(min=1)
