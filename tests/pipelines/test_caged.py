"""A submission's code in the stages of the real run: it sees what it needs, and reaches nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines import caged, card, params, sandbox, submit
from pipelines.errors import UserError
from pipelines.files import read_json
from tests.conftest import copy_project

OTHERS = (
    *(
        "data/movie/exam.parquet",
        "data/raw/movie.csv",
        "data/bbc/train.parquet",
        "runs/movie/albert/0/predictions.json",
    ),
    *(
        "leaderboard/results/default/tasks/movie.json",
        ".dvc/cache/files/md5/00/exam",
        ".work/full/data/movie/exam.parquet",
    ),
)
SEEN = ("data/movie/train.parquet", "data/movie/dev.parquet", "runs/movie/finetune/0/model/model.safetensors")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with data, and a submission in it."""
    copy_project(tmp_path)
    for name in (*OTHERS, *SEEN):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret")
    monkeypatch.chdir(tmp_path)
    params.load.cache_clear()
    submit.new("mine", "method")
    params.load.cache_clear()
    yield tmp_path
    params.load.cache_clear()


def hidden(root: Path) -> list[Path]:
    own = root / "runs/movie/mine/0"
    own.mkdir(parents=True, exist_ok=True)
    return list(caged.secrets(root, [own, *(root / name for name in SEEN)]))


@pytest.mark.parametrize("inner", [".", ".work/smoke"])
def test_all_that_is_not_its_own_is_hidden(project, inner):
    """In a profile's folder, what lies in the outer project and in other profiles too."""
    for name in SEEN:
        (project / inner / name).parent.mkdir(parents=True, exist_ok=True)
        (project / inner / name).write_text("seen")
    found = hidden(project / inner)

    def seen(path: Path) -> bool:
        return not any(path.resolve().is_relative_to(folder) for folder in found)

    assert all(seen(project / inner / name) for name in (*SEEN, "runs/movie/mine/0"))
    assert not any(seen(project / name) for name in OTHERS)


def test_the_cache_of_pip_is_hidden_and_no_more_of_home(project, monkeypatch):
    home = project / "home"
    (home / ".cache/pip/http").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert [path for path in hidden(project) if path.is_relative_to(home)] == [home / ".cache/pip"]


@pytest.mark.skipif(not sandbox.namespaces(), reason="this system gives no namespaces")
def test_the_kernel_shows_it_nothing_else(project):
    code = "import sys; print([open(name).read() for name in sys.argv[1:] if __import__('os').path.exists(name)])"
    names = [str(project / name) for name in (*SEEN, *OTHERS)]
    outcome = sandbox.run([sys.executable, "-c", code, *names], project / "box", hidden=hidden(project))
    assert outcome.output.strip() == str(["secret"] * len(SEEN) + [""]), outcome  # the exam is there, and empty


def test_its_card_is_made_in_the_sandbox(project, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["card", "mine"])
    card.main()
    assert "pipelines.card" in sys.modules
    assert "submissions.mine.method" not in sys.modules  # its code was never here
    assert read_json(params.paths.card("mine"))["knobs"]["temperature"] == 2.0


@pytest.mark.parametrize("kernel", [True, False], ids=["namespaces", "hook"])
@pytest.mark.parametrize(
    "line",
    ["open('data/movie/exam.parquet').read()", "import os; os.remove('runs/movie/albert/0/predictions.json')"],
    ids=["reads the exam", "removes others' work"],
)
def test_code_that_reaches_out_ends_the_stage_and_reaches_nothing(project, monkeypatch, line, kernel):
    if not kernel:
        monkeypatch.setattr(sandbox, "namespaces", lambda: False)
    method = project / "submissions/mine/method.py"
    method.write_text(method.read_text() + f"\n{line}\n")
    monkeypatch.setattr(sys, "argv", ["card", "mine"])
    with pytest.raises(UserError, match=r"reached out of its sandbox; `bench check`"):
        card.main()
    assert all((project / name).read_text() == "secret" for name in OTHERS)
    assert not params.paths.card("mine").exists()
