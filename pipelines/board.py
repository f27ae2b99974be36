"""Draw the leaderboard from the records. `python -m pipelines.board`."""

from __future__ import annotations

from leaderboard import render
from leaderboard.store import BoardError, Grid
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import Params, paths


def grid(settings: Params) -> Grid:
    """The methods, tasks and deployments of params.yaml: never what happens to lie in a folder."""
    rows = [*settings.methods, *settings.submitted]
    deployments = {row: settings.deployments_of(row) for row in rows}
    return Grid(methods=rows, tasks=list(settings.tasks), deployments=deployments)


def main() -> None:
    """Write site/: in the project the fullest profile that there is, in the folder of a profile its own."""
    settings = params.load()
    profile = None if settings.profile == "default" else settings.profile
    try:
        render.build(paths.results(settings.profile).parent, grid(settings), paths.site, profile=profile)
    except BoardError as error:
        raise UserError(str(error)) from None


if __name__ == "__main__":
    stage(main)
