"""Profiles laid over params.yaml, and the folder of a profile."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines import methods, params, repro, workspace
from pipelines.errors import UserError
from pipelines.files import write_text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one profile, "p", and two methods, one of them tuned."""
    (tmp_path / "profiles").mkdir()
    base = {"profile": "default", "methods": {"albert": {"learning_rate": 1e-3, "shared_from": 1}, "half": {}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(base))
    monkeypatch.chdir(tmp_path)

    def lay(overlay):
        (tmp_path / "profiles/p.yaml").write_text(yaml.safe_dump(overlay))
        return workspace.overlaid("p")["methods"]

    return lay


def test_an_added_variant_starts_from_its_methods_row(project):
    rows = project({"methods": {"albert_wide": {"method": "albert", "embedding_size": 128, "shared_from": None}}})
    assert rows["albert_wide"] == {
        "method": "albert",
        "learning_rate": 1e-3,
        "shared_from": None,
        "embedding_size": 128,
    }
    assert rows["albert"] == {"learning_rate": 1e-3, "shared_from": 1}


def test_a_row_that_is_there_is_changed_and_null_removes_it(project):
    assert project({"methods": {"albert": {"shared_from": 2}, "half": None}}) == {
        "albert": {"learning_rate": 1e-3, "shared_from": 2}
    }


def test_an_unknown_profile_names_the_known(project):
    project({})
    with pytest.raises(UserError, match="known are default, p"):
        workspace.overlaid("q")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("params.yaml", "methods: [", "params.yaml is not readable YAML"),
        ("profiles/p.yaml", "methods: [", "profiles/p.yaml is not readable YAML"),
        ("profiles/p.yaml", "", "profiles/p.yaml holds no settings"),
    ],
)
def test_a_broken_file_is_one_message(project, tmp_path, name, text, message):
    project({})
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        workspace.overlaid("p")


@pytest.mark.parametrize("given", [{}, {"methods": None}, {"methods": ["albert"]}, {"methods": {"a": None, "b": {}}}])
def test_what_is_wrong_with_the_methods_is_told_when_all_is_checked(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"profile": "default"} | given))
    (tmp_path / "profiles/p.yaml").write_text("profile: smoke\n")
    with pytest.raises(UserError, match=r"methods"):
        params.checked(workspace.overlaid("p"), "it")
    assert workspace.rows() == set()


def locked(folder: Path) -> bool:
    """Does somebody hold the folder's lock?"""
    with (folder / repro.LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A working tree with the real settings, two methods and the records of one of them."""
    monkeypatch.chdir(tmp_path)
    copies = ("params.yaml", "profiles/ablations.yaml")
    for name in copies:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, name)
    for name in ("baselines/kept.py", "baselines/moved.py", "submissions/gone/method.py"):
        write_text(tmp_path / name, "x = 1\n")
    subprocess.run(["git", "init", "-q"], check=True)
    params.load.cache_clear()
    yield tmp_path
    params.load.cache_clear()


def test_code_that_the_working_tree_no_longer_has_is_forgotten_and_nothing_else(checkout):
    folder = workspace.lay("ablations", Path(".work/ablations"))
    made = ["runs/cards/albert.json", "data/raw/x", "mlflow.db", "dvc.lock", ".dvc/cache/x", "site/index.html"]
    made.append("leaderboard/results/ablations/albert/tweets.json")
    for name in made:
        write_text(folder / name, "made")
    Path("baselines/moved.py").rename("submissions/gone/moved.py")
    Path("submissions/gone/method.py").unlink()
    workspace.lay("ablations", folder)
    assert [path.name for path in (folder / "baselines").iterdir()] == ["kept.py"]
    assert [path.name for path in (folder / "submissions/gone").iterdir()] == ["moved.py"]
    assert all((folder / name).read_text() == "made" for name in made)


def test_only_the_records_of_the_profiles_rows_come_back(checkout):
    folder = workspace.lay("ablations", Path(".work/ablations"))
    wanted = [params.paths.record("ablations", "albert", "tweets"), params.paths.task_card("ablations", "tweets")]
    gone = [params.paths.record("ablations", "gone", "tweets"), params.paths.record("ablations", "albert", "movie")]
    for name in (*wanted, *gone):
        write_text(folder / name, "made")
    workspace.bring_back("ablations", folder)
    assert [name.is_file() for name in (*wanted, *gone)] == [True, True, False, False]


def test_the_folder_of_a_profile_is_laid_by_who_has_its_lock_alone(checkout, monkeypatch):
    """Whoever else asks for the lock while it is laid, run and brought back, has to wait."""
    asked = []
    for name in ("lay", "repro", "bring_back"):
        monkeypatch.setattr(workspace, name, lambda *_: asked.append(locked(Path(".work/ablations"))))
    workspace.run("ablations", [])
    assert asked == [True] * 3


def test_every_ablation_changes_a_knob_that_its_method_has(tmp_path):
    """The committed profile, laid over the committed params.yaml, as `bench run --profile ablations` would."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(workspace.overlaid("ablations")))
    settings, rows = params.load(path), params.load()
    variants = [row for row in settings.methods if row not in rows.methods]
    assert variants
    for row in variants:
        method, given = settings.method(row)
        module = methods.load(method)
        full = methods.bind(module, rows.method(method)[1] if method in rows.methods else {})
        assert row.startswith(method)
        assert methods.bind(module, given, row) != full
