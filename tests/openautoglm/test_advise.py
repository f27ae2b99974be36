"""Each rule of advise speaks where its cause is in the numbers, and is silent where it is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from openautoglm import advise as rules
from openautoglm.errors import UserError
from openautoglm.run_facts import Facts, read_run

ASKED = {"pruning_ratio": 0.6, "pruning_rounds": 2, "embedding_rank": None, "vocabulary_size": 8000}
SHAPE = {"parameters": 100, "word_parameters": 40, "embedding_size": 8, "ffn": [100, 100]}
REPORT = {
    "asked": ASKED,
    "before": SHAPE,
    "after": SHAPE | {"ffn": [60, 50]},
    "steps": [{"step": "vocabulary", "parameters": 9}, {"step": "pruning 1/1", "parameters": 9, "dev_score": 0.9}],
    "measured": {
        "reference": "teacher onnx-fp32",
        "metric": "accuracy",
        "float_score": 0.901,
        "scored": 10_000,
        "dev": 10_000,
        "tokenize_share": 0.03,
        "multiply_adds": {"teacher": 300, "student": 100},
        "rows": {
            "teacher onnx-fp32": {"score": 0.905, "latency_p50_ms": 9.0},
            "teacher onnx-int8": {"score": 0.905, "latency_p50_ms": 6.0},
            "student onnx-plan": {"score": 0.9, "latency_p50_ms": 2.5},
        },
    },
}


def facts(tmp_path, report=REPORT) -> Facts:
    (tmp_path / "report.json").write_text(json.dumps(report))
    return read_run(tmp_path)


def test_a_run_without_a_weakness_gets_none(tmp_path):
    facts(tmp_path)
    assert "nothing stands out" in rules.advise(tmp_path)


@pytest.mark.parametrize(("dev", "first"), [(10_000, "teacher"), (10_001, "vocabulary and pruning 1/1")])
def test_the_teachers_score_stands_beside_the_steps_where_both_are_of_all_of_dev(tmp_path, dev, first):
    found = facts(tmp_path, REPORT | {"measured": REPORT["measured"] | {"dev": dev}})
    assert found.dev_scores[0][0] == first


def curve(*scores):
    return [{"stage": "soft labels", "step": i, "loss": 1.0, "dev_score": score} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("rule", "change", "words"),
    [
        (rules.costly_step, {"teacher_score": 0.95}, ["5.0 points at vocabulary and pruning 1/1", "0.6"]),
        (rules.still_rising, {"curve": curve(0.8, 0.85)}, ["5.0 points in the last pass", "--epochs"]),
        (rules.overfitted, {"curve": curve(0.8, 0.9, 0.88, 0.87)}, ["after pass 2 of 4", "3.0 points lower"]),
        (rules.quantisation_loses, {"deployed_score": 0.88}, ["2.1 points (0.9010 to 0.8800)", "qat_share"]),
        (rules.embedding_dominates, {"part_bytes": {"embedding": 60, "head": 40}}, ["60%", "below 8000", "codes 1"]),
        (rules.overhead_bound, {"delivered": 1.1}, ["3.0x less work", "only 1.1x faster"]),
        (rules.tokenisation_bound, {"tokenize_share": 0.4}, ["40%", "--max-length"]),
        (rules.hollow_layers, {"report": REPORT | {"after": SHAPE | {"ffn": [60, 3]}}}, ["layer 1 (3 of 100)"]),
        (rules.blurred, {"scored": 100}, ["100 texts", "3.0 points"]),  # sqrt(0.9 * 0.1 / 100)
        (rules.blurred, {"scored": 100, "metric": "pearson"}, ["1.9 points"]),  # (1 - 0.9^2) / sqrt(100)
    ],
)  # fmt: skip
def test_a_rule_speaks_for_its_cause_alone(tmp_path, rule, change, words):
    found = facts(tmp_path)
    assert rule(copy.deepcopy(found)) is None
    for name, value in change.items():
        setattr(found, name, value)
    said = " ".join(rule(found))
    assert [word for word in words if word not in said] == []
    assert [other for other in rules.RULES if other is not rule and other(found)] == []


def test_a_student_in_16_bits_is_compared_with_float32(tmp_path):
    """It is stored in 16 bits and computed in 32."""
    assert facts(tmp_path).delivered == pytest.approx(6.0 / 2.5)
    assert facts(tmp_path, REPORT | {"asked": ASKED | {"quantize_layers": []}}).delivered == pytest.approx(9.0 / 2.5)
    precision = {"precision": {"ffn": "fp16"}}
    assert facts(tmp_path, REPORT | {"asked": ASKED | precision}).delivered == pytest.approx(9.0 / 2.5)


def test_a_vocabulary_that_was_kept_whole_is_not_to_be_larger(tmp_path):
    found = facts(tmp_path, REPORT | {"asked": ASKED | {"vocabulary_size": None}})
    found.teacher_score = 0.95
    assert "vocabulary_size" not in rules.costly_step(found).attempt


def test_where_pieces_are_coded_their_number_is_left_alone(tmp_path):
    found = facts(tmp_path, REPORT | {"asked": ASKED | {"embedding_codes": 48}})
    found.part_bytes = {"embedding": 60, "head": 40}
    assert rules.embedding_dominates(found).attempt == "fewer embedding_codes than 48"


def test_every_rule_is_asked():
    named = {
        name for name, value in vars(rules).items() if getattr(value, "__annotations__", {}).get("facts") == "Facts"
    }
    assert {rule.__name__ for rule in rules.RULES} == {name for name in named if not name.startswith("_")}


def test_a_published_record_is_read():
    record = Path(__file__).parents[2] / "leaderboard/results/default/open_autoglm/tweets.json"
    raw = json.loads(record.read_text())
    found = read_run(record)
    assert found.scored == len(raw["deployments"]["onnx-plan"]["quality"][0]["predictions"])
    assert found.delivered == raw["deployments"]["onnx-fp32"]["cost"]["speedup"]["value"]
    assert found.curve == raw["runs"][0]["history"]
    assert found.promised
    assert found.promised > 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no readable JSON"),
        ("[1]", "neither a run's report nor a record"),
        ('{"x": 1}', "neither a run's report nor a record"),
        ('{"deployments": {}}', "neither a run's report nor a record"),
        (None, "is not there"),
    ],
)
def test_what_is_no_run_is_one_message(tmp_path, content, message):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(path)
