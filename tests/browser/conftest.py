"""A real Chromium on a generated site; skipped, with the reason, where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leaderboard import render
from tests.leaderboard import records

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
GRID = render.Grid(list(records.METHODS), list(records.TASKS), records.DEPLOYMENTS)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    records.write(folder / "results", examples=200)
    (folder / "results/default/albert/bbc.json").unlink()  # a missing cell
    return render.build(folder / "results", GRID, folder / "site").parent


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, site) -> Iterator[Callable]:
    """visit("index.html#q=x", width=..., scheme="dark") -> page; nothing may fail or leave the folder."""
    contexts, problems = [], []

    def open_page(
        address: str = "index.html", *, root: Path = site, width=1366, height=768, scheme="light", script=True
    ):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            java_script_enabled=script,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.on("request", lambda r: None if r.url.startswith("file:") else problems.append(f"network: {r.url}"))
        page.goto(f"{root.as_uri()}/{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems
