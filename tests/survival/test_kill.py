"""Some kills on every run: a training, killed where it stands, ends in the same bits. All stages: -m tests.survival."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from pipelines.files import read_json
from pipelines.params import paths
from tests.survival.project import TASK, half_written, lay, running

MADE = paths.finetuned(TASK, 0)


def run(folder: Path, *stage: str) -> None:
    with running(folder, "-m", *stage) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said[-2000:]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    lay(folder)
    laid = yaml.safe_load((folder / "params.yaml").read_text())
    laid["tasks"][TASK]["epochs"] = 12
    (folder / "params.yaml").write_text(yaml.safe_dump(laid))
    for stage in (["pipelines.fetch"], ["pipelines.prepare", TASK]):
        run(folder, *stage)
    return folder


def test_a_training_killed_twice_ends_in_the_same_bits(project):
    finetune = ("pipelines.finetune", TASK, "0")
    run(project, *finetune)
    whole = {p.name: p.read_bytes() for p in (project / MADE / "model").iterdir()}
    curve, calm = (project / MADE / "history.tsv").read_bytes(), read_json(project / MADE / "footprint.json")
    (project / MADE).rename(project / "calm")
    for kill in range(2):
        before = {p: p.stat().st_mtime_ns for p in _checkpoints(project)}
        with running(project, "-m", *finetune) as training:
            deadline = time.monotonic() + 900
            while {p: p.stat().st_mtime_ns for p in _checkpoints(project)} == before and time.monotonic() < deadline:
                assert training.poll() is None, "it ended before it could be killed"
                time.sleep(0.01)
            time.sleep(0.05 * kill)
            os.killpg(training.pid, signal.SIGKILL)
        assert _checkpoints(project)
        assert not (project / MADE).exists()
        assert half_written(project) == []
    run(project, *finetune)
    assert {p.name: p.read_bytes() for p in (project / MADE / "model").iterdir()} == whole
    assert (project / MADE / "history.tsv").read_bytes() == curve
    found = read_json(project / MADE / "footprint.json")
    assert found["steps"] == calm["steps"]
    assert found["cpu_s"] > 0.3 * calm["cpu_s"]  # what the killed pieces cost counts too
    assert not _checkpoints(project)


def _checkpoints(folder: Path) -> list[Path]:
    """Those under their final names."""
    found = (folder / "runs/.checkpoints").rglob("*.safetensors")
    return [path for path in found if path.name[0] != "." and path.exists()]
