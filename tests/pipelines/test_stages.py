"""Each stage, given a missing or a broken file, says so in one line, and leaves nothing behind."""

from __future__ import annotations

import importlib
import sys

import pytest

from openautoglm.artifact import ArtifactError
from pipelines import params
from pipelines.errors import UserError

STAGES = {
    "prepare": (["movie"], "fetch|missing"),
    "finetune": (["movie", "0"], r"train\.parquet is missing: run `dvc repro prepare@movie`"),
    "compress": (["albert", "movie", "0"], r"runs/cards/albert\.json is missing"),
    "evaluate": (["albert", "movie", "0"], r"exam\.parquet is missing"),
    "measure": (["albert", "movie"], r"exam\.parquet is missing"),
    "record": (["albert", "movie"], r"runs/cards/albert\.json is missing"),
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
