"""The cost table: bytes as real artifacts have them, sums as they should be, saved, loaded, refused where it errs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from openautoglm import architectures, artifact, codebooks, cost_table, latency
from openautoglm.cost_table import Cost, Form, LatencyError, Table, Widths
from openautoglm.export import export
from openautoglm.latency import Bench, Check
from openautoglm.student import Student
from tests.conftest import make_task
from tests.openautoglm import families

PLAN = {"embedding": "int8", "attention": "int8", "ffn": "int8", "head": "int8"}
TABLE = Table(
    facts={"processor": "one"},
    lengths=(16, 32),
    attention={2: Cost((1.0, 2.0), 100.0), 4: Cost((2.0, 4.0), 200.0)},
    ffn={10: Cost((0.5, 1.0), 50.0)},
    last_attention={2: Cost((0.5, 0.5), 100.0), 4: Cost((1.0, 1.0), 200.0)},
    last_ffn={10: Cost((0.1, 0.1), 50.0)},
    fixed={
        Form(0, 100): Cost((3.0, 5.0), 1000.0),
        Form(8, 100): Cost((3.5, 5.5), 300.0),
        Form(16, 100): Cost((4.5, 6.5), 500.0),
        Form(0, 100, 12): Cost((3.1, 5.1), 200.0),
    },
    tokenize_ms=(0.1, 0.01),
)


def test_a_prediction_is_the_sum_of_its_parts():
    structure = [Widths(3, 10), Widths(4, 0), Widths(0, 10)]
    # attention of 3 heads, FFN, the last attention, an FFN behind it; fixed; tokenisation
    assert TABLE.predict(structure, 24) == pytest.approx(2.25 + 0.75 + 1.0 + 0.1 + 4.0 + 0.34)
    assert TABLE.bytes_of(structure, 100, 12) == pytest.approx(150 + 50 + 200 + 50 + 400)


def test_a_rank_that_was_not_measured_is_told():
    with pytest.raises(LatencyError, match=r"rank 8: measured \[0\]"):
        replace(TABLE, fixed={Form(0, 100): Cost((3.0, 5.0), 1000.0)}).bytes_of([Widths(2, 10)], 100, 8)


def test_saved_equals_loaded_and_a_broken_file_is_none(tmp_path):
    TABLE.save(tmp_path / "costs.json")
    assert cost_table.load(tmp_path / "costs.json") == TABLE
    (tmp_path / "costs.json").write_text('{"facts": {}, "lengths": 3}')
    assert cost_table.load(tmp_path / "costs.json") is None
    assert cost_table.load(tmp_path / "none.json") is None


@pytest.fixture
def bench(case):
    teacher, task = case
    return Bench(teacher, task, PLAN, vocabularies=(None,), ranks=(None, 8))


def test_predicted_bytes_are_those_of_real_artifacts(bench, monkeypatch):
    monkeypatch.setattr(latency, "HEADS", (0.25, 1))
    monkeypatch.setattr(latency, "NEURONS", (0.25, 1))
    monkeypatch.setattr(latency, "ROUNDS", 1)
    table, check = latency.measure(bench, checked=2)
    assert max(map(abs, check.bytes)) < 0.03  # gzip gains more on a whole tiny graph than on its parts
    assert len(check.ms) == 2
    assert all(cost.bytes > 0 for kind in cost_table.BY_WIDTH for cost in getattr(table, kind).values())


def test_a_table_is_measured_once_a_machine(bench, tmp_path, monkeypatch):
    runs = []

    def measure(bench):
        runs.append(bench)
        return replace(TABLE, facts=bench.facts()), Check([(0.02, 0.02)], [0.0])

    monkeypatch.setattr(latency, "measure", measure)
    path = tmp_path / "costs.json"
    assert latency.table_of(bench, path, 16) == latency.table_of(bench, path, 16)
    assert len(runs) == 1
    bench.plan["ffn"] = "fp16"
    assert latency.table_of(bench, path, 16).facts["plan"]["ffn"] == "fp16"
    assert len(runs) == 2


def test_a_table_that_errs_where_it_is_asked_is_not_used(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "measure", lambda bench: (TABLE, Check([(0.02, -0.2)], [0.0])))
    with pytest.raises(LatencyError, match="errs by up to 20%"):
        latency.table_of(bench, tmp_path / "costs.json", 32)
    assert not (tmp_path / "costs.json").exists()
    assert latency.table_of(bench, tmp_path / "costs.json", 20) == TABLE  # off by 3.5 % there


def test_a_coded_embedding_is_as_large_as_that_of_a_real_model(case, tmp_path):
    teacher, task = case
    bench = Bench(teacher, task, PLAN, codes=(None, 12), whole_rows=10)
    full = [bench.full] * bench.layers
    plain, coded = bench.sizes([(full, form) for form in bench.forms])
    model, pieces = teacher.copy(), bench.forms[1].pieces
    table = architectures.word_embedding(model)
    architectures.set_word_embedding(model, codebooks.encode_rows(table, torch.ones(pieces), 12, 10))
    real = export(Student(model, teacher.tokenizer, PLAN), "onnx-plan", tmp_path / "a", task)
    assert bench.forms[1] == Form(0, pieces, 12)
    assert coded == pytest.approx(artifact.size(real), rel=0.02)
    assert coded != plain


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_layers_of_every_family_are_measured(family, monkeypatch):
    """Groups of heads, positions behind padding, other names in the config, one layer at every depth."""
    monkeypatch.setattr(latency, "ROUNDS", 1)
    task = make_task("classification")
    bench = Bench(families.teacher(family, task), task, PLAN)
    assert bench.full == Widths(4, 40)
    assert bench.layers == (1 if family == "albert" else 3)
    half = [Widths(2, 20)] * bench.layers
    whole, less = bench.costs([([bench.full] * bench.layers, bench.forms[0]), (half, bench.forms[0])])
    assert less.bytes < whole.bytes
