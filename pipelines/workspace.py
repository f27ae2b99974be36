"""A profile in a folder of its own: the working tree copied to .work/<profile>, its YAML laid over params.yaml.

So `make smoke` and `make full` never touch the default run. The folder stays, with all that is done in it, and the
next call goes on from there. DVC's cache is shared, so that data and teachers of equal settings are made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.params import load, paths


def run(profile: str, targets: list[str]) -> int:
    """`dvc repro` of a profile in its own folder; records of the full profile come back. DVC's exit code."""
    if profile == "default":
        return _dvc(Path(), targets)
    folder = lay(profile, Path(".work") / profile)
    code = _dvc(folder, targets)
    made = folder / paths.results(profile)
    if profile == "full" and made.is_dir():
        shutil.copytree(made, paths.results(profile), dirs_exist_ok=True)
    return code


def lay(profile: str, folder: Path) -> Path:
    """Bring `folder` up to date with the working tree, and lay profiles/<profile>.yaml over its params.yaml."""
    overlay = Path("profiles") / f"{profile}.yaml"
    if not overlay.is_file():
        names = sorted(path.stem for path in overlay.parent.glob("*.yaml"))
        raise UserError(f"No profile {profile!r}: known are default, {', '.join(names)}.")
    for name in _tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name != "params.yaml" and not (target.is_file() and target.read_bytes() == Path(name).read_bytes()):
            shutil.copy2(name, target)
    base = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    laid = merge(base, yaml.safe_load(overlay.read_text(encoding="utf-8")))
    write_text(folder / "params.yaml", yaml.safe_dump(laid, sort_keys=False, allow_unicode=True))
    load(folder / "params.yaml")
    cache = Path(".dvc/cache").resolve()
    write_text(folder / ".dvc/config.local", f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n")
    return folder


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`overlay` over `base`, table by table; null takes a key away.

    >>> merge({"a": {"b": 1, "c": 2}, "d": 4}, {"a": {"b": 3}, "d": None})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = {key: value for key, value in base.items() if overlay.get(key, value) is not None or value is None}
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = merge(base[key], value)
        elif value is not None:
            merged[key] = value
    return merged


def _tracked() -> list[str]:
    """The working tree as git sees it, new files included; not dvc.lock, which is each folder's own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True
    )
    if listed.returncode:
        raise UserError("This is no git checkout: clone the repository to run a profile.")
    return [name for name in listed.stdout.split("\0") if name and name != "dvc.lock" and Path(name).is_file()]


def _dvc(folder: Path, targets: list[str]) -> int:
    # The stages' `python` is the one that runs this; the runs of all profiles stand in one MLflow.
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{Path('mlflow.db').resolve()}"}
    environment = store | os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([sys.executable, "-m", "dvc", "repro", *targets], cwd=folder, env=environment).returncode
