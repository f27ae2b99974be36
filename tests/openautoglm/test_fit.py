"""The training loop: it learns, keeps the best weights, and ends the same after a kill."""

from __future__ import annotations

import pytest
import torch

from openautoglm.distillation.data import encode, in_order, shuffled
from openautoglm.distillation.fit import Recipe, TrainingError, dev_score, fit, logits_of, mixed_precision
from openautoglm.distillation.losses import task_loss
from openautoglm.distillation.session import Session, open_session


class Killed(Exception):
    pass


def _train(case, session: Session, kill_at: int | None = None):
    teacher, task = case
    torch.manual_seed(5)
    model = teacher.copy()
    torch.nn.init.normal_(model.classifier.weight)
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    calls = 0

    def loss(batch):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise Killed
        return task_loss(model(**batch.inputs).logits, batch.labels, task.kind)

    with open_session(session):
        fit(model, train, loss, Recipe(14, 1e-3), stage="s", score=lambda: dev_score(model, task, dev))
    return logits_of(model, dev), dev_score(model, task, dev)


def test_a_killed_training_resumes_to_the_same_end(case, tmp_path, monkeypatch):
    monkeypatch.setattr("openautoglm.distillation.fit.CHECKPOINT_S", 0.0)
    undisturbed, _ = _train(case, Session(seed=3))
    with pytest.raises(Killed):
        _train(case, Session(seed=3, checkpoints=tmp_path), kill_at=9)
    resumed, _ = _train(case, Session(seed=3, checkpoints=tmp_path))
    finished, _ = _train(case, Session(seed=3, checkpoints=tmp_path), kill_at=1)  # nothing is left to train
    torch.testing.assert_close(resumed, undisturbed, rtol=0, atol=0)
    torch.testing.assert_close(finished, undisturbed, rtol=0, atol=0)


def test_a_broken_checkpoint_is_begun_anew(case, tmp_path):
    (tmp_path / "01.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{broken")
    resumed, _ = _train(case, Session(seed=3, checkpoints=tmp_path))
    torch.testing.assert_close(resumed, _train(case, Session(seed=3))[0], rtol=0, atol=0)


def test_the_best_weights_on_dev_are_kept(case):
    points = []
    _, score = _train(case, Session(seed=1, on_point=points.append))
    assert score == max(point.dev_score for point in points if point.dev_score is not None)


def test_a_loss_that_is_not_finite_is_told(case):
    teacher, task = case
    model, train = teacher.copy(), encode(teacher.tokenizer, task.train, task.max_length)
    with pytest.raises(TrainingError, match="x: the loss is nan at step 0; try a lower learning rate"):
        fit(model, train, lambda batch: model(**batch.inputs).logits.sum() * torch.nan, Recipe(2, 1e-3), stage="x")


def test_batches_hold_every_example_once(case):
    teacher, task = case
    train = encode(teacher.tokenizer, task.train, task.max_length)
    batches = shuffled(train, 10, torch.Generator().manual_seed(0))
    assert sorted(i for batch in batches for i in batch) == list(range(len(train)))
    assert sorted(torch.cat([batch.index for batch in in_order(train, 7)]).tolist()) == list(range(len(train)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU fused attention is the faster one")
def test_on_a_cpu_attention_is_plain_while_it_trains_and_then_as_before(case):
    teacher, task = case
    model, train = teacher.copy(), encode(teacher.tokenizer, task.train, task.max_length)
    before, during = model.config._attn_implementation, set()

    def loss(batch):
        during.add(model.config._attn_implementation)
        return model(**batch.inputs).logits.square().mean()

    fit(torch.nn.ModuleList([model]), train, loss, Recipe(2, 1e-3), stage="x")
    assert (before, during, model.config._attn_implementation) == ("sdpa", {"eager"}, "sdpa")


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_warms_up_and_decays(schedule):
    recipe = Recipe(100, 1.0, warmup=0.1, schedule=schedule)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[0] < rates[5] < rates[9] < max(rates) == rates[10] == 1
    assert rates[-1] == 1 if schedule == "constant" else rates[-1] < 0.02


@pytest.mark.parametrize("instructions", [(), ("avx512_bf16",), ("amx_bf16",)])
def test_bfloat16_only_where_the_processor_computes_in_it(monkeypatch, instructions):
    """AVX-512 alone is not enough: oneDNN emulates bfloat16 there, four times slower than float32."""
    has = {"architecture": "x86_64", "avx512_bw": True, "avx512_bf16": False, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has | dict.fromkeys(instructions, True))
    monkeypatch.setattr("openautoglm.distillation.fit.device", lambda: torch.device("cpu"))
    with mixed_precision():
        computed = torch.nn.functional.linear(torch.ones(1, 2), torch.ones(2, 2))
    assert computed.dtype == (torch.bfloat16 if instructions else torch.float32)
