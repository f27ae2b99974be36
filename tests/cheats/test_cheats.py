"""Every known cheat is rejected, by the rule that is named for it; and an honest submission by none."""

from __future__ import annotations

import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from leaderboard import render
from leaderboard.checks import RULES as KNOWN
from leaderboard.checks import check
from pipelines import check as checking
from pipelines import sandbox
from tests.cheats.submissions import CHEATS, FORMS, NAME, RULES, TASK, World, honest
from tests.leaderboard import records

LIMITS = sandbox.Limits(wall_s=20, memory_mb=600, file_mb=5, disk_mb=100)
# What the code does once it is loaded -> the rule that tells. Reading the source would have found them all.
RUNNING = {
    "training on the exam split": ("open(SECRET + '/movie/exam.parquet', 'rb').read()", "exam"),
    "peeking at labels by another path": ("import os; os.open(SECRET + '/../data/movie.json', os.O_RDONLY)", "exam"),
    "asking the network": ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", "network"),
    "starting a process": ("import subprocess; subprocess.run(['true'])", "processes"),
    "writing outside its folder": ("open(SECRET + '/../owned', 'w')", "writes"),
    "removing what is not its own": ("import os; os.remove(SECRET + '/movie/exam.parquet')", "writes"),
    "moving a file outside": ("import os; open('x', 'w'); os.rename('x', SECRET + '/../owned')", "writes"),
    "hiding what it did": ("try:\n  open(SECRET + '/../owned', 'w')\nexcept OSError: pass", "writes"),
    "talking over what it did": (
        "try:\n  open(SECRET + '/../owned', 'w')\nexcept OSError: pass\nprint('all is well\\n' * 10_000)",
        "writes",
    ),
    "telling of a breach that is none": ("print('@guard [[]]\\n@guard x\\n@guard [1, 2, 3]'); 1 / 0", "runs"),
    "never ending": ("while True: pass", "time"),
    "sleeping for ever": ("import time; time.sleep(1000)", "time"),
    "eating memory": ("x = [bytearray(50_000_000) for _ in range(100)]", "memory"),
    "eating memory that no process owns": (
        "import mmap; x = mmap.mmap(-1, 2_000_000_000)\nfor i in range(0, len(x), 4096): x[i] = 1",
        "memory",
    ),
    "filling the disk with small files": (
        "for i in range(100):\n  with open(str(i), 'wb') as f: f.write(b'0' * 4_000_000)\nimport time; time.sleep(9)",
        "size",
    ),
    "filling the disk": ("f = open('x', 'wb')\nfor _ in range(100): f.write(b'0' * 1_000_000)", "size"),
    "ending without a word": ("import os; os._exit(3)", "runs"),
    "an error of its own": ("1 / 0", "runs"),
}


@pytest.fixture
def world(tmp_path) -> World:
    return honest(tmp_path)


def broken(world: World) -> dict[str, list]:
    return {answer.rule: answer.problems for answer in check(world.submission) if answer.problems}


def test_an_honest_submission_breaks_no_rule(world):
    assert broken(world) == {}


def test_a_class_may_have_names_of_its_own(world):
    (world.folder / "part.py").write_text("class Part:\n    def __init__(self):\n        self._size = 1\n")
    assert broken(world) == {}


@pytest.mark.parametrize(("kind", "asked"), [("method", True), ("artifact", False)])
def test_a_brought_artifact_has_the_first_seed_alone(world, kind, asked):
    teacher = {"teacher": records.METHODS["teacher"]}
    records.write(world.root / "results", methods=teacher, tasks=(TASK,), examples=400, seeds=(0, 1, 2))
    card = world.folder / "card.yaml"
    card.write_text(card.read_text().replace("kind: method", f"kind: {kind}"))
    [grid] = [rule for rule in KNOWN if rule.__name__ == "grid"]
    assert any("seeds [0, 1, 2]" in problem.seen for problem in grid(world.submission)) == asked
    if not asked:
        assert list(grid(world.submission)) == []


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_rejected_by_its_rule(world, cheat):
    CHEATS[cheat](world)
    found = broken(world)
    assert RULES[cheat] in found, found
    for problem in found[RULES[cheat]]:
        assert problem.seen
        assert problem.mend
        assert "\n" not in problem.where


def test_every_rule_on_files_and_records_rejects_a_cheat():
    on_git = {"published", "scope"}  # theirs are in tests/leaderboard/test_check.py
    assert {rule.__name__.replace("_", "-") for rule in KNOWN} - on_git == set(RULES.values())


@pytest.fixture
def project(tmp_path) -> Path:
    """A pretended project with an exam, and a box beside it."""
    (tmp_path / "project/data/movie").mkdir(parents=True)
    (tmp_path / "project/data/movie/exam.parquet").write_text("secret")
    (tmp_path / "project/data/movie.json").write_text("secret")
    (tmp_path / "box").mkdir()
    return tmp_path


@pytest.mark.parametrize("kernel", [True, False], ids=["namespaces", "hook"])
@pytest.mark.parametrize("cheat", RUNNING)
def test_running_code_is_rejected_by_its_rule(project, world, monkeypatch, cheat, kernel):
    if kernel and not sandbox.namespaces():
        pytest.skip("this system gives no namespaces")
    if not kernel:
        monkeypatch.setattr(sandbox, "namespaces", lambda: False)
    source, rule = RUNNING[cheat]
    secret = project / "project/data"
    begin = f"from pathlib import Path; from pipelines.guard import guard; SECRET = {str(secret)!r}\n"
    begin += "guard([Path.cwd()], [Path(SECRET)])\n"
    limits = sandbox.Limits(wall_s=3, memory_mb=600, file_mb=5) if rule == "time" else LIMITS
    outcome = sandbox.run([sys.executable, "-c", begin + source], project / "box", limits, hidden=[secret])
    assert set(checking._breaches(world.submission, outcome)) == {rule}, outcome
    assert (secret / "movie/exam.parquet").read_text() == "secret"
    assert not (project / "project/owned").exists()


def test_an_early_return_on_long_inputs_is_rejected(tmp_path, world):
    """A model that looks at the first words only, beside one that looks at all of them."""
    import json

    from tests.pipelines.tiny_artifacts import TEXTS, write

    box = tmp_path / "box"
    shutil.copytree(write(tmp_path / "whole"), box / "whole")
    cut = json.loads((box / "whole/tokenizer.json").read_text())
    cut["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    early = write(tmp_path / "early")
    (early / "tokenizer.json").write_text(json.dumps(cut))
    manifest = json.loads((early / "manifest.json").read_text())
    from openautoglm.artifact import file_sha256

    manifest["files"]["tokenizer.json"]["sha256"] = file_sha256(early / "tokenizer.json")
    (early / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(early, box / "early")
    asked = {"exam": TEXTS, "dev": TEXTS, "max_length": manifest["max_length"]}
    labels = dict.fromkeys(("whole", "early"), tuple(manifest["labels"]))
    found = checking._judged(world.submission, box, dict.fromkeys(labels, asked), labels, LIMITS_OF_A_MODEL)
    assert [problem.where for problem in found.pop("long-inputs")] == [f"{NAME}/early"]
    assert not found


LIMITS_OF_A_MODEL = sandbox.Limits(wall_s=60, memory_mb=2000)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_html_and_script_in_every_text_field_are_shown_as_text(world):
    """The page of a record full of markup has the same tags and attributes as the page of an honest one."""
    grid = render.Grid(["teacher", "albert", NAME], [TASK], {"all": list(FORMS)})
    plain = {p.name: Tags(p.read_text()) for p in _site(world, grid, "plain").rglob("*.html")}
    evil = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover=alert(3) {{ 7*7 }}"

    def fill(raw):
        raw["method"] |= dict.fromkeys(("caption", "kept", "left_out", "paper"), evil)
        raw["method"] |= {"knobs": {evil: evil}, "report": {}, "shape": raw["method"]["shape"]}
        raw["machine"] |= dict.fromkeys(("cpu", "kernel", "python", "virtualization"), evil)
        raw["runs"][0]["history"] = [h | {"stage": evil[:60]} for h in raw["runs"][0]["history"]]
        for form in raw["deployments"].values():
            form |= {"runtime": evil, "precision": evil}
            form["cost"]["solo"]["certificate"] |= {"watts_source": evil, "grid": evil, "codecarbon_version": evil}

    world.edit(fill)
    for path in _site(world, grid, "evil").rglob("*.html"):
        page = Tags(path.read_text())
        assert "img" not in page.tags
        assert page.tags.count("script") == plain[path.name].tags.count("script")
        assert not {"onerror", "onmouseover"} & set(page.attributes)


def _site(world: World, grid: render.Grid, name: str) -> Path:
    return render.build(world.root / "results", grid, world.root / name).parent
