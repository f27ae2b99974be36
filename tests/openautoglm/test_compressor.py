"""AutoCompressor on a tiny teacher, whole: smaller, still right, exported, loaded again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from openautoglm import AutoCompressor, Budget, CompressionConfig, architectures, artifact
from openautoglm.artifact import ArtifactError
from openautoglm.compressor import _Plan
from openautoglm.config import ConfigError, read_config
from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import logits_of
from openautoglm.export import export
from openautoglm.quantization.fake_quant import fake_quantised
from openautoglm.runtime import Predictor
from openautoglm.student import Teacher, parameter_count
from tests.conftest import make_task, make_teacher
from tests.openautoglm.graphs import graph_of

CONFIG = {"pruning_ratio": 0.5, "vocabulary_size": 200, "embedding_rank": 12, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def student(case):
    teacher, task = case
    torch.manual_seed(0)  # the crossed texts hang on it, and not on which tests ran before
    return AutoCompressor(model=teacher, config=CONFIG).run(task, Budget(60, 16))


def _score(predictor, task):
    return task.score(predictor.logits(task.dev.texts), task.dev.labels)


def test_half_the_encoder_goes_and_the_task_is_still_known(case, student, tmp_path):
    task = case[1]
    before, after = student.report["before"], student.report["after"]
    assert sum(after["heads"]) + sum(after["ffn"]) / 16 < 0.75 * (sum(before["heads"]) + sum(before["ffn"]) / 16)
    assert after["parameters"] == parameter_count(student.model) < 0.7 * before["parameters"]
    assert _score(Predictor(export(student, "onnx-fp32", tmp_path / "a", task)), task) > 0.8


@pytest.mark.parametrize("deployment", ["torch-fp32", "onnx-fp32", "onnx-int8", "onnx-plan"])
def test_every_deployment_answers_as_the_student_does(case, student, tmp_path, deployment):
    _, task = case
    float32 = Predictor(export(student, "onnx-fp32", tmp_path / "reference", task)).logits(task.dev.texts)
    deployed = Predictor(export(student, deployment, tmp_path / "artifact", task)).logits(task.dev.texts, batch_size=8)
    atol = {"torch-fp32": 1e-4, "onnx-fp32": 1e-4}.get(deployment, 0.35) * np.abs(float32).max()
    np.testing.assert_allclose(deployed, float32, atol=atol)


def test_the_plan_quantises_every_linear_and_gives_each_row_a_scale(case, student, tmp_path):
    _, task = case
    folder = export(student, "onnx-plan", tmp_path / "artifact", task)
    graph = graph_of(folder)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert not [name for name, value in weights.items() if value.dtype == np.float32 and value.size > 1000]
    rows = next(value for name, value in weights.items() if "table" in name and value.dtype == np.int8)
    scale = next(value for name, value in weights.items() if "table" in name and "_scale" in name)
    table = student.model.bert.embeddings.word_embeddings.table.weight.detach().numpy()
    assert np.abs(rows * scale - table).max() <= scale.max() / 2 + 1e-6


def test_16_bit_storage_halves_what_is_not_quantised(case, student, tmp_path):
    teacher, task = case
    attention = AutoCompressor(teacher, {"quantize_layers": ["ffn"], "pruning_ratio": 0.0}).run(task, Budget(1, 16))
    assert attention.plan == {"embedding": "fp16", "attention": "fp16", "ffn": "int8", "head": "fp16"}
    whole = artifact.size(export(attention, "onnx-fp32", tmp_path / "whole", task))
    assert artifact.size(export(attention, "onnx-plan", tmp_path / "plan", task)) < whole


def test_an_altered_artifact_is_refused(case, student, tmp_path):
    folder = export(student, "onnx-fp32", tmp_path / "a", case[1])
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match="differs from its hash"):
        Predictor(folder)
    (folder / "manifest.json").write_text(json.dumps({"runtime": "onnx"}))
    with pytest.raises(ArtifactError, match="not a manifest"):
        Predictor(folder)


def test_unknown_deployment(case, student, tmp_path):
    with pytest.raises(ArtifactError, match=r"known: .*onnx-fp32"):
        export(student, "onnx-fp8", tmp_path / "a", case[1])


def test_a_structure_is_reached_and_what_it_drops_is_gone(case, tmp_path):
    teacher, task = case
    wanted = [[1, 0], [0, 8], [2, 20], [0, 0], [4, 48], [1, 4]]
    found = AutoCompressor(teacher, {"structure": wanted, "pruning_rounds": 2}).run(task, Budget(4, 16))
    assert [[layer.heads, layer.neurons] for layer in architectures.layers(found.model)] == wanted
    assert parameter_count(found.model) < parameter_count(teacher.model)
    artifact_folder = export(found, "onnx-plan", tmp_path / "a", task)
    assert len(Predictor(artifact_folder).logits(task.dev.texts[:3])) == 3


def test_a_structure_that_does_not_fit_is_refused_before_training(case):
    teacher, task = case
    for wrong in ([[1, 8]], [[99, 8]] * 6):
        with pytest.raises(ConfigError, match="give every layer, each at most as wide"):
            AutoCompressor(teacher, {"structure": wrong}).run(task, Budget(4, 16))


def test_every_step_can_be_switched_on_together(case, tmp_path):
    teacher, task = case
    config = {
        "pruning_ratio": 0.3,
        "importance": "taylor",
        "linear_rank_share": 0.8,
        "branch_ranks": [2],
        "exits": [1],
        "precision": {"embedding": "int4", "layer.0.ffn": "fp16"},
        "sensitivity_texts": 16,
        "mixed_precision_loss": 1e9,
        "qat_share": 0.3,
        "qat_threshold": 0.0,
    }
    found = AutoCompressor(teacher, config).run(task, Budget(8, 16))
    assert found.exits is not None
    assert found.plan["layer.0.ffn"] == "fp16"
    assert not any("parametrizations" in name for name in found.model.state_dict())  # the branches are fused
    steps = [step["step"] for step in found.report["steps"]]
    assert [s for s in steps if "pruning" not in s] == [
        *("low-rank linears", "branches", "distillation", "quantisation-aware training", "exits")
    ]
    assert {entry["change"] for entry in found.report["sensitivity"]} >= {"int8", "rank", "drop"}
    for deployment in ("onnx-plan", "onnx-dynamic"):
        folder = export(found, deployment, tmp_path / deployment, task)
        assert len(Predictor(folder).logits(task.dev.texts[:3])) == 3


def test_exits_that_the_model_cannot_have_are_refused_before_training(case):
    teacher, task = case
    for wrong in ([99], [2, 1]):
        with pytest.raises(ConfigError, match="give ascending numbers"):
            AutoCompressor(teacher, {"exits": wrong}).run(task, Budget(10**9, 16))


@pytest.mark.parametrize(
    ("done", "again"),
    [
        ({"embedding_rank": 8}, {"embedding_codes": 4}),
        ({"embedding_codes": 4, "whole_rows": 20}, {"vocabulary_size": 200}),
        ({"linear_rank_share": 0.5}, {"pruning_ratio": 0.3}),
    ],
)
def test_what_is_cut_goes_on_but_for_another_cut_of_the_same(case, done, again):
    teacher, task = case
    none = {"pruning_ratio": 0.0, "learning_rate": 1e-3}
    cut = AutoCompressor(teacher, none | done).run(task, Budget(2, 16))
    smaller = Teacher(cut.model, cut.tokenizer)
    with pytest.raises(ConfigError, match=f"was compressed before.*{next(iter(again))}"):
        AutoCompressor(smaller, none | again).run(task, Budget(2, 16))
    assert AutoCompressor(smaller, none).run(task, Budget(2, 16)).evaluate(task.dev)


def test_a_model_without_some_sub_layers_is_pruned_further(case):
    teacher, task = case
    structure = [[2, 32], [0, 16], *[[4, 48]] * 4]
    some = AutoCompressor(teacher, {"structure": structure, "pruning_rounds": 1}).run(task, Budget(2, 16))
    further = AutoCompressor(Teacher(some.model, some.tokenizer), {"pruning_ratio": 0.5}).run(task, Budget(8, 16))
    after = further.report["after"]
    assert after["heads"][1] == 0
    assert sum(after["heads"]) + sum(after["ffn"]) / 16 < 0.7 * (18 + 240 / 16)


def test_a_rank_that_saves_nothing_is_refused(case):
    with pytest.raises(ConfigError, match="embedding_rank is 1000, and the embedding 24 wide"):
        AutoCompressor(case[0], {"embedding_rank": 1000}).run(case[1])


def test_a_format_that_is_given_goes_before_the_chosen_ones(case):
    teacher, task = case
    config = {"pruning_ratio": 0.0, "precision": {"ffn": "int4"}, "mixed_precision_loss": 0.0, "sensitivity_texts": 8}
    plan = AutoCompressor(teacher, config).run(task, Budget(1, 16)).plan
    assert plan["ffn"] == "int4"
    assert "layer.0.attention" in plan
    assert not any(part.endswith(".ffn") for part in plan)


def test_training_with_rounded_weights_makes_up_for_the_rounding():
    """What 3 bits cost is less where training has known of it."""
    task = make_task("regression")
    teacher = make_teacher(task, layers=2)
    dev = encode(teacher.tokenizer, task.dev, task.max_length)
    plan = dict.fromkeys(("embedding", "attention", "ffn", "head"), "int3")
    missed = {}
    for rounded in (False, True):
        config = {"pruning_ratio": 0.0, "precision": plan, "rounded_weights": rounded, "learning_rate": 1e-3}
        torch.manual_seed(0)
        model = AutoCompressor(teacher, config).run(task, Budget(60, 16)).model
        with fake_quantised(model, plan, activations=False):
            missed[rounded] = float((logits_of(model, dev) - logits_of(teacher.model, dev)).pow(2).mean())
    assert missed[True] < 0.7 * missed[False]


def test_exits_leave_steps_to_distil():
    assert read_config({"exits": [1], "qat_share": 0.6})
    with pytest.raises(ConfigError, match=r"problems: qat_share is 0\.8, and exits take 0\.3"):
        read_config({"exits": [1], "qat_share": 0.8})


@pytest.mark.parametrize("other", [{"mixed_precision_loss": 0.1}, {"branch_ranks": [4]}])
def test_weights_cannot_be_rounded_to_formats_that_are_chosen_later(other):
    with pytest.raises(ConfigError, match="rounded_weights needs formats"):
        read_config({"rounded_weights": True, **other})


def test_nothing_is_dropped_and_the_pieces_rows_stay_the_teachers(case):
    teacher, task = case
    plan = _Plan(teacher, task, CompressionConfig(vocabulary_size=None), Budget(2, 8))
    plan.run()
    assert {module.p for module in plan.model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert torch.equal(plan.model.get_input_embeddings().weight, teacher.model.get_input_embeddings().weight)
    assert any(module.p for module in teacher.model.modules() if isinstance(module, torch.nn.Dropout))  # left as it was


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prunning_ratio": 0.5}, "did you mean 'pruning_ratio'"),
        ({"pruning_ratio": 1.5}, "less than 1"),
        ({"pruning_ratio": float("nan")}, "finite"),
        ({"quantize_layers": ["fnn"]}, "'embedding', 'attention', 'ffn' or 'head'"),
        ({"branch_ranks": [0]}, "branch_ranks.0: .*greater than or equal to 1"),
        ({"structure": [[2, 0]], "precision": {"layer.0.ffn": "int8"}}, "which structure drops"),
        ("missing.json", "missing.json: no JSON config"),
    ],
)
def test_a_bad_config_is_told(given, message):
    with pytest.raises(ConfigError, match=message):
        read_config(given)


def test_the_articles_config_works_as_written():
    article = {"pruning_ratio": 0.3, "quantize_layers": ["ffn"], "distill_loss_weight": 0.7, "calibration_steps": 512}
    assert read_config(article) == CompressionConfig(quantize_layers=["ffn"])
