"""Branches: they change nothing before training, they train, and they fold into one linear."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from openautoglm import reparam
from openautoglm.architectures import build
from openautoglm.distillation.data import encode, in_order
from openautoglm.distillation.fit import Recipe, fit
from openautoglm.distillation.losses import task_loss
from openautoglm.factors import encoder_linears


@torch.inference_mode()
def answers(model, examples):
    """Logits in float32, whatever training computes in."""
    model.eval()
    return torch.cat([model(**batch.inputs).logits for batch in in_order(examples, 32)])


@pytest.fixture
def branched(case):
    """A teacher with branches that training has moved, and its train split."""
    teacher, task = case
    model, train = teacher.copy(), encode(teacher.tokenizer, task.train, task.max_length)
    reparam.add_branches(model, ranks=(2, 3))

    def loss(batch):
        return task_loss(model(**batch.inputs).logits, batch.labels, task.kind)

    fit(model, train, loss, Recipe(20, 1e-3), stage="branches")
    return model, train


def test_branches_start_as_the_identity(case):
    teacher, task = case
    train = encode(teacher.tokenizer, task.train, task.max_length)
    model = teacher.copy().eval()
    assert reparam.add_branches(model, ranks=(4,)) == len(encoder_linears(teacher.model)) == 6 * 6
    assert torch.equal(answers(model, train), answers(teacher.model, train))


def test_a_fused_linear_computes_what_its_branches_did(branched):
    model, _ = branched
    linears = encoder_linears(model)
    torch.manual_seed(0)
    expected, inputs = {}, {name: torch.randn(5, linear.in_features) for name, linear in linears.items()}
    for name, x in inputs.items():  # each branch by itself, by the formula
        weight = linears[name].parametrizations.weight
        y = F.linear(x, weight.original, linears[name].bias)
        for up, down in zip(weight[0].up, weight[0].down, strict=True):
            assert up.abs().max() > 1e-4  # training has moved it
            y = y + F.linear(F.linear(x, down), up)
        expected[name] = y if weight[0].diagonal is None else y + x * weight[0].diagonal
    assert reparam.fuse(model) == len(linears)
    for name, linear in encoder_linears(model).items():
        assert type(linear) is torch.nn.Linear
        assert (linear(inputs[name]) - expected[name]).abs().max() < 1e-5
    assert reparam.fuse(model) == 0


def test_a_fused_model_answers_the_same_and_is_the_plain_shape_again(case, branched):
    model, train = branched
    before = answers(model, train)
    reparam.fuse(model)
    plain = build(model.config.to_dict())
    plain.load_state_dict(model.state_dict())  # same names, same shapes
    assert (answers(plain, train) - before).abs().max() < 1e-5
    assert (before - answers(case[0].model, train)).abs().max() > 1e-3


def test_a_layer_as_wide_as_berts_fuses_within_the_tolerance():
    torch.manual_seed(0)
    layer = BertLayer(BertConfig(attn_implementation="eager")).eval()  # 768 wide, 3072 neurons
    model = torch.nn.ModuleDict({"layer": torch.nn.ModuleList([layer])})
    reparam.add_branches(model, ranks=(8, 16))
    for name, parameter in model.named_parameters():
        if ".up." in name or "diagonal" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(2, 16, 768)
    with torch.inference_mode():
        before = layer(x)
        reparam.fuse(model)
        assert (layer(x) - before).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranks": (0,)}, "each of 1 or more"),
        ({"ranks": (), "diagonal": False}, "at least one"),
        ({"where": lambda name: False}, "No linear"),
    ],
)
def test_bad_branches_are_told(case, given, message):
    with pytest.raises(ValueError, match=message):
        reparam.add_branches(case[0].copy(), **given)


def test_branches_are_given_once(case):
    model = case[0].copy()
    reparam.add_branches(model)
    with pytest.raises(ValueError, match="fuse the model first"):
        reparam.add_branches(model)
