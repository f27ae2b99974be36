"""The card is read with distrust, and the rules on what a proposal changes, on a real git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from leaderboard.checks import RULES, Submission, answer
from leaderboard.submission import MAX_BYTES, Card, CardError, read_card

GOOD = """
name: mine
kind: method
authors: [A. Uthor]
licence: Apache-2.0
paper: none
kept: All of it.
left_out: Nothing.
data: The tasks' own.
hardware: a laptop
"""


def card(tmp_path: Path, text: str) -> Card:
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    return read_card(tmp_path / "card.yaml")


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(CardError) as error:
        card(tmp_path, text)
    return error.value.problems


def test_a_good_card_is_read(tmp_path):
    assert card(tmp_path, GOOD).authors == ["A. Uthor"]


def test_what_yaml_would_guess_stays_text(tmp_path):
    """A version is no number, a date no date, `no` no boolean."""
    given = GOOD.replace("Apache-2.0", "2.0").replace("none", "2020-01-01").replace("a laptop", "no")
    read = card(tmp_path, given)
    assert (read.licence, read.paper, read.hardware) == ("2.0", "2020-01-01", "no")


def test_all_problems_are_told_at_once(tmp_path):
    found = problems(tmp_path, "name: Not A Name\nkind: magic\nauthors: []\nlicence: 'two\n\n  lines'\nstars: 5\n")
    text = "\n".join(found)
    for entry in ("name", "kind", "authors", "licence", "stars: unknown", "paper: missing", "left_out: missing"):
        assert entry in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("<<: *x\n", "aliases"),
        ("a: [[[[[[[[1]]]]]]]]\n", "deeper than 5"),
        ("name: a\nname: b\n", "given twice: name"),
        ("- a\n", "no table"),
        ("", "no table"),
        ("a: [", "line 1"),
        ("x" * (MAX_BYTES + 1), "larger than 20,000"),
        (GOOD.replace("none", '"a\\u202eb"'), "U+202E"),
        (GOOD.replace("none", '"\\0"'), "U+0000"),
    ],
)
def test_a_bad_card_is_one_clear_message(tmp_path, text, said):
    assert any(said in problem for problem in problems(tmp_path, text))


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"name: \xc3\x28", b"\x00" * 100, b"%YAML 9.9\n---\n", b"a: !!int 9"])
def test_broken_bytes_are_one_clear_message(tmp_path, raw):
    (tmp_path / "card.yaml").write_bytes(raw)
    with pytest.raises(CardError):
        read_card(tmp_path / "card.yaml")


@pytest.fixture
def repository(tmp_path) -> Path:
    """A published record, a setting, and a commit."""
    for name in ("leaderboard/results/default/albert/movie.json", "README.md", "submissions/theirs/method.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("published\n")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"methods": {"albert": {}}, "seeds": [0]}))
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path)]
        subprocess.run([*git, *arguments], check=True)
    return tmp_path


def said(repository: Path) -> dict[str, list[str]]:
    given = Submission(
        "mine",
        repository / "submissions/mine",
        repository / "leaderboard/results",
        ("onnx-fp32",),
        root=repository,
        base="HEAD",
    )
    found = {name: next(r for r in RULES if r.__name__ == name) for name in ("published", "scope")}
    return {name: [problem.where for problem in answer(rule, given).problems] for name, rule in found.items()}


def test_a_folder_a_record_and_a_row_may_be_added(repository):
    for name in ("submissions/mine/method.py", "leaderboard/results/default/mine/movie.json"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("new\n")
    params = {"methods": {"albert": {}, "mine": {"depth": 2}}, "seeds": [0]}
    (repository / "params.yaml").write_text(yaml.safe_dump(params))
    assert said(repository) == {"published": [], "scope": []}


@pytest.mark.parametrize("name", ["leaderboard/results/default/albert/movie.json", "submissions/theirs/method.py"])
@pytest.mark.parametrize("how", ["changed", "removed", "moved", "linked"])
def test_what_others_published_may_not_change(repository, name, how):
    path = repository / name
    if how == "changed":
        path.write_text("edited\n")
    elif how == "moved":
        path.rename(path.with_name("other.json"))
    else:
        path.unlink()
    if how == "linked":
        path.symlink_to("/etc/passwd")
    assert said(repository)["published"] == [name]


@pytest.mark.parametrize(
    "params",
    [{"methods": {"mine": {}}, "seeds": [0]}, {"methods": {"albert": {"x": 1}}, "seeds": [0]}, {"methods": {}}],
)
def test_others_rows_and_settings_may_not_change(repository, params):
    (repository / "params.yaml").write_text(yaml.safe_dump(params))
    assert said(repository)["scope"] == ["params.yaml"]


def test_nothing_else_may_be_added(repository):
    (repository / "leaderboard/results/default/albert/bbc.json").write_text("{}")
    (repository / "conftest.py").write_text("import os")
    assert said(repository)["scope"] == ["conftest.py", "leaderboard/results/default/albert/bbc.json"]


@pytest.mark.parametrize("where", ["ablations", "search", "tuning"])
def test_results_that_no_rule_on_records_reads_are_not_its_own(repository, where):
    name = f"leaderboard/results/{where}/mine/movie.json"
    (repository / name).parent.mkdir(parents=True)
    (repository / name).write_text("new\n")
    assert said(repository)["scope"] == [name]
    for arguments in (["add", "-A"], ["commit", "-qm", "published"]):
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(repository)]
        subprocess.run([*git, *arguments], check=True)
    (repository / name).write_text("edited\n")
    assert said(repository)["published"] == [name]
