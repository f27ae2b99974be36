"""Cells side by side: what runs together, in which order, and what a failure stops."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest

from pipelines import cells, params

SETTINGS = params.load(Path(__file__).parents[2] / "params.yaml")
METHODS = list(SETTINGS.methods)


class Dvc:
    """In DVC's place: what was asked of it. A stage that ran is up to date; `failing` ones end with 1."""

    def __init__(self, pending: set[str], failing: str = "", together: int = 1) -> None:
        self.pending, self.failing = pending, failing
        self.ran: list[str] = []
        self.meeting = threading.Barrier(together, timeout=10)

    def __call__(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        if words[:2] == ("status", "--json"):
            return subprocess.CompletedProcess(words, 0, json.dumps({name: [] for name in self.pending}))
        targets = [word for word in words if "@" in word]
        if "--wait-for-lock" in words:
            self.meeting.wait()
        self.ran += targets
        return subprocess.CompletedProcess(words, int(self.failing in targets), "why it failed")


@pytest.fixture
def folder(tmp_path):
    for task, size in {"movie": 30, "bbc": 20, "tweets": 10}.items():
        path = tmp_path / params.paths.split(task, "train")
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    return tmp_path


def all_stages() -> set[str]:
    found = {f"finetune@{task}-0" for task in SETTINGS.tasks}
    return found | {f"{s}@{m}-{t}-0" for s in ("compress", "evaluate") for m in METHODS for t in SETTINGS.tasks}


def test_teachers_come_before_students_and_long_tasks_first(folder):
    dvc = Dvc(all_stages())
    assert cells.train(folder, SETTINGS, dvc, workers=1) == 0
    assert dvc.ran[: len(SETTINGS.tasks)] == [f"prepare@{task}" for task in SETTINGS.tasks]
    trained = [target for target in dvc.ran if target.startswith(("finetune", "compress", "evaluate"))]
    names = [f"{method}-{task}-0" for task in ("movie", "bbc", "tweets") for method in METHODS]
    students = [f"{stage}@{name}" for name in names for stage in ("compress", "evaluate")]
    assert trained == ["finetune@movie-0", "finetune@bbc-0", "finetune@tweets-0", *students]


def test_two_at_once(folder):
    """Each waits until the other is there: one after the other, they would wait for ever."""
    dvc = Dvc({"finetune@movie-0", "finetune@bbc-0"}, together=2)
    assert cells.train(folder, SETTINGS, dvc, workers=2) == 0
    assert {"finetune@movie-0", "finetune@bbc-0"} <= set(dvc.ran)


def test_what_is_up_to_date_is_not_asked_for(folder):
    dvc = Dvc({"compress@albert-bbc-0", "evaluate@tinybert-movie-0", "board"})
    assert cells.train(folder, SETTINGS, dvc, workers=2) == 0
    assert {target.split("@")[1] for target in dvc.ran[-4:]} == {"albert-bbc-0", "tinybert-movie-0"}
    assert not any(target.startswith("finetune") for target in dvc.ran)


def test_where_nothing_is_pending_no_cell_runs(folder):
    dvc = Dvc({"own"})  # which always is
    assert cells.train(folder, SETTINGS, dvc, workers=2) == 0
    assert {target.split("@")[0] for target in dvc.ran} == {"prepare", "card"}


def test_after_a_failure_no_cell_begins_and_its_words_are_shown(folder, capsys):
    dvc = Dvc(all_stages(), failing="finetune@bbc-0")
    assert cells.train(folder, SETTINGS, dvc, workers=1) == 1
    assert dvc.ran[-1] == "finetune@bbc-0"
    assert "bbc-0: failed\nwhy it failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("threads", "cores", "gigabytes", "expected"), [(1, 2, 16, 2), (0, 8, 64, 1), (1, 8, 8, 2), (4, 2, 1, 1)]
)
def test_as_many_as_cores_and_memory_hold(monkeypatch, threads, cores, gigabytes, expected):
    monkeypatch.setattr(cells.os, "sched_getaffinity", lambda process: range(cores), raising=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": gigabytes * 1e9}))
    settings = SETTINGS.model_copy(update={"training": params.Training(threads=threads)})
    assert cells.at_once(settings) == expected
