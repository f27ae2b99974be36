import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from leaderboard import claims, store, table
from tests.leaderboard import records

GRID = store.Grid(list(records.METHODS), list(records.TASKS), records.DEPLOYMENTS)
CLAIMS = {claim.id: claim for claim in claims.load()}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    records.write(folder, examples=200)
    return folder


def judged(folder: Path, name: str) -> claims.Finding:
    board = store.load(folder, GRID)
    return claims.judge(CLAIMS[name], board, table.build(board))


def test_every_claim_is_judged_and_every_check_has_its_claim(results):
    board = store.load(results, GRID)
    made = table.build(board)
    for claim in CLAIMS.values():
        finding = claims.judge(claim, board, made)
        assert finding.verdict in get_args(claims.Verdict)
        assert finding.reason
        assert finding.measured or finding.verdict in ("not run yet", "not comparable")
    assert set(claims.CHECKS) <= set(CLAIMS)


def test_a_claim_is_judged_by_the_claims_own_number(results):
    board = store.load(results, GRID)
    made = table.build(board)
    measured = made.row("teacher", "onnx-int8").figures["faster"].value
    for number, verdict in ((measured - 0.1, "reproduced"), (measured + 0.1, "not reproduced")):
        claim = claims.Claim(id="int8_speedup", title="", values={"ratio": number})
        assert claims.judge(claim, board, made).verdict == verdict


@pytest.mark.parametrize("gap", [-0.5, -1.5])
def test_the_overall_claim_needs_all_three_figures(results, gap):
    board = store.load(results, GRID)
    made = table.build(board)
    row = made.row("open_autoglm", "onnx-plan")
    moved = row.figures["gap"].__class__(gap, gap - 0.5, gap + 0.5)
    row.figures["gap"] = moved
    finding = claims.judge(CLAIMS["overall"], board, made)
    assert finding.verdict == ("reproduced" if gap > -1.3 else "not reproduced")
    assert "onnx-plan" in finding.measured


def test_a_claim_about_a_method_that_was_not_run_is_not_run_yet(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    for name in ("open_autoglm", "mobilebert"):
        shutil.rmtree(own / "default" / name)
    for name in ("overall", "recipe", "co_optimisation", "mobilebert_vs_albert"):
        assert judged(own, name).verdict == "not run yet"
    assert judged(own, "federated").verdict == "not run yet"


def test_the_recipe_is_reproduced_where_the_record_binds_the_articles_settings(results, tmp_path):
    assert judged(results, "recipe").verdict == "reproduced"
    own = Path(shutil.copytree(results, tmp_path / "results"))
    for path in (own / "default/open_autoglm").iterdir():
        raw = json.loads(path.read_text())
        del raw["method"]["knobs"]["calibration_steps"]
        path.write_text(json.dumps(raw))
    finding = judged(own, "recipe")
    assert finding.verdict == "not reproduced"
    assert "calibration_steps" in finding.reason


def test_an_unreadable_claims_file_ends_with_one_message(tmp_path):
    (tmp_path / "claims.yaml").write_text("- {id: 1, colour: blue}")
    with pytest.raises(store.BoardError, match="not a list of claims"):
        claims.load(tmp_path / "claims.yaml")
