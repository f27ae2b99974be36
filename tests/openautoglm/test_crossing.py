"""Crossed texts: a beginning and an end of the given ones; the same again; and what the compressor makes of them."""

import numpy as np
import torch

from openautoglm import Budget, CompressionConfig
from openautoglm.compressor import _Plan
from openautoglm.distillation.crossing import crossed

TEXTS = ["a b c d", "e f g", "h", "", "i j k l m n"]


def _made(count, longest=4, seed=0):
    return crossed(TEXTS, count, longest, torch.Generator().manual_seed(seed))


def test_each_is_the_beginning_of_the_next_text_and_the_end_of_another():
    made = _made(200)
    assert len(made) == 200
    for i, text in enumerate(made):
        first, words = TEXTS[i % 5].split()[:4], text.split()
        cuts = range(min(1, len(first)), len(first) + 1)
        tails = [words[cut:] for cut in cuts if words[:cut] == first[:cut]]
        ends = [other.split()[:4] for other in TEXTS]
        assert any(tail == end[len(end) - len(tail) :] for tail in tails for end in ends), text
    assert not {"m", "n"}.intersection(" ".join(made))  # past the first four words
    assert len(set(made)) > 40


def test_the_same_generator_gives_the_same_texts():
    assert _made(20) == _made(20) != _made(20, seed=1)


def _texts(case, passes, **config):
    teacher, task = case
    budget = Budget.of(passes, task, 16)
    return task, _Plan(teacher, task, CompressionConfig(vocabulary_size=None, **config), budget)


def test_own_texts_are_seen_twice_before_there_are_crossed_ones(case):
    for passes, copies in ((1, 0), (2, 0), (4, 1), (40, 1)):
        task, plan = _texts(case, passes)
        assert abs(len(plan.texts) - (1 + copies) * len(task.train)) < 16, passes
        assert plan.texts.texts[: len(task.train)] == task.train.texts
    task, plan = _texts(case, 40, crossed_texts=0)
    assert plan.texts.texts == task.train.texts


def test_a_crossed_texts_label_is_the_teachers_answer(case):
    task, plan = _texts(case, 8)
    made, known = len(task.train), plan.targets.logits.numpy()
    np.testing.assert_array_equal(plan.texts.labels[:made], task.train.labels)
    np.testing.assert_array_equal(plan.texts.labels[made:], task.predictions(known)[made:])
    assert plan.texts.labels.dtype == task.train.labels.dtype
