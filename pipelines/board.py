"""Draw the leaderboard from the records. `python -m pipelines.board`."""

from __future__ import annotations

from leaderboard import render
from leaderboard.store import BoardError, Grid
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import Params, paths
from pipelines.workspace import overlaid

FULL = "full"


def grid(settings: Params) -> Grid:
    """The methods, tasks and deployments of params.yaml: never what happens to lie in a folder."""
    rows = [*settings.methods, *settings.submitted]
    deployments = {row: settings.deployments_of(row) for row in rows}
    return Grid(methods=rows, tasks=list(settings.tasks), deployments=deployments)


def main() -> None:
    """Write site/: the profile of params.yaml and, in the project itself, the full one in a folder beside it."""
    settings = params.load()
    beside = {}
    if settings.profile == "default" and paths.results(FULL).is_dir():
        beside[FULL] = grid(params.checked(overlaid(FULL), f"profiles/{FULL}.yaml"))
    results = paths.results(settings.profile).parent
    try:
        render.build(results, grid(settings), paths.site, profile=settings.profile, beside=beside)
    except BoardError as error:
        raise UserError(str(error)) from None


if __name__ == "__main__":
    stage(main)
