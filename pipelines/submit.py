"""`bench new NAME` begins a submission, `bench run NAME` makes its records. In between: `bench check`."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from leaderboard.schema import Name
from leaderboard.submission import FILE, CardError, read_card
from pipelines import params, workspace
from pipelines.errors import UserError
from pipelines.files import write_text
from pipelines.params import paths
from pipelines.repro import repro

TEMPLATE = Path(__file__).parent / "template"
PARAMS = Path("params.yaml")
KINDS = {"method": "methods", "artifact": "submitted", "result": "submitted"}  # -> its table in params.yaml
ROW = {"methods": "{}", "submitted": "[onnx-fp32]"}  # what stands there behind its name at first
NEXT = {
    "method": "Write submissions/{name}/method.py: it works already (every other layer, distilled).",
    "artifact": "Put an ONNX artifact of each task into submissions/{name}/artifacts/<task>/.",
    "result": "Put your records into leaderboard/results/default/{name}/ (submissions/README.md says how).",
}


def new(name: str, kind: str) -> None:
    """Write submissions/<name>/ and its row in params.yaml, and say what comes next."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UserError(
            f"{name!r} is no name: lower-case letters, digits and `_`, a letter first, at most 40."
        ) from None
    folder, settings = Path("submissions", name), params.load()
    rows = {*settings.methods, *settings.submitted, *params.RESERVED, *workspace.rows()}
    if folder.exists() or name in rows or Path("baselines", f"{name}.py").exists():
        raise UserError(f"{name!r} is taken: choose another name.")
    with_row = _with_row(name, KINDS[kind])
    words = {"NAME": name, "KIND": kind, "AUTHOR": _author(), "HARDWARE": platform.processor() or platform.machine()}
    for file in ("method.py", FILE, "README.md") if kind == "method" else (FILE, "README.md"):
        text = (TEMPLATE / file).read_text(encoding="utf-8")
        write_text(folder / file, re.sub(r"\b(NAME|KIND|AUTHOR|HARDWARE)\b", lambda found: words[found[0]], text))
    write_text(PARAMS, with_row)
    print(f"{folder}/ is begun, and {name!r} has its row in params.yaml.\n")
    print(f"1. {NEXT[kind].format(name=name)}")
    print(f"2. Say in {folder / FILE} who you are and what it is.")
    print(f"3. bench check {name}                    every rule, and a trial run, in at most two minutes")
    print(f"4. bench run {name} --profile smoke      on a slice of one task: does it get onto the board?")
    print(f"5. bench run {name}                      the real thing; then propose the folder, the row and the records")


def _author() -> str:
    """git's user.name as a YAML scalar."""
    try:
        said = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        said = ""
    return yaml.safe_dump([said or "your name"], default_flow_style=True, allow_unicode=True).strip()[1:-1]


def _with_row(name: str, table: str) -> str:
    """params.yaml with a line at the end of a table; all else, comments too, stays as it is."""
    lines, row = PARAMS.read_text(encoding="utf-8").split("\n"), f"  {name}: {ROW[table]}"
    try:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{table}:"))
        lines[start] = re.sub(r":\s*\{\s*\}", ":", lines[start])
        end = start + 1
        while end < len(lines) and lines[end].startswith((" ", "#")) and lines[end].strip():
            end += 1
        text = "\n".join([*lines[:end], row, *lines[end:]])
        params.Params.model_validate(yaml.safe_load(text))
    except (StopIteration, yaml.YAMLError, ValidationError):
        raise UserError(
            f"{PARAMS} has no table `{table}:` with one row a line, two spaces before it, to add `{row.strip()}` to: "
            "write it so, and run the command again."
        ) from None
    return text


def run(name: str, profile: str) -> int:
    """Make a submission's records in a profile: a method's by DVC, artifacts' by measuring them. An exit code."""
    try:
        kind = read_card(Path("submissions", name, FILE)).kind
    except CardError as error:
        raise UserError(str(error)) from None
    settings = params.load()
    if name not in (*settings.methods, *settings.submitted):
        table = KINDS[kind]
        raise UserError(f"{name} has no row in {PARAMS}: add `{name}: {ROW[table]}` under {table}.")
    with workspace.opened(profile) as (folder, held):
        code = _run(name, kind, folder, held)
        workspace.bring_back(profile, folder)
    return code


def _run(name: str, kind: str, folder: Path, held: int) -> int:
    own = params.load(folder / "params.yaml")
    there = [task for task in own.tasks if (folder / paths.record(own.profile, "teacher", task)).is_file()]
    targets = [f"record@teacher-{task}" for task in own.tasks if task not in there]  # the 100 % row, made once
    if name in own.methods:
        targets += [f"record@{name}-{task}" for task in own.tasks]
    elif kind == "artifact":
        targets += [f"compress@teacher-{task}-{own.seeds[0]}" for task in own.tasks]
    if targets and (code := repro(folder, targets, held)):
        return code
    if kind == "artifact" and (code := _stage(folder, "brought", name)):
        return code
    return _stage(folder, "board")  # not by DVC, to which the board depends on every other method's records too


def _stage(folder: Path, *command: str) -> int:
    module, *arguments = command
    return subprocess.run([sys.executable, "-m", f"pipelines.{module}", *arguments], cwd=folder).returncode
