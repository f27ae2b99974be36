"""Augmentation: labels, stop words, structure, nearest words and determinism, on a small vocabulary."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models

from openautoglm.distillation.augment import augment
from openautoglm.distillation.data import Encoded

PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("good", "great", "fine", "bad", "awful", "film", "movie", "the", "not", "7", "!", "x", "##ly", "##s"),
]
ID = {piece: i for i, piece in enumerate(PIECES)}
WIDTH = 16


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece(ID, unk_token="[UNK]"))
    made.add_special_tokens(PIECES[:5])
    return made


@pytest.fixture
def embedding() -> torch.Tensor:
    return torch.randn(len(PIECES), WIDTH, generator=torch.Generator().manual_seed(0))


def encoded(*texts: str) -> Encoded:
    ids = [[ID[piece] for piece in f"[CLS] {text} [SEP]".split()] for text in texts]
    return Encoded(ids, torch.arange(len(texts)))


def run(examples, tokenizer, embedding, **knobs):
    settings: Any = {"copies": 4, "candidates": 3, "generator": torch.Generator().manual_seed(0)} | knobs
    return augment(examples, embedding, tokenizer, **settings)


def test_the_originals_come_first_and_copies_keep_their_label(tokenizer, embedding):
    examples = encoded("good film", "awful movie")
    made = run(examples, tokenizer, embedding)
    assert made.ids[:2] == examples.ids
    assert made.labels.tolist() == [0, 1] * 5
    assert len(made) == 10


def test_without_probability_nothing_changes(tokenizer, embedding):
    examples = encoded("good film", "awful movie")
    assert run(examples, tokenizer, embedding, probability=0.0).ids == examples.ids * 5


def test_stop_words_numbers_punctuation_and_special_pieces_stay(tokenizer, embedding):
    examples = encoded("the 7 ! not good")
    for ids in run(examples, tokenizer, embedding, probability=1.0, copies=20).ids[1:]:
        assert ids[:5] == examples.ids[0][:5]
        assert ids[-1] == ID["[SEP]"]
        assert ids[5] != ID["good"]


def test_replacements_are_the_nearest_whole_words(tokenizer, embedding):
    copies = run(encoded("good"), tokenizer, embedding, probability=1.0, copies=60).ids[1:]
    words = ["great", "fine", "bad", "awful", "film", "movie"]  # "x" is one letter; the others stop words or pieces
    similar = {w: torch.cosine_similarity(embedding[ID["good"]], embedding[ID[w]], dim=0).item() for w in words}
    nearest = sorted(words, key=lambda w: -similar[w])[:3]
    assert {PIECES[ids[1]] for ids in copies} == set(nearest)


def test_a_word_of_several_pieces_is_replaced_whole_by_a_neighbour_of_its_mean(tokenizer, embedding):
    embedding[ID["movie"]] = (embedding[ID["awful"]] + embedding[ID["##ly"]] + embedding[ID["##s"]]) / 3
    copies = run(encoded("awful ##ly ##s film"), tokenizer, embedding, probability=1.0, candidates=1).ids[1:]
    for ids in copies:
        assert len(ids) == 4
        assert ids[1] == ID["movie"]


def test_the_share_of_replaced_words_is_the_probability(tokenizer, embedding):
    examples = encoded(*["good film bad movie fine great"] * 50)
    made = run(examples, tokenizer, embedding, probability=0.4, copies=10)
    pairs = [(a, b) for ids in made.ids[50:] for a, b in zip(examples.ids[0][1:-1], ids[1:-1], strict=True)]
    assert sum(a != b for a, b in pairs) / len(pairs) == pytest.approx(0.4, abs=0.03)  # 3,000 draws: 0.4 +- 3 x 0.009


def test_same_seed_same_copies_other_seed_others(tokenizer, embedding):
    examples = encoded("good film bad movie fine great")
    first, again, other = (
        run(examples, tokenizer, embedding, generator=torch.Generator().manual_seed(seed)).ids for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_vocabulary_with_too_few_words_leaves_texts_alone(tokenizer, embedding):
    examples = encoded("good film")
    assert run(examples, tokenizer, embedding, candidates=50, probability=1.0).ids == examples.ids * 5
