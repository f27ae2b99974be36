"""A trimmed vocabulary: same sentences, same rows, characters instead of [UNK]; and the weighted low-rank table."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from openautoglm import lowrank, vocabulary
from tests.openautoglm.families import byte_level


def test_known_words_keep_their_rows_and_unknown_ones_decompose(case):
    teacher, _ = case
    size = 5 + 2 * 26 + 2  # special pieces, characters, and the two most used words
    trimmed, old_ids = vocabulary.trim(teacher.tokenizer, ["good film good film plot"], size)
    assert trimmed.get_vocab_size() == size == len(old_ids)
    assert trimmed.encode("good film").tokens == ["[CLS]", "good", "film", "[SEP]"]
    assert trimmed.encode("plot").tokens == ["[CLS]", "p", "##l", "##o", "##t", "[SEP]"]
    model = teacher.copy()
    table = model.bert.embeddings.word_embeddings
    vocabulary.keep_rows(model, old_ids)
    selected = model.bert.embeddings.word_embeddings
    old, new = teacher.tokenizer.encode("good film").ids, trimmed.encode("good film").ids
    torch.testing.assert_close(selected(torch.tensor(new)), table(torch.tensor(old)))
    assert trimmed.token_to_id("[PAD]") == 0


def test_pieces_that_no_text_uses_fill_up_by_their_ids(case):
    """A vocabulary is sorted by frequency where it was made: what other texts use most comes first."""
    given = case[0].tokenizer
    free = [piece for piece, _ in sorted(given.get_vocab().items(), key=lambda item: item[1]) if len(piece) > 3]
    words = [piece for piece in free if piece.isalpha()]
    trimmed, old_ids = vocabulary.trim(given, [words[4]], 5 + 2 * 26 + 3)
    kept = set(trimmed.get_vocab())
    assert {word for word in words if word in kept} == {words[4], words[0], words[1]}
    assert len(set(old_ids)) == trimmed.get_vocab_size() == 5 + 2 * 26 + 3
    whole, ids = vocabulary.trim(given, [words[4]], None)
    assert set(whole.get_vocab()) == set(given.get_vocab())
    assert ids.index(given.token_to_id(words[4])) == 5  # behind the special pieces


def test_a_byte_level_vocabulary_cuts_kept_texts_as_before(case):
    """A text whose pieces are all kept keeps its cut, another text decomposes; nothing becomes unknown."""
    texts = case[1].train.texts
    given = byte_level(texts)
    seen = [text for text in texts if "director" not in text and "lovely" not in text]
    size = 330
    trimmed, old_ids = vocabulary.trim(given, seen, size)
    assert 290 < trimmed.get_vocab_size() == len(old_ids) <= size < given.get_vocab_size()
    names = given.get_vocab(with_added_tokens=True)
    kept = set(old_ids)
    alike = [text for text in texts if kept.issuperset(given.encode(text).ids)]
    assert 20 < len(alike) < len(texts)
    for text in alike:
        assert trimmed.encode(text).tokens == given.encode(text).tokens
    for text in [*texts, "Gr\u00fc\u00dfe, \u4f60\u597d \U0001f600 director"]:
        encoding = trimmed.encode(text)
        assert trimmed.decode(encoding.ids) == text
        assert (encoding.tokens[0], encoding.tokens[-1]) == ("<s>", "</s>")
        assert all(old_ids[i] == names[token] for i, token in zip(encoding.ids, encoding.tokens, strict=True))


def test_special_pieces_outside_the_model_vocabulary_and_after_it_move_along():
    """As in GLM's tokenizer: whole words are looked up before merging, special pieces stand behind all others."""
    given = byte_level(("a film", "a film plot") * 5)
    state = json.loads(given.to_str())
    state["model"]["ignore_merges"] = True
    given = Tokenizer.from_str(json.dumps(state))
    given.add_special_tokens(["[gMASK]", "<sop>"])
    template = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=[(t, given.token_to_id(t)) for t in ("[gMASK]", "<sop>")]
    )
    given.post_processor = processors.Sequence([processors.ByteLevel(), template])
    given.enable_padding(pad_id=1, pad_token="<pad>")
    trimmed, old_ids = vocabulary.trim(given, ["a film"], 275)
    assert trimmed.encode("a film").tokens == given.encode("a film").tokens == ["[gMASK]", "<sop>", "a", "\u0120film"]
    assert [old_ids[i] for i in trimmed.encode("a film").ids] == given.encode("a film").ids
    assert trimmed.decode(trimmed.encode("a plot").ids) == "a plot"


def test_the_configs_ids_follow(case):
    model = case[0].copy()
    model.config.pad_token_id, model.config.eos_token_id = 7, [3, 9]
    vocabulary.keep_rows(model, [0, 3, 7, 8])
    assert (model.config.pad_token_id, model.config.eos_token_id) == (2, [1])
    assert model.config.vocab_size == 4


@pytest.mark.parametrize("other", [models.BPE(), models.Unigram(), models.WordLevel()])
def test_another_kind_of_tokenizer_is_refused(other):
    with pytest.raises(ValueError, match="Only WordPiece and byte-level BPE"):
        vocabulary.trim(Tokenizer(other), ["a"], 300)


def test_full_rank_is_exact_and_frequent_pieces_are_kept_better():
    torch.manual_seed(0)
    table = nn.Embedding(50, 12)
    counts = torch.zeros(50)
    counts[:5] = 1000
    ids = torch.arange(50)
    assert (lowrank.factorise(table, counts, 12)(ids) - table(ids)).abs().max() < 1e-5
    error = (lowrank.factorise(table, counts, 6)(ids) - table(ids)).detach().square().sum(1)
    assert error[:5].mean() < 0.01 * error[5:].mean()


def test_a_piece_that_no_word_can_hold_takes_no_row():
    """BERT cuts at marks and takes accents off: `##!`, `é` and `[unused7]` could never be used, `##e` can."""
    words = ["[UNK]", "[unused7]", "good", *"ae!é", "##e", "##!", "##é"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]"])
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trimmed, _ = vocabulary.trim(tokenizer, ["good"], None)
    assert set(trimmed.get_vocab()) == {"[UNK]", "good", *"ae!", "##e"}
