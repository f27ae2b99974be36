"""Draw the leaderboard from the records. `python -m pipelines.board`."""

from __future__ import annotations

from leaderboard import render
from leaderboard.store import BoardError, Grid
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import Params, paths


def grid(settings: Params) -> Grid:
    """The methods, tasks and deployments of params.yaml: never what happens to lie in a folder."""
    return Grid(methods=list(settings.methods), tasks=list(settings.tasks), deployments=settings.deployments)


def main() -> None:
    """Write site/."""
    settings = params.load()
    try:
        render.build(paths.results(settings.profile).parent, grid(settings), paths.site)
    except BoardError as error:
        raise UserError(str(error)) from None


if __name__ == "__main__":
    stage(main)
