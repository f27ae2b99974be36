"""`bench check NAME`: every rule's answer to a submission. Its words are read here; its code runs in the sandbox.

A method is tried whole on two tiny tasks, an artifact is asked the real ones where their data is prepared.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leaderboard.checks import Answer, Problem, Submission, check
from leaderboard.checks.history import PARAMS
from leaderboard.checks.records import RULES as RECORD_RULES
from leaderboard.checks.records import SIGMAS, surprise
from leaderboard.metrics import METRICS
from pipelines import params, sandbox, workspace
from pipelines.errors import UserError
from pipelines.guard import breaches
from pipelines.params import paths
from pipelines.sandbox import Limits, Outcome
from pipelines.trial import KINDS

SECRET = ("data", "runs", ".work", ".dvc", "leaderboard/results")  # where exam texts, labels and answers lie
METHOD_LIMITS, ARTIFACT_LIMITS = Limits(wall_s=105), Limits(wall_s=600)  # a method: all in two minutes
ASKS = {
    "runs": "The method runs whole on two tiny tasks and keeps the contract.",
    "time": "It ends in time.",
    "memory": "It stays within its memory.",
    "writes": "It writes nothing outside its folder.",
    "network": "It opens no connection.",
    "processes": "It starts no process.",
    "contract": "Its artifacts answer with the task's labels, at the task's length, with finite numbers.",
    "long-inputs": "It hears a long text to its end: other words there change the answer.",
    "repeatable": "The same text gets the same answer.",
}
MEND = {
    "time": "make it quicker: the trial asks for 24 steps of 16 short texts; or check again when the machine is idle",
    "memory": "it may take 4 GB",
    "files": "a file may have 500 MB",
    "writes": "return a Student: the suite writes it",
    "network": "a method computes with what it is given",
    "processes": "a method computes with what it is given",
    "exam": "a method is given train and dev; the exam is for the referee",
    "long-inputs": "read texts up to the task's max_length",
    "repeatable": "export a model without random numbers",
}


def submission(name: str, base: str | None = None) -> Submission:
    """What the rules look at; UserError where there is no such submission."""
    folder = Path("submissions", name)
    if not folder.is_dir():
        there = sorted(path.parent.name for path in Path("submissions").glob("*/card.yaml"))
        raise UserError(f"No folder {folder}: `bench new {name}` begins one{params.nearest(name, there)}")
    _known_base(base)
    settings = params.load()
    taken = {path.stem for path in Path("baselines").glob("[a-z]*.py")} | params.RESERVED | workspace.rows()
    return Submission(
        name=name,
        folder=folder,
        results=paths.results(settings.profile).parent,
        forms=tuple(settings.deployments_of(name)) if name in (*settings.methods, *settings.submitted) else (),
        taken=frozenset(taken),
        data=_texts(list(settings.tasks)),
        base=base,
    )


def _known_base(base: str | None) -> None:
    """UserError where git knows no such commit, or there are no settings in it to compare with."""
    if base is None:
        return
    asked = ["git", "rev-parse", "--verify", "--quiet", f"{base}:{PARAMS}"]
    try:
        known = bool(base) and not subprocess.run(asked, capture_output=True, timeout=20).returncode
    except (OSError, subprocess.SubprocessError):
        known = False
    if not known:
        raise UserError(
            f"--base is {base!r}, in which git finds no {PARAMS}: give a commit or branch of this project, "
            "such as origin/main."
        )


def answers(given: Submission) -> list[Answer]:
    """All rules. Code is tried only where reading it and its files found nothing."""
    read = check(given)
    broken = {answer.rule for answer in read if answer.problems} & {"card", "paths", "files", "size", "code"}
    kind = given.card.kind if given.card else None
    if broken or kind == "result":
        return read
    with tempfile.TemporaryDirectory(prefix="bench-check-") as place:
        box = Path(place) / "box"
        problems = try_method(given, box) if kind == "method" else try_artifacts(given, box)
    known = {answer.rule for answer in read}
    both = [replace(answer, problems=answer.problems + problems.get(answer.rule, [])) for answer in read]
    return both + [Answer(rule, asks, problems.get(rule, [])) for rule, asks in ASKS.items() if rule not in known]


def try_method(given: Submission, box: Path, limits: Limits | None = None) -> dict[str, list[Problem]]:
    """Run its code in the sandbox, then ask its artifacts; rule -> problems."""
    from pipelines.tiny import make_task, split

    limits, own = limits or METHOD_LIMITS, box / "submissions" / given.name
    for path in given.plain:
        target = own / path.relative_to(given.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    secret = [Path(folder).resolve() for folder in SECRET]
    settings = params.load()
    knobs = settings.method(given.name)[1] if given.name in settings.methods else {}
    made = _sandboxed(["make", given.name, json.dumps(knobs), *map(str, secret)], box, limits)
    if found := _breaches(given, made):
        return found
    asked = box.with_name("asked")  # another box: nothing that the code left but plain files of artifacts is in it
    _take_artifacts(box, asked)
    folders = {
        f"made/{kind}/{path.name}": (make_task(kind), split(200, kind, seed=20))
        for kind in KINDS
        for path in sorted((asked / "made" / kind).glob("*"))
    }
    if not folders:
        return {"runs": [Problem(given.name, "left no artifact", "return a Student: the suite exports it")]}
    texts = {
        folder: {"exam": exam.texts, "dev": task.dev.texts, "max_length": task.max_length}
        for folder, (task, exam) in folders.items()
    }
    rest = replace(limits, wall_s=max(1.0, limits.wall_s - made.wall_s))
    return _judged(given, asked, texts, {folder: task.labels for folder, (task, _) in folders.items()}, rest)


def _take_artifacts(box: Path, asked: Path) -> None:
    """Copy made/<kind>/<deployment>/<file> as far as these are folders and plain files."""
    for path in sorted(box.glob("made/*/*/*")):
        above = [box / part for part in path.relative_to(box).parents]
        if path.is_file() and not any(part.is_symlink() for part in (path, *above)):
            target = asked / path.relative_to(box)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def try_artifacts(given: Submission, box: Path, limits: Limits | None = None) -> dict[str, list[Problem]]:
    """Ask its artifacts the real tasks, where they are prepared; rule -> problems."""
    from pipelines.data import load_split

    settings, limits = params.load(), limits or ARTIFACT_LIMITS
    texts: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for task, spec in settings.tasks.items():
        folder, source = f"artifacts/{task}", given.folder / "artifacts" / task
        if not (source / "manifest.json").is_file():
            seen = Problem(f"{given.name}/{folder}", "there is no manifest.json", "export one artifact a task")
            return {"runs": [seen]}
        if paths.split(task, "exam").is_file():
            shutil.copytree(source, box / folder)
            splits = {name: load_split(task, name) for name in ("exam", "dev")}
            texts[folder] = {name: split.texts[:400] for name, split in splits.items()} | {
                "max_length": spec.max_length
            }
            labels[folder] = tuple(spec.labels)
    if not texts:
        raise UserError(
            "The tasks are not prepared here, so that the artifacts cannot be asked: run `dvc repro prepare`."
        )
    found = _judged(given, box, texts, labels, limits)
    said = json.loads((box / "answer.json").read_text()) if (box / "answer.json").is_file() else {}
    for folder, answer in said.items():
        if "predictions" in answer:
            found.setdefault("too-good", []).extend(_too_good(given, folder, answer["predictions"]))
    return found


def _too_good(given: Submission, folder: str, said: dict[str, list[float]]) -> Iterator[Problem]:
    import numpy as np

    from pipelines.data import load_split

    task = Path(folder).name
    metric = params.load().task(task).metrics[0]
    labels = {name: load_split(task, name).labels[: len(rows)].astype(float) for name, rows in said.items()}
    exam, dev = (METRICS[metric](np.array(said[name]), labels[name]) for name in ("exam", "dev"))
    sigmas = surprise(exam, len(said["exam"]), dev, len(said["dev"]), metric)
    if sigmas > SIGMAS:
        seen = f"{metric} {exam:.3f} on the exam, {dev:.3f} on dev: {sigmas:.0f} errors apart"
        yield Problem(f"{given.name}/{folder}", seen, "train on nothing but train and dev")


def _judged(
    given: Submission, box: Path, texts: dict[str, Any], labels: dict[str, Any], limits: Limits
) -> dict[str, list[Problem]]:
    (box / "question.json").write_text(json.dumps({"texts": texts}), encoding="utf-8")
    outcome = _sandboxed(["judge"], box, limits)
    found = _breaches(given, outcome)
    if outcome.code or found:
        return found
    for folder, said in json.loads((box / "answer.json").read_text(encoding="utf-8")).items():
        for rule, seen in _faults(said, labels[folder], texts[folder]["max_length"]):
            where = f"{given.name}/{folder}"
            found.setdefault(rule, []).append(Problem(where, seen, MEND.get(rule, "export it with openautoglm.export")))
    return found


def _faults(said: dict[str, Any], labels: Sequence[str], max_length: int) -> Iterator[tuple[str, str]]:
    if "error" in said:
        yield "contract", said["error"]
        return
    if tuple(said["labels"]) != tuple(labels) or said["max_length"] != max_length:
        yield "contract", f"labels {said['labels']}, length {said['max_length']}; asked {list(labels)}, {max_length}"
    if not said["finite"]:
        yield "contract", "answers are not finite"
    if not said["repeatable"]:
        yield "repeatable", "the same texts got other answers the second time"
    if said["heard"] < said["long"] / 2:
        yield "long-inputs", f"other words at the end changed {said['heard']} of {said['long']} long texts' answers"


def _sandboxed(arguments: list[str], box: Path, limits: Limits) -> Outcome:
    hidden = [Path(folder) for folder in SECRET]
    return sandbox.run([sys.executable, "-m", "pipelines.trial", *arguments], box, limits, hidden=hidden)


def _breaches(given: Submission, outcome: Outcome) -> dict[str, list[Problem]]:
    """What went wrong in the sandbox, by rule: what its guard told, what the kernel refused, what stopped it."""
    found: dict[str, list[Problem]] = {}
    for rule, what in breaches(outcome.output):
        found.setdefault(rule, []).append(Problem(given.name, f"reached for {what}", MEND[rule]))
    if outcome.code == 0 or found:
        return found
    last = next((line for line in reversed(outcome.output.splitlines()) if line.strip()), "it said nothing")[:300]
    refused = {"Read-only file system": "writes", "Network is unreachable": "network"}
    rule = next((rule for said, rule in refused.items() if said in outcome.output), outcome.stopped or "runs")
    if outcome.stopped == "time":
        last = f"had not ended after {outcome.wall_s:.0f} s, in which it computed for {outcome.cpu_s:.0f} s"
    elif outcome.stopped and outcome.code == -signal.SIGKILL:
        last = {"memory": "took more memory than it may", "files": "wrote more than it may"}[outcome.stopped]
    rule, mend = ("size" if rule == "files" else rule), MEND.get(rule, "mend it and check again")
    return {rule: [Problem(given.name, last, mend)]}


def _texts(tasks: list[str]) -> dict[str, list[str]]:
    """The texts of every split of the tasks that are prepared here."""
    from pipelines.data import load_split

    there = [task for task in tasks if all(paths.split(task, s).is_file() for s in ("train", "dev", "exam"))]
    return {task: [t for s in ("train", "dev", "exam") for t in load_split(task, s).texts] for task in there}


def _not_asked(given: Submission) -> dict[str, str]:
    """Rules that have nothing to look at yet, and what they wait for."""
    idle: dict[str, str] = {}
    if not given.entries:
        idle |= dict.fromkeys((rule.__name__.replace("_", "-") for rule in RECORD_RULES), "there are no records yet")
    if given.base is None:
        idle |= dict.fromkeys(("published", "scope"), "give the commit that it starts from, --base origin/main")
    if not given.data:
        idle["memorised"] = "the tasks' texts are not here to search for, `dvc repro prepare` makes them"
    return idle


def show(name: str, base: str | None) -> int:
    """Print each rule's answer; the number of rules that are broken."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    given = submission(name, base)
    asked = answers(given)
    idle = _not_asked(given)
    for answer in asked:
        if answer.rule in idle and not answer.problems:
            console.print(Text(f"{'-':<5}{answer.rule:<13}Not asked: {idle[answer.rule]}"))
            continue
        console.print(Text(f"{'FAIL' if answer.problems else 'ok':<5}{answer.rule:<13}{answer.asks}"))
        for problem in answer.problems[:20]:
            console.print(Text(f"     {problem.where}: {problem.seen}\n       -> {problem.mend}"))
    broken = [answer.rule for answer in asked if answer.problems]
    if not sandbox.namespaces():
        console.print("Note: this system gives no namespaces; limits and Python's audit hook alone held the code.")
    if broken:
        console.print(f"{len(broken)} of {len(asked)} rules are broken: {', '.join(broken)}")
    else:
        waiting = len(idle.keys() & {answer.rule for answer in asked})
        later = f"; {waiting} wait for what they ask" if waiting else ""
        following = "propose the folder, the row and the records" if given.entries else f"bench run {name}"
        console.print(f"All {len(asked) - waiting} rules that could be asked are kept{later}. Next: {following}")
    return len(broken)
