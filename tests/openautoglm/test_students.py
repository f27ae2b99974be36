"""The students' classes: sizes in the real shape, sharing, NoNorm, what is copied, and that a saved one loads again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from baselines import tinybert
from openautoglm import architectures
from openautoglm.architectures import albert, distilbert, mobilebert
from openautoglm.student import load_model, parameter_count, save_model

REAL: Any = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
IDS = torch.tensor([[2, 7, 8, 9, 3, 30], [2, 11, 3, 0, 0, 0]])
MASK = (IDS != 0).long()
STUDENTS: dict[str, Callable[[Any], Any]] = {
    "distilbert": lambda bert: distilbert.shaped_like(bert, 3),
    "tinybert": tinybert.shaped_like,
    "mobilebert": mobilebert.shaped_like,
    "albert": lambda bert: albert.shaped_like(bert, 12),
}


@pytest.fixture(scope="module")
def bert():
    """A small BERT with the irregular weights of a trained one."""
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[call-arg]  # num_labels goes through **kwargs
        vocab_size=40,
        hidden_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=16,
        num_labels=3,
    )
    model = BertForSequenceClassification(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(("name", "millions"), [("distilbert", 17.2), ("tinybert", 5.44), ("mobilebert", 6.09)])
def test_size_in_the_real_shape(name, millions):
    with torch.device("meta"):
        teacher = BertForSequenceClassification(BertConfig(vocab_size=30522, **REAL))
        student = STUDENTS[name](teacher)
    assert parameter_count(student) / 1e6 == pytest.approx(millions, rel=0.02)


def test_size_of_albert_in_the_real_shape():
    with torch.device("meta"):
        teacher = BertForSequenceClassification(BertConfig(vocab_size=30522, **REAL))
        assert parameter_count(albert.shaped_like(teacher, 64)) / 1e6 == pytest.approx(3.93, rel=0.02)


@pytest.mark.parametrize("name", STUDENTS)
@torch.no_grad()
def test_a_saved_student_loads_again_and_does_not_see_padding(name, bert, tmp_path):
    student = STUDENTS[name](bert).eval()
    save_model(student, tmp_path)
    again = load_model(tmp_path).eval()
    logits = student(input_ids=IDS, attention_mask=MASK).logits
    assert torch.equal(again(input_ids=IDS, attention_mask=MASK).logits, logits)
    torch.testing.assert_close(student(input_ids=IDS[1:, :3], attention_mask=MASK[1:, :3]).logits, logits[1:])
    assert architectures.shape(again) == architectures.shape(student)
    assert architectures.shape(student)["layers"] == student.config.num_hidden_layers


@torch.no_grad()
def test_distilbert_starts_as_the_teacher_with_the_other_layers_left_out(bert):
    student = distilbert.shaped_like(bert, 3).eval()
    distilbert.copy_from(student, bert, [0, 2, 4])
    ours = student.distilbert(IDS, MASK).last_hidden_state
    layers = bert.bert.encoder.layer
    bert.bert.encoder.layer = torch.nn.ModuleList([layers[0], layers[2], layers[4]])
    theirs = bert.bert(IDS, MASK).last_hidden_state
    bert.bert.encoder.layer = layers
    real = MASK == 1
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-4, atol=1e-4)


def test_albert_has_one_layer_that_runs_at_every_depth(bert):
    student = albert.shaped_like(bert, 12).eval()
    (layer,) = student.albert.encoder.albert_layer_groups[0].albert_layers
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    student(input_ids=IDS, attention_mask=MASK)
    assert len(calls) == bert.config.num_hidden_layers


@torch.no_grad()
def test_alberts_shared_layer_starts_as_the_teachers(bert):
    student = albert.shaped_like(bert, 12).eval()
    albert.copy_from(student, bert, 3)
    (layer,) = student.albert.encoder.albert_layer_groups[0].albert_layers
    hidden = torch.randn(2, 5, 48)
    torch.testing.assert_close(layer(hidden), bert.bert.encoder.layer[3](hidden))


@torch.no_grad()
def test_alberts_words_are_the_best_of_their_rank(bert):
    student = albert.shaped_like(bert, 12)
    albert.factorise_embedding(student, bert, IDS)
    all_values = torch.linalg.svdvals(bert.bert.embeddings.word_embeddings.weight)
    kept = torch.linalg.svdvals(student.albert.embeddings.word_embeddings.weight)
    torch.testing.assert_close(kept, all_values[:12], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_alberts_embedding_gives_the_teachers_for_the_sample_where_it_can(bert):
    """12 pieces in 48 dimensions: a linear map behind the layer norm can reach every one of them."""
    student = albert.shaped_like(bert, 48).eval()
    albert.factorise_embedding(student, bert, IDS)
    ours = student.albert.encoder.embedding_hidden_mapping_in(student.albert.embeddings(IDS))
    torch.testing.assert_close(ours, bert.bert.embeddings(IDS), rtol=1e-2, atol=1e-2)


def test_no_norm_is_gamma_x_plus_beta(bert):
    student = mobilebert.shaped_like(bert)
    norm = student.mobilebert.encoder.layer[0].output.bottleneck.LayerNorm
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 48)
    torch.testing.assert_close(norm(x), x * norm.weight + norm.bias)
    assert not [m for m in student.modules() if isinstance(m, torch.nn.LayerNorm)]


def test_mobilebert_has_four_ffns_bottlenecks_and_no_dropout(bert):
    student = mobilebert.shaped_like(bert)
    layer = student.mobilebert.encoder.layer[0]
    assert len(layer.ffn) + 1 == 4
    assert (layer.intermediate.dense.in_features, layer.intermediate.dense.out_features) == (12, 48)
    assert layer.bottleneck.input.dense.weight.shape == (12, 48)
    assert student.mobilebert.embeddings.embedding_transformation.in_features == 3 * 12
    assert not [m for m in student.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]


@torch.no_grad()
def test_mobileberts_embedding_starts_close_to_the_teachers(bert):
    student = mobilebert.shaped_like(bert).eval()
    real = MASK == 1

    def distance() -> float:
        ours = student.mobilebert.embeddings(IDS)[real]
        return (ours - bert.bert.embeddings(IDS)[real]).pow(2).mean().item()

    before = distance()
    mobilebert.copy_from(student, bert)
    assert distance() < 0.7 * before
    assert not student.mobilebert.embeddings.word_embeddings.weight[0].any()


@pytest.mark.parametrize(("depth", "expected"), [(6, (2, 3)), (12, (4, 3)), (3, (1, 3))])
def test_tinyberts_uniform_layer_map(depth, expected):
    teacher = BertForSequenceClassification(
        BertConfig(vocab_size=40, hidden_size=24, num_hidden_layers=depth, num_attention_heads=2, intermediate_size=32)
    )
    student = tinybert.shaped_like(teacher)
    ratio = tinybert.layer_ratio(teacher.config, student.config)
    assert (student.config.num_hidden_layers, ratio) == expected
    assert student.config.num_hidden_layers * ratio == depth


def test_tinybert_refuses_a_depth_that_does_not_divide():
    with pytest.raises(ValueError, match="divides by 3"):
        tinybert.layer_ratio(BertConfig(num_hidden_layers=8), BertConfig(num_hidden_layers=3))
