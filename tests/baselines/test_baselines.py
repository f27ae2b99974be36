"""Each method, whole, on a tiny teacher: it trains on both kinds of task, its knobs do what they say, seeds decide."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from baselines import albert, distilbert, mobilebert, tinybert
from openautoglm import architectures
from openautoglm.distillation.data import batch_of, encode
from openautoglm.distillation.fit import dev_score
from openautoglm.distillation.session import Session, open_session
from openautoglm.student import Student, parameter_count
from openautoglm.task import Budget

METHODS: dict[str, Any] = {"distilbert": distilbert, "tinybert": tinybert, "mobilebert": mobilebert, "albert": albert}
TINY: dict[str, dict] = {  # a width of 24 bears, and in so few steps needs, higher learning rates
    "distilbert": {"learning_rate": 3e-3, "task_learning_rate": 3e-3},
    "tinybert": {"learning_rate": 1e-2, "prediction_learning_rate": 1e-2, "copies": 2, "intermediate": 0.5},
    "mobilebert": {"learning_rate": 1e-2, "distil_learning_rate": 1e-2},
    "albert": {"learning_rate": 3e-3, "embedding_size": 12},
}


def compress(name: str, case, steps: int, **knobs) -> tuple[Student, list]:
    """The student and its learning curve."""
    points: list = []
    torch.manual_seed(0)
    with open_session(Session(seed=0, on_point=points.append)):
        return METHODS[name].compress(*case, Budget(steps, 16), **(TINY[name] | knobs)), points


@pytest.mark.parametrize("name", METHODS)
def test_it_trains(name, case):
    teacher, task = case
    before = {key: value.clone() for key, value in teacher.model.state_dict().items()}
    student, points = compress(name, case, 160)
    dev = encode(teacher.tokenizer, task.dev, task.max_length)
    assert dev_score(student.model, task, dev) > 0.9 * dev_score(teacher.model, task, dev)
    assert parameter_count(student.model) < parameter_count(teacher.model)
    assert all(torch.equal(before[key], value) for key, value in teacher.model.state_dict().items())
    assert points[-1].dev_score is not None


@pytest.mark.parametrize("steps", [4, 15])
@pytest.mark.parametrize("name", METHODS)
def test_the_budget_is_kept_and_divided(name, steps, case):
    teacher, task = case
    session = Session()
    with open_session(session):
        METHODS[name].compress(teacher, task, Budget(steps, 16), **TINY[name])
    assert session.steps == steps


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_student(name, case):
    first, _ = compress(name, case, 14)
    again, _ = compress(name, case, 14)
    weights = again.model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in first.model.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_what_the_board_says_of_it(name):
    module = METHODS[name]
    assert "arXiv:" in module.PAPER
    assert module.KEPT.endswith(".")
    assert module.LEFT_OUT.endswith(".")
    assert len(module.__doc__.splitlines()[0]) <= 120
    parameters = list(inspect.signature(module.compress).parameters.values())
    assert [p.name for p in parameters[:3]] == ["teacher", "task", "budget"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[3:])


@pytest.mark.parametrize(
    ("name", "knobs", "stages"),
    [
        ("distilbert", {"from_teacher": False, "mlm_weight": 0.0}, {"head", "distil", "task"}),
        ("tinybert", {"copies": 0, "intermediate": 0.0, "general": False}, {"td2"}),
        ("tinybert", {}, {"td1", "td2"}),
        ("mobilebert", {"progressive": False}, {"distil"}),
        ("mobilebert", {}, {"layer1", "layer2", "layer3", "layer4", "layer5", "layer6", "distil"}),
        ("albert", {"embedding_size": 8, "shared_from": 3}, {"distil"}),
    ],
)
def test_the_ablations_knobs(name, knobs, stages, case):
    student, points = compress(name, case, 20, **knobs)
    assert {point.stage for point in points} == stages
    assert architectures.shape(student.model)["layers"] > 0


def test_distilbert_starts_from_alternate_layers():
    assert distilbert.alternate(6) == [0, 2, 4]
    assert distilbert.alternate(12) == [0, 2, 4, 7, 9, 11]
    assert distilbert.alternate(4) == [0, 2]


def test_distilberts_masking(case):
    teacher, task = case
    examples = encode(teacher.tokenizer, task.train, task.max_length)
    masking = distilbert.Masking(examples, teacher.tokenizer)
    batch = batch_of(examples, range(len(examples)))
    inputs, targets = masking(batch)
    hidden, real = targets >= 0, int(batch.attention_mask.sum())
    assert hidden.sum() / real == pytest.approx(0.15, abs=0.002)
    assert torch.equal(inputs[~hidden], batch.input_ids[~hidden])
    assert torch.equal(masking.pieces[targets[hidden]], batch.input_ids[hidden])
    assert not (hidden & (batch.input_ids < 5)).any()  # [PAD], [CLS], [SEP] are never hidden
    shown = inputs[hidden]
    assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.15)
    assert (shown == batch.input_ids[hidden]).float().mean() == pytest.approx(0.1, abs=0.1)


def test_distilbert_masks_rare_pieces_more_often(case):
    teacher, task = case
    examples = encode(teacher.tokenizer, task.train, task.max_length)
    masking = distilbert.Masking(examples, teacher.tokenizer)
    counts = torch.bincount(torch.tensor([i for ids in examples.ids for i in ids]))
    words = range(5, len(counts))
    by_weight = sorted(words, key=lambda i: masking.weight[i].item())
    assert counts[by_weight[-1]] == counts[5:].min()
    assert counts[by_weight[0]] == counts[5:].max()


def test_mobileberts_phase_trains_its_layer_alone(case, monkeypatch):
    teacher, task = case
    changed: dict[str, set[str]] = {}

    def fit(model, examples, loss, recipe, *, stage, score=None):
        changed[stage] = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        batch = batch_of(examples, range(4))
        loss(batch).backward()
        with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert with_gradient <= changed[stage]
        model.zero_grad(set_to_none=True)

    monkeypatch.setattr(mobilebert, "fit", fit)
    mobilebert.compress(teacher, task, Budget(60, 16))
    for number in range(1, 7):
        assert all(f"encoder.layer.{number - 1}." in name for name in changed[f"layer{number}"])
        assert changed[f"layer{number}"]
    assert any("word_embeddings" in name for name in changed["distil"])
