import csv
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from leaderboard import render, store, table
from leaderboard.metrics import METRICS
from leaderboard.views import task
from tests.leaderboard import records

GRID = render.Grid(list(records.METHODS), list(records.TASKS), records.DEPLOYMENTS)
GOLDEN = Path(__file__).parent / "golden" / "index.html"
VOID = {"meta", "link", "input", "br", "img", "hr"}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    records.write(folder, examples=200)
    return folder


@pytest.fixture(scope="module")
def site(results, tmp_path_factory) -> Path:
    return render.build(results, GRID, tmp_path_factory.mktemp("built") / "site").parent


class Page(HTMLParser):
    """The text, tags and addresses of a page; fails on tags that do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.open, self.addresses, self.ids = "", [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"{path}: left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.addresses += [named[key] for key in ("href", "src", "action") if key in named]
        self.ids += [named["id"]] if "id" in named else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_golden_page(tmp_path):
    """A whole page, word for word. After a wanted change: UPDATE_GOLDEN=1 pytest tests/leaderboard/test_render.py"""
    methods = {name: records.METHODS[name] for name in ("teacher", "tinybert")}
    records.write(tmp_path / "results", methods=methods, examples=120, tasks=("movie",))
    grid = render.Grid([*methods, "albert"], ["movie", "bbc"][:1], {"all": ["onnx-fp32", "onnx-int8"]})
    made = render.build(tmp_path / "results", grid, tmp_path / "site").read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(made, encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes(results, site, tmp_path):
    again = render.build(results, GRID, tmp_path / "again").parent
    files = sorted(p.relative_to(site) for p in site.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((site / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_the_site_is_under_a_megabyte(site):
    assert sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) < 1_000_000


def test_every_page_is_whole_and_every_address_is_there(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 4 + len(GRID.methods) + len(GRID.tasks)
    for path in pages:
        page = Page(path)
        assert len(set(page.ids)) == len(page.ids), path
        for address in page.addresses:
            if address.startswith("https://arxiv.org/"):
                continue  # a paper: a link that a reader may follow, nothing that the page loads
            assert not re.match(r"[a-z]+:|//", address), f"{path}: {address}"
            file, _, anchor = address.partition("#")
            assert (path.parent / file).exists(), f"{path}: {address}"
            assert not anchor or file or anchor in page.ids


def test_the_table_is_complete_without_a_script(site, results):
    text = re.sub(r"\s+", " ", Page(site / "index.html").text)
    for method in GRID.methods:
        for deployment in GRID.deployments_of(method):
            assert f"{method}{deployment}" in text
    assert "Which compressed model fits your budget?" in text
    assert "within 1 point of the teacher" in text


def test_everything_from_a_submission_is_text(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    evil = '</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}" onmouseover="alert(3)'
    for path in (own / "default/albert").iterdir():
        raw = json.loads(path.read_text())
        said = dict.fromkeys(("caption", "kept", "left_out"), evil)
        raw["method"].update(said | {"paper": f"javascript:alert(4) {evil}", "submitted": True})
        raw["method"]["knobs"] = {evil: evil}
        raw["method"]["report"] = {
            evil: {evil: 1.0},
            "table": [{evil: evil}],
            "odd": [1, [evil]],
            "none": None,
            "empty": [],
        }
        raw["method"]["shape"] = {"layers": 2, "heads": ["x", 3], "ffn": -1, evil[:40]: evil}
        path.write_text(json.dumps(raw))
    site = render.build(own, GRID, tmp_path / "site").parent
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "49" not in re.findall(r"onerror=alert\(2\)&gt;(.{2})", html)
        page = Page(path)
        assert not [a for a in page.addresses if "javascript:" in a]
    assert "alert" not in (site / "board.csv").read_text()


def test_a_missing_cell_says_missing(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    shutil.rmtree(own / "default/albert")
    site = render.build(own, GRID, tmp_path / "site").parent
    html = (site / "index.html").read_text(encoding="utf-8")
    row = html[html.index('<tr data-row="albert.onnx-int8"') :].split("</tr>")[0]
    assert "–" in row
    assert "not run yet" in row
    assert not re.search(r"<b>", row)
    assert "Not run yet" in (site / "methods/albert.html").read_text(encoding="utf-8")
    line = next(r for r in csv.DictReader(io.StringIO((site / "board.csv").read_text())) if r["method"] == "albert")
    assert line["score"] == line["mb"] == line["rank"] == ""
    loaded = json.loads((site / "board.json").read_text())
    row = next(r for r in loaded["rows"] if r["method"] == "albert")
    assert row["figures"]["score"] is None
    assert row["missing"]["mb"].startswith("not run yet")


def test_sparse_but_valid_records_are_drawn(results, tmp_path):
    """No runs, no deployments, no report, n too small: every page still comes out whole."""
    own = Path(shutil.copytree(results, tmp_path / "results"))
    for method in GRID.methods:
        for path in (own / "default" / method).iterdir():
            raw = json.loads(path.read_text())
            raw["runs"] = []
            raw["method"] |= {"report": {}, "shape": {}, "knobs": {}, "paper": "", "kept": "", "left_out": ""}
            raw["code"] = {"commit": None, "dirty": None, "lock_sha256": None}
            if method == "albert":
                raw["deployments"] = {}
            for form in raw["deployments"].values():
                form["cost"] |= {"latency_p50_ms": None, "latency_p90_ms": None, "launches": []}
            path.write_text(json.dumps(raw))
    site = render.build(own, GRID, tmp_path / "site").parent
    for path in site.rglob("*.html"):
        Page(path)
    albert = Page(site / "methods/albert.html").text
    assert "made by others, measured by us" in albert
    assert "MLflow" not in albert
    assert "No row" in (site / "index.html").read_text(encoding="utf-8")  # the fastest within a point


def test_a_methods_page_leads_to_each_of_its_parts(site):
    page = Page(site / "methods/open_autoglm.html")
    inside = [address[1:] for address in page.addresses if address.startswith("#") and address != "#main"]
    assert inside[:2] == ["results", "again"]
    assert set(inside) <= set(page.ids)
    assert "weights int8 per channel" in page.text
    assert "tags.record_sha256 LIKE" in page.text


def test_a_tasks_page_holds_its_other_metrics_and_says_where_the_texts_are(site):
    text = Page(site / "tasks/bbc.html").text
    assert "macro_f1× 100, first seed" in text
    assert "data/bbc/exam.parquet" in text


def test_a_tasks_other_metrics_are_derived_from_the_predictions(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    path = own / "default/albert/bbc.json"
    raw = json.loads(path.read_text())
    quality = raw["deployments"]["onnx-int8"]["quality"][0]
    quality["scores"]["macro_f1"] = {"value": 0.123, "low": 0.1, "high": 0.2}
    path.write_text(json.dumps(raw))
    board = store.load(own, GRID)
    others = task.view(board, table.build(board), board.cards["bbc"])["others"]
    follows = METRICS["macro_f1"](np.array(quality["predictions"]), np.array(board.cards["bbc"].exam_labels))
    assert others["macro_f1"]["albert", "onnx-int8"] == pytest.approx(100 * follows)


def test_a_board_of_one_seed_says_what_its_intervals_do_not_tell(site, tmp_path):
    words = "not how well the method would do again"
    assert words in Page(site / "index.html").text
    records.write(tmp_path / "results", examples=60, seeds=(0, 1))
    again = render.build(tmp_path / "results", GRID, tmp_path / "site")
    assert words not in Page(again).text
    assert "over its 2 seeds" in Page(again).text


def test_a_unit_keeps_its_capitals(site):
    assert "kWh per 1,000 texts" in Page(site / "index.html").text


def test_downloads_hold_the_tables_figures(site):
    loaded = json.loads((site / "board.json").read_text(encoding="utf-8"))
    lines = list(csv.DictReader(io.StringIO((site / "board.csv").read_text(encoding="utf-8"))))
    assert len(lines) == len(loaded["rows"])
    for line, row in zip(lines, loaded["rows"], strict=True):
        assert float(line["score"]) == row["figures"]["score"]["value"]
        assert float(line["mwh_low"]) == row["figures"]["mwh"]["low"]
        assert (line["mb_low"], row["figures"]["mb"]["low"]) == ("", None)
    assert (site / "cite.bib").read_text().startswith("@misc{")


def test_a_modelled_figure_carries_a_tilde_and_a_measured_one_none(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert re.search(r'data-col="mwh"><b>~', html)
    assert not re.search(r'data-col="(mb|p50|score|cpu)"[^>]*><b>~', html)


@pytest.mark.parametrize(
    ("meter", "words"),
    [("rapl", "the memory's part is declared watts"), ("nvml", "the parts of the processor (hence the “~”) and")],
)
def test_what_a_meter_did_not_measure_is_said(results, tmp_path, meter, words):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    for path in own.glob("default/*/*.json"):
        path.write_text(path.read_text().replace('"method":"modelled"', f'"method":"{meter}"'))
    site = render.build(own, GRID, tmp_path / "site").parent
    assert all(words in Page(site / name).text for name in ("carbon.html", "measurement.html"))


def test_another_profile_is_drawn_in_a_folder_beside_and_both_lead_to_one_another(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    records.write(own, examples=60, profile="full", seeds=(0, 1), tasks=("movie",))
    beside = {"full": store.Grid(GRID.methods, ["movie"], GRID.deployments)}
    first = render.build(own, GRID, tmp_path / "site", beside=beside)
    second = first.parent / "full/index.html"
    assert '<a href="full/index.html">The full profile</a>: 1 task, 2 seeds.' in first.read_text(encoding="utf-8")
    assert '<a href="../index.html">The default profile</a>' in second.read_text(encoding="utf-8")
    assert '<a href="../../index.html">default profile</a>' in (second.parent / "methods/albert.html").read_text(
        "utf-8"
    )
    assert "profile</a>" not in render.build(own, GRID, tmp_path / "alone").read_text(encoding="utf-8")


def test_a_profile_without_records_is_not_drawn(results, tmp_path):
    index = render.build(results, GRID, tmp_path / "site", beside={"full": GRID})
    assert not (index.parent / "full").exists()
    assert "profile</a>" not in index.read_text(encoding="utf-8")


def test_a_failed_drawing_leaves_the_old_site(results, tmp_path, monkeypatch):
    index = render.build(results, GRID, tmp_path / "site")
    before = index.read_bytes()
    monkeypatch.setattr(render.downloads, "as_csv", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        render.build(results, GRID, tmp_path / "site")
    assert index.read_bytes() == before


def test_nothing_to_draw_ends_with_one_message(tmp_path):
    with pytest.raises(store.BoardError, match="make repro"):
        render.build(tmp_path, GRID, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_only_papers_are_linked():
    link = render._link
    assert link("DistilBERT, arXiv:1910.01108") == "https://arxiv.org/abs/1910.01108"
    assert link("see https://example.org/a_b).") == "https://example.org/a_b"
    assert link("javascript:alert(1)") == link("data:text/html,x") == link("") == ""
