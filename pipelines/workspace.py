"""A profile in a folder of its own: the working tree copied to .work/<profile>, its YAML laid over params.yaml.

So `make smoke` and `make full` never touch the default run. The folder stays, with all that is done in it, and the
next call goes on from there. DVC's cache is shared, so that data and teachers of equal settings are made once.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from leaderboard.aside import replacing
from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.methods import FOLDERS
from pipelines.params import load, paths, read
from pipelines.repro import alone, repro

PUBLISHED = ("full", "ablations")


def run(profile: str, targets: list[str]) -> int:
    """`dvc repro` of a profile in its own folder; records that are to be published come back. DVC's exit code."""
    with opened(profile) as (folder, held):
        code = repro(folder, targets, held)
        bring_back(profile, folder)
    return code


@contextmanager
def opened(profile: str) -> Iterator[tuple[Path, int]]:
    """The folder of a profile, laid anew, and the descriptor of its lock: nobody else lays or runs it meanwhile."""
    folder = Path() if profile == "default" else Path(".work") / profile
    with alone(folder) as held:
        if profile != "default":
            lay(profile, folder)
        yield folder, held


def bring_back(profile: str, folder: Path) -> None:
    """Copy the records of a profile that are to be published from its folder: those of its rows and tasks of now."""
    if profile not in PUBLISHED:
        return
    settings = load(folder / "params.yaml")
    for task in settings.tasks:
        records = [paths.record(profile, row, task) for row in (*settings.methods, *settings.submitted)]
        for name in (paths.task_card(profile, task), *records):
            if (folder / name).is_file():
                _copy(folder / name, name)


def lay(profile: str, folder: Path) -> Path:
    """Bring `folder` up to date with the working tree, and lay profiles/<profile>.yaml over its params.yaml."""
    laid, tracked = overlaid(profile), _tracked()
    for name in tracked:
        target = folder / name
        if name != "params.yaml" and not (target.is_file() and target.read_bytes() == Path(name).read_bytes()):
            _copy(name, target)
    _forget(folder, set(tracked))
    write_text(folder / "params.yaml", yaml.safe_dump(laid, sort_keys=False, allow_unicode=True))
    load(folder / "params.yaml")
    cache = Path(".dvc/cache").resolve()
    write_text(folder / ".dvc/config.local", f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n")
    return folder


def _forget(folder: Path, tracked: set[str]) -> None:
    """Remove code that the working tree no longer has. What is made in `folder` lies elsewhere, but for results."""
    for path in [path for top in FOLDERS for path in (folder / top).rglob("*") if path.is_file()]:
        name = path.relative_to(folder)
        made = name.is_relative_to("leaderboard/results") or "__pycache__" in name.parts
        if not made and name.as_posix() not in tracked:
            path.unlink()


def overlaid(profile: str) -> dict[str, Any]:
    """params.yaml with a profile laid over it. A variant that the profile adds starts from its method's row there, so
    that it says no more than what it changes.
    """
    overlay = Path("profiles") / f"{profile}.yaml"
    if not overlay.is_file():
        names = sorted(path.stem for path in overlay.parent.glob("*.yaml"))
        raise UserError(f"No profile {profile!r}: known are default, {', '.join(names)}.")
    base = read(Path("params.yaml"))
    laid = merge(base, read(overlay))
    before, rows = _table(base, "methods"), _table(laid, "methods")
    started = {
        row: _table(before, entry.get("method")) | entry
        for row, entry in rows.items()
        if row not in before and isinstance(entry, dict)
    }
    return laid | ({"methods": rows | started} if rows else {})


def rows() -> set[str]:
    """The rows that any profile sets, as its own YAML names them: an ablation is a published method too."""
    said = [read(path) for path in Path("profiles").glob("*.yaml")]
    tables = [_table(profile, name) for profile in said for name in ("methods", "submitted")]
    return {row for table in tables for row, entry in table.items() if entry is not None}


def _table(settings: dict[str, Any], name: Any) -> dict[str, Any]:
    """A table in settings that are not checked yet; where something else stands in its place, it has no rows."""
    found = settings.get(name) if isinstance(name, str) else None
    return found if isinstance(found, dict) else {}


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
