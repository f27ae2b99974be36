"""Importance: each method by its own formula, one text at a time; whole sub-layers; what the scores are good for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from openautoglm import architectures
from openautoglm.distillation.data import Encoded, encode
from openautoglm.distillation.losses import task_loss
from openautoglm.importance import importance
from tests.conftest import make_task
from tests.openautoglm.families import FAMILIES, teacher

TASK = make_task("classification")


def few(given, count=6):
    examples = encode(given.tokenizer, TASK.train, TASK.max_length)
    return Encoded(examples.ids[:count], examples.labels[:count])


def gradients(model, part, examples):
    """dL/dm of a sub-layer's units, (texts, units), by one backward pass a text."""
    found = []
    for ids, label in zip(examples.ids, examples.labels, strict=True):
        mask = torch.ones(part.units, requires_grad=True)
        hook = part.output.register_forward_pre_hook(
            lambda module, inputs, mask=mask: (inputs[0] * mask.repeat_interleave(part.width),)
        )
        task_loss(model(torch.tensor([ids])).logits, label[None], TASK.kind).backward()
        hook.remove()
        assert mask.grad is not None
        found.append(mask.grad)
    return torch.stack(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_fisher_and_taylor_are_means_over_single_texts(name):
    given = teacher(name, TASK)
    model, examples = given.copy().eval(), few(given)
    fisher, taylor = (importance(model, examples, TASK, method, batch_size=4) for method in ("fisher", "taylor"))
    last = architectures.layers(model)[-1]
    for part, units, whole in ((last.attention, "heads", "attention"), (last.ffn, "neurons", "ffn")):
        g = gradients(model, part, examples)
        close: Any = {"rtol": 1e-3, "atol": 1e-9}
        torch.testing.assert_close(getattr(fisher, units)[-1], g.square().mean(0), **close)
        torch.testing.assert_close(getattr(taylor, units)[-1], g.abs().mean(0), **close)
        torch.testing.assert_close(getattr(fisher, whole)[-1], g.sum(1).square().mean(), **close)
        torch.testing.assert_close(getattr(taylor, whole)[-1], g.sum(1).abs().mean(), **close)


def test_magnitude_is_the_norm_of_a_units_weights():
    given = teacher("glm", TASK)
    found = importance(given.copy(), few(given), TASK, "magnitude")
    block = given.model.model.layers[0]
    gate_up, down = block.mlp.gate_up_proj.weight, block.mlp.down_proj.weight
    neuron = torch.cat([gate_up[3], gate_up[3 + 40], down[:, 3]])
    torch.testing.assert_close(found.neurons[0][3], neuron.norm())
    attention = block.self_attn  # group 1: query heads 2 and 3, key and value head 1, each of 6 rows
    rows = [attention.q_proj.weight[12:24], attention.k_proj.weight[6:12], attention.v_proj.weight[6:12]]
    group = torch.cat([part.flatten() for part in (*rows, attention.o_proj.weight[:, 12:24])])
    torch.testing.assert_close(found.heads[0][1], group.norm())
    torch.testing.assert_close(found.ffn[0], torch.cat([gate_up.flatten(), down.flatten()]).norm())


@pytest.mark.parametrize("method", ["fisher", "taylor", "magnitude"])
def test_a_unit_that_nothing_reads_or_that_reads_nothing_comes_last(method):
    given = teacher("roberta", TASK)
    model = given.copy()
    layer = architectures.layers(model)[1]
    with torch.no_grad():
        layer.ffn.output.weight[:, 5] = 0
        layer.ffn.inputs[0].weight[5] = 0
        layer.attention.output.weight[:, 8:16] = 0
        for linear in layer.attention.inputs:
            linear.weight[8:16] = 0
    found = importance(model, few(given), TASK, method)
    assert (found.neurons[1].argmin(), found.heads[1].argmin()) == (5, 1)
    assert found.neurons[1][5] == found.heads[1][1] == 0


def test_a_dropped_sub_layer_scores_zero_and_the_others_as_before():
    given = teacher("bert", TASK)
    model = given.copy()
    architectures.layers(model)[0].ffn.keep(torch.tensor([], dtype=torch.long))
    for method in ("fisher", "magnitude"):
        found = importance(model, few(given), TASK, method)
        assert len(found.neurons[0]) == 0
        assert found.ffn[0] == 0
        assert (found.ffn[1:] > 0).all()


def test_masks_leave_nothing_behind():
    given = teacher("bert", TASK)
    model, examples = given.copy().eval(), few(given)
    before = model(torch.tensor([examples.ids[0]])).logits
    importance(model, examples, TASK)
    assert torch.equal(model(torch.tensor([examples.ids[0]])).logits, before)


def test_an_unknown_method_is_told():
    given = teacher("bert", TASK)
    with pytest.raises(ValueError, match=r"'fischer'; known: fisher, taylor, magnitude"):
        importance(given.copy(), few(given), TASK, "fischer")
