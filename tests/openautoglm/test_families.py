"""Every family through the same calls: sliced equals masked, saved equals loaded, exported equals PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from openautoglm import AutoCompressor, Budget, architectures, pruning
from openautoglm.distillation.data import encode, in_order, limited
from openautoglm.export import export
from openautoglm.importance import _masked, importance
from openautoglm.pruning import Kept
from openautoglm.runtime import Predictor
from openautoglm.student import Student, load_model, save_model
from tests.conftest import make_task
from tests.openautoglm.families import FAMILIES, STACKED, teacher

TASK = make_task("classification")
HEADS, NEURONS = torch.tensor([0, 2]), torch.arange(0, 40, 3)


@pytest.fixture(params=FAMILIES)
def given(request):
    return teacher(request.param, TASK)


@pytest.fixture(params=STACKED)
def stacked(request):
    return teacher(request.param, TASK)


@torch.inference_mode()
def answers(model, examples):
    """Logits in float32, whatever training computes in."""
    model.eval()
    return torch.cat([model(**batch.inputs).logits for batch in in_order(examples, 8)])


def encoded(teacher):
    examples = encode(teacher.tokenizer, TASK.dev, TASK.max_length)
    return type(examples)(examples.ids[:24], examples.labels[:24])


def sliced(model, uneven=True):
    """Two of four heads and a third of the neurons, and in the last of several layers fewer still."""
    found = architectures.layers(model)
    for layer in found:
        last = layer is found[-1] and uneven
        layer.attention.keep(HEADS[1:] if last else HEADS)
        layer.ffn.keep(NEURONS[3:] if last else NEURONS)
    architectures.record_slices(model)
    return model


def test_a_sliced_model_equals_the_masked_one(given):
    masked, examples = given.copy().eval(), encoded(given)
    masks = []
    for part in architectures.sublayers(masked):
        mask = torch.zeros(1, part.units)
        mask[0, NEURONS if part.units == 40 else HEADS] = 1
        masks.append(mask)
    with _masked(architectures.sublayers(masked), masks):
        expected = answers(masked, examples)
    torch.testing.assert_close(answers(sliced(given.copy(), uneven=False), examples), expected)
    assert (expected - answers(given.model, examples)).abs().max() > 1e-2


def test_slicing_removes_every_weight_of_a_unit(given):
    model = given.copy()
    before = [(part.units, part.unit_weights) for part in architectures.sublayers(model)]
    sliced(model, uneven=False)
    after = [(part.units, part.unit_weights) for part in architectures.sublayers(model)]
    assert [weights for _, weights in before] == [weights for _, weights in after]
    assert {units for units, _ in after} == {2, len(NEURONS)}
    shape = architectures.shape(model)
    assert np.ravel(shape["ffn"])[0] == len(NEURONS)


def test_a_saved_model_loads_again(given, tmp_path):
    model, examples = sliced(given.copy()), encoded(given)
    architectures.trim_positions(model, TASK.max_length)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert torch.equal(answers(again, examples), answers(model, examples))
    assert architectures.shape(again) == architectures.shape(model)


def test_a_model_of_the_shortest_texts_is_exported(given, tmp_path):
    model = given.copy()
    architectures.trim_positions(model, 4)
    student = Student(model, limited(given.tokenizer, 4), dict.fromkeys(("embedding", "ffn"), "int8"))
    assert (
        Predictor(export(student, "onnx-plan", tmp_path / "a", replace(TASK, max_length=4)))
        .logits(["a b c d e f"])
        .size
    )


def test_trimmed_positions_are_those_that_no_text_reaches(given):
    model, examples = given.copy(), encoded(given)
    longest = max(len(ids) for ids in examples.ids)
    assert longest < 24
    expected = answers(model, examples)
    architectures.trim_positions(model, longest)
    assert torch.equal(answers(model, examples), expected)


def test_padding_is_not_seen(given):
    """With the id 0, which is not every family's padding."""
    examples = encoded(given)
    alone = torch.stack([given.model(torch.tensor([ids])).logits[0] for ids in examples.ids])
    order = sorted(range(24), key=lambda i: len(examples.ids[i]))
    torch.testing.assert_close(answers(given.model, examples), alone[order], rtol=1e-4, atol=1e-5)


def test_the_head_reads_the_state_that_read_state_gives(stacked):
    """The answer of each text depends on that last state only."""
    examples = encoded(stacked)
    batch = next(in_order(examples, 8))
    states = stacked.model(**batch.inputs, output_hidden_states=True).hidden_states[-1].clone().requires_grad_()
    read = architectures.read_state(stacked.model, states, batch.attention_mask)
    (gradient,) = torch.autograd.grad(read.sum(), states)
    decoder = stacked.model.config.model_type == "glm"
    place = batch.attention_mask.sum(1) - 1 if decoder else torch.zeros(8, dtype=torch.long)
    assert torch.equal(gradient.abs().sum(2).argmax(1), place)


@pytest.mark.parametrize("drop", ["attention", "ffn", "both"])
def test_a_dropped_sub_layer_leaves_its_bias(stacked, drop, tmp_path):
    """As if nothing entered its output linear; saved and loaded; no weight is left of it."""
    model, examples = stacked.copy(), encoded(stacked)
    layer = architectures.layers(model)[1]
    gone = [part for name, part in (("attention", layer.attention), ("ffn", layer.ffn)) if drop in (name, "both")]
    with _masked(gone, [torch.zeros(1, part.units) for part in gone]):
        expected = answers(model, examples)
    lost = sum(part.units * part.unit_weights for part in gone)
    before = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    for part in gone:
        part.keep(torch.tensor([], dtype=torch.long))
    architectures.record_slices(model)
    torch.testing.assert_close(answers(model, examples), expected)
    assert before - sum(p.numel() for p in model.parameters() if p.dim() == 2) == lost
    save_model(model, tmp_path)
    assert torch.equal(answers(load_model(tmp_path), examples), answers(model, examples))


def test_a_sub_layer_that_albert_runs_everywhere_is_not_dropped():
    model = teacher("albert", TASK).copy()
    with pytest.raises(ValueError, match="every depth"):
        architectures.layers(model)[0].ffn.keep(torch.tensor([], dtype=torch.long))


def test_a_family_that_is_a_student_only_says_so():
    config = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 50, "embedding_size": 8}
    model = architectures.build({"model_type": "mobilebert", "intra_bottleneck_size": 8, **config})
    with pytest.raises(ValueError, match="these families can: albert, bert, distilbert, glm, roberta"):
        architectures.layers(model)


def test_pruning_refits(stacked):
    """All neurons and heads kept, nothing changes; half of them, the refit is nearer than slicing."""
    examples = encoded(stacked)
    full = answers(stacked.model, examples)
    whole = stacked.copy()
    pruning.prune(whole, Kept([torch.arange(4)] * 3, [torch.arange(40)] * 3), examples)
    torch.testing.assert_close(answers(whole, examples), full, rtol=1e-3, atol=1e-3)
    refitted = stacked.copy()
    pruning.prune(refitted, Kept([HEADS] * 3, [NEURONS] * 3), examples)
    cut = sliced(stacked.copy(), uneven=False)
    assert (answers(refitted, examples) - full).square().mean() < (answers(cut, examples) - full).square().mean()


def test_every_method_scores_every_part(given):
    for method in ("fisher", "taylor", "magnitude"):
        found = importance(given.copy(), encoded(given), TASK, method)
        depth = len(architectures.layers(given.model))
        assert [len(scores) for scores in found.heads] == [4] * depth
        assert [len(scores) for scores in found.neurons] == [40] * depth
        assert all((scores > 0).all() for scores in (*found.heads, *found.neurons, found.attention, found.ffn))


@pytest.mark.parametrize("deployment", ["torch-fp32", "onnx-fp32", "onnx-int8"])
def test_an_exported_model_answers_as_pytorch_does(given, deployment, tmp_path):
    student = Student(sliced(given.copy()), given.tokenizer)
    folder = export(student, deployment, tmp_path / "artifact", TASK)
    texts = TASK.dev.texts[:24]
    examples = encoded(given)
    order = sorted(range(24), key=lambda i: len(examples.ids[i]))
    expected = answers(student.model, examples)[np.argsort(order)].numpy()
    allowed = 0.2 if deployment == "onnx-int8" else 1e-4
    for batch_size in (1, 8):
        got = Predictor(folder).logits(texts, batch_size=batch_size)
        np.testing.assert_allclose(got, expected, atol=allowed * np.abs(expected).max())


def test_a_model_with_dropped_sub_layers_is_exported(stacked, tmp_path):
    model = stacked.copy()
    nothing = torch.tensor([], dtype=torch.long)
    first, second, _ = architectures.layers(model)
    for part in (first.ffn, second.attention, second.ffn):
        part.keep(nothing)
    architectures.record_slices(model)
    student = Student(model, stacked.tokenizer, {"ffn": "int8", "attention": "int8"})
    expected = Predictor(export(student, "torch-fp32", tmp_path / "torch", TASK)).logits(TASK.dev.texts)
    for deployment, allowed in (("onnx-fp32", 1e-4), ("onnx-plan", 0.2)):
        got = Predictor(export(student, deployment, tmp_path / deployment, TASK)).logits(TASK.dev.texts, batch_size=8)
        np.testing.assert_allclose(got, expected, atol=allowed * np.abs(expected).max())


def test_transformers_own_model_is_adopted(given):
    """As from_pretrained gives it, in 16 bits; GLM's class there takes the last piece that is not padding's id."""
    config = given.model.config
    theirs = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16)
    theirs.load_state_dict(given.model.state_dict())
    again = AutoCompressor(theirs, tokenizer=given.tokenizer).teacher.model
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    examples = encoded(given)
    torch.testing.assert_close(answers(again, examples), answers(given.model, examples), rtol=0.05, atol=0.2)
    weights = theirs.state_dict()
    assert all(torch.equal(value, weights[name].float()) for name, value in again.state_dict().items())


@pytest.mark.parametrize("embedding", [{"embedding_rank": 8}, {"embedding_codes": 8, "whole_rows": 40}])
@pytest.mark.parametrize("name", FAMILIES)
def test_auto_compressor_takes_every_family(name, embedding, tmp_path):
    given = teacher(name, TASK)
    size = 300 if name in ("roberta", "glm") else 200
    config = {"pruning_ratio": 0.5, "vocabulary_size": size, "learning_rate": 1e-3} | embedding
    student = AutoCompressor(given, config).run(TASK, Budget(24, 16))
    before, after = student.report["before"], student.report["after"]
    assert np.sum(after["ffn"]) < np.sum(before["ffn"])
    assert after["parameters"] < 0.8 * before["parameters"]
    save_model(student.model, tmp_path)
    examples = encode(student.tokenizer, TASK.dev, TASK.max_length)
    assert torch.equal(answers(load_model(tmp_path), examples), answers(student.model, examples))
    folder = export(student, "onnx-plan", tmp_path / "artifact", TASK)
    got = Predictor(folder).logits(TASK.dev.texts, batch_size=8)
    order = sorted(range(len(examples)), key=lambda i: len(examples.ids[i]))
    expected = answers(student.model, examples)[np.argsort(order)].numpy()
    assert np.abs(got - expected).max() < 0.3 * np.abs(expected).max()
