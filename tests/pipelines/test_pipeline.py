"""The whole pipeline in small, by DVC, with the real teacher: two methods, one task, from packages to the board."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from leaderboard.schema import Record
from pipelines import workspace

KEPT = ("teacher", "open_autoglm")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A working copy in the smoke profile, cut to two methods; the packages are taken from here where they lie here."""
    folder = workspace.lay("smoke", tmp_path_factory.mktemp("project"))
    laid = yaml.safe_load((folder / "params.yaml").read_text())
    laid["methods"] = {name: laid["methods"][name] for name in KEPT}
    (folder / "params.yaml").write_text(yaml.safe_dump(laid))
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    if Path("data/downloads").is_dir():
        shutil.copytree("data/downloads", folder / "data/downloads")
    done = _run(folder, "-c", "import sys; from pipelines import workspace; sys.exit(workspace.run('default', []))")
    if "cannot be reached" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def _repro(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(folder, "-m", "dvc", "repro", *arguments)


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "2"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def _record(folder: Path, method: str) -> Record:
    path = folder / "leaderboard/results/smoke" / method / "movie.json"
    return Record.model_validate_json(path.read_text())


def test_every_cell_is_on_the_board(project):
    page = (project / "site/index.html").read_text()
    for method, deployments in {"teacher": 3, "open_autoglm": 3}.items():
        record = _record(project, method)
        assert len(record.deployments) == deployments
        assert method in page
        for deployment in record.deployments.values():
            assert len(deployment.quality[0].predictions) == 80
            assert deployment.cost.solo.certificate.energy_valid


def test_the_student_is_smaller_and_its_artifact_is_the_one_that_was_scored(project):
    teacher, student = (_record(project, method).deployments["onnx-fp32"] for method in KEPT)
    assert student.bytes_on_disk < teacher.bytes_on_disk / 3
    assert student.artifact_sha256 == student.quality[0].artifact_sha256
    assert _record(project, "open_autoglm").runs[0].footprint.energy_kwh.likely > 0


def test_a_second_run_does_nothing(project):
    done = _repro(project)
    assert re.findall(r"Running stage '([^']+)'", done.stdout) == ["own"]
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_knob_of_one_method_runs_that_method_only(project):
    laid = yaml.safe_load((project / "params.yaml").read_text())
    laid["methods"]["open_autoglm"]["pruning_ratio"] = 0.5
    (project / "params.yaml").write_text(yaml.safe_dump(laid))
    # not a dry run: there the card stays as it was, and so does all that follows from it
    done = _repro(project)
    assert done.returncode == 0, done.stderr[-3000:]
    ran = re.findall(r"Running stage '([^']+)'", done.stdout)
    assert {"card@open_autoglm", "compress@open_autoglm-movie-0", "record@open_autoglm-movie"} <= set(ran)
    assert not [stage for stage in ran if "teacher" in stage or "finetune" in stage]


def test_a_misspelt_knob_is_refused_before_any_training(project):
    laid = yaml.safe_load((project / "params.yaml").read_text())
    laid["methods"]["open_autoglm"] = {"prunning_ratio": 0.5}
    (project / "params.yaml").write_text(yaml.safe_dump(laid))
    done = _repro(project)
    assert done.returncode
    assert "did you mean 'pruning_ratio'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Running stage 'compress" not in done.stdout


def test_runs_are_in_mlflow(project):
    import sqlite3

    names = {row[0] for row in sqlite3.connect(project / "mlflow.db").execute("select name from runs")}
    assert {"teacher movie 0", "open_autoglm movie 0"} <= names
