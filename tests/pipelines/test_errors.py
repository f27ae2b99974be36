"""What ends a stage: one message, an exit code, no traceback; and a real bug keeps its traceback."""

import os
from pathlib import Path

import pytest

from openautoglm.artifact import ArtifactError
from pipelines.errors import UserError, stage


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "message"),
    [
        (raising(UserError("do this")), 2, "error: do this\n"),
        (raising(ArtifactError("no artifact")), 2, "error: no artifact\n"),
        (raising(KeyboardInterrupt()), 130, "error: Stopped. Run the same command again"),
        (raising(PermissionError(13, "Permission denied", "x.json")), 2, "error: Permission denied: x.json"),
    ],
)
def test_expected_failures_are_one_message(main, code, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        stage(main)
    assert stopped.value.code == code
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_one_message(capsys):
    with pytest.raises(SystemExit):
        stage(lambda: Path("/dev/full").write_text("x") and None)
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("bug"), FileNotFoundError(2, "gone", "x")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        stage(raising(error))
