"""Fake quantisation computes what the runtime's INT8 computes, and lets gradients through."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import dev_score
from openautoglm.distillation.losses import task_loss
from openautoglm.export import _Exporter, export
from openautoglm.quantization import embedding_tables, four_bits, onnx_graph
from openautoglm.quantization.fake_quant import fake_quantised, int8_linear, part_of
from openautoglm.quantization.int8 import int8
from openautoglm.quantization.plan import INTEGER
from openautoglm.quantization.qat import fine_tune_quantised
from openautoglm.runtime import Predictor
from openautoglm.student import Student

PLAN = {"embedding": "int8", "attention": "int8", "ffn": "int8", "head": "int8"}


def _runtime_linear(x, weight):
    """ONNX Runtime's dynamic INT8 of one MatMul."""
    import onnxruntime

    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")],
        "g",
        [helper.make_tensor_value_info("x", kinds.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", kinds.FLOAT, [*x.shape[:-1], len(weight)])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    quantised = onnx_graph.quantize(model)
    assert "MatMulInteger" in [node.op_type for node in quantised.graph.node]
    return onnxruntime.InferenceSession(quantised.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_linear_is_the_runtimes(shift):
    draw = np.random.default_rng(0)
    x = (draw.normal(size=(1, 9, 48)) + shift).astype(np.float32)
    weight = (draw.normal(size=(32, 48)) * np.geomspace(0.01, 1, 32)[:, None]).astype(np.float32)
    ours = int8_linear(torch.tensor(x), torch.tensor(weight), None).numpy()
    theirs = _runtime_linear(x, weight)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())
    assert np.abs(ours - x @ weight.T).max() > 1e-3  # it does round


def test_each_text_has_its_own_range():
    x = torch.randn(2, 5, 8) * torch.tensor([1.0, 100.0])[:, None, None]
    weight = torch.randn(4, 8)
    alone = int8_linear(x[:1], weight, None)
    torch.testing.assert_close(int8_linear(x, weight, None)[:1], alone)


def test_a_whole_model_is_the_runtimes(case, tmp_path):
    """But for the texts with a value on the edge of a step. The plan's deployment computes the last layer for one
    piece, with that piece's own range, and so differs a little more."""
    teacher, task = case
    model = teacher.copy().eval()
    student = Student(model, teacher.tokenizer, PLAN)
    deployed = Predictor(export(student, "onnx-plan", tmp_path / "plan", task))
    rows = [deployed.tokenize([text]) for text in task.dev.texts[:24]]

    def answers():
        with torch.no_grad():
            return np.concatenate([model(*map(torch.from_numpy, row)).logits.numpy() for row in rows])

    float32 = answers()
    with fake_quantised(model, PLAN):
        ours = answers()
    np.testing.assert_array_equal(answers(), float32)  # afterwards the model computes as before
    plain = _runtime_model(student, task)
    whole = np.concatenate([plain.run(None, {"input_ids": ids, "attention_mask": mask})[0] for ids, mask in rows])
    assert np.median(np.abs(ours - whole)) < 0.4 * np.median(np.abs(float32 - whole))
    planned = np.concatenate([deployed.session(*row) for row in rows])
    assert np.abs(ours - planned).mean() < np.abs(float32 - planned).mean()


def _runtime_model(student, task):
    """The student's traced graph, unfused, with every linear and table in INT8."""
    import onnxruntime

    graph = onnx.ModelProto()
    graph.CopyFrom(_Exporter(student, task).graph)
    embedding_tables.store(graph, "int8")
    return onnxruntime.InferenceSession(onnx_graph.quantize(graph).SerializeToString())


def test_gradients_pass_straight_through():
    linear, x = nn.Linear(8, 4), torch.randn(3, 8, requires_grad=True)
    with fake_quantised(nn.ModuleDict({"classifier": linear}), {"head": "int8"}):
        pass
    int8_linear(x, linear.weight, linear.bias).sum().backward()
    torch.testing.assert_close(x.grad, linear.weight.detach().sum(0).expand(3, 8), rtol=0.02, atol=0.02)
    torch.testing.assert_close(linear.weight.grad, x.detach().sum(0).expand(4, 8), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("number_format", INTEGER)
def test_weights_alone_can_be_rounded(number_format):
    linear, x = nn.Linear(48, 4), torch.randn(3, 48, requires_grad=True)
    exact = linear(x).detach()
    codes, scale = int8(linear.weight.detach().numpy(), axis=1)
    if bits := four_bits.BITS.get(number_format):
        codes, scale = four_bits.int8(linear.weight.detach().numpy(), bits)
    rounded = torch.from_numpy(codes * scale)
    with fake_quantised(nn.ModuleDict({"classifier": linear}), {"head": number_format}, activations=False):
        found = linear(x)
    torch.testing.assert_close(found, nn.functional.linear(x, rounded, linear.bias))
    assert not torch.allclose(found, exact, atol=1e-4)
    found.sum().backward()
    torch.testing.assert_close(x.grad, rounded.sum(0).expand(3, 48))
    torch.testing.assert_close(linear.weight.grad, x.detach().sum(0).expand(4, 48))


def test_a_fixed_range_holds_after_training():
    model = nn.ModuleDict({"classifier": nn.Linear(8, 4)})
    linear = model["classifier"]
    with fake_quantised(model, {"head": "int8"}, window=2):
        model.train()
        linear(torch.randn(16, 8))
        model.eval()
        far = torch.full((1, 8), 1000.0)
        assert float(linear(far).detach().abs().max()) < 100  # cut at the range that training saw
    assert float(linear(far).detach().abs().max()) > 100


def test_parts_are_those_of_the_graph(case):
    parts = {part_of(name) for name, m in case[0].model.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))}
    assert parts == {"embedding", "head"} | {f"layer.{i}.{g}" for i in range(6) for g in ("attention", "ffn")}


@pytest.mark.parametrize("threshold", [1.0, -1.0])
def test_training_happens_where_rounding_costs_more_than_the_threshold(case, threshold):
    teacher, task = case
    model = teacher.copy()
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(batch):
        return task_loss(model(**batch.inputs).logits, batch.labels, task.kind)

    told = fine_tune_quantised(
        model, PLAN, train, loss, lambda: dev_score(model, task, dev), 12, threshold=threshold, batch_size=16
    )
    moved = any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert told["steps"] == (0 if threshold == 1.0 else 12)
    assert moved == (told["trained"] > told["rounded"])
    assert told["trained"] >= told["rounded"]
