"""Low-rank linears: optimal for the inputs they see, ranks by energy or budget, saved and loaded again."""

from __future__ import annotations

import pytest
import torch

from openautoglm import lowrank
from openautoglm.architectures import build
from openautoglm.distillation.data import encode, in_order
from openautoglm.factors import LowRankLinear, encoder_linears
from openautoglm.student import load_model, save_model


@torch.inference_mode()
def answers(model, examples):
    """Logits in float32, whatever training computes in."""
    model.eval()
    return torch.cat([model(**batch.inputs).logits for batch in in_order(examples, 32)])


@pytest.fixture
def train(case):
    teacher, task = case
    return encode(teacher.tokenizer, task.train, task.max_length)


@pytest.fixture
def inputs():
    """A few directions carry most of the inputs, which are not centred."""
    torch.manual_seed(0)
    return torch.randn(400, 12) @ torch.diag(torch.logspace(0, -2, 12)) @ torch.randn(12, 12) + torch.randn(12)


def gram_of(x):
    ones = torch.cat([x, torch.ones(len(x), 1)], 1)
    return ones.T @ ones


@pytest.mark.parametrize("out", [8, 20])
@pytest.mark.parametrize("bias", [True, False])
def test_the_error_is_the_least_that_a_rank_allows(inputs, out, bias):
    linear = torch.nn.Linear(12, out, bias=bias)
    y = linear(inputs).detach()
    low = lowrank.factorise_linear(linear, gram_of(inputs), 3)
    error = (low(inputs) - y).detach().square().sum()
    singular = torch.linalg.svdvals((y - y.mean(0)).double())  # Eckart and Young: nothing of rank 3 is nearer
    assert float(error) == pytest.approx(float(singular[3:].square().sum()), rel=1e-3)
    plain = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
    cut = (plain.U[:, :3] * plain.S[:3]) @ plain.Vh[:3]
    assert error < 0.9 * ((inputs @ cut.T + (linear.bias if bias else 0)) - y).square().sum()


def test_full_rank_is_the_same_linear(inputs):
    linear = torch.nn.Linear(12, 8)
    low = lowrank.factorise_linear(linear, gram_of(inputs), 8)
    torch.testing.assert_close(low(inputs), linear(inputs), rtol=1e-4, atol=1e-5)


def test_energy_gives_each_linear_the_smallest_rank_that_keeps_it(case, train):
    teacher, _ = case
    model = teacher.copy()
    ranks = lowrank.factorise_linears(model, train, energy=0.9)
    assert ranks
    seen = {}
    name = next(iter(ranks))
    original = encoder_linears(teacher.model)[name]
    hook = original.register_forward_hook(lambda m, i, o: seen.setdefault("y", []).append(o.flatten(0, -2)))
    for ids in train.ids:  # one text at a time: no padding
        teacher.model(torch.tensor([ids]))
    hook.remove()
    y = torch.cat(seen["y"]).detach().double()
    variance = torch.linalg.svdvals(y - y.mean(0)).square()
    kept = variance.cumsum(0) / variance.sum()
    assert kept[ranks[name] - 1] >= 0.9 - 1e-6
    assert ranks[name] == 1 or kept[ranks[name] - 2] < 0.9 + 1e-6
    dense = encoder_linears(teacher.model)
    for name, rank in ranks.items():
        assert rank * sum(dense[name].weight.shape) < dense[name].weight.numel()


def test_a_share_of_the_weights_is_kept_and_more_answers_better(case, train):
    teacher, _ = case
    full, whole = answers(teacher.model, train), encoder_linears(teacher.model)
    errors = []
    for share in (0.2, 0.6):
        model = teacher.copy()
        lowrank.factorise_linears(model, train, share=share)
        weights = sum(linear.weight.numel() for linear in encoder_linears(model).values())
        assert weights <= share * sum(linear.weight.numel() for linear in whole.values())
        errors.append((answers(model, train) - full).square().mean())
    assert errors[1] < errors[0]


def test_a_low_rank_model_saves_and_loads(case, train, tmp_path):
    teacher, _ = case
    model = teacher.copy()
    ranks = lowrank.factorise_linears(model, train, energy=0.8, where=lambda name: "intermediate" in name)
    assert ranks
    assert all("intermediate" in name for name in ranks)
    assert isinstance(model.get_submodule(next(iter(ranks))), LowRankLinear)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config.linear_ranks == ranks
    assert torch.equal(answers(loaded, train), answers(model, train))


def test_a_config_without_ranks_builds_whole_linears(case):
    model = build(case[0].model.config.to_dict())
    assert not any(isinstance(module, LowRankLinear) for module in model.modules())


@pytest.mark.parametrize("given", [{}, {"energy": 0.9, "share": 0.5}, {"energy": 1.5}, {"share": 0.0}])
def test_one_sound_target_is_wanted(case, train, given):
    with pytest.raises(ValueError, match="give one of them, above 0 and at most 1"):
        lowrank.factorise_linears(case[0].copy(), train, **given)


def test_an_impossible_rank_is_told():
    with pytest.raises(ValueError, match="1 to 3"):
        lowrank.factorise_linear(torch.nn.Linear(5, 3), torch.eye(6), 4)
