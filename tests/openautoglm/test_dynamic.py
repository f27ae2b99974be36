"""Exits: each end answers as PyTorch does, texts leave where the route says, and what is saved loads again."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from openautoglm import architectures, artifact, codebooks, dynamic, route, segments
from openautoglm.artifact import ArtifactError
from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import Recipe, logits_of
from openautoglm.export import export
from openautoglm.route import ALWAYS, NEVER, Route
from openautoglm.runtime import Predictor
from openautoglm.student import Student
from tests.conftest import make_task
from tests.openautoglm import families
from tests.openautoglm.graphs import graph_of

AFTER = (2, 4)


@pytest.fixture(scope="module")
def trained(case):
    """A student with two trained exits, its dev split and the parts of `dynamic.outputs`."""
    teacher, task = case
    model = teacher.copy()
    train, dev = (encode(teacher.tokenizer, split, task.max_length) for split in (task.train, task.dev))
    recipe = Recipe(60, 2e-3, 16)
    exits = dynamic.train(model, train, logits_of(teacher.model, train), task, recipe, after=AFTER, dev=dev)
    student = Student(model.eval(), teacher.tokenizer, exits=exits)
    return student, task, dev, dynamic.outputs(model, exits, dev)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    student, task, _, _ = trained
    return export(student, "onnx-dynamic", tmp_path_factory.mktemp("exits") / "artifact", task)


@torch.inference_mode()
def plain(student, dev):
    return np.concatenate([student.model(torch.tensor([ids])).logits.numpy() for ids in dev.ids])


def test_exits_learn_the_task_and_the_end_keeps_it(trained):
    _, task, dev, (_, logits, _) = trained
    scores = [task.score(end, dev.labels.numpy()) for end in logits]
    assert min(scores) > 0.75
    assert logits.shape == (3, len(dev), task.outputs)


def test_a_sure_exit_is_nearer_to_the_end(trained):
    _, task, _, (_, logits, confidences) = trained
    gap = np.abs(logits[0] - logits[-1]).max(-1)
    if task.kind == "classification":
        gap = (logits[0].argmax(-1) != logits[-1].argmax(-1)).astype(float)
    sure = confidences[0] >= np.median(confidences[0])
    assert gap[sure].mean() <= gap[~sure].mean()


def test_never_is_the_plain_model_and_always_is_the_first_exit(trained, folder):
    student, task, dev, (_, logits, _) = trained
    predictor = Predictor(folder)
    np.testing.assert_allclose(logits[-1], plain(student, dev), atol=1e-5)
    for end in range(3):
        predictor.session.route = Route.only(end, 2)
        predictor.session.taken = [0, 0, 0]
        np.testing.assert_allclose(predictor.logits(task.dev.texts, batch_size=7), logits[end], atol=1e-4)
        assert predictor.session.taken == [len(dev) if i == end else 0 for i in range(3)]


def in_a_gap(confidence):
    """A threshold that rounding does not reach: in the widest gap of the middle half."""
    middle = np.sort(confidence)[len(confidence) // 4 : -len(confidence) // 4]
    widest = np.diff(middle).argmax()
    return float(middle[widest : widest + 2].mean())


@pytest.mark.parametrize("batch_size", [1, 5])
def test_texts_leave_where_the_route_says(trained, folder, batch_size):
    _, task, dev, (lengths, logits, confidences) = trained
    short, both = (in_a_gap(row) for row in confidences)
    chosen = Route(int(np.median(lengths)), ((short, NEVER), (NEVER, both)))
    predictor = Predictor(folder)
    predictor.session.route = chosen
    got = predictor.logits(task.dev.texts, batch_size=batch_size)
    taken = []  # by hand, one text at a time
    for i, length in enumerate(lengths):
        side = 0 if length <= chosen.boundary else 1
        sure = [confidences[exit][i] >= chosen.thresholds[exit][side] for exit in range(2)]
        taken.append(sure.index(True) if True in sure else 2)
    assert chosen.taken(lengths, confidences).tolist() == taken
    assert predictor.session.taken == [taken.count(end) for end in range(3)]
    assert len(set(taken)) == 3
    np.testing.assert_allclose(got, logits[taken, np.arange(len(dev))], atol=1e-4)


def test_a_segment_holds_only_its_own_layers(trained, folder):
    graphs = [graph_of(folder, f"segment_{i}.onnx") for i in range(3)]
    sizes, (_, second, last) = [graph.ByteSize() for graph in graphs], graphs
    assert {given.name for given in second.input} == {"hidden_0", "attention_mask"}
    assert not [t.name for graph in (second, last) for t in graph.initializer if "word_embeddings" in t.name]
    whole = artifact.read(folder).parameters
    assert 4 * whole < sum(sizes) < 4 * whole + 150_000  # each weight stored once; the rest is graph


def test_the_plan_goes_into_every_segment(trained, tmp_path):
    student, task, _, (_, logits, _) = trained
    groups = ("embedding", "attention", "ffn", "head")
    planned = replace(student, plan=dict.fromkeys(groups, "int8"))
    quantised = export(planned, "onnx-dynamic", tmp_path / "int8", task)
    predictor = Predictor(quantised)
    predictor.session.route = Route.only(0, 2)
    assert np.abs(predictor.logits(task.dev.texts) - logits[0]).max() < 0.35 * np.abs(logits[0]).max()
    assert artifact.size(quantised) < artifact.size(export(student, "onnx-dynamic", tmp_path / "fp32", task))


def test_rows_in_product_codes_lie_beside_the_first_segment(trained, tmp_path):
    student, task, *_ = trained
    model = copy.deepcopy(student.model)
    coded = codebooks.encode_rows(architectures.word_embedding(model), torch.ones(model.config.vocab_size), 4, whole=20)
    architectures.set_word_embedding(model, coded)
    plan = {"embedding": "int4"}
    folder = export(Student(model, student.tokenizer, plan, exits=student.exits), "onnx-dynamic", tmp_path / "a", task)
    beside = [name for name in artifact.read(folder).files if name.endswith(".safetensors.gz")]
    assert beside == ["segment_0.safetensors.gz"]


def test_a_fitted_route_saves_time_and_keeps_the_score(trained):
    student, task, dev, (lengths, logits, confidences) = trained
    labels, costs = dev.labels.numpy(), student.exits.costs
    saved = []
    for tolerance in (0.0, 0.05, 1.0):
        found = dynamic.fit_route(student.model, student.exits, task, dev, tolerance=tolerance)
        assert student.exits.route == found
        taken = found.taken(lengths, confidences)
        score = task.score(logits[taken, np.arange(len(dev))], labels)
        assert score >= task.score(logits[-1], labels) - tolerance
        saved.append(1 - (costs[taken] * lengths).sum() / lengths.sum())
    assert saved == sorted(saved)
    assert saved[-1] == pytest.approx(1 - costs[0])  # where anything may be lost, all leave at the first exit


def test_a_hopeless_exit_is_never_taken():
    lengths, labels = np.arange(1, 41), np.arange(40) % 2
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    found = route.fit(
        lengths,
        np.random.default_rng(0).random((1, 40)),
        np.stack([wrong, right]),
        np.array([0.5, 1.0]),
        lambda logits, rows: float((logits[rows].argmax(-1) == labels[rows]).mean()),
        0.0,
    )
    assert (found.taken(lengths, np.ones((1, 40))) == 1).all()


def test_what_holds_on_one_part_alone_is_luck():
    """Leaving loses on a third of the texts what it gains on another: even on the whole, and yet not taken."""
    labels = np.ones(60, dtype=int)
    labels[0::3] = 0
    exit_right, end_right = np.ones(60, dtype=bool), np.ones(60, dtype=bool)
    exit_right[1::3] = end_right[2::3] = False
    ends = np.stack([np.eye(2)[np.where(right, labels, 1 - labels)] for right in (exit_right, end_right)])

    def score(logits, rows):
        return float((logits[rows].argmax(-1) == labels[rows]).mean())

    assert score(ends[0], slice(None)) == score(ends[1], slice(None))
    found = route.fit(np.full(60, 9), np.full((1, 60), 0.5), ends, np.array([0.5, 1.0]), score, 0.0)
    assert found.thresholds == ((NEVER, NEVER),)


def test_an_exit_starts_at_the_ridge_regression():
    torch.manual_seed(0)
    states = 5 + 1e-3 * torch.randn(300, 6)  # nearly the same for every text
    targets = (states - 5) @ (1e3 * torch.randn(6, 2)) + 3
    head = dynamic.ExitHead(6, 2, "classification")
    head.start(states, targets)
    assert np.corrcoef(head(states)[0][:, 0].detach(), targets[:, 0])[0, 1] > 0.99
    torch.testing.assert_close(head(states)[0].mean(0), targets.mean(0), rtol=0, atol=1e-2)


def test_a_student_with_exits_saves_and_loads(trained, tmp_path):
    student, _, dev, (_, logits, confidences) = trained
    student.exits.route = Route(7, ((0.5, NEVER), (ALWAYS, 1.25)))
    loaded = Student.load(student.save(tmp_path / "student"))
    assert loaded.exits.route == student.exits.route
    _, again, sure = dynamic.outputs(loaded.model, loaded.exits, dev)
    assert np.array_equal(again, logits)
    assert np.array_equal(sure, confidences)
    (tmp_path / "student" / "exits.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no exits load"):
        Student.load(tmp_path / "student")


def test_a_manifest_tells_of_exits_only_where_there_are_any(trained, folder, tmp_path):
    student, task, _, _ = trained
    assert "exits" not in json.loads((export(student, "onnx-fp32", tmp_path / "a", task) / "manifest.json").read_text())
    exits = artifact.read(folder).exits
    assert exits["segments"] == ["segment_0.onnx", "segment_1.onnx", "segment_2.onnx"]
    Route.read(exits["route"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": ["segment_0.onnx", "../x.onnx", "segment_2.onnx"]}, "lists no '../x.onnx'"),
        ({"segments": ["segment_0.onnx"]}, "thresholds for 2 exits"),
        ({"route": {"boundary": 3}}, "is no route"),
    ],
)
def test_a_broken_manifest_is_told(folder, tmp_path, change, message):
    import shutil

    broken = shutil.copytree(folder, tmp_path / "broken")
    raw = json.loads((broken / "manifest.json").read_text())
    raw["exits"] |= change
    (broken / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=message):
        Predictor(broken)


@pytest.mark.parametrize("after", [(), (0,), (6,), (3, 2), (2, 2)])
def test_exits_lie_inside_the_model(case, after):
    teacher, task = case
    with pytest.raises(ValueError, match="ascending numbers from 1 to 5"):
        dynamic.Exits(teacher.model.config, after, task.kind)


@pytest.mark.parametrize("name", ["albert", "bert", "distilbert", "roberta"])
def test_any_encoder_has_exits(name, tmp_path):
    task = make_task("classification")
    given = families.teacher(name, task)
    model = given.copy().eval()
    exits = dynamic.Exits(model.config, (1,), task.kind).eval()
    dev = encode(given.tokenizer, task.dev, task.max_length)
    _, logits, _ = dynamic.outputs(model, exits, dev)
    predictor = Predictor(
        export(Student(model, given.tokenizer, exits=exits), "onnx-dynamic", tmp_path / "artifact", task)
    )
    for end in range(2):
        predictor.session.route = Route.only(end, 1)
        np.testing.assert_allclose(predictor.logits(task.dev.texts, batch_size=8), logits[end], atol=1e-4)


def test_a_model_that_reads_its_last_piece_has_none():
    task = make_task("classification")
    with pytest.raises(ValueError, match="a glm does not"):
        dynamic.Exits(families.teacher("glm", task).model.config, (1,), task.kind)


def test_a_model_without_attention_behind_its_exit(trained, tmp_path):
    student, task, dev, _ = trained
    model = copy.deepcopy(student.model)
    for layer in architectures.layers(model)[4:]:
        layer.attention.drop()
    bare = Student(model, student.tokenizer, exits=student.exits)
    _, logits, _ = dynamic.outputs(model, student.exits, dev)
    predictor = Predictor(export(bare, "onnx-dynamic", tmp_path / "artifact", task))
    predictor.session.route = Route.only(2, 2)
    np.testing.assert_allclose(predictor.logits(task.dev.texts, batch_size=8), logits[2], atol=1e-4)


def test_a_student_without_exits_is_told(case, tmp_path):
    teacher, task = case
    with pytest.raises(ArtifactError, match="needs a student with exits"):
        export(Student(teacher.copy(), teacher.tokenizer), "onnx-dynamic", tmp_path / "a", task)


def test_a_negative_tolerance_is_told(trained):
    student, task, dev, _ = trained
    with pytest.raises(ValueError, match="0 or more"):
        dynamic.fit_route(student.model, student.exits, task, dev, tolerance=-0.1)


def test_names_and_pieces_belong_together():
    assert segments.names(1) == ["logits_0", "confidence_0", "hidden_0", "logits"]
