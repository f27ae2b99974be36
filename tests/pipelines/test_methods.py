"""The contract of a method: breaches and bad knobs are told before any training, and the hash follows the imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines import methods
from pipelines.errors import UserError

GOOD = '''"""A caption."""
from openautoglm.task import Task
from submissions.mine.part import x
PAPER = KEPT = LEFT_OUT = "words"
def compress(teacher, task, budget, *, rate: float = 0.5, deep: bool = True):
    return None
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with one submission; its modules are forgotten afterwards."""
    folder = tmp_path / "submissions" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "openautoglm").mkdir()
    (tmp_path / "openautoglm" / "task.py").write_text("x = 1\n")
    (folder / "part.py").write_text("x = 1\n")
    (folder / "unused.py").write_text("x = 1\n")
    (folder / "method.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "submissions"]:
        del sys.modules[name]


def test_a_good_method_is_bound(project):
    module = methods.load("mine")
    assert methods.bind(module, {"rate": 2}) == {"rate": 2, "deep": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rat": 1}, "did you mean 'rate'"),
        ({"zzz": 1}, "known: deep, rate"),
        ({"rate": "fast"}, "it takes a number, such as 0.5"),
    ],
)
def test_a_bad_knob_is_refused(project, given, message):
    with pytest.raises(UserError, match=message):
        methods.bind(methods.load("mine"), given)


def test_a_knob_without_a_default_must_be_set(project):
    (project / "method.py").write_text(GOOD.replace("rate: float = 0.5", "rate: float"))
    module = methods.load("mine")
    with pytest.raises(UserError, match=r"methods\.mine does not set \['rate'\]"):
        methods.bind(module, {})
    assert methods.bind(module, {"rate": 2}) == {"rate": 2, "deep": True}


def test_every_breach_is_told_at_once(project):
    (project / "method.py").write_text("KEPT = 3\ndef compress(teacher, task): pass\n")
    with pytest.raises(UserError) as error:
        methods.load("mine")
    for breach in ("no PAPER", "no KEPT", "no LEFT_OUT", "no docstring", "takes ('teacher', 'task')"):
        assert breach in str(error.value)


def test_a_bad_knob_of_a_variant_is_told_at_its_own_row(project):
    with pytest.raises(UserError, match=r"No knob 'rat' in methods\.mine_fast; did you mean 'rate'"):
        methods.bind(methods.load("mine"), {"rat": 1}, "mine_fast")


def test_a_method_without_a_file_names_the_nearest(project):
    with pytest.raises(UserError, match=r"Method 'mime' of params\.yaml has no file.*did you mean 'mine'\?"):
        methods.load("mime")


def test_a_knob_may_not_be_called_method(project):
    (project / "method.py").write_text(GOOD.replace("rate:", "method:"))
    with pytest.raises(UserError, match="a knob named 'method'"):
        methods.load("mine")


def test_a_method_without_a_file_is_told(project):
    with pytest.raises(UserError, match=r"copy baselines/teacher\.py"):
        methods.load("theirs")


@pytest.mark.parametrize(
    ("file", "changes"),
    [("submissions/mine/part.py", True), ("openautoglm/task.py", True), ("submissions/mine/unused.py", False)],
)
def test_the_hash_follows_what_is_imported(project, file, changes):
    before = methods.sources_sha256(["submissions.mine.method"])
    Path(file).write_text("x = 2\n")
    assert (methods.sources_sha256(["submissions.mine.method"]) != before) == changes


@pytest.mark.parametrize("line", ["from .part import x", "from . import part", "from ..mine.part import x"])
def test_the_hash_follows_relative_imports(project, line):
    (project / "method.py").write_text(GOOD.replace("from submissions.mine.part import x", line))
    before = methods.sources_sha256(["submissions.mine.method"])
    (project / "part.py").write_text("x = 2\n")
    assert methods.sources_sha256(["submissions.mine.method"]) != before


def test_the_hash_of_a_method_that_does_not_use_the_compressor_does_not_follow_it(project):
    """`import openautoglm.task` runs the package's __init__, which offers AutoCompressor late."""
    package, method = Path("openautoglm"), Path("submissions/mine/method.py")
    late = "if TYPE_CHECKING:\n    from openautoglm.compressor import AutoCompressor\n"
    (package / "__init__.py").write_text(f"from typing import TYPE_CHECKING\n{late}")

    def change_of_the_hash():
        (package / "compressor.py").write_text("x = 1\n")
        before = methods.sources_sha256(["submissions.mine.method"])
        (package / "compressor.py").write_text("x = 2\n")
        return methods.sources_sha256(["submissions.mine.method"]) != before

    assert not change_of_the_hash()
    for imported in ("from openautoglm import AutoCompressor", "import openautoglm"):
        method.write_text(f"{imported}\n{GOOD}")
        assert change_of_the_hash()


def test_the_methods_of_this_project_keep_the_contract():
    for path in Path("baselines").glob("[a-z]*.py"):
        methods.load(path.stem)
