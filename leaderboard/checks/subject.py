"""What the rules look at: a submission's folder, its records, and the published ones they stand beside."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from leaderboard.schema import PROFILES, Record, TaskCard
from leaderboard.submission import FILE, Card, CardError, read_card

RECORD_BYTES = 20_000_000  # a record of the full profile has about a hundredth of it


class Problem(NamedTuple):
    """One breach: where, what was seen, how to mend it."""

    where: str
    seen: str
    mend: str


class Entry(NamedTuple):
    """A record's file: either the record, or what is wrong with it."""

    path: Path
    profile: str
    record: Record | None
    errors: list[Any]


@dataclass(frozen=True)
class Submission:
    """submissions/<name>/ and results/<profile>/<name>/*.json.

    `forms`: the deployments its rows have. `data`: task -> the texts of all splits, where the data is there.
    `root` and `base`: a git checkout and the commit that the proposal starts from, where there are any.
    """

    name: str
    folder: Path
    results: Path
    forms: tuple[str, ...]
    taken: frozenset[str] = frozenset()
    data: dict[str, list[str]] = field(default_factory=dict)
    root: Path = Path()
    base: str | None = None

    @cached_property
    def card(self) -> Card | None:
        """None where it is missing or wrong: the rule `card` tells."""
        try:
            return read_card(self.folder / FILE)
        except CardError:
            return None

    @cached_property
    def files(self) -> list[Path]:
        """Everything in the folder but folders and Python's caches; links are not followed."""
        found = []
        for place, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            linked = [name for name in folders if (Path(place) / name).is_symlink()]
            found += [Path(place) / name for name in [*linked, *sorted(names)]]
        return found

    @cached_property
    def plain(self) -> list[Path]:
        """Those that are regular files: the only ones that any rule opens."""
        return [path for path in self.files if stat.S_ISREG(path.lstat().st_mode)]

    def short(self, path: Path) -> str:
        """How a path is named to its author, on one line."""
        base = self.folder.parent if path.is_relative_to(self.folder) else self.results.parent
        return path.relative_to(base).as_posix().encode("unicode_escape").decode()[:120]

    @cached_property
    def entries(self) -> list[Entry]:
        """Its records in all profiles."""
        paths = [p for profile in PROFILES for p in sorted((self.results / profile / self.name).glob("*"))]
        return [read(path) for path in paths]

    @cached_property
    def records(self) -> list[tuple[Entry, Record]]:
        """Those that can be read."""
        return [(entry, entry.record) for entry in self.entries if entry.record]

    def task_card(self, record: Record) -> TaskCard | None:
        """The published card of a record's task."""
        path = self.results / record.profile / "tasks" / f"{record.task}.json"
        return TaskCard.model_validate_json(path.read_bytes()) if path.is_file() else None

    def teacher(self, record: Record) -> Record | None:
        """The teacher's published record of the same task and profile."""
        path = self.results / record.profile / "teacher" / f"{record.task}.json"
        return read(path).record if path.is_file() else None

    @cached_property
    def fewest_launches(self) -> dict[str, int]:
        """profile -> the launches that it asks for: the teacher takes more of them where its machine was loud."""
        found: dict[str, int] = {}
        for path in self.results.glob("*/teacher/*.json"):
            profile, record = path.parent.parent.name, read(path).record
            for form in record.deployments.values() if record else ():
                found[profile] = min(len(form.cost.launches), found.get(profile, len(form.cost.launches)))
        return found

    @cached_property
    def tasks(self) -> dict[str, TaskCard]:
        """The tasks of any profile."""
        paths = [p for profile in PROFILES for p in sorted((self.results / profile / "tasks").glob("*.json"))]
        return {p.stem: TaskCard.model_validate_json(p.read_bytes()) for p in paths}

    def others(self) -> Iterator[Record]:
        """The published records of everyone else."""
        for profile in PROFILES:
            for path in sorted((self.results / profile).glob("*/*.json")):
                if path.parent.name not in ("tasks", self.name) and (found := read(path).record):
                    yield found


def read(path: Path) -> Entry:
    """A record's file, read with distrust."""
    profile = path.parent.parent.name
    if path.is_symlink() or not path.is_file() or path.suffix != ".json":
        return Entry(path, profile, None, [{"type": "file", "loc": (), "msg": "is no plain .json file"}])
    if path.stat().st_size > RECORD_BYTES:
        message = f"has {path.stat().st_size:,} bytes; at most {RECORD_BYTES:,}"
        return Entry(path, profile, None, [{"type": "size", "loc": (), "msg": message}])
    try:
        return Entry(path, profile, Record.model_validate_json(path.read_bytes()), [])
    except ValidationError as error:
        return Entry(path, profile, None, list(error.errors()))
