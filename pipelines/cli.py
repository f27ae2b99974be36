"""`bench`: run a profile, show the board in the terminal, measure an artifact."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from leaderboard.schema import Profile
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import paths

if TYPE_CHECKING:
    from leaderboard.store import Board
    from leaderboard.table import Table as Rows

PROFILES = get_args(Profile)
SHOWN = ("score", "gap", "smaller", "mb", "faster", "p50", "mwh")  # what 80 columns hold


def main() -> None:
    """The command line."""
    stage(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser("new", help="begin a submission that already works, and say what comes next")
    new.add_argument("name", help="lower-case letters, digits and _")
    new.add_argument("--kind", choices=("method", "artifact", "result"), default="method", help="what is submitted")
    check = verbs.add_parser("check", help="ask every rule of a submission, and try its code in a sandbox")
    check.add_argument("name", help="a folder of submissions/")
    check.add_argument("--base", metavar="COMMIT", help="what it is proposed against: nothing of that may change")
    run = verbs.add_parser("run", help="run the pipeline in a profile; again: go on from what is complete")
    run.add_argument("--profile", choices=PROFILES, default="default", help="the settings: a file of profiles/")
    run.add_argument("targets", nargs="*", help="a submission, or stages such as compress@albert-movie-0")
    verbs.add_parser("show", help="the board in the terminal, and where to look further")
    measure = verbs.add_parser("measure", help="measure any artifact against another")
    measure.add_argument("artifact", type=Path, help="an artifact folder")
    measure.add_argument("--reference", type=Path, required=True, help="the artifact folder to compare with")
    measure.add_argument("--texts", type=Path, required=True, help="a text file, one input a line")
    compare = verbs.add_parser("compare", help="the rows of a method beside the nearest ones, as Markdown")
    compare.add_argument("name", help="a method of params.yaml")
    verify = verbs.add_parser("verify", help="is a row true? what was made here beside what is published")
    verify.add_argument("row", nargs="?", help="a method, or method/task; none: every row")
    verify.add_argument("--against", default="HEAD", metavar="REF|DIR", help="a commit, or a folder of results")
    verify.add_argument("--profile", choices=PROFILES, help="whose records; that of params.yaml if not given")
    tune = verbs.add_parser("tune", help="try rates or passes on dev, as many for each method; again: go on")
    tune.add_argument("methods", nargs="+", metavar="METHOD", help="methods of params.yaml")
    tune.add_argument("--task", dest="tasks", nargs="+", required=True, metavar="TASK", help="tasks of params.yaml")
    tune.add_argument("--passes", type=float, nargs="+", default=[], metavar="N", help="try these instead of rates")
    tune.add_argument("--profile", choices=PROFILES, default="default", help="whose rows, tasks and teachers")
    given = parser.parse_args()
    if given.verb == "run":
        _run(given.profile, given.targets)
    elif given.verb == "new":
        from pipelines import submit

        submit.new(given.name, given.kind)
    elif given.verb == "check":
        from pipelines import check as checking

        sys.exit(bool(checking.show(given.name, given.base)))
    elif given.verb == "measure":
        from pipelines.measure import table

        table(given.artifact, given.reference, given.texts)
    elif given.verb == "tune":
        from pipelines.tune import tune as search

        search(given.methods, given.tasks, given.passes, given.profile)
    elif given.verb == "compare":
        from leaderboard import compare as comparing

        print(comparing.markdown(_built(Path(), params.load().profile)[1], given.name))
    elif given.verb == "verify":
        from pipelines import verify as verifying

        sys.exit(verifying.main(given.row, given.against, given.profile))
    else:
        show(Path(), params.load().profile)


def _run(profile: str, targets: list[str]) -> None:
    from pipelines import submit, workspace

    submissions = [name for name in targets if Path("submissions", name).is_dir()]
    for target in targets:
        if target not in submissions:
            _known_stage(target)
    for name in submissions:
        if code := submit.run(name, profile):
            sys.exit(code)
    stages = [target for target in targets if target not in submissions]
    if (stages or not submissions) and (code := workspace.run(profile, stages)):
        sys.exit(code)
    show(Path() if profile == "default" else Path(".work") / profile, profile)


def _known_stage(target: str) -> None:
    """UserError where a target is neither a submission nor a stage."""
    import yaml

    kinds = list(yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"])
    if target.partition("@")[0] not in kinds:
        there = [path.parent.name for path in Path("submissions").glob("*/card.yaml")]
        raise UserError(f"{target!r} is no submission and no stage{params.nearest(target, [*there, *kinds])}")


def _built(root: Path, profile: str) -> tuple[Board, Rows]:
    from leaderboard import store, table
    from pipelines.board import grid

    try:
        board = store.load(root / paths.results(profile).parent, grid(params.load(root / "params.yaml")), profile)
    except store.BoardError as error:
        raise UserError(str(error)) from None
    return board, table.build(board)


def show(root: Path, profile: str) -> None:
    """The last screen: the board's table, what was made, where to look."""
    from rich.console import Console
    from rich.table import Table

    board, built = _built(root, profile)
    shown = [column for key in SHOWN for column in built.columns if column.key == key]
    drawn = Table("#", title=f"Profile {profile}", box=None)
    for name in ("method", "deployment"):
        drawn.add_column(name, no_wrap=True)
    for column in shown:
        drawn.add_column(f"{column.label}\n{column.unit}", justify="right")
    for row in built.rows:
        rank = "" if row.rank is None else f"{row.rank}{row.shared}"
        drawn.add_row(rank, row.method, row.deployment, *(row.text(column) for column in shown))
    console = Console()
    console.print(drawn)
    console.print(f"{len(board.records)} records in {root / paths.results(profile)}")
    console.print(f"Leaderboard: {(root / paths.site / 'index.html').resolve().as_uri()}", soft_wrap=True)
    console.print("Runs, curves and artifacts in MLflow: make ui")
