"""The distance between hidden states: against plain loops, for every family, and where pieces are not known."""

import pytest
import torch

from openautoglm import architectures, vocabulary
from openautoglm.distillation import targets
from openautoglm.distillation.data import batch_of, encode, limited
from openautoglm.distillation.targets import Targets
from tests.openautoglm import families


def _given(name, case, texts=8):
    """A teacher, its targets, a copy that says something else, and a batch with the copy's answer."""
    task = case[1]
    teacher, student = families.teacher(name, task), families.teacher(name, task).copy().eval()
    examples = encode(teacher.tokenizer, task.train, task.max_length)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.1)
    batch = batch_of(examples, range(texts))
    return teacher, Targets.of(teacher.model, examples), student, batch


def _answer(model, batch):
    return model(**batch.inputs, output_hidden_states=True)


def _plain(teacher, student, batch, pieces_of):
    """In loops: the mean over texts at the state that the head reads, and over the pieces of the texts given."""
    ours, theirs = (torch.stack(_answer(model, batch).hidden_states, 2) for model in (student, teacher))
    errors = (ours - theirs.bfloat16().float()).pow(2).mean((2, 3))  # (texts, length)
    heads = torch.stack([architectures.read_state(teacher, s, batch.attention_mask) for s in theirs.unbind(2)], 1)
    mine = torch.stack([architectures.read_state(student, s, batch.attention_mask) for s in ours.unbind(2)], 1)
    read = (mine - heads.bfloat16().float()).pow(2).mean()
    pieces = [errors[i, j] for i in pieces_of for j in range(int(batch.attention_mask[i].sum()))]
    return read + torch.stack(pieces).mean() if pieces else read


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_teacher_is_at_its_own_and_a_changed_copy_is_not(name, case):
    teacher, said, student, batch = _given(name, case)
    assert said.distance(teacher.model, batch, _answer(teacher.model, batch)) < 1e-3  # bfloat16's rounding
    found = said.distance(student, batch, _answer(student, batch))
    torch.testing.assert_close(found, _plain(teacher.model, student, batch, range(8)), rtol=0.02, atol=1e-4)
    found.backward()
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())


def test_of_a_text_that_is_cut_otherwise_only_the_heads_state_counts(case):
    teacher, said, student, batch = _given("bert", case)
    task = case[1]
    trimmed, old_ids = vocabulary.trim(limited(teacher.tokenizer, task.max_length), task.train.texts, 1)
    ids = [[old_ids[i] for i in text] for text in encode(trimmed, task.train, task.max_length).ids]
    before = encode(teacher.tokenizer, task.train, task.max_length).ids
    said.keep_where_same(ids)
    same = [i for i in range(8) if ids[i] == before[i]]
    assert len(same) < 8  # of the words, only characters are left
    found = said.distance(student, batch, _answer(student, batch))
    torch.testing.assert_close(found, _plain(teacher.model, student, batch, same), rtol=0.02, atol=1e-4)


def test_pieces_without_room_are_left_out(case, monkeypatch):
    full = _given("bert", case)[1]
    most = sum(states.numel() * 2 for states in full.pieces[:3])
    monkeypatch.setattr(targets, "MOST_BYTES", most)
    said = _given("bert", case)[1]
    assert [states is not None for states in said.pieces[:5]] == [True, True, True, False, False]
    assert torch.equal(said.logits, full.logits)
    assert torch.equal(said.read, full.read)
