"""Multiply-adds against a count by hand."""

from __future__ import annotations

import pytest

from openautoglm.flops import multiply_adds


def test_bert_by_hand(case):
    teacher, task = case
    n, h, f = 7, 24, 48
    layer = n * (4 * h * h + 2 * h * f) + 2 * n * n * h  # four linears and the FFN's two; scores and weighted sum
    head = h * h + h * task.outputs  # the pooler and the classifier read one piece
    expected = {f"layer {i}": layer for i in range(6)} | {"rest": head, "total": 6 * layer + head}
    assert multiply_adds(teacher.model, n) == expected


def test_a_text_beyond_the_models_positions(case):
    with pytest.raises(ValueError, match="33 word pieces"):
        multiply_adds(case[0].model, 33)
