"""WCAG 2.2 AA, as far as axe-core can tell, on every kind of page, in light and dark, on a phone and on a laptop."""

import json
from pathlib import Path

import pytest

PAGES = [
    "index.html",
    "index.html#compare=teacher.onnx-fp32,tinybert.onnx-int8&open=1",
    "carbon.html",
    "claims.html",
    "measurement.html",
    "methods/open_autoglm.html",
    "tasks/bbc.html",
    "tasks/tweets.html",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (1366, "dark"), (390, "light")])
@pytest.mark.parametrize("address", PAGES)
def test_axe_finds_nothing(visit, axe, address, width, scheme):
    page = visit(address, width=width, scheme=scheme)
    page.evaluate(axe)
    found = page.evaluate(f"axe.run(document, {{runOnly: {json.dumps(RULES)}, preload: false}})")["violations"]
    assert not [(v["id"], v["nodes"][0]["html"], v["nodes"][0]["failureSummary"]) for v in found]


def test_axe_finds_what_is_wrong(visit, axe):
    page = visit()
    page.evaluate("document.getElementById('theme').removeAttribute('aria-label')")
    page.evaluate("document.getElementById('theme').innerText = ''")
    page.evaluate(axe)
    assert [v["id"] for v in page.evaluate("axe.run({preload: false})")["violations"]] == ["button-name"]
