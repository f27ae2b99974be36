"""A trimmed vocabulary: same sentences, same rows, characters instead of [UNK]; and the weighted low-rank table."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import nn

from openautoglm import lowrank, vocabulary


def test_known_words_keep_their_rows_and_unknown_ones_decompose(case):
    teacher, _ = case
    size = 5 + 2 * 26 + 2  # special pieces, characters, and the two most used words
    trimmed, old_ids = vocabulary.trim(teacher.tokenizer, ["good film good film plot"], size)
    assert trimmed.get_vocab_size() == size == len(old_ids)
    assert trimmed.encode("good film").tokens == ["[CLS]", "good", "film", "[SEP]"]
    assert trimmed.encode("plot").tokens == ["[CLS]", "p", "##l", "##o", "##t", "[SEP]"]
    table = teacher.copy().bert.embeddings.word_embeddings
    selected = vocabulary.select_rows(table, old_ids)
    old, new = teacher.tokenizer.encode("good film").ids, trimmed.encode("good film").ids
    torch.testing.assert_close(selected(torch.tensor(new)), table(torch.tensor(old)))
    assert trimmed.token_to_id("[PAD]") == 0


def test_another_kind_of_tokenizer_is_refused():
    with pytest.raises(ValueError, match="Only WordPiece"):
        vocabulary.trim(Tokenizer(models.BPE()), ["a"], 300)


def test_full_rank_is_exact_and_frequent_pieces_are_kept_better():
    torch.manual_seed(0)
    table = nn.Embedding(50, 12)
    counts = torch.zeros(50)
    counts[:5] = 1000
    ids = torch.arange(50)
    assert (lowrank.factorise(table, counts, 12)(ids) - table(ids)).abs().max() < 1e-5
    error = (lowrank.factorise(table, counts, 6)(ids) - table(ids)).detach().square().sum(1)
    assert error[:5].mean() < 0.01 * error[5:].mean()
