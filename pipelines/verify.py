"""`bench verify [ROW]`: the records of the working tree beside the published ones, and beside what lies in runs/.

Published is what git has committed (HEAD, or --against REF), or another folder of results.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from leaderboard import verify
from leaderboard.agreement import Finding, Verdict, equal
from leaderboard.schema import Record, TaskCard
from pipelines import params, provenance
from pipelines.errors import UserError
from pipelines.params import paths

VERDICTS: tuple[Verdict, ...] = ("same", "within", "not comparable", "differs")
Read = Callable[[str], bytes | None]  # "albert/movie.json" -> its bytes, None where there is no such file


def main(row: str | None, against: str, profile: str | None) -> int:
    """Print every finding; 1 where a row differs from what is published, else 0."""
    profile = profile or params.load().profile
    here = paths.results(profile)
    names, read = _folder(Path(against), profile) if Path(against).is_dir() else _git(against, here)
    wanted = sorted(name for name in {*names, *_listed(here)} if _asked(name, row))
    if not wanted:
        known = sorted({name.partition("/")[0] for name in {*names, *_listed(here)}} - {"tasks"})
        raise UserError(f"No row {row!r} in profile {profile}: give a method, or method/task. Methods: {known}.")
    rows = verify.settle([list(_row(here, name, read)) for name in wanted])
    for name, findings in zip(wanted, rows, strict=True):
        _print(name.removesuffix(".json"), findings)
    every = [finding for findings in rows for finding in findings]
    print(f"\n{len(rows)} files against {against}: {_counts(every)}")
    return 1 if any(finding.verdict == "differs" for finding in every) else 0


def _row(here: Path, name: str, read: Read) -> Iterator[Finding]:
    """The findings of one record or task card."""
    there, path = read(name), here / name
    raw = path.read_bytes() if path.is_file() else None
    model = TaskCard if name.startswith("tasks/") else Record
    try:
        published, made = (model.model_validate_json(text) if text else None for text in (there, raw))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        yield Finding("file", "exact", f"a {model.__name__}", f"{place}: {first['msg']}", "differs", "it is broken")
        return
    if made is None:
        yield Finding("file", "exact", "published", "none", "differs", "it is not in the working tree any more")
        return
    if published is None:
        yield Finding("file", "exact", "none", "new", "not comparable", "nothing of this row is published yet")
    elif raw == there:
        yield Finding("file", "exact", "published", "published", "same", "to the byte: the published file itself")
    elif isinstance(published, TaskCard) and isinstance(made, TaskCard):
        yield from _card(published, made)
    if isinstance(made, TaskCard):
        yield from provenance.data(made)
    else:
        card = _task_card(here, made.task)
        if isinstance(published, Record) and raw != there:
            yield from verify.findings(published, made, card)
        yield from verify.integrity(raw or b"", made, card)
        yield from provenance.findings(made)


def _card(published: TaskCard, made: TaskCard) -> Iterator[Finding]:
    for key in TaskCard.model_fields:
        yield equal(key, getattr(published, key), getattr(made, key), "prepare made another task of it")


def _task_card(here: Path, task: str) -> TaskCard:
    path = here / "tasks" / f"{task}.json"
    try:
        return TaskCard.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise UserError(f"{path} is missing or broken: run `dvc repro prepare@{task}`.") from None


def _asked(name: str, row: str | None) -> bool:
    return row is None or name in (f"{row}.json",) or name.startswith(f"{row}/")


def _listed(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.glob("*/*.json")]


def _folder(root: Path, profile: str) -> tuple[list[str], Read]:
    """A results folder, or a project's root, as what is published."""
    found = next((f for f in (root / paths.results(profile), root / profile) if f.is_dir()), None)
    if found is None:
        raise UserError(f"{root} holds no {paths.results(profile)}: give a clone's root, or a results folder.")
    folder: Path = found
    return _listed(folder), lambda name: (folder / name).read_bytes() if (folder / name).is_file() else None


def _git(ref: str, folder: Path) -> tuple[list[str], Read]:
    """A commit as what is published."""
    commit = _ask_git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit is None:
        raise UserError(f"--against {ref!r}: neither a folder nor a commit of this git checkout.")
    sha = commit.decode().strip()
    listed = (_ask_git("ls-tree", "-r", "-z", "--name-only", sha, "--", f"{folder.as_posix()}/") or b"").decode()
    names = [Path(name).relative_to(folder).as_posix() for name in listed.split("\0") if name.endswith(".json")]
    return names, lambda name: _ask_git("show", f"{sha}:{(folder / name).as_posix()}") if name in names else None


def _ask_git(*arguments: str) -> bytes | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _print(name: str, findings: list[Finding]) -> None:
    print(f"\n{name}: {_counts(findings)}")
    for f in findings:
        shown = f.got if f.verdict == "same" else f"expected {f.expected or 'none'}, got {f.got or 'none'}"
        why = f" ({f.why})" if f.why else ""
        print(f"  {'DIFFERS' if f.verdict == 'differs' else f.verdict:<14} {f.kind:<11} {f.item}: {shown}{why}")


def _counts(findings: Iterable[Finding]) -> str:
    counter = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counter[key]} {key}" for key in VERDICTS if counter[key])
