"""Each stage, given a missing or a broken file, says so in one line, and leaves nothing behind."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from openautoglm.artifact import ArtifactError
from openautoglm.task import Split
from pipelines import evaluate, measure, own, params, record
from pipelines.errors import UserError
from pipelines.files import read_json
from pipelines.instruments import machine

ROOT = Path(__file__).parents[2]

STAGES = {
    "prepare": (["movie"], "fetch|missing"),
    "finetune": (["movie", "0"], r"train\.parquet is missing: run `dvc repro prepare@movie`"),
    "compress": (["albert", "movie", "0"], r"runs/cards/albert\.json is missing"),
    "evaluate": (["albert", "movie", "0"], r"exam\.parquet is missing"),
    "measure": (["albert", "movie"], r"exam\.parquet is missing"),
    "record": (["albert", "movie"], r"runs/movie/costs/albert\.json is missing"),
    "board": ([], r"no usable record of profile default.*make repro"),
}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A folder with params.yaml and nothing else."""
    settings = params.load()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(params, "load", lambda: settings)
    return tmp_path


def _run(stage: str, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [stage, *arguments])
    importlib.import_module(f"pipelines.{stage}").main()


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_file_is_told(stage, nowhere, monkeypatch):
    arguments, message = STAGES[stage]
    with pytest.raises((UserError, ArtifactError), match=message):
        _run(stage, arguments, monkeypatch)
    assert not [path for path in nowhere.rglob("*") if path.is_file()]


def test_a_broken_table_is_told(nowhere, monkeypatch):
    path = params.paths.split("movie", "exam")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 broken")
    with pytest.raises(UserError, match=r"exam\.parquet is broken .*dvc repro -f prepare@movie"):
        _run("evaluate", ["albert", "movie", "0"], monkeypatch)


def test_a_broken_card_is_told(nowhere, monkeypatch):
    path = params.paths.card("albert")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(UserError, match=r"albert\.json is broken"):
        _run("compress", ["albert", "movie", "0"], monkeypatch)


def test_an_unknown_method_names_the_nearest(nowhere, monkeypatch):
    with pytest.raises(UserError, match="did you mean 'albert'"):
        _run("card", ["alberd"], monkeypatch)


def test_dvc_watches_what_a_stage_reads_of_params():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in ("finetune", "compress"):
        assert {f"tasks.${{item.task}}.{key}" for key in ("epochs", "max_length", "metrics")} <= {
            *stages[stage]["params"]
        }
    sections = record.config_sha256(params.load(), "movie").keys() - {"task", "training"}
    assert {*stages["record"]["params"]} == {"suite_version", "seeds", "tasks.${item.task}", *sections}


def test_an_edited_file_of_the_users_own_has_another_hash(nowhere, monkeypatch):
    settings = params.load()
    sources = {"movie": {"path": "mine.csv"}, "bbc": {"path": "gone.csv"}, "tweets": {"package": "x==1"}}
    tasks = {name: settings.task(name).model_copy(update={"source": source}) for name, source in sources.items()}
    monkeypatch.setattr(params, "load", lambda: settings.model_copy(update={"tasks": tasks}))
    seen = []
    for text in ("a", "a", "b"):
        (nowhere / "mine.csv").write_text(text)
        own.main()
        seen.append(read_json(params.paths.own))
    assert [found.keys() for found in seen] == [{"mine.csv"}] * 3
    assert seen[0] == seen[1] != seen[2]


def test_a_record_names_the_machine_that_measured(nowhere, monkeypatch):
    here = machine.fingerprint(training=1, timing=1)
    for name, value in {"measure": {}, "teachers": (None, None)}.items():
        monkeypatch.setattr(measure, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr("pipelines.data.load_exam", lambda task: Split((), np.zeros(0)))
    monkeypatch.setattr(machine, "fingerprint", lambda **_: here.model_copy(update={"cpu": "that one"}))
    _run("measure", ["albert", "movie"], monkeypatch)
    monkeypatch.setattr(machine, "fingerprint", lambda **_: here.model_copy(update={"cpu": "this one"}))
    for name in ("_method", "_run", "_deployments"):
        monkeypatch.setattr(record, name, lambda *_: None)
    monkeypatch.setattr(record, "record_of", lambda *_, **found: found)
    monkeypatch.setattr(record.seal, "sealed", lambda made: made["machine"].cpu)
    _run("record", ["albert", "movie"], monkeypatch)
    assert params.paths.record("default", "albert", "movie").read_text() == "that one"


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_an_answer_that_is_no_number_is_told(monkeypatch, kind):
    manifest, logits = SimpleNamespace(kind=kind), np.array([[np.nan, 1.0]])
    made = SimpleNamespace(manifest=manifest, logits=lambda texts: logits)
    monkeypatch.setattr(evaluate, "Predictor", lambda folder, threads: made)
    with pytest.raises(UserError, match=r"made answers \[nan, 1.0\] to text 1 of the exam; answers are finite"):
        evaluate.score(Path("made"), Split(("a film",), np.zeros(1)), ["pearson"], 0)
