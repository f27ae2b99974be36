"""Every part is changed alone, the model is left as it was, and the losses tell large changes from small ones."""

from __future__ import annotations

import json

import pytest
import torch

from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import logits_of
from openautoglm.quantization.mixed import choose_formats
from openautoglm.quantization.plan import check_plan
from openautoglm.sensitivity import Entry, as_json, part_weights, sensitivity

GROUPS = [f"layer.{i}.{group}" for i in range(6) for group in ("attention", "ffn")]


@pytest.fixture(scope="module")
def found(case):
    teacher, task = case
    model, dev = teacher.copy().eval(), encode(teacher.tokenizer, task.dev, task.max_length)
    before = logits_of(model, dev)
    entries = sensitivity(model, dev, task.kind)
    assert torch.equal(logits_of(model, dev), before)
    return model, entries


def test_every_part_and_change_is_there(found):
    entries = {(entry.part, entry.change) for entry in found[1]}
    assert {part for part, _ in entries} == {"embedding", "head", *GROUPS}
    for part in GROUPS:
        assert {change for p, change in entries if p == part} == {"fp16", "int8", "int4", "rank", "drop"}
    assert ("embedding", "int4") in entries
    assert json.loads(json.dumps(as_json(found[1])))[0].keys() == {"part", "change", "loss", "bytes"}


def test_losses_are_not_negative_against_the_model_itself_and_grow_with_the_change(found):
    assert all(entry.loss > -1e-6 for entry in found[1])
    by_change = {
        change: sum(entry.loss for entry in found[1] if entry.change == change and entry.part in GROUPS)
        for change in ("fp16", "int8", "int4", "drop")
    }
    assert by_change["fp16"] < by_change["int8"] + 1e-6
    assert by_change["int8"] < by_change["int4"] < by_change["drop"]


def test_bytes_are_those_of_the_weights(found):
    model, entries = found
    total = sum(entry.bytes for entry in entries if entry.change == "int8")
    assert total == sum(part_weights(model).values())
    assert total == sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2)


TABLE = [
    Entry("embedding", "fp16", 0.0, 200),
    Entry("embedding", "int8", 0.1, 100),
    Entry("embedding", "int4", 0.5, 60),
    Entry("layer.0.ffn", "fp16", 0.0, 100),
    Entry("layer.0.ffn", "int8", 0.3, 50),
    Entry("layer.0.ffn", "drop", 9.0, 0),
]


@pytest.mark.parametrize(
    ("budget", "plan"),
    [
        ({"max_bytes": 300}, ("fp16", "fp16")),
        ({"max_bytes": 200}, ("int8", "fp16")),
        ({"max_bytes": 150}, ("int8", "int8")),
        ({"max_bytes": 110}, ("int4", "int8")),
        ({"max_loss": 0.05}, ("fp16", "fp16")),
        ({"max_loss": 0.4}, ("int8", "int8")),
        ({"max_loss": 9.0}, ("int4", "int8")),
    ],
)
def test_the_cheapest_bytes_go_first(budget, plan):
    chosen = choose_formats(TABLE, **budget)
    assert (chosen["embedding"], chosen["layer.0.ffn"]) == plan
    check_plan(chosen)


def test_a_budget_that_nothing_meets_is_refused():
    with pytest.raises(ValueError, match="110 bytes in their smallest"):
        choose_formats(TABLE, max_bytes=100)
    with pytest.raises(ValueError, match="give one of them"):
        choose_formats(TABLE)
