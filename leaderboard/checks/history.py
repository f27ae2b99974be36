"""Rules on what a proposal changes since the commit that it starts from. Without such a commit they say nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import yaml

from leaderboard.checks.subject import Problem, Submission
from leaderboard.schema import PROFILES

PARAMS = "params.yaml"
TABLES = ("methods", "submitted")


def published(given: Submission) -> Iterator[Problem]:
    """Published records, and all else that others wrote, are neither changed nor removed."""
    for state, path in _changes(given):
        own = _is_own(given, path)
        if state != "A" and not own and path != PARAMS:
            word = {"D": "removed", "R": "moved"}.get(state, "changed")
            yield Problem(path, f"is {word}", f"put it back: git checkout {given.base} -- {path}")


def scope(given: Submission) -> Iterator[Problem]:
    """A proposal adds its folder, its records, and its own row in params.yaml: nothing else."""
    for state, path in _changes(given):
        if state == "A" and not _is_own(given, path):
            yield Problem(path, "is no part of this submission", "propose it apart")
        if path == PARAMS and (others := _other_settings(given)):
            yield Problem(PARAMS, f"changes more than the row {given.name}: {', '.join(others)}", "propose it apart")


def _is_own(given: Submission, path: str) -> bool:
    parts = path.split("/")
    # in the profiles that the rules on records read: what stands in ablations/, search/ or tuning/ is looked at by none
    own_record = len(parts) == 5 and parts[2] in PROFILES and parts[3] == given.name
    return (parts[:2] == ["leaderboard", "results"] and own_record) or (
        parts[:2] == ["submissions", given.name] and len(parts) > 2
    )


def _changes(given: Submission) -> list[tuple[str, str]]:
    """(state, path) of every change since the base: A added, M changed, D removed, T of another type."""
    if given.base is None:
        return []
    listed = _git(given, "diff", "--name-status", "--no-renames", "-z", given.base, "--").split("\0")
    added = _git(given, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    changes = [(state[:1], path) for state, path in zip(listed[::2], listed[1::2], strict=False)]
    return changes + [("A", path) for path in added if path]


def _other_settings(given: Submission) -> list[str]:
    """Settings that differ from the base's, the submission's own rows left out."""
    before = yaml.safe_load(_git(given, "show", f"{given.base}:{PARAMS}")) or {}
    try:
        after = yaml.safe_load((given.root / PARAMS).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ["it cannot be read"]
    if not isinstance(after, dict):
        return ["it is no table"]
    for table in TABLES:
        for settings in (before, after):
            settings[table] = {k: v for k, v in (settings.get(table) or {}).items() if k != given.name}
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def _git(given: Submission, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(given.root), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"git knows no {given.base}: {done.stderr.strip()[:200]}")
    return done.stdout


RULES = (published, scope)
