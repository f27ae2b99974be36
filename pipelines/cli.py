"""`bench`: run a profile, show the board in the terminal, measure an artifact."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import paths

SHOWN = ("score", "gap", "smaller", "mb", "faster", "p50", "mwh")  # what 80 columns hold


def main() -> None:
    """The command line."""
    stage(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run the pipeline in a profile; again: go on from what is complete")
    run.add_argument("--profile", default="default", help="default, or the name of a file in profiles/")
    run.add_argument("targets", nargs="*", help="stages such as compress@albert-movie-0; none: all")
    verbs.add_parser("show", help="the board in the terminal, and where to look further")
    measure = verbs.add_parser("measure", help="measure any artifact against another")
    measure.add_argument("artifact", type=Path, help="an artifact folder")
    measure.add_argument("--reference", type=Path, required=True, help="the artifact folder to compare with")
    measure.add_argument("--texts", type=Path, required=True, help="a text file, one input a line")
    given = parser.parse_args()
    if given.verb == "run":
        _run(given.profile, given.targets)
    elif given.verb == "measure":
        from pipelines.measure import table

        table(given.artifact, given.reference, given.texts)
    else:
        show(Path(), params.load().profile)


def _run(profile: str, targets: list[str]) -> None:
    from pipelines import workspace

    if code := workspace.run(profile, targets):
        sys.exit(code)
    show(Path() if profile == "default" else Path(".work") / profile, profile)


def show(root: Path, profile: str) -> None:
    """The last screen: the board's table, what was made, where to look."""
    from rich.console import Console
    from rich.table import Table

    from leaderboard import store, table
    from leaderboard.store import BoardError
    from pipelines.board import grid

    try:
        board = store.load(root / paths.results(profile).parent, grid(params.load(root / "params.yaml")), profile)
    except BoardError as error:
        raise UserError(str(error)) from None
    built = table.build(board)
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
