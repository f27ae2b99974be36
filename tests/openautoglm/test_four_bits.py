"""4 bits a weight, or 3: what is packed is unpacked, near the weights, and the runtime computes with it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from openautoglm import artifact
from openautoglm.artifact import ArtifactError
from openautoglm.export import export
from openautoglm.quantization import beside, four_bits
from openautoglm.quantization.fake_quant import fake_quantised
from openautoglm.quantization.plan import GROUPS, linear_format
from openautoglm.runtime import Predictor
from openautoglm.student import Student
from tests.openautoglm import families
from tests.openautoglm.graphs import graph_of

PLAN = dict.fromkeys(GROUPS, "int4")
BITS = pytest.mark.parametrize("bits", four_bits.BITS.values(), ids=four_bits.BITS)


def _rows(count, width):
    """Rows of very different sizes, with a few weights far from the others."""
    draw = np.random.default_rng(0)
    rows = draw.standard_t(5, size=(count, width)) * np.geomspace(1e-3, 1, count)[:, None]
    return rows.astype(np.float32)


@BITS
@pytest.mark.parametrize("width", [1, 16, 31, 96, 1129])
def test_what_was_packed_is_unpacked(width, bits):
    rows = _rows(7, width)
    packed, scale = four_bits.pack(rows, bits)
    codes, same = four_bits.int8(rows, bits)
    np.testing.assert_array_equal(four_bits.unpack(packed, width), codes)
    np.testing.assert_array_equal(scale, same)
    assert packed.size == 7 * -(-width // 32) * 17
    assert np.abs(codes).max() <= 2 ** (bits - 1) * four_bits.MOST


@BITS
def test_a_weight_is_off_by_half_a_step_of_its_block(bits):
    """Half of 2 ** bits - 1 steps is the block's largest weight, to half a multiplier; cut weights may miss a step."""
    rows = _rows(20, 64)
    codes, scale = four_bits.int8(rows, bits)
    error = np.abs(codes * scale - rows).reshape(20, -1, four_bits.BLOCK)
    largest = np.abs(rows).reshape(error.shape).max(-1, keepdims=True)
    step = largest / (2 ** (bits - 1) - 0.5) + 2 * scale[:, :, None]
    assert (error <= step).all()
    missed = np.sqrt(np.square(error).sum() / np.square(rows).sum())
    assert missed < {4: 0.1, 3: 0.2}[bits]  # normal weights: 0.08 and 0.16


@BITS
def test_codes_are_the_best_of_all_near_ones(bits):
    """No other multiplier of the three, and no other code, is nearer to a weight."""
    rows = _rows(3, 32)
    codes, scale = four_bits.int8(rows, bits)
    error = np.square(codes * scale - rows).reshape(3, 2, 16).sum(-1)
    most, blocks, asked = 2 ** (bits - 1) - 1, rows.reshape(3, 2, 16), np.abs(rows).reshape(3, 2, 16).max(-1)
    for shift in (0, -1, 1):
        multiplier = np.clip(np.rint(asked / (scale * (most + 0.5))) + shift, 1, four_bits.MOST)
        step = (scale * multiplier)[..., None]
        others = np.stack([np.square(code * step - blocks) for code in range(-most - 1, most + 1)])
        assert (error <= others.min(0).sum(-1) * (1 + 1e-5)).all()


def test_a_row_of_zeros_stays_zero():
    codes, scale = four_bits.int8(np.zeros((2, 5), np.float32), bits=4)
    assert not codes.any()
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("number_format", four_bits.BITS)
def test_the_runtime_computes_with_the_weights_that_few_bits_hold(number_format, case, tmp_path):
    """In the mean; a value on the edge of a step of an activation moves a text by as much as in INT8."""
    teacher, task = case
    model = teacher.copy().eval()
    plan = dict.fromkeys(GROUPS, number_format)
    deployed = Predictor(export(Student(model, teacher.tokenizer, plan), "onnx-plan", tmp_path / "a", task))
    rows = [deployed.tokenize([text]) for text in task.dev.texts[:24]]

    def answers():
        with torch.no_grad():
            return np.concatenate([model(*map(torch.from_numpy, row)).logits.numpy() for row in rows])

    float32, planned = answers(), np.concatenate([deployed.session(*row) for row in rows])
    with fake_quantised(model, plan):
        ours = answers()
    assert np.abs(ours - planned).mean() < 0.5 * np.abs(float32 - planned).mean()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_has_a_form_in_4_bits(family, case, tmp_path):
    teacher = families.teacher(family, case[1])
    folders = [
        export(Student(teacher.copy(), teacher.tokenizer, dict.fromkeys(GROUPS, f)), "onnx-plan", tmp_path / f, case[1])
        for f in ("int8", "int4")
    ]
    graphs = [graph_of(folder) for folder in folders]
    whole, narrow = ([t for t in g.initializer if t.data_type == onnx.TensorProto.INT8] for g in graphs)
    assert sorted(tuple(t.dims) for t in narrow) == sorted(tuple(t.dims) for t in whole)
    operators = [sorted(n.op_type for n in graph.node if n.op_type != "Cast") for graph in graphs]
    assert operators[0] == operators[1]  # and so it is as fast
    assert sum(t.data_location == onnx.TensorProto.EXTERNAL for t in narrow) >= (6 if family == "albert" else 13)
    assert set(artifact.read(folders[1]).files) == {"model.onnx.gz", "model.safetensors.gz", "tokenizer.json.gz"}


def test_layers_of_one_model_may_differ(case, tmp_path):
    plan = dict.fromkeys(GROUPS, "int8") | {"layer.1.ffn": "int4"}
    student = Student(case[0].copy(), case[0].tokenizer, plan)
    folder = export(student, "onnx-plan", tmp_path / "a", case[1])
    assert len(beside.load(artifact.content(folder, artifact.read(folder), "model.safetensors"))) == 2


def test_a_missing_or_foreign_file_of_weights_is_refused(case, tmp_path):
    student = Student(case[0].copy(), case[0].tokenizer, PLAN)
    folder = export(student, "onnx-plan", tmp_path / "a", case[1])
    weights = folder / "model.safetensors.gz"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="differs from its hash"):
        Predictor(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match="not a plain file"):
        Predictor(folder)


def test_the_projection_of_an_embedding_stays_int8():
    assert linear_format({"embedding": "int4"}, "embedding") == "int8"
    assert linear_format({"ffn": "int4"}, "layer.2.ffn") == "int4"
