"""Product codes of the word embedding: k-means beside scikit-learn's, frequent pieces nearer, saved, exported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from openautoglm import AutoCompressor, Budget, architectures, artifact, codebooks
from openautoglm.config import ConfigError
from openautoglm.distillation.data import Encoded, encode
from openautoglm.export import export
from openautoglm.inspection import stored
from openautoglm.quantization import coded_rows
from openautoglm.quantization.coded_rows import CodedRows
from openautoglm.quantization.fake_quant import fake_quantised
from openautoglm.quantization.int8 import int8
from openautoglm.runtime import Predictor
from openautoglm.student import Student
from tests.openautoglm.graphs import graph_of


@pytest.fixture
def table():
    torch.manual_seed(0)
    return torch.nn.Embedding.from_pretrained(torch.randn(1500, 32) @ torch.randn(32, 32))


def missed(rows, near, weights, metric):
    """The weighted sum of e M e^T, in plain words."""
    return float(sum(w * e @ metric @ e for w, e in zip(weights, rows - near, strict=True)))


def named(books, chosen):
    """The rows that codes name."""
    return torch.cat([book[chosen[:, place]] for place, book in enumerate(books)], dim=1)


def test_of_one_place_it_is_k_means_as_good_as_scikit_learns():
    torch.manual_seed(0)
    vectors, weights = torch.randn(2000, 4).double(), torch.rand(2000).double()
    books, chosen = codebooks.product_codes(vectors, weights, 1, 64)
    theirs = KMeans(64, n_init=1, random_state=0).fit(vectors.numpy(), sample_weight=weights.numpy())
    assert missed(vectors, named(books, chosen), weights, torch.eye(4).double()) < 1.05 * theirs.inertia_
    assert torch.equal(chosen[:, 0], torch.cdist(vectors, books[0]).argmin(1))


def test_along_the_axes_the_metric_is_the_plain_distance_and_places_share_the_variance():
    torch.manual_seed(0)
    rows, weights = (torch.randn(800, 16) @ torch.randn(16, 16)).double(), torch.rand(800).double()
    mix = torch.randn(16, 16).double()
    metric = mix @ mix.T + torch.eye(16)
    there, back = codebooks.axes(rows, weights, metric, 4)
    torch.testing.assert_close(there @ back, torch.eye(16).double())
    turned = rows @ there
    torch.testing.assert_close(turned.square().sum(1), torch.einsum("ni,ij,nj->n", rows, metric, rows))
    spread = (turned * weights[:, None]).T @ turned / weights.sum()
    torch.testing.assert_close(spread, spread.diagonal().diag(), atol=1e-6 * float(spread.max()), rtol=0)
    shares = spread.diagonal().log().view(4, 4).sum(1)
    assert shares.max() - shares.min() < spread.diagonal().log().max() - spread.diagonal().log().min()


def test_along_the_axes_the_same_bytes_miss_less():
    torch.manual_seed(0)
    rows, weights = torch.randn(1500, 32) @ torch.randn(32, 32), torch.ones(1500).double()
    coded = codebooks.encode_rows(torch.nn.Embedding.from_pretrained(rows), torch.zeros(1500), 8, whole=1)
    ours = coded(torch.arange(1500)).detach().double()
    plain = named(*codebooks.product_codes(rows.double(), weights, 8, 256))
    alike = torch.eye(32).double()
    assert missed(rows.double(), ours, weights, alike) < 0.8 * missed(rows.double(), plain, weights, alike)


def test_what_the_metric_counts_is_missed_less():
    torch.manual_seed(0)
    table, mix = torch.nn.Embedding.from_pretrained(torch.randn(800, 16)), torch.randn(16, 4).double()
    alike, metric, weights = torch.eye(16).double(), mix @ mix.T, torch.ones(800).double()
    by_length, by_metric = (
        codebooks.encode_rows(table, torch.zeros(800), 4, 1, m)(torch.arange(800)).detach().double()
        for m in (None, metric)
    )
    rows = table.weight.double()
    assert missed(rows, by_metric, weights, metric) < 0.7 * missed(rows, by_length, weights, metric)
    assert missed(rows, by_metric, weights, alike) > missed(rows, by_length, weights, alike)


def test_the_answers_metric_is_the_mean_of_the_gradients_squares(case):
    teacher, task = case
    model, train = teacher.copy(), encode(teacher.tokenizer, task.train, task.max_length)
    often = Encoded(train.ids * 30, train.labels.repeat(30))  # the random signs of several classes fade with the texts
    found = codebooks.answer_metric(model, often, skipped=range(5))
    table, squares, pieces = model.get_input_embeddings().weight.detach(), 0.0, 0
    for ids in map(torch.tensor, train.ids):
        rows = table[ids][None].requires_grad_()
        for logit in model(inputs_embeds=rows).logits[0]:
            (gradient,) = torch.autograd.grad(logit, rows, retain_graph=True)
            real = gradient[0, ids >= 5].double()
            squares = squares + real.T @ real
        pieces += int((ids >= 5).sum())
    rtol = 1e-4 if task.kind == "regression" else 0.15
    torch.testing.assert_close(found.trace(), (squares / pieces).trace(), rtol=rtol, atol=0)
    torch.testing.assert_close(found, squares / pieces, rtol=0, atol=rtol * float(found.trace()))


def test_the_first_rows_stay_and_a_later_one_is_what_its_codes_name(table):
    coded = codebooks.encode_rows(table, torch.ones(1500), 8, whole=100)
    rows = coded(torch.tensor([[3, 700, 99, 1499, 100]]))
    assert rows.shape == (1, 5, 32)
    assert coded.codes.dtype == torch.uint8
    assert torch.equal(rows[0, [0, 2]], table.weight[[3, 99]])
    books = coded.codebooks.weight.view(8, 256, 4)
    for row, piece in zip(rows[0, [1, 3, 4]], (700, 1499, 100), strict=True):
        near = torch.cat([books[place, code] for place, code in enumerate(coded.codes[piece - 100].tolist())])
        torch.testing.assert_close(row, coded.turn(near))


def test_more_codes_are_nearer_and_frequent_pieces_are_nearest(table):
    counts = torch.zeros(1500)
    counts[100:150] = 400

    def far(codes, of):
        coded = codebooks.encode_rows(table, counts, codes, whole=100)
        return float((coded(of) - table(of)).square().sum().detach())

    often, seldom = torch.arange(100, 150), torch.arange(150, 200)
    assert far(16, seldom) < far(8, seldom) < far(4, seldom)
    assert far(8, often) < 0.5 * far(8, seldom)


def test_few_pieces_are_kept_as_they_are(table):
    few = torch.nn.Embedding.from_pretrained(table.weight[:140])
    coded = codebooks.encode_rows(few, torch.ones(140), 4, whole=100)
    torch.testing.assert_close(coded(torch.arange(140)), few.weight.data)


def test_what_cannot_be_coded_is_refused(table):
    with pytest.raises(ValueError, match=r"32 wide in 5 codes a piece: give one of \[1, 2, 4, 8, 16, 32\]"):
        codebooks.encode_rows(table, torch.ones(1500), 5, whole=100)
    with pytest.raises(ValueError, match="1500 whole rows, but there are 1500 pieces"):
        codebooks.encode_rows(table, torch.ones(1500), 8, whole=1500)


def test_rank_and_codes_exclude_one_another(case):
    with pytest.raises(ConfigError, match="embedding_rank and embedding_codes"):
        AutoCompressor(case[0], {"embedding_rank": 8, "embedding_codes": 8})


@pytest.fixture(scope="module")
def student(case):
    teacher, task = case
    config = {
        "pruning_ratio": 0.3,
        "embedding_codes": 8,
        "whole_rows": 20,
        "learning_rate": 1e-3,
        "precision": {"embedding": "int4"},
    }
    return AutoCompressor(teacher, config).run(task, Budget(60, 16))


def test_the_student_learns_is_saved_and_loads_again(case, student, tmp_path):
    teacher, task = case
    assert student.evaluate(task.dev)[task.metrics[0]] > 0.8
    told = next(step for step in student.report["steps"] if step["step"] == "product codes")
    assert told["codes"] == student.report["after"]["embedding_size"] == 8
    order = [step["step"] for step in student.report["steps"]]
    assert order.index("product codes") < order.index("distillation")  # whose last stage knows them
    assert student.tokenizer.get_vocab_size() == student.model.config.vocab_size
    assert student.tokenizer.encode(task.dev.texts[0]).tokens == teacher.tokenizer.encode(task.dev.texts[0]).tokens
    loaded = Student.load(student.save(tmp_path / "s"))
    assert loaded.evaluate(task.dev) == student.evaluate(task.dev)


def test_multiplied_out_a_row_is_off_by_half_a_step(table, monkeypatch):
    monkeypatch.setattr(coded_rows, "AT_ONCE", 128)  # several turns, the last one shorter
    coded = codebooks.encode_rows(table, torch.ones(1500), 8, whole=100)
    parts = coded.codes, coded.codebooks.weight, coded.turn.weight, coded.turn.bias
    whole = int8(coded.whole.weight.detach().numpy(), axis=1)
    rows, scales = coded_rows.multiplied_out(CodedRows(*(part.detach().numpy() for part in parts)), *whole)
    assert (rows.dtype, rows.shape, scales.shape) == (np.int8, (1500, 32), (1500, 1))
    exact = coded(torch.arange(1500)).detach().numpy()
    assert (np.abs(rows * scales - exact) <= 0.501 * scales).all()


@pytest.mark.parametrize("number_format", ["int3", "int8"])
def test_the_runtime_looks_up_rows_that_the_loader_multiplied_out(case, student, tmp_path, number_format):
    plan = {"embedding": number_format}
    folder = export(Student(student.model, student.tokenizer, plan), "onnx-plan", tmp_path / "plan", case[1])
    operators = {node.op_type for node in graph_of(folder).node}
    assert not operators & {"MatMulInteger", "DynamicQuantizeLinear", "Where"}  # no turning, no choice of whole rows
    deployed = Predictor(folder)
    texts = [deployed.tokenize([text]) for text in case[1].dev.texts[:24]]
    ours = np.concatenate([deployed.session(*text) for text in texts])
    model = student.model.eval()
    with torch.no_grad(), fake_quantised(model, plan):
        exact = np.concatenate([model(*map(torch.from_numpy, text)).logits.numpy() for text in texts])
    np.testing.assert_allclose(ours, exact, atol=0.03 * np.abs(exact).max())


@pytest.mark.parametrize("number_format", ["fp16", "fp32"])
def test_a_plan_that_is_not_in_int8_names_rows_in_the_graph(case, student, tmp_path, number_format):
    named = Student(student.model, student.tokenizer, {"embedding": number_format, "ffn": "int8"})
    folder = export(named, "onnx-plan", tmp_path / "plan", case[1])
    assert "Where" in {node.op_type for node in graph_of(folder).node}


def test_one_whole_row_is_enough(case, tmp_path):
    teacher, task = case
    model, counts = teacher.copy(), torch.ones(teacher.model.config.vocab_size)
    architectures.set_word_embedding(
        model, codebooks.encode_rows(architectures.word_embedding(model), counts, 4, whole=1)
    )
    folder = export(Student(model, teacher.tokenizer, {"embedding": "int8"}), "onnx-plan", tmp_path / "a", task)
    assert Predictor(folder).logits(task.dev.texts[:2]).shape == (2, task.outputs)


def test_the_artifact_holds_a_byte_a_code_and_answers_alike(case, student, tmp_path):
    task = case[1]
    folder = student.export(tmp_path / "plan", task=task)
    codes = next(tensor for tensor in stored(folder) if tensor.place.endswith("codes"))
    pieces = student.model.config.vocab_size - 20
    assert (codes.format, codes.shape, codes.bytes) == ("UINT8", (pieces, 8), 8 * pieces)
    plain = student.export(tmp_path / "plain", "onnx-fp32", task=task)
    ours, exact = (Predictor(f).logits(task.dev.texts) for f in (folder, plain))
    assert np.mean(ours.argmax(1) == exact.argmax(1)) > 0.95
    assert artifact.size(folder) < artifact.size(plain)
