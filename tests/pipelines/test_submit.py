"""bench new, check and run, from the command line, in a copy of this project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from leaderboard.submission import read_card
from pipelines import check, cli, params, sandbox, submit
from pipelines.errors import UserError
from pipelines.params import paths
from tests.conftest import copy_project

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The parts of the project that a new submission needs."""
    copy_project(tmp_path)
    (tmp_path / "submissions").mkdir()
    monkeypatch.chdir(tmp_path)
    params.load.cache_clear()
    yield tmp_path
    params.load.cache_clear()


@pytest.mark.parametrize("kind", submit.KINDS)
def test_new_adds_one_folder_and_one_line(project, capsys, kind):
    before = Path("params.yaml").read_text().splitlines()
    submit.new("mine", kind)
    after = Path("params.yaml").read_text().splitlines()
    assert len(set(after) - set(before)) <= 2  # the row, and its table where that was empty
    comments, kept = ([line.partition("#")[2] for line in lines if "#" in line] for lines in (before, after))
    assert kept == comments
    raw = yaml.safe_load(Path("params.yaml").read_text())
    assert raw[submit.KINDS[kind]]["mine"] == ({} if kind == "method" else ["onnx-fp32"])
    card = read_card(Path("submissions/mine/card.yaml"))
    assert (card.name, card.kind) == ("mine", kind)
    assert Path("submissions/mine/method.py").exists() == (kind == "method")
    assert "bench check mine" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Mine", "../mine", "1st", "a b", "", "x" * 41, "albert", "teacher", "tasks"])
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(project, name):
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"no name|taken"):
        submit.new(name, "method")
    assert Path("params.yaml").read_bytes() == before
    assert not list(Path("submissions").iterdir())


@pytest.mark.parametrize("given", ["", "submitted: {theirs: [onnx-int8]}"], ids=["no table", "a table in one line"])
def test_a_table_that_takes_no_row_is_told_and_nothing_is_written(project, given):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text("".join(line for line in text.splitlines(True) if "submitted:" not in line) + given)
    params.load.cache_clear()
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"no table `submitted:` with one row a line.* `mine: \[onnx-fp32\]`"):
        submit.new("mine", "artifact")
    assert Path("params.yaml").read_bytes() == before
    assert not list(Path("submissions").iterdir())


def test_a_name_cannot_be_taken_twice(project):
    submit.new("mine", "method")
    params.load.cache_clear()
    with pytest.raises(UserError, match="taken"):
        submit.new("mine", "artifact")


def test_the_rows_of_profiles_are_taken_and_a_row_of_its_own_is_not(project):
    Path("profiles").mkdir()
    Path("profiles/p.yaml").write_text("methods: {albert_wide: {method: albert}, gone: null}\n")
    with pytest.raises(UserError, match="taken"):
        submit.new("albert_wide", "method")
    submit.new("mine", "method")
    params.load.cache_clear()
    taken = check.submission("mine").taken
    assert {"albert", "albert_wide", "tasks"} <= taken
    assert not {"mine", "gone"} & taken


def test_a_base_that_git_does_not_know_is_one_message(project):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for arguments in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "base"]):
        subprocess.run([*git, *arguments], check=True)
    submit.new("mine", "method")
    params.load.cache_clear()
    assert check.submission("mine", "HEAD").base == "HEAD"
    for base in ("nonsense", "--help", ""):
        with pytest.raises(UserError, match=f"--base is '{base}', .* such as origin/main"):
            check.submission("mine", base)


def test_the_records_of_a_brought_artifact_come_back_from_the_folder_of_a_profile(project, monkeypatch):
    submit.new("mine", "artifact")
    params.load.cache_clear()

    def lay(profile, folder):
        text = Path("params.yaml").read_text()
        (folder / "params.yaml").write_text(text.replace("profile: default", "profile: full"))

    monkeypatch.setattr(submit.workspace, "lay", lay)
    monkeypatch.setattr(submit, "repro", lambda folder, targets, held: 0)
    record = paths.record("full", "mine", "movie")

    def stage(where, *command):
        if command == ("brought", "mine"):
            (where / record).parent.mkdir(parents=True)
            (where / record).write_text("made")
        return 0

    monkeypatch.setattr(submit, "_stage", stage)
    assert submit.run("mine", "full") == 0
    assert record.read_text() == "made"


def test_what_new_writes_keeps_every_rule_and_runs(project, capsys, monkeypatch):
    """The whole trial: the sandbox, two tiny tasks, export, long texts. The slowest test here."""
    submit.new("mine", "method")
    params.load.cache_clear()
    monkeypatch.setattr(check, "METHOD_LIMITS", sandbox.Limits(wall_s=1500))  # a busy machine is no fault of the method
    assert check.show("mine", None) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "long-inputs" in told
    assert "FAIL" not in told
    # nothing is called kept that was not looked at
    lines = {line.split()[1]: line.split()[0] for line in told.splitlines() if line[:5].strip() in ("ok", "-")}
    assert {lines[rule] for rule in ("grid", "scores", "published", "memorised")} == {"-"}
    assert {lines[rule] for rule in ("card", "code", "runs")} == {"ok"}


def test_all_problems_are_told_with_their_rules(project, capsys):
    submit.new("mine", "method")
    params.load.cache_clear()
    Path("submissions/mine/card.yaml").write_text("name: other\n")
    Path("submissions/mine/method.py").write_text("import os\n")
    Path("submissions/mine/weights.bin").write_bytes(b"\x80\x04")
    assert check.show("mine", None) >= 3
    told = capsys.readouterr().out
    for rule in ("card", "files", "code"):
        assert f"FAIL {rule}" in told
    assert "imports os" in told


def test_a_submission_that_is_not_there_is_one_message(project):
    with pytest.raises(UserError, match="bench new theirs"):
        check.submission("theirs")


def test_a_run_without_a_row_says_which_line_to_add(project):
    submit.new("mine", "method")
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    params.load.cache_clear()
    with pytest.raises(UserError, match=r"add `mine: \{\}` under methods"):
        submit.run("mine", "default")


def test_a_misspelt_submission_names_the_nearest_before_anything_runs(project):
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    submit.new("mine", "method")
    with pytest.raises(UserError, match="'mien' is no submission and no stage; did you mean 'mine'"):
        cli._run("default", ["mien"])


@pytest.mark.parametrize("verb", [["run"], ["tune", "albert", "--task", "movie"], ["verify"]])
def test_a_profile_that_is_none_is_refused_at_once(monkeypatch, capsys, verb):
    monkeypatch.setattr(sys, "argv", ["bench", *verb, "--profile", "mine"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "'mine' (choose from" in capsys.readouterr().err


def test_submitted_rows_stand_on_the_board_in_their_own_forms(project):
    from pipelines.board import grid

    submit.new("brought", "artifact")
    params.load.cache_clear()
    made = grid(params.load())
    assert "brought" in made.methods
    assert made.deployments_of("brought") == ["onnx-fp32"]
