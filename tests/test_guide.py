"""The guide's commands, as they stand there, on the tiny model: what it tells the reader to type works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from openautoglm import side_by_side
from openautoglm.cli import main
from tests.openautoglm.test_cli import CONFIG, place  # noqa: F401  (a fixture)

GUIDE = Path(__file__).parents[1] / "docs/guide.md"
TEXT = GUIDE.read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"^openautoglm .*", TEXT, re.M)]
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture(scope="module")
def home(place):  # noqa: F811
    """The reader's folder: my-model/, train.csv, dev.csv, and the config that `recommend` would have written."""
    (place / "my-model").symlink_to(place / "model")
    (place / "config.json").write_text(json.dumps(CONFIG))
    before = Path.cwd()
    os.chdir(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "TEXTS", 8)
        yield place
    os.chdir(before)


def test_the_commands_work_as_they_stand_there(home, capsys):
    quick = [command for command in COMMANDS if command[0] in ("compress", "inspect", "advise")]
    assert [command[0] for command in quick] == ["compress", "inspect", "advise"]
    for command in quick:
        assert main(command) == 0, capsys.readouterr().err
    assert "times faster" in capsys.readouterr().out


def test_the_commands_that_take_long_are_understood(capsys):
    from openautoglm.cli import _parser

    slow = [shlex.split(text)[1:] for text in re.findall(r"`(openautoglm search [^`]*)`", TEXT.replace("\n", " "))]
    slow += [command for command in COMMANDS if command[0] == "recommend"]
    assert {command[0] for command in slow} == {"search", "recommend"}
    for command in slow:
        _parser().parse_args(command)


def test_the_server_answers(home):
    (server,) = (code for code in CODE if "sys.stdin" in code)
    lines = '{"text": "a lovely film"}\n{"text": "a dull and awful film"}\n'
    done = subprocess.run([sys.executable, "-c", server], input=lines, capture_output=True, text=True, check=False)
    assert [json.loads(line)["answer"] for line in done.stdout.splitlines()] == ["LABEL_1", "LABEL_0"], done.stderr


def test_the_python_example_runs(home):
    (example,) = (code for code in CODE if "AutoCompressor(" in code)
    texts, values = ["good film", "bad film", "fine plot", "dull music"] * 8, [0, 1] * 16
    names = {"train_texts": texts, "train_values": values, "dev_texts": texts, "dev_values": values}
    example = example.replace("max_length=48", "max_length=9").replace('kind="regression"', 'kind="classification"')
    example = example.replace("labels=()", 'labels=("bad", "good")').replace('("pearson",)', '("accuracy",)')
    exec(compile(example.replace("np.float32", "np.int64"), str(GUIDE), "exec"), names)
    assert (home / "artifact/manifest.json").is_file()
    assert (home / "student/report.json").is_file()
