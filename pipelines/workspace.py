"""A profile in a folder of its own: the working tree copied to .work/<profile>, its YAML laid over params.yaml.

So `make smoke` and `make full` never touch the default run. The folder stays, with all that is done in it, and the
next call goes on from there. DVC's cache is shared, so that data and teachers of equal settings are made once.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from leaderboard.aside import replacing
from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.params import load, paths
from pipelines.repro import repro

PUBLISHED = ("full", "ablations")


def run(profile: str, targets: list[str]) -> int:
    """`dvc repro` of a profile in its own folder; records that are to be published come back. DVC's exit code."""
    if profile == "default":
        return repro(Path(), targets)
    folder = lay(profile, Path(".work") / profile)
    code = repro(folder, targets)
    bring_back(profile, folder)
    return code


def bring_back(profile: str, folder: Path) -> None:
    """Copy the records of a profile that are to be published from its folder."""
    made = folder / paths.results(profile)
    if profile in PUBLISHED and made.is_dir():
        shutil.copytree(made, paths.results(profile), dirs_exist_ok=True, copy_function=_copy)


def lay(profile: str, folder: Path) -> Path:
    """Bring `folder` up to date with the working tree, and lay profiles/<profile>.yaml over its params.yaml."""
    laid = overlaid(profile)
    for name in _tracked():
        target = folder / name
        if name != "params.yaml" and not (target.is_file() and target.read_bytes() == Path(name).read_bytes()):
            _copy(name, target)
    write_text(folder / "params.yaml", yaml.safe_dump(laid, sort_keys=False, allow_unicode=True))
    load(folder / "params.yaml")
    cache = Path(".dvc/cache").resolve()
    write_text(folder / ".dvc/config.local", f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n")
    return folder


def overlaid(profile: str) -> dict[str, Any]:
    """params.yaml with a profile laid over it. A variant that the profile adds starts from its method's row there, so
    that it says no more than what it changes.
    """
    overlay = Path("profiles") / f"{profile}.yaml"
    if not overlay.is_file():
        names = sorted(path.stem for path in overlay.parent.glob("*.yaml"))
        raise UserError(f"No profile {profile!r}: known are default, {', '.join(names)}.")
    base, given = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (Path("params.yaml"), overlay))
    laid = merge(base, given)
    rows = base["methods"]
    started = {
        row: rows.get(str(entry.get("method")), {}) | entry
        for row, entry in laid["methods"].items()
        if row not in rows and isinstance(entry, dict)
    }
    return laid | {"methods": laid["methods"] | started}


def rows() -> set[str]:
    """The rows that any profile sets, as its own YAML names them: an ablation is a published method too."""
    said = [yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in Path("profiles").glob("*.yaml")]
    tables = [profile.get(table) or {} for profile in said for table in ("methods", "submitted")]
    return {row for table in tables for row, entry in table.items() if entry is not None}


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


def _copy(source: str | Path, target: str | Path) -> None:
    with replacing(Path(target)) as aside:
        shutil.copy2(source, aside)
