"""Draws the board: records in, a folder of static pages out. The same records give the same bytes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from leaderboard import downloads, store, table
from leaderboard.aside import replacing_folder
from leaderboard.columns import number
from leaderboard.store import Board, BoardError, Grid
from leaderboard.views import claims, common, footprint, front, measurement, method, task

__all__ = ["BoardError", "Grid", "build"]

HERE = Path(__file__).parent
PAGES = {"index": front, "carbon": footprint, "claims": claims, "measurement": measurement}


def build(
    results: Path, grid: Grid, site: Path, *, profile: str = "default", beside: Mapping[str, Grid] | None = None
) -> Path:
    """Draw the site of one profile's records into `site`, built aside and renamed; returns its index.html.

    beside: other profiles, each drawn in a folder of its name where it has records; the sites lead to one another.
    Missing cells are shown as missing. BoardError, with one message, where nothing is to be drawn or a file is broken.
    """
    board = store.load(results, grid, profile)
    if not board.records:
        raise BoardError(f"{results}: no usable record of profile {board.profile}. Make them first: make repro.")
    others = [store.load(results, wanted, name) for name, wanted in (beside or {}).items()]
    others = [other for other in others if other.records]
    with replacing_folder(Path(site)) as aside:
        write(board, aside, {f"{other.profile}/index.html": other for other in others})
        for other in others:
            write(other, aside / other.profile, {"../index.html": board})
    return Path(site) / "index.html"


def write(board: Board, folder: Path, beside: Mapping[str, Board] | None = None) -> None:
    """Every file of the site into an empty folder; `beside`: the address, from there, of another profile's board."""
    rows = table.build(board)
    shared = common.shared(board, rows) | {"beside": {at: common.made(other) for at, other in (beside or {}).items()}}
    for page, module in PAGES.items():
        _page(folder / f"{page}.html", page, shared | module.view(board, rows))
    for name in board.grid.methods:
        _page(folder / "methods" / f"{name}.html", "method", shared | method.view(board, rows, name), root="../")
    for card in common.cards(board):
        _page(folder / "tasks" / f"{card.name}.html", "task", shared | task.view(board, rows, card), root="../")
    shutil.copytree(HERE / "static", folder / "static")
    (folder / "board.csv").write_text(downloads.as_csv(rows), encoding="utf-8")
    (folder / "board.json").write_text(downloads.as_json(board, rows), encoding="utf-8")
    (folder / "cite.bib").write_text(downloads.as_bibtex(board), encoding="utf-8")


def _page(path: Path, template: str, context: dict[str, Any], *, root: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _environment().get_template(f"{template}.html").render(context, root=root, page=path.name)
    path.write_text(re.sub(r"\n\s*\n+", "\n", text) + "\n", encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"link": _link, "number": number, "plain": lambda value: f"{value:g}"}
    return environment


def _link(text: str) -> str:
    """The first web address or arXiv number in a text as an address; "" where there is none. Nothing else is linked."""
    if address := re.search(r"https?://[^\s<>\"')\],;]+", text):
        return address.group()
    number = re.search(r"arXiv[:\s]*(\d{4}\.\d{4,5})", text, re.IGNORECASE)
    return f"https://arxiv.org/abs/{number.group(1)}" if number else ""
