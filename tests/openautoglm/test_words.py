"""Alignment word by word: against a reference in plain loops, and through a trimmed vocabulary, for every family."""

import pytest
import torch

from openautoglm import vocabulary
from openautoglm.distillation.data import batch_of, encode, limited
from openautoglm.distillation.targets import Targets
from openautoglm.distillation.words import words_mse, words_of
from tests.openautoglm import families


def _plain(student, teacher, ours, theirs):
    """The mean over texts and words that both have, with loops."""
    errors = []
    for text, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for word in sorted(set(mine.tolist()) & set(other.tolist()) - {-1}):
            here = student[:, text, : len(mine)][:, mine == word].mean(1)
            there = teacher[:, text, : len(other)][:, other == word].mean(1)
            errors.append((here - there).pow(2).mean())
    return torch.stack(errors).mean()


def test_it_is_the_squared_error_between_the_means_of_each_word_that_both_have():
    ours = [torch.tensor([-1, 0, 0, 1, 2, 2, -1]), torch.tensor([-1, 0, 1, -1])]  # its second word is cut off
    theirs = [torch.tensor([-1, 0, 1, 2, -1]), torch.tensor([-1, 0, 0, 1, -1])]
    student, teacher = torch.randn(3, 2, 7, 4, requires_grad=True), torch.randn(3, 2, 5, 4)
    found = words_mse(student, teacher, ours, theirs)
    torch.testing.assert_close(found, _plain(student, teacher, ours, theirs))
    found.backward()
    assert student.grad[:, :, 0].abs().max() == 0  # a special piece is no word
    assert student.grad[:, 1, 3:].abs().max() == 0  # padding neither


def test_texts_without_words_cost_nothing():
    student = torch.randn(2, 1, 2, 4, requires_grad=True)
    assert words_mse(student, torch.randn(2, 1, 2, 4), [torch.tensor([-1, -1])], [torch.tensor([-1, -1])]) == 0


@pytest.mark.parametrize("name", families.FAMILIES)
def test_the_words_stay_where_the_vocabulary_shrinks(name, case):
    task = case[1]
    teacher = families.teacher(name, task)
    trimmed, _ = vocabulary.trim(limited(teacher.tokenizer, 200), task.train.texts, 1)  # only characters are left
    before, after = (words_of(tokenizer, task.train.texts, 200) for tokenizer in (teacher.tokenizer, trimmed))
    assert any(len(a) != len(b) for a, b in zip(after, before, strict=True))
    assert [set(words.tolist()) for words in after] == [set(words.tolist()) for words in before]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_teacher_is_aligned_with_itself_and_a_changed_copy_is_not(name, case):
    task = case[1]
    teacher = families.teacher(name, task)
    targets, copy = Targets(teacher, task, teacher.tokenizer), teacher.copy().eval()
    batch = batch_of(encode(teacher.tokenizer, task.train, task.max_length), range(8))

    def distance():
        return targets.alignment(copy, batch, copy(**batch.inputs, output_hidden_states=True).hidden_states)

    assert distance() == 0
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(1.1)
    changed = distance()
    assert changed > 0
    changed.backward()
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
