"""The house's one law: imports point down. Read from the sources by ast, so that late imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOOR = {"leaderboard": 0, "openautoglm": 1, "baselines": 2, "submissions": 2, "pipelines": 3}
METHODS = 2
LIGHT = ("artifact", "runtime", "route", "segments", "task")
WITHOUT_TORCH = ["leaderboard", *(f"openautoglm/{name}.py" for name in LIGHT)]
HEAVY = {"torch", "transformers", "mlflow", "codecarbon", "dvc"}
ONLY_IMPORTER = {"mlflow": "pipelines/tracking.py", "codecarbon": "pipelines/instruments/energy.py"}


def sources(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imported(path: Path) -> list[str]:
    """Every module that a file imports anywhere in it, as absolute dotted names (`from a import b` gives a.b)."""
    package = path.relative_to(ROOT).parent.parts
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("place", FLOOR)
def test_a_module_imports_only_lower_floors(place):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(place)
        for name in imported(path)
        if FLOOR.get(name.split(".")[0], -1) > FLOOR[place]
    ]
    assert not wrong


def test_methods_never_import_one_another():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for place in ("baselines", "submissions")
        for path in sources(place)
        for name in imported(path)
        if FLOOR.get(name.split(".")[0]) == METHODS and own_package(path) != ".".join(name.split(".")[:2])
    ]
    assert not wrong


def own_package(path: Path) -> str:
    """A submission is a folder and may import from itself; a baseline is a file and may not."""
    parts = path.relative_to(ROOT).parts
    return ".".join(parts[:2]) if parts[0] == "submissions" else ""


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_the_board_and_the_runtime_name_no_heavy_package(place):
    late = {"openautoglm/runtime.py": {"torch", "transformers"}}  # inside the torch runtime's own loader
    found = {name.split(".")[0] for path in sources(place) for name in imported(path)} & HEAVY
    assert found <= late.get(place, set())


@pytest.mark.parametrize("name", ONLY_IMPORTER)
def test_trackers_have_one_importer(name):
    importers = {
        str(path.relative_to(ROOT))
        for place in FLOOR
        for path in sources(place)
        if name in {module.split(".")[0] for module in imported(path)}
    }
    assert importers == {ONLY_IMPORTER[name]}


def test_the_board_and_the_runtime_load_without_torch():
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for p in WITHOUT_TORCH for path in sources(p)]
    modules = [name.removesuffix(".__init__") for name in modules]
    code = (
        f"import importlib, sys\n[importlib.import_module(name) for name in {modules}]\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_these_tests_can_fail(tmp_path, monkeypatch):
    (tmp_path / "leaderboard").mkdir()
    bad = tmp_path / "leaderboard/bad.py"
    bad.write_text("def late():\n    from ..pipelines import fetch\n    import torch\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert imported(bad) == ["pipelines.fetch", "torch"]
    with pytest.raises(AssertionError, match=r"bad\.py imports pipelines\.fetch"):
        test_a_module_imports_only_lower_floors("leaderboard")
