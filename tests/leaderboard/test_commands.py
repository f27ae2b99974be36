"""The command on a method's page makes that method's records: its stages are those of dvc.yaml."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from leaderboard import store
from leaderboard.views import method
from pipelines import params
from pipelines.board import grid
from tests.leaderboard import records


def test_the_command_of_the_committed_records_names_stages_that_dvc_knows():
    board = store.load(Path("leaderboard/results"), grid(params.load()), "default")
    named = {
        stage
        for name in board.grid.methods
        for line in method._commands(board, name, board.of(name))
        for stage in re.findall(r"\S+@\S+", line)
    }
    assert named == {f"record@{name}-{task}" for name, task in board.records}
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert named <= set(known)


def test_another_profile_is_run_in_its_own_folder(tmp_path):
    records.write(
        tmp_path, methods={"teacher": records.METHODS["teacher"]}, profile="full", tasks=("movie",), examples=20
    )
    board = store.load(tmp_path, store.Grid(["teacher"], ["movie"], records.DEPLOYMENTS), "full")
    assert "bench run --profile full record@teacher-movie" in method._commands(board, "teacher", board.of("teacher"))


def test_a_brought_artifact_is_measured_again_and_a_result_is_not(tmp_path):
    name = "albert"
    records.write(tmp_path, methods={name: records.METHODS[name]}, tasks=("movie",), examples=20)
    board = store.load(tmp_path, store.Grid([name], ["movie"], records.DEPLOYMENTS))
    brought = {"movie": board.of(name)["movie"].model_copy(update={"runs": []})}
    assert f"bench run {name}" in method._commands(board, name, brought)
    beside = replace(board, profile="full")
    assert f"bench run {name} --profile full" in method._commands(beside, name, brought)
    submitted = board.of(name)["movie"].method.model_copy(update={"submitted": True})
    result = {"movie": board.of(name)["movie"].model_copy(update={"method": submitted})}
    assert method._commands(board, name, result) == []
